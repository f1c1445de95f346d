"""A schema backed up on a server: an exact copy under another name, and a record beside it."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.build.creating import create_programs, drop_program
from datajoint_migrate.build.keyless import refuse_keyless
from datajoint_migrate.call import journal
from datajoint_migrate.call.connections import check_connections
from datajoint_migrate.call.ends import Ends, check_names, open_ends, read_if_there
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.throttle import Throttle
from datajoint_migrate.call.turn import note_reading, take_turn
from datajoint_migrate.catalog.externals import stores_tracked
from datajoint_migrate.catalog.names import JOURNAL, POSTPONED, RECORD
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.programs import Program, has_programs, lacking, read_programs
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import ForeignKey, Schema, Table, read_schema
from datajoint_migrate.catalog.unseen import Unseen, refuse_unseen
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, MigrationError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import BackupResult
from datajoint_migrate.rows.keys import find_orphans
from datajoint_migrate.target.replica import OutwardKey, Replica, comparable, replicate
from datajoint_migrate.verbs.backup.archive import (
    is_archive,
    place_of,
    refuse_left,
    refuse_used,
    write_archive,
)
from datajoint_migrate.verbs.backup.proof import (
    prove_backup as prove_backup,  # the third of the trio
)
from datajoint_migrate.verbs.backup.record import Kept, Record, read_record, write_record
from datajoint_migrate.verbs.backup.replicate import (
    check_kinds,
    fill,
    make_database,
    make_tables,
)
from datajoint_migrate.words import counted, verb

logger = logging.getLogger("datajoint_migrate")


def backup_schema(
    schema: str,
    backup_name: str,
    connection: Any = None,
    *,
    dest_connection: Any = None,
    with_files: bool = False,
    source_stores: Mapping[str, Any] | None = None,
    lanes: int = LIMITS.lanes,
    unseen: Unseen = "refuse",
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> BackupResult:
    """Copy a whole schema, hidden tables included, bit for bit, to one called `backup_name`.

    Rows are of one instant and every one is proved by comparison. The copy holds no foreign key
    into another schema, because it would block deletes there; such keys, and programs (triggers,
    views, routines, events), are kept in its hidden table `~migrate_backup`, from which
    `restore_schema` puts them back. Events are only kept there, so that none runs twice. A call
    that was interrupted is finished by the same call.

    Examples:
        >>> backup_schema("lab", "lab_backup", connection="mysql://me:secret@db/")

    Args:
        schema: The schema.
        backup_name: A schema to make, or with a separator an archive: a folder, `s3://…`.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        dest_connection: Of the destination, where that is another server.
        with_files: An archive takes the objects of external stores along, too.
        source_stores: 0.14.6 store specs by name, by default those of its own configuration.
        lanes: Connections that read at once.
        unseen: "leave" goes on where this user may not see programs; `notes` names them.
        max_bytes_per_second: Read no more of production than this, all connections together.
        max_load: Pause while the server is busier: "Threads_running=25", several with commas.
        pause_file: Pause while this file is there. The snapshot stays open in every pause.
        dry_run: Write nothing, and return the plan.
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `tables_backed_up` and `rows_backed_up` (hidden tables included), `backup_location`,
    `snapshot`, `notes`, `time_taken` in seconds; an archive's also `bytes` and `files_backed_up`;
    with `dry_run` also `plan` (sentences) and `ddl`.

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
            "unseen": unseen,
            "throttle": throttle,
        }
        return cast(
            BackupResult, _archive(schema, backup_name, connection, dry_run, on_event, archived)
        )
    if with_files:
        raise InvalidArgument(
            "a schema on a server cannot hold the files of stores",
            hint="name an archive, a folder: with a separator, such as './my_backup'",
        )
    with open_ends(connection, dest_connection, throttle, on_event=on_event) as ends:
        check_names({schema: backup_name}, ends.same_server, ends.folds)
        check_kinds(ends)
        if not dry_run:
            take_turn(ends.destination, [backup_name])
            note_reading(ends.source, [schema])
        job = _plan(ends, schema, backup_name, unseen)
        result: dict[str, Any] = {
            "tables_backed_up": 0,
            "rows_backed_up": 0,
            "backup_location": backup_name,
            "snapshot": "none",
            "notes": job.notes,
            "time_taken": 0.0,
        }
        if dry_run:
            return cast(BackupResult, {**result, **_readable(job)})
        check_connections(ends, lanes)
        record = _make(ends, job, lanes, on_event)
        journal.forget(ends.destination, [(backup_name, name) for name in record.tables])
    return cast(
        BackupResult,
        {
            **result,
            "tables_backed_up": len(record.tables),
            "rows_backed_up": sum(kept.rows or 0 for kept in record.tables.values()),
            "snapshot": record.snapshot,
            "notes": job.notes,
            "time_taken": time.monotonic() - began,
        },
    )


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
        "plan": [f"{schema} -> {place}: {_size(len(source.tables), rows)}"],
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


def _plan(ends: Ends, name: str, dest: str, unseen: Unseen) -> _Job:
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
    refuse_left(ends.source, source)
    replicas = [
        replicate(table.create, table.name, dest=dest, home={name})
        for table in source.tables.values()
    ]
    refuse_keyless(ends.destination, ((f"{name}.{one.table}", one.create_sql) for one in replicas))
    begun, existing = _look(ends.destination, source, dest)
    programs = read_programs(ends.source, name)
    job = _Job(source, dest, replicas, programs, begun, existing)
    job.notes += refuse_unseen(ends.source, [(name, programs)], unseen)
    job.notes += _notes(job)
    return job


def _look(session: Session, source: Schema, dest: str) -> tuple[Record | None, set[str]]:
    """What an interrupted call left. Raises `DestinationNotEmpty` for anything else."""
    there = read_if_there(session, dest)
    if there is None:
        return None, set()
    record = read_record(session, dest)
    if record is None:
        if set(there.tables) - {RECORD} or has_programs(session, dest):
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
        hint="choose another name",
        context={"schema": dest},
    )


def _notes(job: _Job) -> list[str]:
    notes = []
    if job.outward:
        keys = ", ".join(str(key) for key in job.outward[: LIMITS.shown_keys])
        more = (
            f" and {len(job.outward) - LIMITS.shown_keys} more"
            if len(job.outward) > LIMITS.shown_keys
            else ""
        )
        notes.append(
            f"{counted(len(job.outward), 'foreign key')} into other schemas"
            f" {verb(len(job.outward), 'is', 'are')} left out of {job.dest}, where"
            f" {verb(len(job.outward), 'it', 'they')} would block deletes over there, and kept"
            f" in {RECORD} for restore_schema: {keys}{more}"
        )
    stores = sorted(stores_tracked(job.source))
    if stores:
        notes.append(
            f"the files of the {verb(len(stores), 'store', 'stores')} {', '.join(stores)} are not"
            f" part of it: keep them. DataJoint 0.14.6 finds them under the name"
            f" {job.source.name} only, so restore to that name"
        )
    notes += [note for replica in job.replicas for note in replica.notes]
    events = [program.name for program in job.programs if program.kind == "event"]
    if events:
        notes.append(
            f"events are kept in {RECORD} only, so that none runs twice: {', '.join(events)}"
        )
    return notes


def _size(tables: int, rows: int) -> str:
    return f"{counted(tables, 'table')}, about {counted(rows, 'row')}"


def _readable(job: _Job) -> dict[str, Any]:
    tables = job.source.tables.values()
    rows = sum(table.rows for table in tables)
    state = " (begun already)" if job.begun else ""
    line = f"{job.source.name} -> {job.dest}{state}: {_size(len(tables), rows)}"
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
    missing = [
        program
        for program in lacking(programs, read_programs(session, dest))
        if events or program.kind != "event"
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
