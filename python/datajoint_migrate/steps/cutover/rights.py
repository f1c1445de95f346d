"""What a user may do, where a refusal halfway would be costly."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.grants import read_grants
from datajoint_migrate.catalog.programs import Program

FOR_OTHERS = ("SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER")


def missing_for_programs(session: Session, programs: Iterable[Program]) -> list[str]:
    """Why triggers, views, routines or events that are dropped could not be made again."""
    wanted = list(programs)
    grants = read_grants(session)
    me = str(session.query("SELECT CURRENT_USER()")[0][0])
    problems = [
        f"{me} may not read the text of the {program}, so it could not be made anew"
        for program in wanted
        if not program.create
    ]
    if not any(grants.has(privilege) for privilege in FOR_OTHERS):
        problems += [
            f"the {program.kind} {program.schema}.{program.name} belongs to {program.definer}:"
            f" {me} may not make it anew (GRANT SET_ANY_DEFINER, SET USER on MariaDB)"
            for program in wanted
            if program.definer and _plain(program.definer) != _plain(me)
        ]
    makes = any(program.kind in ("trigger", "function") for program in wanted)
    if makes and not grants.has("SUPER"):
        logs, trusts = session.query("SELECT @@log_bin, @@log_bin_trust_function_creators")[0]
        if int(logs) and not int(trusts):
            problems.append(
                f"{me} may not make triggers and functions while the server writes a binary log:"
                " SET GLOBAL log_bin_trust_function_creators = 1"
            )
    return problems


def _plain(account: str) -> str:
    return account.replace("`", "").replace("'", "")
