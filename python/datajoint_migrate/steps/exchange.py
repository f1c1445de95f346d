"""A schema exchanged for one that was made beside it: one RENAME, and all that must follow.

What is to be done is written down in the schema beside it before the first step, so that the same
call finishes it whatever was killed in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.programs import Program, read_programs
from datajoint_migrate.catalog.tables import ForeignKey, Schema, Table, read_schema
from datajoint_migrate.errors import InvalidArgument, MigrationError, Mismatch
from datajoint_migrate.steps.backup import make_programs, outward_keys
from datajoint_migrate.steps.ends import read_if_there, schema_exists
from datajoint_migrate.steps.plan import JOURNAL, POSTPONED
from datajoint_migrate.steps.record import (
    RECORD,
    Kept,
    Record,
    has_table,
    make_notes,
    program_notes,
    read_notes,
    write_notes,
    write_record,
)
from datajoint_migrate.steps.replicate import make_database
from datajoint_migrate.target.ddl import Item, Token, parse, text_of
from datajoint_migrate.target.programs import drop_program

PROGRESS = "~migrate_restore"
OURS = (PROGRESS, JOURNAL, POSTPONED)
# A rename waits for every open transaction on its tables, and whoever comes later waits for it.
LOCK_SECONDS = 30
SPARE = "_moving"


@dataclass
class Exchange:
    """One restore under way: from `backup`, in schema `working`, to take the place of `dest`.

    `origin` is the schema the backup was made of; `programs` are its programs. `old` describes
    what `dest` is now and what becomes of it, a backup called `kept`. `incoming` are keys
    (schema, table, constraint, SHOW CREATE TABLE) of other schemas into `dest`. `state` is
    loading, swapping or swapped.
    """

    backup: str
    dest: str
    working: str
    origin: str
    charset: str
    collation: str
    state: str = "loading"
    kept: str | None = None
    tables: int = 0
    rows: int = 0
    notes: list[str] = field(default_factory=list)
    incoming: list[tuple[str, str, str, str]] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    old: Record | None = None


def read_exchange(session: Session, working: str) -> Exchange | None:
    """The exchange that is under way in this schema, if one is."""
    if not has_table(session, working, PROGRESS):
        return None
    said = read_notes(session, working, PROGRESS)
    if "exchange" not in said:
        return None
    found = Exchange(**said["exchange"][""])
    found.incoming = [(key[0], key[1], key[2], key[3]) for key in found.incoming]
    found.programs = [Program(**each) for _, each in sorted(said.get("program", {}).items())]
    if "old" in said:
        found.old = Record(**said["old"][""], tables={})
        found.old.tables = {name: Kept(**kept) for name, kept in said.get("table", {}).items()}
        found.old.programs = [
            Program(**each) for _, each in sorted(said.get("old_program", {}).items())
        ]
    return found


def write_exchange(session: Session, exchange: Exchange) -> None:
    """Write down, in one statement, where the exchange is."""
    make_notes(session, exchange.working, PROGRESS, "a restore that is under way")
    head = asdict(exchange)
    del head["programs"], head["old"]
    rows: list[tuple[str, str, Any]] = [("exchange", "", head)]
    rows += program_notes("program", exchange.programs)
    if exchange.old is not None:
        old = asdict(exchange.old)
        del old["tables"], old["programs"]
        rows.append(("old", "", old))
        rows += [("table", name, asdict(kept)) for name, kept in exchange.old.tables.items()]
        rows += program_notes("old_program", exchange.old.programs)
    write_notes(session, exchange.working, PROGRESS, rows)


def restored(session: Session, exchange: Exchange) -> Schema:
    """What was made beside, without our own tables."""
    there = read_schema(session, exchange.working)
    for name in OURS:
        there.tables.pop(name, None)
    return there


def is_used(there: Schema | None) -> bool:
    """Whether a schema holds anything."""
    return there is not None and bool(there.tables or there.views or there.routines)


# -- before ---------------------------------------------------------------------------------------


def plan_exchange(session: Session, exchange: Exchange, new: Schema) -> None:
    """Decide what becomes of the present `dest` and of the keys into it; changes nothing there.

    Raises `Mismatch` when rows of other schemas would lose their parents, `InvalidArgument` when
    `dest` is a backup itself.
    """
    dest = read_if_there(session, exchange.dest)
    if dest is not None and RECORD in dest.tables:
        raise InvalidArgument(
            f"the destination {dest.name!r} is itself a backup", hint="choose another name"
        )
    before = exchange.old.programs if exchange.old else []
    if dest is not None and (is_used(dest) or before):
        exchange.kept = exchange.kept or _free_name(session, f"{dest.name}_before_restore")
        programs = read_programs(session, dest.name)
        names = {(program.kind, program.name) for program in programs}
        # An interrupted swap may have dropped some already.
        programs += [each for each in before if (each.kind, each.name) not in names]
        for program in programs:
            if not program.create:
                raise InvalidArgument(
                    f"the {program} would be lost: its definition cannot be read",
                    hint="drop it, or restore as a user who may read it (SHOW_ROUTINE, SHOW VIEW,"
                    " TRIGGER, EVENT)",
                )
        exchange.old = Record(
            source=dest.name,
            charset=dest.charset,
            collation=dest.collation,
            tables={name: Kept(table.create) for name, table in dest.tables.items()},
            programs=programs,
            finished=True,
        )
    exchange.incoming = []
    for child, key in incoming_keys(session, exchange.dest, {exchange.working}):
        said = _check_incoming(session, child, key, dest, new)
        if said and said not in exchange.notes:
            exchange.notes.append(said)
        exchange.incoming.append((child.schema, child.name, key.name, child.create))


def free_name(name: str, ending: str) -> str:
    """`name` with an ending, no longer than a name may be."""
    return name[: 64 - len(ending)] + ending


def _free_name(session: Session, wanted: str) -> str:
    number, name = 1, free_name(wanted, "")
    while schema_exists(session, name):
        number += 1
        name = free_name(wanted, f"_{number}")
    return name


def incoming_keys(
    session: Session, schema: str, without: set[str]
) -> list[tuple[Table, ForeignKey]]:
    """Foreign keys of other schemas into this one, with the tables that hold them."""
    holders = session.query(
        "SELECT DISTINCT TABLE_SCHEMA FROM information_schema.KEY_COLUMN_USAGE"
        " WHERE REFERENCED_TABLE_SCHEMA = %s AND TABLE_SCHEMA <> %s ORDER BY 1",
        (schema, schema),
    )
    return [
        (table, key)
        for (holder,) in holders
        if holder not in without
        for table in read_schema(session, holder).tables.values()
        for key in table.foreign_keys
        if key.ref_schema == schema
    ]


def _check_incoming(
    session: Session, child: Table, key: ForeignKey, dest: Schema | None, new: Schema
) -> str | None:
    """Refuse what would take parents from rows; what has none anyway is only said."""
    here = f"{child} refers to {key.ref_schema}.{key.ref_table}"
    parent = new.tables.get(key.ref_table)
    present = dest.tables.get(key.ref_table) if dest else None
    if parent is None:
        if present is None:
            return f"{here}, which neither was there nor is in the backup"
        raise Mismatch(
            f"{here}, which the backup does not have",
            hint=f"drop that foreign key, or restore {child.schema} first",
        )
    for mine, theirs in zip(key.columns, key.ref_columns, strict=True):
        column, wanted = child.column(mine), parent.column(theirs)
        if (column.data_type, column.collation) != (wanted.data_type, wanted.collation) or (
            "unsigned" in column.column_type
        ) != ("unsigned" in wanted.column_type):
            raise Mismatch(
                f"{here}, but its column {mine!r} is {column.column_type} and the backup's "
                f"{theirs!r} is {wanted.column_type}",
                hint=f"restore {child.schema} first, or drop that foreign key",
            )
    lost = _without_parents(session, child, key, parent, present)
    if not lost:
        return None
    if present is None:
        return f"{here}, which lacks the parents of some rows, for example {lost[0]}"
    raise Mismatch(
        f"{here}, and the backup lacks the parents of some rows, for example {lost[0]}",
        code="DJM-1702",
        hint=f"restore {child.schema} to the same day first, or delete these rows",
        context={"keys": lost},
    )


def _without_parents(
    session: Session, child: Table, key: ForeignKey, parent: Table, present: Table | None
) -> list[dict[str, Any]]:
    """A few keys without a row in `parent`, of those that have one in `present` (if given)."""
    equal = " AND ".join(
        f"p.{quote(theirs)} = c.{quote(mine)}"
        for mine, theirs in zip(key.columns, key.ref_columns, strict=True)
    )
    conditions = [f"c.{quote(name)} IS NOT NULL" for name in key.columns]
    tables = [("NOT EXISTS", parent)] + ([("EXISTS", present)] if present else [])
    conditions += [
        f"{there} (SELECT 1 FROM {quote(table.schema, table.name)} p WHERE {equal})"
        for there, table in tables
    ]
    rows = session.query(
        f"SELECT {', '.join('c.' + quote(name) for name in key.columns)}"
        f" FROM {quote(child.schema, child.name)} c WHERE {' AND '.join(conditions)} LIMIT 3"
    )
    return [dict(zip(key.columns, row, strict=True)) for row in rows]


# -- the exchange ---------------------------------------------------------------------------------


def swap(session: Session, exchange: Exchange, new: Iterable[str]) -> None:
    """Put the tables made beside in the place of the present ones, by one RENAME.

    When that fails everything is as before: RENAME is all or nothing.
    """
    session.execute(f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}")
    renamed = [(exchange.working, name, exchange.dest) for name in new]
    if exchange.kept and exchange.old:
        make_database(session, exchange.kept, exchange.old.charset, exchange.old.collation)
        gone = [(exchange.dest, name, exchange.kept) for name in exchange.old.tables]
        renamed = gone + renamed
    if not schema_exists(session, exchange.dest):
        make_database(session, exchange.dest, exchange.charset, exchange.collation)
    moves = ", ".join(f"{quote(schema, name)} TO {quote(to, name)}" for schema, name, to in renamed)
    try:
        for program in reversed(read_programs(session, exchange.dest)):
            drop_program(session, program)
        session.execute(f"RENAME TABLE {moves}")
    except MigrationError:
        if exchange.old:
            make_programs(session, exchange.old.programs, exchange.dest, exchange.dest, events=True)
        raise


def settle(session: Session, exchange: Exchange) -> list[str]:
    """All that follows the rename; every step may have been done already. Returns notes."""
    session.execute(f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}")
    make_database(session, exchange.dest, exchange.charset, exchange.collation)
    for schema, table, name, create in exchange.incoming:
        _repoint(session, (schema, table), name, exchange.dest)
        _name_indexes(session, (schema, table), create)
    home = exchange.dest == exchange.origin
    notes = make_programs(session, exchange.programs, exchange.origin, exchange.dest, events=home)
    if exchange.kept and exchange.old:
        notes += _lay_aside(session, exchange.kept, exchange.old)
    session.execute(f"DROP DATABASE {quote(exchange.working)}")
    return notes


def _repoint(session: Session, child: tuple[str, str], name: str, parent: str) -> None:
    """Let a foreign key lead to the table of the same name in another schema.

    Two statements, so that the rows are never without a key: one name cannot be dropped and added
    in the same statement.
    """
    create = str(session.query(f"SHOW CREATE TABLE {quote(*child)}")[0][1])
    keys = {item.name: item for item in parse(create).items if item.kind == "foreign"}
    spare = free_name(name, SPARE)
    if name in keys:
        if keys[name].reference[0] == parent:
            return
        item = keys[name]
        item.repoint(parent)
        item.rename(spare)
        _exchange_key(session, child, name, item)
        keys[spare] = item
    item = keys[spare]
    item.rename(name)
    _exchange_key(session, child, spare, item)


def _exchange_key(session: Session, child: tuple[str, str], old: str, new: Item) -> None:
    session.execute(
        f"ALTER TABLE {quote(*child)} DROP FOREIGN KEY {quote(old)}, ADD {text_of(new.parts)}"
    )


def _name_indexes(session: Session, table: tuple[str, str], create: str) -> None:
    """Give indexes their names back: the server renames one it once made for a key itself."""
    was, now = (
        {item.name: item.parts for item in parse(text).items if item.kind == "index"}
        for text in (create, str(session.query(f"SHOW CREATE TABLE {quote(*table)}")[0][1]))
    )
    for old in was.keys() - now.keys():
        for new in now.keys() - was.keys():
            if _without_name(was[old]) == _without_name(now[new]):
                session.execute(
                    f"ALTER TABLE {quote(*table)} RENAME INDEX {quote(new)} TO {quote(old)}"
                )
                del now[new]
                break


def _without_name(parts: Sequence[Token]) -> str:
    at = next(index for index, token in enumerate(parts) if token.kind == "name")
    return text_of([*parts[:at], *parts[at + 1 :]])


def _lay_aside(session: Session, kept: str, old: Record) -> list[str]:
    """Make the former schema a backup: a record, and no foreign key into another schema."""
    write_record(session, kept, old)
    there = read_schema(session, kept)
    for table in there.tables.values():
        for key in outward_keys(table, kept).foreign_keys:
            session.execute(
                f"ALTER TABLE {quote(kept, table.name)} DROP FOREIGN KEY {quote(key.name)}"
            )
    return make_programs(session, old.programs, old.source, kept)
