"""What the steps of a rename do and how each is undone; both may be called twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.programs import Program, read_programs
from datajoint_migrate.steps.fence import put_comment
from datajoint_migrate.steps.grants import move_grants
from datajoint_migrate.target.lineage import LINEAGE
from datajoint_migrate.target.programs import create_programs, drop_program

Step = dict[str, Any]
Act = Callable[[Session, Step], list[str]]
TABLES = ("BASE TABLE", "SYSTEM VERSIONED", "SEQUENCE")


@dataclass(frozen=True)
class Action:
    """Both directions of one kind of step; each returns notes for the caller."""

    do: Act
    undo: Act


# -- tables --------------------------------------------------------------------------------------


def tables_of(session: Session, schema: str) -> list[str]:
    """Names of everything in a schema that RENAME TABLE moves."""
    rows = session.query(
        "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
        " ORDER BY TABLE_NAME",
        (schema,),
    )
    return [str(name) for name, kind in rows if kind in TABLES]


def renames_atomically(session: Session) -> bool:
    """Whether a list of renames is done wholly or not at all even if the server dies in it."""
    return session.version >= ((10, 6) if session.is_mariadb else (8, 0))


def rename_step(pairs: list[tuple[str, str, str]]) -> Step:
    """Move tables (schema, table, new schema); a table may move where another one moved away."""
    return {"kind": "rename", "pairs": [list(pair) for pair in pairs]}


def _rename(session: Session, step: Step) -> list[str]:
    _move(session, [(old, table, new) for old, table, new in step["pairs"]])
    return []


def _rename_back(session: Session, step: Step) -> list[str]:
    # The other way round, so that those who came last make room for those who were there first.
    _move(session, [(new, table, old) for old, table, new in reversed(step["pairs"])])
    return []


def _move(session: Session, pairs: list[tuple[str, str, str]]) -> None:
    there = {name: set(tables_of(session, name)) for old, _, new in pairs for name in (old, new)}
    # Who moves where another one was first has arrived when the place it left is empty; who makes
    # room for another has left when it is where it wanted to go.
    filled = {(new, table) for _, table, new in pairs}
    left = [
        (old, table, new)
        for old, table, new in pairs
        if (table not in there[new] if (old, table) in filled else table in there[old])
    ]
    if not left:
        return
    lists = [left] if renames_atomically(session) else [[pair] for pair in left]
    for some in lists:
        session.execute(
            "RENAME TABLE "
            + ", ".join(f"{quote(old, table)} TO {quote(new, table)}" for old, table, new in some)
        )


# -- schemas -------------------------------------------------------------------------------------


def create_schema(session: Session, name: str, charset: str, collation: str) -> None:
    """Make a schema with the charset and collation of another."""
    session.execute(
        f"CREATE DATABASE IF NOT EXISTS {quote(name)} CHARACTER SET {charset} COLLATE {collation}"
    )


def drop_if_empty(session: Session, name: str, but: str | None = None) -> bool:
    """Drop a schema that holds nothing (the table `but` does not count); whether it is gone."""
    for view, column, what in (
        ("TABLES", "TABLE_SCHEMA", "TABLE_NAME"),
        ("ROUTINES", "ROUTINE_SCHEMA", "ROUTINE_NAME"),
        ("EVENTS", "EVENT_SCHEMA", "EVENT_NAME"),
    ):
        found = session.query(
            f"SELECT {what} FROM information_schema.{view} WHERE {column} = %s", (name,)
        )
        if any(row[0] != but for row in found):
            return False
    session.execute(f"DROP DATABASE IF EXISTS {quote(name)}")
    return True


# -- triggers, views, routines, events -----------------------------------------------------------


def leave_step(program: Program, schema_map: Mapping[str, str] | None = None) -> Step:
    """Drop a program, in its mapped schema if there is a map; its text is in the step."""
    return {"kind": "drop_program", "program": asdict(program), "map": dict(schema_map or {})}


def come_step(program: Program, schema_map: Mapping[str, str] | None = None) -> Step:
    """Make a program, in its mapped schema and written for the new names if there is a map."""
    return {"kind": "create_program", "program": asdict(program), "map": dict(schema_map or {})}


def _drop_program(session: Session, step: Step) -> list[str]:
    program = _in_place(step)
    if _exists(session, program):
        drop_program(session, program)
    return []


def _create_program(session: Session, step: Step) -> list[str]:
    if _exists(session, _in_place(step)):
        return []
    program = Program(**step["program"])
    if step["map"]:
        return create_programs(session, [program], step["map"])
    notes = create_programs(session, [program], {program.schema: program.schema})
    # It goes back to where it was, so names in strings are right again.
    return [note for note in notes if "in a string" not in note]


def _in_place(step: Step) -> Program:
    """The program with the schema that the step finds it in, or puts it in."""
    program = Program(**step["program"])
    return replace(program, schema=step["map"].get(program.schema, program.schema))


def _exists(session: Session, program: Program) -> bool:
    return any(
        (other.kind, other.name) == (program.kind, program.name)
        for other in read_programs(session, program.schema)
    )


# -- lineage -------------------------------------------------------------------------------------


def with_lineage(session: Session) -> list[str]:
    """Schemas that have a `~lineage`."""
    return [
        str(row[0])
        for row in session.query(
            "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_NAME = %s"
            " ORDER BY TABLE_SCHEMA",
            (LINEAGE,),
        )
    ]


def mentions(session: Session, schema: str, name: str) -> list[tuple[str, str]]:
    """Attributes (table, attribute) of a schema whose lineage lies in the schema `name`."""
    prefix = name + "."
    return [
        (str(table), str(attribute))
        for table, attribute in session.query(
            f"SELECT table_name, attribute_name FROM {quote(schema, LINEAGE)} WHERE {_BEGINS}",
            (len(prefix), prefix),
        )
    ]


_BEGINS = "LEFT(lineage, %s) = %s COLLATE utf8mb4_bin"


def lineage_step(
    session: Session, names: dict[str, str], archives: dict[str, str] | None = None
) -> Step:
    """Rewrite old to new schema names in every `~lineage`, but not in what goes to `archives`.

    Rows that hold a new name already are remembered: undoing leaves them alone.
    """
    moved = archives or {}
    kept = {
        names.get(schema, schema): found
        for schema in with_lineage(session)
        if schema not in moved
        and (found := [place for new in names.values() for place in mentions(session, schema, new)])
    }
    return {"kind": "lineage", "names": names, "kept": kept, "untouched": list(moved.values())}


def _lineage(session: Session, step: Step) -> list[str]:
    return _rewrite(session, step, step["names"], {})


def _lineage_back(session: Session, step: Step) -> list[str]:
    return _rewrite(session, step, {new: old for old, new in step["names"].items()}, step["kept"])


def _rewrite(
    session: Session, step: Step, names: dict[str, str], kept: dict[str, list[list[str]]]
) -> list[str]:
    session.execute("START TRANSACTION")
    try:
        for schema in with_lineage(session):
            if schema in step["untouched"]:
                continue
            for old, new in names.items():
                # Looking first asks no right to write where nothing is to be written.
                if mentions(session, schema, old):
                    _rewrite_one(session, schema, old, new, kept.get(schema, []))
        session.execute("COMMIT")
    except BaseException:
        session.execute("ROLLBACK")
        raise
    return []


def _rewrite_one(session: Session, schema: str, old: str, new: str, kept: list[list[str]]) -> None:
    prefix = old + "."
    but = ""
    if kept:
        places = ", ".join(["(%s, %s)"] * len(kept))
        but = f" AND (table_name, attribute_name) NOT IN ({places})"
    session.execute(
        f"UPDATE {quote(schema, LINEAGE)} SET lineage = CONCAT(%s, SUBSTRING(lineage, %s))"
        f" WHERE {_BEGINS}{but}",
        [
            new + ".",
            len(prefix) + 1,
            len(prefix),
            prefix,
            *(word for place in kept for word in place),
        ],
    )


# -- grants, charset -----------------------------------------------------------------------------


def _grants(session: Session, step: Step) -> list[str]:
    return move_grants(session, step["grants"], step["old"], step["new"])


def _grants_back(session: Session, step: Step) -> list[str]:
    return move_grants(session, step["grants"], step["new"], step["old"])


def _charset(session: Session, step: Step) -> list[str]:
    return _set_charset(session, step["schema"], *step["after"])


def _charset_back(session: Session, step: Step) -> list[str]:
    return _set_charset(session, step["schema"], *step["before"])


def _set_charset(session: Session, schema: str, charset: str, collation: str) -> list[str]:
    session.execute(f"ALTER DATABASE {quote(schema)} CHARACTER SET {charset} COLLATE {collation}")
    return []


# -- the fence -----------------------------------------------------------------------------------


def _fence(session: Session, step: Step) -> list[str]:
    put_comment(session, step, step["before"], step["after"])
    return []


def _unfence(session: Session, step: Step) -> list[str]:
    put_comment(session, step, step["after"], step["before"])
    return []


ACTIONS: dict[str, Action] = {
    "fence": Action(_fence, _unfence),
    "rename": Action(_rename, _rename_back),
    "drop_program": Action(_drop_program, _create_program),
    "create_program": Action(_create_program, _drop_program),
    "grants": Action(_grants, _grants_back),
    "charset": Action(_charset, _charset_back),
    "lineage": Action(_lineage, _lineage_back),
}
