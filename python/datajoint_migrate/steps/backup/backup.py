"""A schema backed up on a server: an exact copy under another name, and a record beside it."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session, resolve
from datajoint_migrate.catalog.externals import TRACKING
from datajoint_migrate.catalog.programs import Program, read_programs
from datajoint_migrate.catalog.tables import ForeignKey, Schema, Table, read_schema
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, MigrationError
from datajoint_migrate.steps.backup.archive import is_archive, place_of, refuse_used, write_archive
from datajoint_migrate.steps.backup.proof import (
    prove_backup as prove_backup,  # the third of the trio
)
from datajoint_migrate.steps.backup.record import (
    RECORD,
    Kept,
    Record,
    read_record,
    write_record,
)
from datajoint_migrate.steps.backup.replicate import (
    check_kinds,
    fill,
    make_database,
    make_tables,
)
from datajoint_migrate.steps.moving import journal
from datajoint_migrate.steps.moving.ends import (
    Ends,
    check_names,
    open_ends,
    read_if_there,
    schema_exists,
)
from datajoint_migrate.steps.moving.keys import find_orphans
from datajoint_migrate.steps.moving.plan import JOURNAL, LANES, POSTPONED
from datajoint_migrate.steps.moving.route import OnEvent
from datajoint_migrate.steps.moving.throttle import Throttle
from datajoint_migrate.steps.moving.turn import take_turn
from datajoint_migrate.target.programs import create_programs, drop_program
from datajoint_migrate.target.replica import OutwardKey, Replica, comparable, replicate

logger = logging.getLogger("datajoint_migrate")

SHOWN = 10


def backup_schema(
    schema: str,
    backup_name: str,
    connection: Any = None,
    *,
    dest_connection: Any = None,
    with_files: bool = False,
    source_stores: Mapping[str, Any] | None = None,
    lanes: int = LANES,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Copy a whole schema, hidden tables included, bit for bit, to one called `backup_name`.

    A `backup_name` with a separator in it, or a path, is an archive: a folder, or `s3://bucket/…`,
    of Parquet files and a manifest (see `check_backup`), with the objects of external stores too
    if `with_files`.

    The copy holds no foreign key into another schema, because it would block deletes there; such
    keys, and programs (triggers, views, routines, events), are kept in its hidden table
    `~migrate_backup`, from which `restore_schema` puts them back. Events are only kept there,
    so that none runs twice. Rows are of one instant and every one is proved by
    comparison. A call that was interrupted is finished by the same call.

    `max_bytes_per_second` (of all connections together), `max_load` ("Threads_running=25", several
    with commas) and `pause_file` spare production: above a limit, or while the file is there,
    nothing is read from it. A snapshot stays open meanwhile, so the server keeps old versions of
    rows that are written to (its undo log grows) until the call goes on and ends.

    Returns `tables_backed_up` and `rows_backed_up` (hidden tables included), `backup_location`,
    `snapshot`, `notes`, `time_taken` in seconds; an archive's also `bytes` and `files_backed_up`;
    with `dry_run` also `plan` (sentences) and `ddl`, and nothing is written.

    Raises `NotFound`, `InvalidArgument`, and `DestinationNotEmpty` when `backup_name` holds
    anything already, a finished backup included.
    """
    began = time.monotonic()
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    if is_archive(backup_name):
        archived = {
            "with_files": with_files,
            "source_stores": source_stores,
            "lanes": lanes,
            "throttle": throttle,
        }
        return _archive(schema, backup_name, connection, dry_run, on_event, archived)
    if with_files:
        raise InvalidArgument(
            "a schema on a server cannot hold the files of stores",
            hint="name an archive, a folder: with a separator, such as './my_backup'",
        )
    with open_ends(connection, dest_connection, throttle) as ends:
        check_names({schema: backup_name}, ends.same_server)
        check_kinds(ends)
        if not dry_run:
            take_turn(ends.destination, [backup_name])
        job = _plan(ends, schema, backup_name)
        result: dict[str, Any] = {
            "tables_backed_up": 0,
            "rows_backed_up": 0,
            "backup_location": backup_name,
            "snapshot": "none",
            "notes": job.notes,
            "time_taken": 0.0,
        }
        if dry_run:
            return {**result, **_readable(job)}
        record = _make(ends, job, lanes, on_event)
        journal.forget(ends.destination, [(backup_name, name) for name in record.tables])
    return {
        **result,
        "tables_backed_up": len(record.tables),
        "rows_backed_up": sum(kept.rows or 0 for kept in record.tables.values()),
        "snapshot": record.snapshot,
        "notes": job.notes,
        "time_taken": time.monotonic() - began,
    }


def _archive(
    schema: str,
    location: Any,
    connection: Any,
    dry_run: bool,
    on_event: OnEvent,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    server = resolve(connection)
    if not dry_run:
        written = write_archive(server, schema, location, on_event=on_event, **options)
        return {"notes": [], **written}
    place = place_of(location)
    refuse_used(place)
    with server.session(read_only=True) as session:
        source = read_schema(session, schema)
    rows = sum(table.rows for table in source.tables.values())
    return {
        "tables_backed_up": 0,
        "rows_backed_up": 0,
        "backup_location": place.shown,
        "snapshot": "none",
        "notes": [],
        "time_taken": 0.0,
        "plan": [f"{schema} -> {place}: {len(source.tables)} tables, about {rows} rows"],
        "ddl": [],
    }


@dataclass
class _Job:
    """Everything one call decided before it wrote anything; `begun` is what it found begun."""

    source: Schema
    dest: str
    replicas: list[Replica]
    programs: list[Program]
    begun: Record | None
    existing: set[str]
    notes: list[str] = field(default_factory=list)

    @property
    def outward(self) -> list[OutwardKey]:
        return [key for replica in self.replicas for key in replica.outward]


def _plan(ends: Ends, name: str, dest: str) -> _Job:
    source = read_schema(ends.source, name)
    for hidden, what in (
        (RECORD, "is itself a backup"),
        (JOURNAL, "is an unfinished copy"),
        (POSTPONED, "is an unfinished copy"),
    ):
        if hidden in source.tables:
            raise InvalidArgument(
                f"{name!r} {what}: it has a table {hidden}",
                hint="restore it, or finish it, under the name it is meant for first",
            )
    if not source.tables:
        raise InvalidArgument(f"the schema {name!r} has no tables, so there is nothing to back up")
    replicas = [
        replicate(table.create, table.name, dest=dest, home={name})
        for table in source.tables.values()
    ]
    begun, existing = _look(ends.destination, source, dest)
    job = _Job(source, dest, replicas, read_programs(ends.source, name), begun, existing)
    job.notes += _notes(job)
    return job


def _look(session: Session, source: Schema, dest: str) -> tuple[Record | None, set[str]]:
    """What an interrupted call left. Raises `DestinationNotEmpty` for anything else."""
    there = read_if_there(session, dest)
    if there is None:
        return None, set()
    record = read_record(session, dest)
    if record is None:
        if set(there.tables) - {RECORD} or there.views or there.routines:
            raise _used(dest, "tables or programs")
        return None, set()
    if record.finished and not journal.is_open(session, dest):
        raise _used(dest, f"a finished backup of {record.source}")
    if record.source != source.name:
        raise _used(dest, f"an unfinished backup of {record.source}")
    now = {name: comparable(table.create) for name, table in source.tables.items()}
    then = {name: comparable(kept.create) for name, kept in record.tables.items()}
    if now != then:
        changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
        raise _used(
            dest, f"a backup that was begun before {source.name}.{changed[0]} was declared anew"
        )
    return record, set(there.tables)


def _used(dest: str, what: str) -> DestinationNotEmpty:
    return DestinationNotEmpty(
        f"{dest!r} already holds {what}",
        hint=f"choose another name, or drop it first: DROP DATABASE {quote(dest)}",
        context={"schema": dest},
    )


def _notes(job: _Job) -> list[str]:
    notes = []
    if job.outward:
        keys = ", ".join(str(key) for key in job.outward[:SHOWN])
        more = f" and {len(job.outward) - SHOWN} more" if len(job.outward) > SHOWN else ""
        notes.append(
            f"{len(job.outward)} foreign keys into other schemas are left out of {job.dest}, where"
            f" they would block deletes over there, and kept in {RECORD} for restore_schema:"
            f" {keys}{more}"
        )
    stores = sorted(
        name.removeprefix(TRACKING) for name in job.source.tables if name.startswith(TRACKING)
    )
    if stores:
        notes.append(
            f"the files of the stores {', '.join(stores)} are not part of it: keep them. DataJoint"
            f" 0.14.6 finds them under the name {job.source.name} only, so restore to that name"
        )
    events = [program.name for program in job.programs if program.kind == "event"]
    if events:
        notes.append(
            f"events are kept in {RECORD} only, so that none runs twice: {', '.join(events)}"
        )
    notes += [
        f"the {program} is not backed up: its definition cannot be read"
        for program in job.programs
        if program.kind == "event" and not program.create
    ]
    return notes


def _readable(job: _Job) -> dict[str, Any]:
    tables = job.source.tables.values()
    rows = sum(table.rows for table in tables)
    state = " (begun already)" if job.begun else ""
    line = f"{job.source.name} -> {job.dest}{state}: {len(tables)} tables, about {rows} rows"
    return {"plan": [line], "ddl": [replica.create_sql for replica in job.replicas]}


def _make(ends: Ends, job: _Job, lanes: int, on_event: OnEvent) -> Record:
    session, source = ends.destination, job.source
    if job.begun and job.begun.finished:
        return job.begun  # killed between its last word and clearing up
    record = job.begun or Record(
        source=source.name,
        charset=source.charset,
        collation=source.collation,
        tables={name: Kept(table.create) for name, table in source.tables.items()},
        programs=job.programs,
    )
    made_here = not schema_exists(session, job.dest)
    make_database(session, job.dest, source.charset, source.collation)
    try:
        if job.begun is None:
            write_record(session, job.dest, record)
    except MigrationError:
        if made_here:
            session.execute(f"DROP DATABASE {quote(job.dest)}")
        raise
    make_tables(session, job.replicas, job.existing)
    # Triggers a killed call has made already would change the rows that are still to come.
    for program in read_programs(session, job.dest):
        if program.kind == "trigger":
            drop_program(session, program)
    there = read_schema(session, job.dest)
    filled = fill(ends, source, there, source.tables, lanes=lanes, on_event=on_event)
    job.notes += make_programs(session, record.programs, source.name, job.dest)
    record.orphans, notes = _orphans(ends, job, there)
    job.notes += notes
    for name, rows in filled.rows.items():
        record.tables[name] = Kept(source.tables[name].create, rows, filled.digests[name])
    record.snapshot, record.version = filled.snapshot, _core.__version__
    record.finished = True
    write_record(session, job.dest, record)
    return record


def make_programs(
    session: Session,
    programs: Iterable[Program],
    origin: str,
    dest: str,
    *,
    events: bool = False,
) -> list[str]:
    """Make those programs of `origin` that `dest` lacks; notes on what could not be made."""
    there = {(program.kind, program.name) for program in read_programs(session, dest)}
    missing = [
        program
        for program in programs
        if (program.kind, program.name) not in there and (events or program.kind != "event")
    ]
    return create_programs(session, missing, {origin: dest}) if missing else []


def outward_keys(table: Table, home: str) -> Table:
    """The table with its keys into other schemas only."""
    keys = tuple(key for key in table.foreign_keys if key.ref_schema != home)
    return dataclasses.replace(table, foreign_keys=keys)


def inward_keys(table: Table, home: str) -> Table:
    """The table with its keys into its own schema only."""
    keys = tuple(key for key in table.foreign_keys if key.ref_schema == home)
    return dataclasses.replace(table, foreign_keys=keys)


def key_name(table: str, key: ForeignKey | str) -> str:
    """How records name a foreign key."""
    return f"{table}.{key if isinstance(key, str) else key.name}"


def _orphans(ends: Ends, job: _Job, there: Schema) -> tuple[list[str], list[str]]:
    """Keys that do not hold in production either: a restore must not be refused for them."""
    found = find_orphans(ends.destination, there.tables.values())
    found += find_orphans(
        ends.source, [outward_keys(table, job.source.name) for table in job.source.tables.values()]
    )
    names = [key_name(each["name"], each["constraint"]) for each in found]
    notes = [
        f"{each['table']}: rows refer to rows that {each['references']} does not have, as in"
        f" {job.source.name}: {each['keys'][:3]}"
        for each in found
    ]
    return names, notes
