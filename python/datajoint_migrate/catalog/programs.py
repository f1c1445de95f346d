"""What a schema holds besides tables: views, triggers, routines and events, as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import words_of
from datajoint_migrate.errors import NotFound, PermissionMissing, ServerError

Kind = Literal["view", "trigger", "procedure", "function", "event"]
# User, host, and privileges in small letters ("execute", "alter routine", "grant").
Right = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True)
class Program:
    """One view, trigger, routine or event.

    `create` is the text of SHOW CREATE, empty where the user may not read it. `sql_mode`, `charset`
    and `collation` are those of the session that made it, which it keeps, `database_collation` is
    its schema's at that time; `table` is a trigger's, `time_zone` an event's. `rights` are those
    that others have on a routine by name, None where they cannot be read.
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
    database_collation: str | None = field(default=None, compare=False)
    rights: tuple[Right, ...] | None = field(default=(), compare=False)

    def __post_init__(self) -> None:
        # MySQL keeps the semicolon behind a program that was sent among other statements, and cuts
        # it off when the same text is sent alone.
        if self.create.rstrip().endswith(";"):
            object.__setattr__(self, "create", self.create.rstrip("; \t\n\v\f\r"))
        if self.rights:
            # JSON knows no tuples.
            rights = tuple((user, host, tuple(said)) for user, host, said in self.rights)
            object.__setattr__(self, "rights", rights)

    def __str__(self) -> str:
        return f"{self.kind} {self.schema}.{self.name}"


def read_programs(session: Session, schema: str) -> list[Program]:
    """All programs of a schema, in an order in which they can be made.

    Routines come before the views and triggers that may call them, a view after those it reads,
    triggers of one table in the order they fire.
    """
    return programs_of(session, [schema])[schema]


def programs_of(session: Session, schemas: Iterable[str]) -> dict[str, list[Program]]:
    """`read_programs` of several schemas, by one statement for many that hold none."""
    names = list(schemas)
    found: dict[str, list[Program]] = {name: [] for name in names}
    for schema, kind, name, said, table, *_ in _listed(session, names):
        found[schema].append(_read(session, kind, schema, name, said, table))
    return {schema: _ordered(session, schema, ours) for schema, ours in found.items()}


def _ordered(session: Session, schema: str, programs: list[Program]) -> list[Program]:
    if any(program.kind in ROUTINES for program in programs):
        rights = _rights(session, schema)
        programs = [_with_rights(program, rights) for program in programs]
    views = [program for program in programs if program.kind == "view"]
    rest = [program for program in programs if program.kind != "view"]
    routines = [program for program in rest if program.kind in ROUTINES]
    return [*routines, *_readers_last(views), *(one for one in rest if one not in routines)]


def lacking(programs: Iterable[Program], there: Iterable[Program]) -> list[Program]:
    """Those of the programs that have none of their kind and name among those that are there."""
    names = {(one.kind, one.name) for one in there}
    return [one for one in programs if (one.kind, one.name) not in names]


def has_programs(session: Session, schema: str) -> bool:
    """Whether a schema holds any program."""
    return bool(_listed(session, [schema]))


def is_there(session: Session, program: Program) -> bool:
    """Whether its schema holds a program of its kind and name."""
    rows = _listed(session, [program.schema], program.kind)
    return any(row[2] == program.name for row in rows)


def _listed(
    session: Session, schemas: Iterable[str], kind: Kind | None = None
) -> list[tuple[Any, ...]]:
    """Schema, kind, name, definer and table of each, of one kind or all; triggers as they fire.

    One statement: what the server does for it does not grow with what it finds.
    """
    wanted = {VIEWED[kind]: kind} if kind else dict.fromkeys(VIEWED.values())
    rows = of_schemas(session, " UNION ALL ".join(wanted), schemas)
    listed = [row for row in rows if kind in (None, row[1])]
    # Their order: kind, table, timing, event, place among those; the name where that says nothing.
    return sorted(listed, key=lambda row: (row[0], KINDS.index(row[1]), *row[4:], row[2]))


def _list_of(view: str, kind: str, name: str, schema: str, order: tuple[str, ...] = ()) -> str:
    columns = [schema, kind, name, "DEFINER", *(order or ("NULL",) * 3)]
    # Columns of several collations do not go into one list.
    texts = [
        column if column == "NULL" else f"CONVERT({column} USING utf8mb4)" for column in columns
    ]
    texts.append("ACTION_ORDER" if order else "0")
    return f"SELECT {', '.join(texts)} FROM information_schema.{view} WHERE {{{schema}}}"


_ROUTINES = (
    _list_of("ROUTINES", "LOWER(ROUTINE_TYPE)", "ROUTINE_NAME", "ROUTINE_SCHEMA")
    + " AND ROUTINE_TYPE IN ('FUNCTION', 'PROCEDURE')"
)
_FIRING = ("EVENT_OBJECT_TABLE", "ACTION_TIMING", "EVENT_MANIPULATION")
# The list that a kind stands in.
VIEWED: dict[Kind, str] = {
    "function": _ROUTINES,
    "procedure": _ROUTINES,
    "view": _list_of("VIEWS", "'view'", "TABLE_NAME", "TABLE_SCHEMA"),
    "trigger": _list_of("TRIGGERS", "'trigger'", "TRIGGER_NAME", "TRIGGER_SCHEMA", _FIRING),
    "event": _list_of("EVENTS", "'event'", "EVENT_NAME", "EVENT_SCHEMA"),
}
KINDS = tuple(VIEWED)
ROUTINES = ("function", "procedure")

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
        database_collation=None if kind == "view" or not shown[text] else shown[collation + 1],
    )


def _rights(session: Session, schema: str) -> dict[tuple[str, str], list[Right]] | None:
    try:
        rows = session.query(
            "SELECT Routine_type, Routine_name, User, Host, Proc_priv FROM mysql.procs_priv"
            " WHERE Db = %s ORDER BY User, Host",
            (schema,),
        )
    except (PermissionMissing, ServerError):
        return None
    found: dict[tuple[str, str], list[Right]] = {}
    for kind, name, user, host, said in rows:
        words = said if isinstance(said, set | frozenset) else str(said).split(",")
        right = (str(user), str(host), tuple(sorted(word.lower() for word in words)))
        found.setdefault((str(kind).lower(), str(name).lower()), []).append(right)
    return found


def _with_rights(program: Program, rights: dict[tuple[str, str], list[Right]] | None) -> Program:
    if program.kind not in ROUTINES:
        return program
    if rights is None:
        return replace(program, rights=None)
    return replace(program, rights=tuple(rights.get((program.kind, program.name.lower()), ())))


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


def triggers_of(session: Session, schema: str, table: str, event: str | None = None) -> list[str]:
    """Names of the triggers of a table, of one event ("UPDATE") or all."""
    rows = session.query(
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s"
        " AND EVENT_OBJECT_TABLE = %s AND (%s IS NULL OR EVENT_MANIPULATION = %s)",
        (schema, table, event, event),
    )
    return [str(row[0]) for row in rows]
