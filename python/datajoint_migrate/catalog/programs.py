"""What a schema holds besides tables: views, triggers, routines and events, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.sql import words_of
from datajoint_migrate.errors import NotFound, PermissionMissing, ServerError

Kind = Literal["view", "trigger", "procedure", "function", "event"]


@dataclass(frozen=True)
class Program:
    """One view, trigger, routine or event.

    `create` is the text of SHOW CREATE, empty where the user may not read it. `sql_mode`, `charset`
    and `collation` are those of the session that made it, which it keeps; `table` is a trigger's,
    `time_zone` an event's.
    """

    kind: Kind
    schema: str
    name: str
    create: str
    definer: str
    sql_mode: str | None
    charset: str | None
    collation: str | None
    table: str | None = None
    time_zone: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.schema}.{self.name}"


def read_programs(session: Session, schema: str) -> list[Program]:
    """All programs of a schema, in an order in which they can be made.

    Routines come before the views and triggers that may call them, a view after those it reads,
    triggers of one table in the order they fire.
    """
    found: list[Program] = []
    for kind, sql in LISTS:
        for row in session.query(sql, (schema,)):
            found.append(_read(session, kind, schema, *row))
    views = [program for program in found if program.kind == "view"]
    rest = [program for program in found if program.kind != "view"]
    routines = [program for program in rest if program.kind in ("function", "procedure")]
    return [*routines, *_readers_last(views), *(one for one in rest if one not in routines)]


# Name, definer and table of each.
LISTS: tuple[tuple[Kind, str], ...] = (
    (
        "function",
        "SELECT ROUTINE_NAME, DEFINER, NULL FROM information_schema.ROUTINES"
        " WHERE ROUTINE_SCHEMA = %s AND ROUTINE_TYPE = 'FUNCTION' ORDER BY ROUTINE_NAME",
    ),
    (
        "procedure",
        "SELECT ROUTINE_NAME, DEFINER, NULL FROM information_schema.ROUTINES"
        " WHERE ROUTINE_SCHEMA = %s AND ROUTINE_TYPE = 'PROCEDURE' ORDER BY ROUTINE_NAME",
    ),
    (
        "view",
        "SELECT TABLE_NAME, DEFINER, NULL FROM information_schema.VIEWS"
        " WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME",
    ),
    (
        "trigger",
        "SELECT TRIGGER_NAME, DEFINER, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS"
        " WHERE TRIGGER_SCHEMA = %s ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING,"
        " EVENT_MANIPULATION, ACTION_ORDER, TRIGGER_NAME",
    ),
    (
        "event",
        "SELECT EVENT_NAME, DEFINER, NULL FROM information_schema.EVENTS"
        " WHERE EVENT_SCHEMA = %s ORDER BY EVENT_NAME",
    ),
)

# Which columns of SHOW CREATE are what: text, sql_mode, charset, collation.
SHOWN: dict[Kind, tuple[int, int | None, int, int]] = {
    "view": (1, None, 2, 3),
    "trigger": (2, 1, 3, 4),
    "procedure": (2, 1, 3, 4),
    "function": (2, 1, 3, 4),
    "event": (3, 1, 4, 5),
}


def _read(
    session: Session, kind: Kind, schema: str, name: str, definer: str, table: str | None
) -> Program:
    shown: tuple[Any, ...] = (None,) * 6
    try:
        rows = session.query(f"SHOW CREATE {kind.upper()} {quote(schema, name)}")
        shown = tuple(rows[0]) if rows else shown
    except (PermissionMissing, NotFound, ServerError):
        # A view over a table that is gone, or a routine of somebody else: named, never guessed.
        pass
    text, mode, charset, collation = SHOWN[kind]
    return Program(
        kind=kind,
        schema=schema,
        name=name,
        create=str(shown[text] or ""),
        definer=definer or "",
        sql_mode=None if mode is None or shown[text] is None else _mode(shown[mode]),
        charset=shown[charset],
        collation=shown[collation],
        table=table,
        time_zone=shown[2] if kind == "event" else None,
    )


def _mode(value: Any) -> str:
    return ",".join(sorted(value)) if isinstance(value, set | frozenset) else str(value or "")


def _readers_last(views: list[Program]) -> list[Program]:
    """Each view after those whose names its text holds."""
    waiting = {view.name: view for view in views}
    reads = {view.name: (words_of(view.create) & set(waiting)) - {view.name} for view in views}
    ordered: list[Program] = []
    while waiting:
        free = [name for name in waiting if not reads[name] & set(waiting)]
        # A name may also be a column's: then there is no order to keep.
        for name in free or [next(iter(waiting))]:
            ordered.append(waiting.pop(name))
    return ordered
