"""What the steps of a rename do and how each is undone; both may be called twice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.build.creating import create_programs, drop_program, give_rights, unlike
from datajoint_migrate.call import state
from datajoint_migrate.catalog.names import LINEAGE
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.programs import Program, Right, is_there
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import NotFound, ServerError
from datajoint_migrate.verbs.cutover import hold
from datajoint_migrate.verbs.cutover.fence import put_comment
from datajoint_migrate.verbs.cutover.grants import move_grants
from datajoint_migrate.verbs.cutover.hold import Note, Ready

Step = dict[str, Any]
Act = Callable[[Session, Step], list[str]]
Around = Callable[[Session, Sequence[Step]], AbstractContextManager[None]]
Pair = tuple[str, str, str]
TABLES = ("BASE TABLE", "SYSTEM VERSIONED", "SEQUENCE")


@dataclass(frozen=True)
class Action:
    """Both directions of one kind of step; each returns notes for the caller. Steps of a kind that
    has an `around` and that follow each other are done, or undone, within it."""

    do: Act
    undo: Act
    around: Around | None = None


# -- tables --------------------------------------------------------------------------------------


def tables_of(session: Session, schemas: Iterable[str]) -> dict[str, list[str]]:
    """By schema the names of everything in it that RENAME TABLE moves; of one that is not there,
    none."""
    found: dict[str, list[str]] = {schema: [] for schema in schemas}
    for schema, name, kind in of_schemas(
        session,
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES"
        " WHERE {TABLE_SCHEMA} ORDER BY TABLE_SCHEMA, TABLE_NAME",
        found,
    ):
        if kind in TABLES:
            found[schema].append(str(name))
    return found


def renames_atomically(session: Session) -> bool:
    """Whether a list of renames is done wholly or not at all even if the server dies in it."""
    return session.version >= ((10, 6) if session.is_mariadb else (8, 0))


def rename_step(pairs: list[tuple[str, str, str]]) -> Step:
    """Move tables (schema, table, new schema); a table may move where another one moved away."""
    return {"kind": "rename", "pairs": [list(pair) for pair in pairs]}


def left_of(session: Session, pairs: Iterable[tuple[str, str, str]]) -> list[Pair]:
    """What a rename has still to move."""
    wanted = [(old, table, new) for old, table, new in pairs]
    schemas = dict.fromkeys(name for old, _, new in wanted for name in (old, new))
    there = {name: set(tables) for name, tables in tables_of(session, schemas).items()}
    # Who moves where another one was first has arrived when the place it left is empty; who makes
    # room for another has left when it is where it wanted to go.
    filled = {(new, table) for _, table, new in wanted}
    return [
        (old, table, new)
        for old, table, new in wanted
        if (table not in there[new] if (old, table) in filled else table in there[old])
    ]


def _rename(session: Session, step: Step) -> list[str]:
    return move(session, step["pairs"], (), None)


def _rename_back(session: Session, step: Step) -> list[str]:
    return move_back(session, step, None)


def move_back(session: Session, step: Step, ready: Ready | None) -> list[str]:
    """Undo a rename when it is `ready`."""
    # The other way round, so that those who came last make room for those who were there first.
    return move(
        session, [(new, table, old) for old, table, new in reversed(step["pairs"])], (), ready
    )


def move(
    session: Session,
    pairs: Iterable[tuple[str, str, str]],
    triggers: Iterable[tuple[str, str]],
    ready: Ready | None,
    *,
    proves: Collection[str] = (),
    evicts: bool = False,
    note: Note | None = None,
) -> list[str]:
    """Rename what is left of `pairs` under a hold; nothing when all has arrived."""
    left = left_of(session, pairs)
    if not left:
        return []
    if renames_atomically(session):
        seconds = float(session.query("SELECT @@SESSION.lock_wait_timeout")[0][0])
        statement = _renaming(left)
        return hold.rename(
            session,
            left,
            triggers,
            statement,
            ready,
            seconds,
            proves=proves,
            evicts=evicts,
            note=note,
        )
    # Such a server takes no list of renames for one, so it is of no use to hold all of them.
    if ready is not None:
        ready(session)
    for schema, name in triggers:
        session.execute(f"DROP TRIGGER IF EXISTS {quote(schema, name)}")
    for pair in left:
        session.execute(_renaming([pair]))
    return []


def _renaming(pairs: Iterable[Pair]) -> str:
    return "RENAME TABLE " + ", ".join(
        f"{quote(old, table)} TO {quote(new, table)}" for old, table, new in pairs
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
    """Drop a program, in its mapped schema if there is a map; its text and the rights that others
    have on it are in the step."""
    return {"kind": "drop_program", "program": asdict(program), "map": dict(schema_map or {})}


def leaving_around(leaving: Iterable[Program], rename: Step) -> list[Step]:
    """The steps by which programs leave, with the rename among them.

    Only triggers go before it, because no table can take one to another schema: until the rename
    production is whole. What else there is goes after it, and comes back after a rename that is
    undone.
    """
    steps = [leave_step(program) for program in reversed(list(leaving))]
    triggers = [step for step in steps if step["program"]["kind"] == "trigger"]
    others = [step for step in steps if step["program"]["kind"] != "trigger"]
    return [
        *({**step, "half": "undo"} for step in others),
        *triggers,
        rename,
        *({**step, "half": "do"} for step in others),
    ]


def come_step(
    program: Program,
    schema_map: Mapping[str, str] | None = None,
    rights: Iterable[Right] | None = (),
) -> Step:
    """Make a program, in its mapped schema and written for the new names if there is a map; others
    get the `rights` on it that they had on the one of that name."""
    said = [list(right) for right in rights or ()]
    return {
        "kind": "create_program",
        "program": asdict(program),
        "map": dict(schema_map or {}),
        "rights": said,
    }


def coming_steps(
    leaving: Iterable[Program], old: Mapping[str, str], new: Mapping[str, str]
) -> list[Step]:
    """Programs of schemas that change places (`old` make room for `new`) in their new ones.

    Rights on routines belong to names, as those on tables do: who could call `lab.count` calls the
    one that takes its place.
    """
    programs = list(leaving)
    rights = {(one.schema, one.kind, one.name.lower()): one.rights for one in programs}
    return [
        come_step(one, old)
        if one.schema in old
        else come_step(one, new, rights.get((new[one.schema], one.kind, one.name.lower())))
        for one in programs
    ]


def rights_left(session: Session, leaving: Iterable[Program], new: Mapping[str, str]) -> list[str]:
    """Sentences on rights that no routine takes over, or that cannot be seen."""
    programs = list(leaving)
    coming = {
        (new[one.schema], one.kind, one.name.lower()) for one in programs if one.schema in new
    }
    notes = []
    for one in programs:
        if one.rights is None:
            notes.append(
                f"{session.server.user} may not read mysql.procs_priv: rights of others on the"
                f" {one} are not seen, and are lost when it is made anew"
            )
        elif one.schema not in new and (one.schema, one.kind, one.name.lower()) not in coming:
            notes += [
                f"'{user}'@'{host}' can {' and '.join(said)} the {one}, which has no successor:"
                " only a rollback gives that right back"
                for user, host, said in one.rights
            ]
    return notes


def _leave(session: Session, step: Step) -> list[str]:
    return [] if step.get("half") == "undo" else _drop_program(session, step)


def _leave_back(session: Session, step: Step) -> list[str]:
    return [] if step.get("half") == "do" else _create_program(session, step)


def _drop_program(session: Session, step: Step) -> list[str]:
    program = _in_place(step)
    if is_there(session, program):
        drop_program(session, program)
    return []


def _create_program(session: Session, step: Step) -> list[str]:
    notes = []
    program = Program(**step["program"])
    if not is_there(session, _in_place(step)):
        # Without a map it goes back to where it was, to the letter.
        names = step["map"] or {program.schema: program.schema}
        notes = create_programs(session, [program], names)
    # A step that is undone makes what it dropped; one that is done has the rights of the name.
    rights = step.get("rights", program.rights)
    if rights and is_there(session, _in_place(step)):
        notes += give_rights(session, _in_place(step), rights)
    return notes


def put_back(session: Session, steps: Iterable[Step]) -> list[str]:
    """Read the programs that were to be put back; a sentence for each that is not as it was."""
    # They left in the opposite order.
    wanted = [
        Program(**step["program"])
        for step in steps
        if step["kind"] == "drop_program" and not step["map"] and step.get("half") != "do"
    ]
    return unlike(session, reversed(wanted))


def _in_place(step: Step) -> Program:
    """The program with the schema that the step finds it in, or puts it in."""
    program = Program(**step["program"])
    return replace(program, schema=step["map"].get(program.schema, program.schema))


# -- lineage -------------------------------------------------------------------------------------


def with_lineage(session: Session) -> list[str]:
    """Schemas that have a `~lineage`."""
    return [
        session.spelt(str(row[0]))
        for row in session.query(
            "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_NAME = %s"
            " ORDER BY TABLE_SCHEMA",
            (LINEAGE,),
        )
    ]


def mentions(
    session: Session, schema: str, names: Iterable[str]
) -> dict[str, list[tuple[str, str]]]:
    """Attributes (table, attribute) of a schema by the schema, one of `names`, in which their
    lineage lies."""
    try:
        rows = session.query(
            f"SELECT table_name, attribute_name, lineage FROM {quote(schema, LINEAGE)}"
        )
    except (NotFound, ServerError):
        # Somebody else's schema may be dropped at any moment; one of ours is not.
        if schema in with_lineage(session):
            raise
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    wanted = list(names)
    for table, attribute, lineage in rows:
        for name in wanted:
            if str(lineage).startswith(name + "."):
                found.setdefault(name, []).append((str(table), str(attribute)))
    return found


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
        and (found := list(chain(*mentions(session, schema, names.values()).values())))
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
            # Looking first asks no right to write where nothing is to be written.
            for old in mentions(session, schema, names):
                _rewrite_one(session, schema, old, names[old], kept.get(schema, []))
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


def _known_of(session: Session, steps: Sequence[Step]) -> AbstractContextManager[None]:
    return state.kept(session, [(step["schema"], step["table"]) for step in steps])


def together(steps: Iterable[Step]) -> Iterator[Step]:
    """The first of the steps, and those right after it that are done within the same `around`."""
    for number, step in enumerate(steps):
        if number == 0:
            first = step
        elif step["kind"] != first["kind"] or ACTIONS[first["kind"]].around is None:
            return
        yield step


ACTIONS: dict[str, Action] = {
    "fence": Action(_fence, _unfence, _known_of),
    "rename": Action(_rename, _rename_back),
    "drop_program": Action(_leave, _leave_back),
    "create_program": Action(_create_program, _drop_program),
    "grants": Action(_grants, _grants_back),
    "charset": Action(_charset, _charset_back),
    "lineage": Action(_lineage, _lineage_back),
}
