"""A backup put back: beside its destination first, proved there, and then exchanged for it."""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.programs import Program, read_programs
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, Mismatch
from datajoint_migrate.steps import journal
from datajoint_migrate.steps.backup import key_name, outward_keys
from datajoint_migrate.steps.ends import Ends, check_names, open_ends, read_if_there
from datajoint_migrate.steps.exchange import (
    PROGRESS,
    Exchange,
    free_name,
    is_used,
    plan_exchange,
    read_exchange,
    restored,
    settle,
    swap,
    write_exchange,
)
from datajoint_migrate.steps.keys import find_orphans
from datajoint_migrate.steps.plan import JOURNAL, LANES
from datajoint_migrate.steps.record import RECORD, Record, has_record, has_table, read_record
from datajoint_migrate.steps.replicate import check_kinds, fill, make_database, make_tables
from datajoint_migrate.steps.route import OnEvent
from datajoint_migrate.target.replica import OutwardKey, Replica, replicate

logger = logging.getLogger("datajoint_migrate")

WORKING = "_restoring"


@dataclass
class Origin:
    """A backup, ready to be read: `schema` is what it was made of, `creates` its definitions.

    `copy` is the schema that holds the rows; `record` is None when that is no backup of ours.
    """

    name: str
    schema: str
    charset: str
    collation: str
    creates: dict[str, str]
    programs: list[Program]
    orphans: set[str] = field(default_factory=set)
    copy: Schema | None = None
    record: Record | None = None


def restore_schema(
    backup: str,
    dest: str,
    overwrite: bool = False,
    *,
    connection: Any = None,
    dest_connection: Any = None,
    lanes: int = LANES,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Make `dest` what the schema was when `backup` was made, hidden tables included.

    Everything is made in `<dest>_restoring`, every row compared with the backup and every foreign
    key proved there; then one RENAME puts it in place. A destination that holds anything is
    refused unless `overwrite`, and then becomes a backup itself (`kept`), from which it can be
    restored. Foreign keys of other schemas into `dest` lead to the restored tables afterwards.
    Keys into other schemas come back where `dest` is the schema the backup was made of; under
    another name they would block deletes over there, and are left out (`notes`).

    A call that was interrupted is finished by the same call.

    Returns `tables_restored`, `rows_restored`, `kept` (schema name or None), `notes`,
    `time_taken` in seconds; with `dry_run` also `plan`, and nothing is written.

    Raises `NotFound` when there is no such backup, `InvalidArgument` for one that is empty or
    unfinished, `DestinationNotEmpty`, and `Mismatch` when the backup has been changed or a foreign
    key would not hold; in all cases `dest` is as it was.
    """
    began = time.monotonic()
    with open_ends(connection, dest_connection) as ends:
        check_names({backup: dest}, ends.same_server)
        check_kinds(ends)
        origin = _open(ends, backup)
        working = free_name(dest, WORKING)
        exchange = _look(ends.destination, origin, dest, working)
        if exchange is None or not _is_renamed(ends.destination, exchange):
            there = read_if_there(ends.destination, dest)
            if is_used(there) and not overwrite:
                raise DestinationNotEmpty(
                    f"the destination {dest!r} is in use",
                    hint="choose another name, or say overwrite=True: the present schema is kept"
                    " under another name",
                    context={"schema": dest},
                )
        if dry_run:
            return _readable(origin, dest, began)
        if exchange is None:
            exchange = Exchange(
                backup=backup,
                dest=dest,
                working=working,
                origin=origin.schema,
                charset=origin.charset,
                collation=origin.collation,
                programs=origin.programs,
            )
        _advance(ends, origin, exchange, lanes, on_event)
        notes = exchange.notes + settle(ends.destination, exchange)
    return {
        "tables_restored": exchange.tables,
        "rows_restored": exchange.rows,
        "kept": exchange.kept,
        "notes": notes,
        "time_taken": time.monotonic() - began,
    }


# -- what there is --------------------------------------------------------------------------------


def _open(ends: Ends, name: str) -> Origin:
    schema = read_schema(ends.source, name)
    if not has_record(ends.source, name):
        return _plain(ends, schema)
    record = read_record(ends.source, name)
    if record is None or not record.finished or journal.is_open(ends.source, name):
        raise InvalidArgument(
            f"the backup {name!r} is unfinished",
            hint="run the same backup_schema again to finish it",
        )
    lost = sorted(record.tables.keys() - schema.tables.keys())
    if lost:
        raise Mismatch(f"the backup {name!r} has lost its table {lost[0]!r}")
    return Origin(
        name=name,
        schema=record.source,
        charset=record.charset,
        collation=record.collation,
        creates={table: kept.create for table, kept in record.tables.items()},
        programs=record.programs,
        orphans=set(record.orphans),
        copy=schema,
        record=record,
    )


def _plain(ends: Ends, schema: Schema) -> Origin:
    """A schema that is no backup of ours serves as one, as it is."""
    if PROGRESS in schema.tables or JOURNAL in schema.tables:
        raise InvalidArgument(f"{schema.name!r} is an unfinished copy", hint="finish it first")
    if not schema.tables:
        raise InvalidArgument(f"the backup {schema.name!r} is empty: it holds no table")
    return Origin(
        name=schema.name,
        schema=schema.name,
        charset=schema.charset,
        collation=schema.collation,
        creates={name: table.create for name, table in schema.tables.items()},
        programs=read_programs(ends.source, schema.name),
        copy=schema,
    )


def _look(session: Session, origin: Origin, dest: str, working: str) -> Exchange | None:
    """The exchange an interrupted call left; raises `DestinationNotEmpty` for another's."""
    exchange = read_exchange(session, working)
    there = read_if_there(session, working)
    if exchange is None:
        if is_used(there) and not has_table(session, working, PROGRESS):
            raise _in_the_way(working, "something else")
        return None
    if (exchange.backup, exchange.dest) != (origin.name, dest):
        raise _in_the_way(working, f"an unfinished restore of {exchange.backup} to {exchange.dest}")
    return exchange


def _is_renamed(session: Session, exchange: Exchange) -> bool:
    """Whether the one RENAME has happened, which may not have been written down any more."""
    return exchange.state == "swapped" or (
        exchange.state == "swapping" and not restored(session, exchange).tables
    )


def _in_the_way(working: str, what: str) -> DestinationNotEmpty:
    return DestinationNotEmpty(
        f"{working!r}, where the restore is to be prepared, holds {what}",
        hint=f"finish that, or drop it: DROP DATABASE {quote(working)}",
        context={"schema": working},
    )


def _readable(origin: Origin, dest: str, began: float) -> dict[str, Any]:
    rows = "an unknown number of"
    if origin.record:
        rows = str(sum(kept.rows or 0 for kept in origin.record.tables.values()))
    line = f"{origin.name} -> {dest}: {len(origin.creates)} tables, {rows} rows"
    return {
        "tables_restored": 0,
        "rows_restored": 0,
        "kept": None,
        "notes": [],
        "time_taken": time.monotonic() - began,
        "plan": [line],
    }


# -- the restore ----------------------------------------------------------------------------------


def _advance(ends: Ends, origin: Origin, exchange: Exchange, lanes: int, on_event: OnEvent) -> None:
    """From wherever the exchange is to where only the settling remains."""
    session = ends.destination
    if exchange.state == "loading":
        replicas = _replicas(origin, exchange)
        make_database(session, exchange.working, origin.charset, origin.collation)
        write_exchange(session, exchange)
        existing = restored(session, exchange).tables
        make_tables(session, replicas, existing)
        _load(ends, origin, exchange, lanes, on_event)
        _put_keys_back(ends, origin, exchange, replicas)
    if exchange.state != "swapped":
        if not _is_renamed(session, exchange):
            new = restored(session, exchange)
            plan_exchange(session, exchange, new)
            exchange.state = "swapping"
            write_exchange(session, exchange)
            swap(session, exchange, new.tables)
        exchange.state = "swapped"
        write_exchange(session, exchange)


def _replicas(origin: Origin, exchange: Exchange) -> list[Replica]:
    home = {origin.schema, origin.name}
    return [
        replicate(create, table, dest=exchange.working, home=home)
        for table, create in origin.creates.items()
    ]


def _load(ends: Ends, origin: Origin, exchange: Exchange, lanes: int, on_event: OnEvent) -> None:
    assert origin.copy is not None
    there = restored(ends.destination, exchange)
    filled = fill(ends, origin.copy, there, origin.creates, lanes=lanes, on_event=on_event)
    _refuse_changed(origin, filled.rows, filled.digests)
    exchange.tables, exchange.rows = len(filled.rows), sum(filled.rows.values())


def _refuse_changed(origin: Origin, rows: dict[str, int], digests: dict[str, str]) -> None:
    """The rows must still be those that were proved when the backup was made."""
    record = origin.record
    if record is None:
        return
    for name, kept in record.tables.items():
        same = kept.rows is None or kept.rows == rows[name]
        if kept.digest is not None and record.version == _core.__version__:
            same = same and kept.digest == digests[name]
        if not same:
            raise Mismatch(
                f"the rows of {origin.name}.{name} are not those that were backed up",
                hint=f"somebody has changed the backup; to restore it as it is now, drop its"
                f" record first: DROP TABLE {quote(origin.name, RECORD)}",
                context={"table": name},
            )


def _put_keys_back(ends: Ends, origin: Origin, exchange: Exchange, replicas: list[Replica]) -> None:
    """Prove all keys; keys into other schemas are added last, as the shortest time in the way."""
    session = ends.destination
    there = restored(session, exchange)
    _refuse_orphans(session, origin, exchange, there)
    outward = [key for replica in replicas for key in replica.outward]
    if outward and origin.record is not None and exchange.dest != origin.schema:
        keys = ", ".join(str(key) for key in outward[:10])
        exchange.notes.append(
            f"{exchange.dest} is not {origin.schema}, so its foreign keys into other schemas are"
            f" left out, where they would block deletes: {keys}"
        )
        return
    for key in outward:
        present = {each.name for each in there.tables[key.table].foreign_keys}
        if key.name not in present:
            _add(session, exchange, key)
    again = restored(session, exchange)
    only = [outward_keys(table, exchange.working) for table in again.tables.values()]
    missing = {
        (key.ref_schema, key.ref_table)
        for table in only
        for key in table.foreign_keys
        if not has_table(session, key.ref_schema, key.ref_table)
    }
    exchange.notes += [
        f"{exchange.dest} refers to {'.'.join(name)}, which is not there (yet): restore it too"
        for name in sorted(missing)
    ]
    tables = [
        dataclasses.replace(
            table,
            foreign_keys=tuple(
                key for key in table.foreign_keys if (key.ref_schema, key.ref_table) not in missing
            ),
        )
        for table in only
    ]
    _refuse_orphans(
        session, origin, exchange, dataclasses.replace(again, tables={t.name: t for t in tables})
    )


def _add(session: Session, exchange: Exchange, key: OutwardKey) -> None:
    session.execute(f"ALTER TABLE {quote(exchange.working, key.table)} ADD {key.definition}")


def _refuse_orphans(session: Session, origin: Origin, exchange: Exchange, there: Schema) -> None:
    for orphan in find_orphans(session, there.tables.values()):
        table = orphan["table"].split(".", 1)[1]
        if origin.record is None or key_name(table, orphan["constraint"]) in origin.orphans:
            exchange.notes.append(
                f"{exchange.dest}.{table}: rows refer to rows that {orphan['references']} does not"
                f" have, as when it was backed up: {orphan['keys'][:3]}"
            )
            continue
        raise Mismatch(
            f"rows of {origin.name}.{table} refer to rows that {orphan['references']} does not"
            f" have, for example {orphan['keys'][0]}",
            code="DJM-1702",
            hint="restore that schema to the same day first; nothing was changed"
            f" but {exchange.working}, which can be dropped",
            context={"orphans": [orphan]},
        )
