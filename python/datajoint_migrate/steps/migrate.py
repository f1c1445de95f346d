"""The main job: whole schemas, with the keys between them, from 0.14.6 to 2.x in one call."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.tables import Schema, Table, read_schema
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, MigrationError
from datajoint_migrate.steps.checks.compare import Comparing, check_tolerance, compare_tables
from datajoint_migrate.steps.checks.verify import verify
from datajoint_migrate.steps.copying import (
    Loading,
    keep_auto_increment,
    raise_missing,
    user_tables,
)
from datajoint_migrate.steps.lineage import with_neighbours
from datajoint_migrate.steps.moving import journal
from datajoint_migrate.steps.moving.batches import Executor
from datajoint_migrate.steps.moving.building import (
    Building,
    build,
    carry_programs,
    check_options,
    is_declared,
    known_collations,
    plan_schema,
    prove_built,
)
from datajoint_migrate.steps.moving.carrying import STILL, TRIGGER
from datajoint_migrate.steps.moving.decided import decided
from datajoint_migrate.steps.moving.ends import (
    Ends,
    check_names,
    open_ends,
    read_if_there,
    schema_exists,
)
from datajoint_migrate.steps.moving.keys import find_orphans, has_rows
from datajoint_migrate.steps.moving.matching import prove
from datajoint_migrate.steps.moving.plan import JOURNAL, LANES, POSTPONED
from datajoint_migrate.steps.moving.pointers import (
    FileJob,
    Stores,
    check_places,
    collector_note,
    external_columns,
    file_jobs,
    final_name,
    move_files,
    prove_tracked,
)
from datajoint_migrate.steps.moving.route import copy_again, run_copy, source_name
from datajoint_migrate.steps.moving.telling import OnEvent, tell
from datajoint_migrate.steps.moving.throttle import Throttle
from datajoint_migrate.steps.moving.turn import take_turn
from datajoint_migrate.target.charset import Charset
from datajoint_migrate.target.jobs import PREFIX as JOB_TABLES
from datajoint_migrate.target.lineage import LINEAGE
from datajoint_migrate.target.types import Unsigned

logger = logging.getLogger("datajoint_migrate")

Name = tuple[str, str]


@dataclass
class Job:
    """Everything one call of `migrate` decided before it wrote anything."""

    schema_map: dict[str, str]
    sources: dict[str, Schema]
    buildings: list[Building]
    stores: Stores
    copy_files: bool
    final: dict[str, str]
    adapters: Mapping[str, str] | None
    files: list[FileJob]
    existing: dict[str, set[str]] = field(default_factory=dict)
    filled: set[Name] = field(default_factory=set)


def migrate(
    schema_map: Mapping[str, str],
    *,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    copy_files: bool = False,
    unsigned: Unsigned = "keep",
    charset: Charset = "keep",
    adapters: Mapping[str, str] | None = None,
    final_names: Mapping[str, str] | None = None,
    tolerance: float = 1e-6,
    lanes: int = LANES,
    assume_quiet: bool = False,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    connection: Any = None,
    dest_connection: Any = None,
    dry_run: bool = False,
    executor: Executor | None = None,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Migrate schemas in one go: declare, copy and convert, files, lineage, compare, verify.

    `schema_map` is {source: destination}; keys between the schemas are re-pointed, so all schemas
    that refer to each other belong in one call. `source_stores` and `dest_stores` are store
    specs by name as DataJoint has them (its own configuration by default), `store_map` 0.14.6
    names to 2.x names. Files stay where they are unless `copy_files`; attachments are always
    written anew. `adapters` ({"name": "blob@raw"}) says what an adapter stores where the rows do
    not tell. `charset="utf8mb4"` makes text of other character sets utf8mb4 (utf8mb4_bin), once
    it is proved that no key or text comes out differently. `final_names` ({destination: name})
    are the schemas' names after the cutover: by default the original's for one that is called
    `<original>_v20`. `executor` copies the files, as in `copy_store`.

    `max_bytes_per_second` (of all connections together), `max_load` ("Threads_running=25", several
    with commas) and `pause_file` spare production: above a limit, or while the file is there,
    nothing is read from it. A snapshot stays open meanwhile, so the server keeps old versions of
    rows that are written to (its undo log grows) until the call goes on and ends.

    Everything is checked before anything is written. A call that was interrupted is
    resumed by the same call; one that was finished does nothing but compare and verify again.

    Returns `schemas` (the map), `tables_created`, `rows_copied`, `files_copied` (by this call),
    `match` (every value equal), `compatible` (2.x finds everything it needs), `issues` and `notes`
    (sentences), `tables` ("source.table" → comparison), `snapshot`, `time_taken` in seconds; with
    `dry_run` also `plan` (sentences) and `ddl`, and nothing is written. `on_event` also gets what
    was decided ("plan": tables, columns and keys on both sides, files) before anything is written,
    and each table's rows, bytes and seconds ("copied") after it.

    Raises `InvalidArgument`, `NotFound`, `ForeignKeyLeavesMap`, `DestinationNotEmpty`,
    `Unconvertible`, `StoreMissing`, `ExternalMissing`, `PermissionMissing`, `ConnectionFailed`.
    """
    began = time.monotonic()
    check_options("convert", unsigned, charset)
    check_tolerance(tolerance)
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(connection, dest_connection, throttle) as ends:
        check_names(dict(schema_map), ends.same_server)
        if not dry_run:
            take_turn(ends.destination, schema_map.values())
        stores = Stores.find(source_stores, dest_stores, store_map)
        job = _prepare(
            ends, dict(schema_map), stores, copy_files, unsigned, charset, adapters, final_names
        )
        tell(
            on_event,
            "plan",
            **decided(job.buildings, job.schema_map, job.files, stores, copy_files, tolerance),
        )
        compared = _look_at_destination(ends, job, tolerance, lanes, on_event)
        result: dict[str, Any] = {
            "schemas": dict(schema_map),
            "tables_created": 0,
            "rows_copied": 0,
            "files_copied": 0,
            "match": False,
            "compatible": False,
            "issues": [],
            "notes": [note for building in job.buildings for note in building.notes]
            + collector_note(_store_names(job)),
            "tables": {},
            "snapshot": "none",
            "time_taken": 0.0,
        }
        if dry_run:
            return {**result, **_readable(ends, job), "time_taken": time.monotonic() - began}
        _make_databases(ends, job)
        for building in job.buildings:
            there = job.existing.get(building.dest, set())
            result["tables_created"] += build(ends.destination, building, there)
        made = {
            building.source.name: prove_built(ends.destination, building, job.schema_map)
            for building in job.buildings
        }
        missing = [
            (schema, made[schema.name], table.name)
            for schema in job.sources.values()
            for table in user_tables(schema)
            if (schema.name, table.name) not in compared
        ]
        comparing = Comparing(ends, missing, tolerance, adapters)
        result |= _fill(ends, job, made, comparing, lanes, assume_quiet, on_event, executor)
        for building in job.buildings:
            # Last, because a load must not fire triggers.
            result["notes"] += carry_programs(ends, building, job.schema_map, STILL + TRIGGER)
        compared |= comparing.results
        result["tables"] = {
            f"{schema}.{table}": found for (schema, table), found in compared.items()
        }
        result["match"] = all(found["match"] for found in compared.values())
        result["issues"] = _issues(ends, job, compared)
        result["compatible"] = not result["issues"]
    return {**result, "time_taken": time.monotonic() - began}


def _store_names(job: Job) -> set[str]:
    return {
        job.stores.renamed(external.store)
        for building in job.buildings
        for columns in building.externals.values()
        for external in columns.values()
    }


def _prepare(
    ends: Ends,
    schema_map: dict[str, str],
    stores: Stores,
    copy_files: bool,
    unsigned: Unsigned,
    charset: Charset,
    adapters: Mapping[str, str] | None,
    final_names: Mapping[str, str] | None,
) -> Job:
    """Read and decide everything. What this raises was raised before anything was written."""
    unknown = sorted(set(final_names or {}) - set(schema_map.values()))
    if unknown:
        raise InvalidArgument(
            f"final_names has {unknown[0]!r}, which is no destination of schema_map",
            hint="give {destination: name after the cutover}",
        )
    sources = {name: read_schema(ends.source, name) for name in schema_map}
    family = with_neighbours(ends.source, sources.values())
    final = {name: final_name(name, dest, final_names) for name, dest in schema_map.items()}
    buildings = [
        plan_schema(
            ends,
            schema,
            family,
            schema_map,
            external="convert",
            unsigned=unsigned,
            adapters=adapters,
            store_map=stores.names,
            charset=charset,
        )
        for schema in sources.values()
    ]
    columns = [
        column
        for schema in sources.values()
        for table in user_tables(schema)
        for column in external_columns(
            ends, schema, table, final[schema.name], stores, copy_files, adapters
        )
    ]
    prove_tracked(ends.source, columns)
    files = file_jobs(columns)
    check_places(files, stores, copy_files)
    return Job(schema_map, sources, buildings, stores, copy_files, final, adapters, files)


def _look_at_destination(
    ends: Ends, job: Job, tolerance: float, lanes: int, on_event: OnEvent
) -> dict[Name, dict[str, Any]]:
    """What earlier calls of this job left: tables that exist, and tables that are complete.

    Returns the comparisons of the complete ones. Raises `DestinationNotEmpty` for anything that
    this job would not have put there.
    """
    begun = journal.started(ends.destination, job.schema_map.values())
    to_compare: list[tuple[Schema, Schema, str]] = []
    for building in job.buildings:
        there = read_if_there(ends.destination, building.dest)
        if there is None:
            continue
        job.existing[building.dest] = set(there.tables)
        for view in sorted(set(there.views) - set(building.source.views)):
            raise _not_ours(building.dest, f"the view {view!r}")
        planned = {declaration.table: declaration for declaration in building.declarations}
        for table in there.tables.values():
            if table.name in (LINEAGE, JOURNAL, POSTPONED) or table.name.startswith(JOB_TABLES):
                continue
            if table.name not in planned:
                raise _not_ours(building.dest, f"{table.name!r}")
            if not is_declared(table, planned[table.name]):
                raise _not_ours(building.dest, f"{table.name!r} with another definition")
            if not has_rows(ends.destination, table.schema, table.name):
                continue
            if table.hidden:
                raise _not_ours(building.dest, f"rows in {table.name!r}")
            if (table.schema, table.name) not in begun:
                to_compare.append((building.source, there, table.name))
    compared = compare_tables(
        ends, to_compare, tolerance, adapters=job.adapters, lanes=lanes, on_event=on_event
    )
    for (schema, name), found in compared.items():
        if not found["match"]:
            raise _not_ours(
                job.schema_map[schema], f"rows in {name!r} that are not those of {schema}"
            )
    job.filled = set(compared)
    return compared


def _not_ours(dest: str, what: str) -> DestinationNotEmpty:
    return DestinationNotEmpty(
        f"the destination {dest!r} already holds {what}",
        hint=f"choose another name, or drop it first: DROP DATABASE {quote(dest)}",
        context={"schema": dest},
    )


def _make_databases(ends: Ends, job: Job) -> None:
    """All schemas or none: a missing privilege shows here, and then nothing is left behind."""
    collations = known_collations(ends.destination)
    made: list[str] = []
    try:
        for building in job.buildings:
            new = not schema_exists(ends.destination, building.dest)
            ends.destination.execute(building.create_database(collations))
            if new:
                made.append(building.dest)
    except MigrationError:
        for name in made:
            ends.destination.execute(f"DROP DATABASE {quote(name)}")
        raise


def _fill(
    ends: Ends,
    job: Job,
    made: Mapping[str, Schema],
    comparing: Comparing,
    lanes: int,
    assume_quiet: bool,
    on_event: OnEvent,
    executor: Executor | None,
) -> dict[str, Any]:
    """Files first, then rows: no row is ever there whose file is not; then the comparison."""
    loadings = [
        _loading(ends, job, schema, table, made[schema.name].tables[table.name])
        for schema in job.sources.values()
        for table in user_tables(schema)
        if (schema.name, table.name) not in job.filled
    ]
    for loading in loadings:
        prove(ends.source, loading.source, loading.match)
    files = move_files(ends, job.files, job.stores, job.copy_files, on_event, executor)
    raise_missing(files["errors"])
    filled: dict[str, Any] = {"files_copied": files["files_copied"]}
    if loadings:
        plans = [loading.plan() for loading in loadings]
        copied = run_copy(
            ends,
            plans,
            lanes=lanes,
            assume_quiet=assume_quiet,
            on_event=on_event,
            compare=comparing.comparison,
        )
        comparing.take(copied["compared"])
        differing = comparing.run(ends, lanes, on_event)
        if differing and not assume_quiet:
            # Production went on after the copy inside the server: these tables once more, and
            # compared with the instant they are read at.
            again = [plan for plan in plans if source_name(plan) in differing]
            copied = copy_again(ends, copied, again, lanes, on_event, comparing.comparison)
            comparing.take(copied["compared"])
        tell(on_event, "copied", tables=copied["tables"], files=files["files_copied"])
        filled |= {"rows_copied": copied["rows_copied"], "snapshot": copied["snapshot"]}
    for loading in loadings:
        keep_auto_increment(ends, loading.source, loading.destination)
    journal.forget(
        ends.destination,
        [(loading.destination.schema, loading.destination.name) for loading in loadings],
    )
    return filled


def _loading(ends: Ends, job: Job, schema: Schema, source: Table, destination: Table) -> Loading:
    return Loading(
        ends,
        schema,
        source,
        destination,
        final_schema=job.final[schema.name],
        stores=job.stores,
        copy_files=job.copy_files,
        adapters=job.adapters,
    )


def _issues(ends: Ends, job: Job, compared: Mapping[Name, dict[str, Any]]) -> list[str]:
    issues = [
        f"{schema}.{table}: {len(found['discrepancies'])}"
        f"{'+' if found['truncated'] else ''} differences, the first: {found['discrepancies'][:1]}"
        for (schema, table), found in compared.items()
        if not found["match"]
    ]
    family = [read_schema(ends.destination, building.dest) for building in job.buildings]
    for there in family:
        issues += verify(ends.destination, there, family)["issues"]
        issues += [
            f"{orphan['table']}: rows refer to rows that {orphan['references']} does not have, "
            f"as in production: {orphan['keys'][:3]}"
            for orphan in find_orphans(ends.destination, user_tables(there))
        ]
    return issues


def _readable(ends: Ends, job: Job) -> dict[str, Any]:
    """The plan for a person, and every statement that makes a table."""
    lines = []
    ddl = []
    collations = known_collations(ends.destination)
    for building in job.buildings:
        source = building.source
        tables = user_tables(source)
        rows = sum(table.rows for table in tables)
        state = "" if building.dest not in job.existing else " (begun already)"
        lines.append(
            f"{source.name} -> {building.dest}{state}: {len(tables)} tables, about {rows} rows"
        )
        lines += [
            f"the {program} comes along, unless `notes` says why not"
            for program in read_programs(ends.source, source.name)
        ]
        ddl += [building.create_database(collations)]
        ddl += [declaration.create_sql for declaration in building.declarations]
    for files in job.files:
        where = files.pointer
        what = {
            "in_place": "stay where they are",
            "hash": "are written to " + where["hash_prefix"] + "/" + where["schema"],
        }[where["layout"]]
        columns = ", ".join(f"{c['schema']}.{c['table']}.{c['column']}" for c in files.columns)
        lines.append(f"{where['kind']} objects of store {files.store} {what}: {columns}")
    return {"plan": lines, "ddl": ddl}
