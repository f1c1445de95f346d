"""Privileges on a schema and its tables follow it to another name."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.build.creating import no_new_accounts
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import MigrationError, PermissionMissing, ServerError

NOT_GRANTED = (1141, 1147)


def grants_step(session: Session, old: str, new: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The step that moves grants from one schema name to another, and notes on what it cannot.

    Grants whose name is a pattern (`lab\\_%`) stay: they may be meant for others too.
    """
    notes = []
    try:
        session.query("SELECT 1 FROM mysql.db LIMIT 1")
    except MigrationError:
        notes.append(
            f"{session.server.user} may not read mysql.db: grants of other users on {old} are not"
            " seen and stay with the old name"
        )
    grants = [
        {"to": grantee, "table": table, "rights": sorted(rights), "option": option}
        for (grantee, table, option), rights in _grants(session, old).items()
    ]
    notes += _odd_ones(session, old)
    step = {"kind": "grants", "old": old, "new": new, "grants": grants}
    return (step if grants else None), notes


def move_grants(session: Session, grants: list[dict[str, Any]], old: str, new: str) -> list[str]:
    """Give each right on `new`, then take it from `old`; notes on what the server refuses."""
    notes = []
    with no_new_accounts(session):
        for grant in grants:
            rights = ", ".join(grant["rights"])
            option = " WITH GRANT OPTION" if grant["option"] else ""
            try:
                session.execute(
                    f"GRANT {rights} ON {_place(new, grant['table'])} TO {grant['to']}{option}"
                )
                taken = rights + (", GRANT OPTION" if grant["option"] else "")
                for name in _spellings(old):
                    with suppress_missing():
                        session.execute(
                            f"REVOKE {taken} ON {quote(name)}.{_table(grant['table'])}"
                            f" FROM {grant['to']}"
                        )
            except (PermissionMissing, ServerError) as error:
                notes.append(f"{rights} of {grant['to']} on {old} was not carried over: {error}")
    return notes


class suppress_missing(suppress):  # noqa: N801  (used as a statement)
    """Leave out what is not granted (any more)."""

    def __init__(self) -> None:
        super().__init__(ServerError)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, ServerError) and error.context.get("errno") not in NOT_GRANTED:
            return False
        return bool(super().__exit__(kind, error, trace))


def _grants(session: Session, schema: str) -> dict[tuple[str, str | None, bool], set[str]]:
    found: dict[tuple[str, str | None, bool], set[str]] = defaultdict(set)
    names = _spellings(schema)
    marks = ", ".join(["%s"] * len(names))
    for grantee, right, option in session.query(
        "SELECT GRANTEE, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES"
        f" WHERE TABLE_SCHEMA IN ({marks}) AND PRIVILEGE_TYPE <> 'USAGE'",
        names,
    ):
        found[str(grantee), None, option == "YES"].add(str(right))
    for grantee, table, right, option in session.query(
        "SELECT GRANTEE, TABLE_NAME, PRIVILEGE_TYPE, IS_GRANTABLE"
        " FROM information_schema.TABLE_PRIVILEGES"
        " WHERE TABLE_SCHEMA = %s AND PRIVILEGE_TYPE <> 'USAGE'",
        (schema,),
    ):
        found[str(grantee), str(table), option == "YES"].add(str(right))
    return found


def _odd_ones(session: Session, schema: str) -> list[str]:
    notes = [
        f"{row[0]} has {row[1]} by the pattern {row[2]}, which stays as it is"
        for row in session.query(
            "SELECT GRANTEE, GROUP_CONCAT(PRIVILEGE_TYPE), TABLE_SCHEMA"
            " FROM information_schema.SCHEMA_PRIVILEGES"
            " WHERE %s LIKE TABLE_SCHEMA GROUP BY GRANTEE, TABLE_SCHEMA",
            (schema,),
        )
        if row[2] not in _spellings(schema)
    ]
    columns = session.query(
        "SELECT DISTINCT GRANTEE, TABLE_NAME FROM information_schema.COLUMN_PRIVILEGES"
        " WHERE TABLE_SCHEMA = %s",
        (schema,),
    )
    notes += [f"{who} has rights on columns of {table}: grant them anew" for who, table in columns]
    return notes


def _spellings(name: str) -> list[str]:
    """The ways a grant on one schema may be written: `_` and `%` are wildcards there."""
    escaped = name.replace("_", r"\_").replace("%", r"\%")
    return [name] if escaped == name else [escaped, name]


def _place(schema: str, table: str | None) -> str:
    if table is not None:
        return quote(schema, table)
    return f"{quote(_spellings(schema)[0])}.*"


def _table(table: str | None) -> str:
    return "*" if table is None else quote(table)
