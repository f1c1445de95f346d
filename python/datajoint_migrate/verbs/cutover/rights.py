"""What a user may do, where a refusal halfway would be costly."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate.catalog.grants import Grants, read_grants
from datajoint_migrate.catalog.programs import Program
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.target.programs import makes

NONEXISTENT = "ALLOW_NONEXISTENT_DEFINER"
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
    problems += [
        f"the text that the server shows of the {program} does not make it, so it could not be made"
        " anew: it needs a plain name"
        for program in wanted
        if program.create and not makes(program)
    ]
    if not any(grants.has(privilege) for privilege in FOR_OTHERS):
        problems += [
            f"the {program.kind} {program.schema}.{program.name} belongs to {program.definer}:"
            f" {me} may not make it anew (GRANT SET_ANY_DEFINER, SET USER on MariaDB)"
            for program in wanted
            if program.definer and _plain(program.definer) != _plain(me)
        ]
    problems += _without_owner(session, grants, wanted)
    creates = any(program.kind in ("trigger", "function") for program in wanted)
    if creates and not grants.has("SUPER"):
        logs, trusts = session.query("SELECT @@log_bin, @@log_bin_trust_function_creators")[0]
        if int(logs) and not int(trusts):
            problems.append(
                f"{me} may not make triggers and functions while the server writes a binary log:"
                " SET GLOBAL log_bin_trust_function_creators = 1"
            )
    return problems


def _without_owner(session: Session, grants: Grants, programs: Iterable[Program]) -> list[str]:
    """Programs of accounts that are gone, which MySQL makes for those only who may do even that."""
    if session.is_mariadb or session.version < (8, 2) or grants.has(NONEXISTENT):
        return []
    try:
        rows = session.query("SELECT CONCAT(User, '@', Host) FROM mysql.user")
    except MigrationError:
        return []
    accounts = {str(row[0]) for row in rows}
    return [
        f"the {program} belongs to {program.definer}, an account that is gone: making it anew needs"
        f" {NONEXISTENT}"
        for program in programs
        if program.definer and _plain(program.definer) not in accounts
    ]


def _plain(account: str) -> str:
    return account.replace("`", "").replace("'", "")
