"""Tables without a primary key, where the server wants one or adds one that nobody declared."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.target.ddl import parse

REQUIRED, GENERATED = "sql_require_primary_key", "sql_generate_invisible_primary_key"
SINCE = {REQUIRED: (8, 0, 13), GENERATED: (8, 0, 30)}


def wants_keys(session: Session) -> list[str]:
    """The settings of the server by which it does not leave a table without a primary key."""
    known = [name for name, since in SINCE.items() if session.version >= since]
    if session.is_mariadb or not known:
        return []
    values = session.query("SELECT " + ", ".join(f"@@SESSION.{name}" for name in known))[0]
    return [name for name, value in zip(known, values, strict=True) if int(value)]


def refuse_keyless(
    session: Session, tables: Iterable[tuple[str, str]], on: list[str] | None = None
) -> None:
    """Raises `Unconvertible` for tables (name, CREATE TABLE) that the server would not make as they
    are, because they have no primary key. `on` is what `wants_keys` told already."""
    on = wants_keys(session) if on is None else on
    if not on:
        return
    keyless = [
        name
        for name, create in tables
        if not any(item.kind == "primary" for item in parse(create).items)
    ]
    if not keyless:
        return
    what = "refuses tables" if REQUIRED in on else "adds a column my_row_id to tables"
    raise Unconvertible(
        f"{', '.join(keyless[:8])}{' and others' if len(keyless) > 8 else ''}: no primary key, and "
        f"the server {session.server.address} {what} without one ({on[0]} is ON)",
        hint=f"let an administrator run SET GLOBAL {on[0]} = OFF there, or leave the table out",
        context={"tables": keyless, "settings": on},
    )
