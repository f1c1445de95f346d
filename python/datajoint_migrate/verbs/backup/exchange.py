"""A schema exchanged for one that was made beside it: one RENAME, and all that must follow.

What is to be done is written down in the schema beside it before the first step, so that the same
call finishes it whatever was killed in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.build.creating import drop_program, give_rights, unlike
from datajoint_migrate.call.ends import read_if_there
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.catalog.definition import definition
from datajoint_migrate.catalog.grants import read_grants
from datajoint_migrate.catalog.names import JOURNAL, NAME_CHARACTERS, POSTPONED, PROGRESS, RECORD
from datajoint_migrate.catalog.presence import has_table, schema_exists
from datajoint_migrate.catalog.programs import Program, has_programs, read_programs
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import Token, text_of
from datajoint_migrate.catalog.tables import ForeignKey, Schema, Table, read_schema
from datajoint_migrate.errors import InvalidArgument, MigrationError, Mismatch, PermissionMissing
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.target.ddl import Item, parse
from datajoint_migrate.target.programs import makes
from datajoint_migrate.verbs.backup.backup import make_programs, outward_keys
from datajoint_migrate.verbs.backup.record import (
    Kept,
    Record,
    make_notes,
    program_notes,
    read_notes,
    write_notes,
    write_record,
)
from datajoint_migrate.verbs.backup.replicate import make_database
from datajoint_migrate.words import counted

OURS = (PROGRESS, JOURNAL, POSTPONED)
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


def is_used(session: Session, there: Schema | None) -> bool:
    """Whether a schema holds anything."""
    return there is not None and (bool(there.tables) or has_programs(session, there.name))


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
    if dest is not None and (is_used(session, dest) or before):
        exchange.kept = exchange.kept or _free_name(session, f"{dest.name}_before_restore")
        programs = read_programs(session, dest.name)
        names = {(program.kind, program.name) for program in programs}
        # An interrupted swap may have dropped some already.
        programs += [each for each in before if (each.kind, each.name) not in names]
        for program in programs:
            if not program.create or not makes(program):
                raise InvalidArgument(
                    f"the {program} would be lost: its definition cannot be read, or does not make"
                    " it",
                    hint="restore as a user who may read it (SHOW_ROUTINE, SHOW VIEW,"
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
    _refuse_unseen(session, exchange)
    led = {key[:3]: key for key in exchange.incoming}
    exchange.incoming = []
    for child, key in incoming_keys(session, exchange.dest, {exchange.working}):
        said = _check_incoming(session, child, key, dest, new)
        if said and said not in exchange.notes:
            exchange.notes.append(said)
        exchange.incoming.append((child.schema, child.name, key.name, child.create))
    # An interrupted swap may have led some to the tables beside already.
    for child, key in incoming_keys(session, exchange.working, {exchange.dest}):
        for (schema, table, name), known in led.items():
            if (schema, table) == (child.schema, child.name) and key.name in (
                name,
                free_name(name, SPARE),
            ):
                exchange.incoming.append(known)


def free_name(name: str, ending: str) -> str:
    """`name` with an ending, no longer than a name may be."""
    return name[: NAME_CHARACTERS - len(ending)] + ending


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
        for holder in (session.spelt(str(row[0])) for row in holders)
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
            hint=f"restore {child.schema} to the same day first",
        )
    for mine, theirs in zip(key.columns, key.ref_columns, strict=True):
        column, wanted = child.column(mine), parent.column(theirs)
        if (column.data_type, column.collation) != (wanted.data_type, wanted.collation) or (
            "unsigned" in column.column_type
        ) != ("unsigned" in wanted.column_type):
            raise Mismatch(
                f"{here}, but its column {mine!r} is {column.column_type} and the backup's "
                f"{theirs!r} is {wanted.column_type}",
                hint=f"restore {child.schema} to the same day first",
            )
    lost, some = _without_parents(session, child, key, parent, present)
    if not lost:
        return None
    if present is None:
        return f"{here}, which lacks the parents of {counted(lost, 'row')}, for example {some[0]}"
    raise _parents_lost(child, key, lost, some)


def _parents_lost(child: Table, key: ForeignKey, lost: int, some: list[dict[str, Any]]) -> Mismatch:
    return Mismatch(
        f"{child} refers to {key.ref_schema}.{key.ref_table}, and the backup lacks the parents of"
        f" {counted(lost, 'row')}, for example {some[0]}",
        code="DJM-1702",
        hint=f"restore {child.schema} to the same day first",
        context={"table": str(child), "rows": lost, "keys": some},
    )


def _refuse_unseen(session: Session, exchange: Exchange) -> None:
    """Raises `PermissionMissing` when a schema that this user may not see refers to `dest`: its
    rows could not be looked at, and its keys would lead to what is laid aside."""
    view = "INNODB_SYS_FOREIGN" if session.is_mariadb else "INNODB_FOREIGN"
    try:
        rows = session.query(f"SELECT FOR_NAME, REF_NAME FROM information_schema.{view}")
    except PermissionMissing:
        if not read_grants(session).has("SELECT"):
            said = (
                f"whether schemas that {session.server.user} may not see refer to {exchange.dest}"
                " is not known (that needs PROCESS): their keys would lead to what is laid aside"
            )
            exchange.notes += [said] if said not in exchange.notes else []
        return
    seen = {str(row[0]) for row in session.query("SHOW DATABASES")}
    for child, parent in ((_plain_name(str(a)), _plain_name(str(b))) for a, b in rows):
        if parent[0] == exchange.dest and child[0] not in seen:
            raise PermissionMissing(
                f"{'.'.join(child)} refers to {'.'.join(parent)}, and {session.server.user} may not"
                f" see {child[0]}",
                hint=f"restore as a user with all privileges on {child[0]} too",
                context={"schema": child[0]},
            )


def _plain_name(name: str) -> tuple[str, str]:
    """Schema and table of a name as InnoDB has it: what is no letter is @ and four digits."""
    plain = re.sub(r"@([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), name)
    schema, _, table = plain.partition("/")
    return schema, table


def _without_parents(
    session: Session, child: Table, key: ForeignKey, parent: Table, present: Table | None
) -> tuple[int, list[dict[str, Any]]]:
    """How many rows have none in `parent`, of those that have one in `present` (if given), and a
    few of their keys."""
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
    those = f" FROM {quote(child.schema, child.name)} c WHERE {' AND '.join(conditions)}"
    columns = ", ".join("c." + quote(name) for name in key.columns)
    rows = session.query(f"SELECT {columns}{those} LIMIT 3")
    some = [dict(zip(key.columns, row, strict=True)) for row in rows]
    lost = int(session.query(f"SELECT COUNT(*){those}")[0][0]) if some else 0
    return lost, some


# -- the exchange ---------------------------------------------------------------------------------


def swap(session: Session, exchange: Exchange, new: Mapping[str, Table]) -> None:
    """Put the tables made beside in the place of the present ones, by one RENAME.

    When that fails everything is as before: RENAME is all or nothing.

    Keys of other schemas lead to the tables beside already, and follow them. From then on the
    server lets no row in without its parent there, so that a look afterwards finds every row that
    has none: who writes while the rest goes on cannot slip in between.
    """
    session.execute(f"SET SESSION lock_wait_timeout = {LIMITS.restore_lock_seconds}")
    renamed = [(exchange.working, name, exchange.dest) for name in sorted(new)]
    if exchange.kept and exchange.old:
        make_database(session, exchange.kept, exchange.old.charset, exchange.old.collation)
        gone = [(exchange.dest, name, exchange.kept) for name in exchange.old.tables]
        renamed = gone + renamed
    if not schema_exists(session, exchange.dest):
        make_database(session, exchange.dest, exchange.charset, exchange.collation)
    moves = ", ".join(f"{quote(schema, name)} TO {quote(to, name)}" for schema, name, to in renamed)
    try:
        _lead(session, exchange, new)
        for program in reversed(read_programs(session, exchange.dest)):
            drop_program(session, program)
        if moves:
            patiently(session, f"RENAME TABLE {moves}", LIMITS.restore_lock_seconds)
    except MigrationError as error:
        lost: list[str] = []
        if exchange.old:
            lost = make_programs(
                session, exchange.old.programs, exchange.dest, exchange.dest, events=True
            )
            lost += _rights_back(session, exchange.dest, exchange.old.programs)
            lost += unlike(session, exchange.old.programs)
        _lead_back(session, exchange)
        whole = "is as it was" if not lost else "is put back, but see what follows"
        again = f"{exchange.dest} {whole}; the same call tries again"
        error.hint = "; ".join(filter(None, (error.hint, again, *lost)))
        raise


def _lead(session: Session, exchange: Exchange, new: Mapping[str, Table]) -> None:
    """Let keys of other schemas lead to the tables beside; raises `Mismatch` for rows that have no
    parent there but had one."""
    for child, key in incoming_keys(session, exchange.dest, {exchange.working}):
        if key.ref_table in new:
            _repoint(session, (child.schema, child.name), key.name, exchange.working)
    there = read_if_there(session, exchange.dest)
    for child, key in incoming_keys(session, exchange.working, {exchange.dest}):
        present = there.tables.get(key.ref_table) if there else None
        if key.ref_table not in new or present is None:
            continue
        lost, some = _without_parents(session, child, key, new[key.ref_table], present)
        if lost:
            raise _parents_lost(child, replace(key, ref_schema=exchange.dest), lost, some)


def _lead_back(session: Session, exchange: Exchange) -> None:
    known = {key[:3] for key in exchange.incoming}
    late = [
        (child.schema, child.name, key.name, child.create)
        for child, key in incoming_keys(session, exchange.working, {exchange.dest})
        if (child.schema, child.name, key.name) not in known and not key.name.endswith(SPARE)
    ]
    for schema, table, name, create in [*exchange.incoming, *late]:
        _repoint(session, (schema, table), name, exchange.dest)
        _name_indexes(session, (schema, table), create)


def settle(session: Session, exchange: Exchange) -> list[str]:
    """All that follows the rename; every step may have been done already. Returns notes."""
    session.execute(f"SET SESSION lock_wait_timeout = {LIMITS.restore_lock_seconds}")
    make_database(session, exchange.dest, exchange.charset, exchange.collation)
    for schema, table, name, create in exchange.incoming:
        _repoint(session, (schema, table), name, exchange.dest)
        _name_indexes(session, (schema, table), create)
    home = exchange.dest == exchange.origin
    notes = make_programs(session, exchange.programs, exchange.origin, exchange.dest, events=home)
    if exchange.old:
        notes += _rights_back(session, exchange.dest, exchange.old.programs)
    notes += _rights_missing(session, exchange)
    if exchange.kept and exchange.old:
        notes += _lay_aside(session, exchange.kept, exchange.old)
    session.execute(f"DROP DATABASE {quote(exchange.working)}")
    return notes


def _rights_back(session: Session, dest: str, before: Iterable[Program]) -> list[str]:
    """Rights on routines belong to names, as those on tables do, and a DROP takes them along."""
    there = {(one.kind, one.name.lower()): one for one in read_programs(session, dest)}
    notes = []
    for one in before:
        now = there.get((one.kind, one.name.lower()))
        if one.rights is None:
            notes.append(
                f"{session.server.user} may not read mysql.procs_priv: the rights of others on the"
                f" {one} are lost"
            )
        elif now is not None:
            notes += give_rights(session, now, one.rights)
        else:
            notes += [
                f"'{user}'@'{host}' could {' and '.join(said)} the {one}, which the backup does not"
                " have"
                for user, host, said in one.rights
            ]
    return notes


def _rights_missing(session: Session, exchange: Exchange) -> list[str]:
    there = {(one.kind, one.name): one.rights for one in read_programs(session, exchange.dest)}
    return [
        f"'{user}'@'{host}' could {' and '.join(said)} the {one} when it was backed up: that right"
        f" is not given on {exchange.dest}.{one.name}"
        for one in exchange.programs
        for user, host, said in one.rights or ()
        if (now := there.get((one.kind, one.name))) is not None and (user, host, said) not in now
    ]


def _repoint(session: Session, child: tuple[str, str], name: str, parent: str) -> None:
    """Let a foreign key lead to the table of the same name in another schema.

    Two statements, so that the rows are never without a key: one name cannot be dropped and added
    in the same statement.
    """
    create = definition(session, *child)
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
    exchange = f"DROP FOREIGN KEY {quote(old)}, ADD {text_of(new.parts)}"
    patiently(session, f"ALTER TABLE {quote(*child)} {exchange}", LIMITS.restore_lock_seconds)


def _name_indexes(session: Session, table: tuple[str, str], create: str) -> None:
    """Give indexes their names back: the server renames one it once made for a key itself."""
    was, now = (
        {item.name: item.parts for item in parse(text).items if item.kind == "index"}
        for text in (create, definition(session, *table))
    )
    for old in was.keys() - now.keys():
        for new in now.keys() - was.keys():
            if _without_name(was[old]) == _without_name(now[new]):
                named = f"RENAME INDEX {quote(new)} TO {quote(old)}"
                alter = f"ALTER TABLE {quote(*table)} {named}"
                patiently(session, alter, LIMITS.restore_lock_seconds)
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
