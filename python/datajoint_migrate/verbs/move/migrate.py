"""The main job: whole schemas, with the keys between them, from 0.14.6 to 2.x in one call."""

from __future__ import annotations

import datetime
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from datajoint_migrate._core import quote
from datajoint_migrate.build.building import (
    build,
    carry_programs,
    check_options,
    known_collations,
    prove_built,
)
from datajoint_migrate.build.creating import drop_program
from datajoint_migrate.build.programs import STILL, TRIGGER, Both
from datajoint_migrate.call import journal, state
from datajoint_migrate.call.connections import check_connections
from datajoint_migrate.call.ends import Ends, check_names, open_ends
from datajoint_migrate.call.exchanges import refuse_cut_over
from datajoint_migrate.call.marks import Mark, marks
from datajoint_migrate.call.progress import OnEvent, tell, tell_stage
from datajoint_migrate.call.throttle import Throttle
from datajoint_migrate.call.turn import note_reading, take_turn
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.tables import Schema, read_schemas, user_tables
from datajoint_migrate.catalog.unseen import Unseen, check_unseen
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.files.batches import Executor
from datajoint_migrate.files.pointers import (
    Stores,
    collector_note,
    missing_files,
    move_files,
    move_later,
    raise_missing,
)
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import MigrateResult
from datajoint_migrate.rows import log
from datajoint_migrate.rows.keys import find_orphans
from datajoint_migrate.rows.matching import prove
from datajoint_migrate.rows.numbering import keep_auto_increment
from datajoint_migrate.rows.route import run_copy
from datajoint_migrate.target.charset import Charset
from datajoint_migrate.target.types import Unsigned
from datajoint_migrate.verbs.look.compare import Comparing, check_tolerance
from datajoint_migrate.verbs.look.verify import verify
from datajoint_migrate.verbs.move.decided import decided
from datajoint_migrate.verbs.move.prepared import (
    Job,
    Name,
    loading_of,
    look_at_destination,
    prepare,
    readable,
    store_names,
)
from datajoint_migrate.verbs.move.promoted import refuse_others
from datajoint_migrate.verbs.move.todo import catch_up
from datajoint_migrate.words import counted, difference

logger = logging.getLogger("datajoint_migrate")

Consistency = Literal["snapshot", "catch-up"]


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
    promote: Mapping[str, str] | None = None,
    tolerance: float = 1e-6,
    lanes: int = LIMITS.lanes,
    assume_quiet: bool = False,
    consistency: Consistency = "snapshot",
    unseen: Unseen = "refuse",
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    connection: Any = None,
    dest_connection: Any = None,
    dry_run: bool = False,
    executor: Executor | None = None,
    on_event: OnEvent = None,
) -> MigrateResult:
    """Migrate schemas in one go: declare, copy and convert, files, lineage, compare, verify.

    All schemas that refer to each other belong in one call. What can be seen beforehand is checked
    before anything is made; what is in a file shows when it is read. Everything that is copied is
    proved bit by bit. A call that was interrupted is resumed by the same call; one that was
    finished does nothing but compare and verify again.

    Examples:
        >>> result = migrate({"lab": "lab_v20"}, connection="mysql://me:secret@db/")
        >>> assert result["match"] and result["compatible"], result["issues"]

    Args:
        schema_map: {source: destination}; keys between the schemas are re-pointed.
        source_stores: 0.14.6 store specs by name, by default those of its own configuration.
        dest_stores: 2.x store specs by name, by default those of its own configuration.
        store_map: 0.14.6 store name to 2.x store name; a store that is not in it keeps its name.
        copy_files: Copy the files; else they stay where they are, but for attachments.
        unsigned: "widen" turns unsigned columns into the next wider signed type.
        charset: "utf8mb4" makes text of other character sets utf8mb4, once proved to be the same.
        adapters: {"name": "blob@raw"}: what an adapter stores, where the rows do not tell.
        final_names: {destination: name after the cutover}; a `<source>_v20` takes the source's.
        promote: {"lab.session.signal": "npy@raw"}: blobs that become objects on the way.
        tolerance: Of floats in tables that an earlier call finished, computed anew since.
        lanes: Connections that read at once.
        assume_quiet: You vouch that nobody writes to the source meanwhile.
        consistency: "catch-up" holds no snapshot open, and makes it one instant by a last pass.
        unseen: "leave" goes on where this user may not see programs; `notes` names them.
        max_bytes_per_second: Read no more of production than this, all connections together.
        max_load: Pause while the server is busier: "Threads_running=25", several with commas.
        pause_file: Pause while this file is there. The snapshot stays open in every pause.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        dest_connection: Of the destination, where that is another server.
        dry_run: Write nothing, and return the plan.
        executor: Copies the files, as in `copy_store`, and rows too with "catch-up".
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `schemas` (the map), `tables_created`, `rows_copied`, `files_copied` (by this call),
    `match` (every value equal), `compatible` (2.x finds everything it needs), `issues` and
    `notes` (sentences), `tables` ("source.table" → comparison), `snapshot`, `time_taken` in
    seconds; with `dry_run` also `plan` (sentences) and `ddl`. `on_event` also gets what was
    decided ("plan": tables, columns and keys on both sides, files) before anything is written,
    and each table's rows, bytes and seconds ("copied") after it.

    Raises `InvalidArgument`, `NotFound`, `ForeignKeyLeavesMap`, `DestinationNotEmpty`,
    `Unconvertible`, `StoreMissing`, `ExternalMissing`, `PermissionMissing`, `ConnectionFailed`.
    """
    began = time.monotonic()
    check_options("convert", unsigned, charset)
    check_unseen(unseen)
    check_tolerance(tolerance)
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(connection, dest_connection, throttle, on_event=on_event) as ends:
        check_names(dict(schema_map), ends.same_server, ends.folds)
        ends.spell(schema_map)
        refuse_cut_over(ends, schema_map)
        if not dry_run:
            take_turn(ends.destination, schema_map.values())
        check_connections(ends, lanes)
        if not dry_run:
            note_reading(ends.source, schema_map)
        stores = Stores.find(source_stores, dest_stores, store_map)
        job = prepare(
            ends,
            dict(schema_map),
            stores,
            copy_files,
            unsigned,
            charset,
            adapters,
            final_names,
            unseen,
            promote,
        )
        refuse_others(ends, job.promotions, lanes, on_event)
        tell(
            on_event,
            "plan",
            servers={
                name: {
                    "address": end.server.address,
                    "version": end.banner,
                    "user": end.server.user,
                }
                for name, end in (("source", ends.source), ("destination", ends.destination))
            },
            options={
                "unsigned": unsigned,
                "charset": charset,
                "copy_files": copy_files,
                "unseen": unseen,
                "lanes": lanes,
                "assume_quiet": assume_quiet,
            },
            **decided(job.buildings, job.schema_map, job.files, stores, copy_files, tolerance),
        )
        # Before any snapshot: what is written from now on is younger.
        written = marks(ends.source, schema_map)
        positions, _ = log.find_positions(
            ends.source.server, None if ends.same_server else ends.destination.server
        )
        compared = look_at_destination(ends, job, tolerance, lanes, on_event, note=not dry_run)
        result: dict[str, Any] = {
            "schemas": dict(schema_map),
            "tables_created": 0,
            "rows_copied": 0,
            "files_copied": 0,
            "match": False,
            "compatible": False,
            "issues": [],
            "notes": [note for building in job.buildings for note in building.notes]
            + collector_note(store_names(job))
            + [f"{one} becomes :{one.marker}:" for one in job.promotions],
            "tables": {},
            "snapshot": "none",
            "time_taken": 0.0,
        }
        if job.files:
            tell_stage(on_event, "files")
        raise_missing(missing_files(ends, job.files, job.stores, job.copy_files, on_event))
        if dry_run:
            return cast(
                MigrateResult,
                {**result, **readable(ends, job), "time_taken": time.monotonic() - began},
            )
        tables = sum(len(building.declarations) for building in job.buildings)
        tell_stage(on_event, "declare", detail=counted(tables, "table"))
        _make_databases(ends, job)
        for building in job.buildings:
            there = job.existing.get(building.dest, set())
            result["tables_created"] += build(ends.destination, building, there)
        built = read_schemas(ends.destination, [building.dest for building in job.buildings])
        made = {
            building.source.name: prove_built(
                ends.destination, building, job.schema_map, built[building.dest]
            )
            for building in job.buildings
        }
        missing = [
            (schema, made[schema.name], table.name)
            for schema in job.sources.values()
            for table in user_tables(schema)
            if (schema.name, table.name) not in compared
        ]
        # The copy is of the same bits. A tolerance is for what was computed anew since.
        comparing = Comparing(ends, missing, 0.0, adapters, note=True)
        state.prepare(ends.destination, schema_map.values())
        result |= _fill(
            ends, job, made, comparing, lanes, assume_quiet, consistency, on_event, executor
        )
        # After the load, because it must not fire triggers.
        both = Both(ends, job.schema_map)
        for building in job.buildings:
            result["notes"] += carry_programs(ends, building, job.schema_map, STILL + TRIGGER, both)
        _note_state(
            ends,
            job,
            made,
            written,
            # Those of an earlier call were compared when this one began.
            [(compared, began), (comparing.results, comparing.since or time.monotonic())],
            unsigned,
            unseen,
            log.written(positions),
        )
        # Last of all: without its journal a copy that production has left behind is refused.
        journal.forget(
            ends.destination,
            [
                (building.dest, table.name)
                for building in job.buildings
                for table in user_tables(building.source)
            ],
        )
        compared |= comparing.results
        result["tables"] = {
            f"{schema}.{table}": found for (schema, table), found in compared.items()
        }
        result["match"] = all(found["match"] for found in compared.values())
        tell_stage(on_event, "verify", detail="what 2.x needs, foreign keys")
        result["issues"] = _issues(ends, job, compared)
        result["compatible"] = not result["issues"]
    return cast(MigrateResult, {**result, "time_taken": time.monotonic() - began})


def _note_state(
    ends: Ends,
    job: Job,
    made: Mapping[str, Schema],
    written: Mapping[Name, Mark],
    comparisons: Sequence[tuple[Mapping[Name, dict[str, Any]], float]],
    unsigned: Unsigned,
    unseen: Unseen,
    position: str,
) -> None:
    """Keep what a later sync has to know: the options, and what was equal when.

    `comparisons`: results, and when the first of them was begun.
    """
    compared: dict[Name, dict[str, Any]] = {}
    copies: dict[Name, Mark | None] = {}
    for results, since in comparisons:
        compared |= results
        # A copy that was written to since its comparison began may hold something else.
        there = marks(ends.destination, job.schema_map.values(), since=time.monotonic() - since)
        copies |= {name: there.get((job.schema_map[name[0]], name[1])) for name in results}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for building in job.buildings:
        source, dest = building.source, building.dest
        options = {
            "unsigned": unsigned,
            "charset": building.charset,
            "unseen": unseen,
            "copy_files": job.copy_files,
            "store_map": dict(job.stores.names),
            "final": job.final[source.name],
            "adapters": None if job.adapters is None else dict(job.adapters),
        }
        state.write_options(ends.destination, dest, options)
        heads: dict[str, state.Head] = {}
        for table in user_tables(source):
            found = compared.get((source.name, table.name))
            if found is None or not found["match"]:
                continue
            mark, copy = written.get((source.name, table.name)), copies[source.name, table.name]
            loading = loading_of(ends, job, source, table, made[source.name].tables[table.name])
            heads[table.name] = state.Head(
                state.definition(table),
                "lines",
                mark.said if mark else None,
                copy.said if copy else None,
                at=now,
                position=position,
                compare=loading.proof(),
            )
        state.write_heads(ends.destination, dest, heads)


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
    consistency: Consistency,
    on_event: OnEvent,
    executor: Executor | None,
) -> dict[str, Any]:
    """Files first, then rows, then the files that production has stored meanwhile; and the
    comparison, over the snapshot that was copied."""
    loadings = [
        loading_of(ends, job, schema, table, made[schema.name].tables[table.name])
        for schema in job.sources.values()
        for table in user_tables(schema)
        if (schema.name, table.name) not in job.filled
    ]
    for loading in loadings:
        prove(ends.source, loading.source, loading.match)
    # Files that stay were looked for before anything was made.
    written = [files for files in job.files if files.writes(job.stores, job.copy_files)]
    before = marks(ends.source, job.sources)
    files = move_files(ends, written, job.stores, job.copy_files, on_event, executor)
    raise_missing(files["errors"])
    filled: dict[str, Any] = {"files_copied": files["files_copied"]}
    if loadings:
        plans = [loading.plan() for loading in loadings]
        for trigger in job.triggers:
            drop_program(ends.destination, trigger)
        steady = consistency == "snapshot"
        copied = run_copy(
            ends,
            plans,
            lanes=lanes,
            assume_quiet=assume_quiet,
            on_event=on_event,
            compare=comparing.comparison if steady else None,
            snapshot=steady,
            workers=None if steady else executor,
        )
        if steady:
            comparing.take(copied["compared"])
            # What was copied inside a server whose quiet the caller vouches for.
            comparing.run(ends, lanes, on_event)
        else:
            comparing.since = time.monotonic()
            caught = catch_up(ends, loadings, job.stores, job.copy_files, lanes, on_event, executor)
            copied["snapshot"] = caught["snapshot"]
            filled["files_copied"] += caught["files_copied"]
            comparing.results |= caught["tables"]
        # By this call itself: whoever copied the bulk may be gone.
        filled["files_copied"] += move_later(
            ends, job.files, job.stores, job.copy_files, before, on_event
        )
        filled["files_copied"] += copied["files_written"]
        tell(on_event, "copied", tables=copied["tables"], files=filled["files_copied"])
        # Tables that an earlier call had finished were compared with an earlier instant.
        snapshot = "several" if job.filled else copied["snapshot"]
        filled |= {"rows_copied": copied["rows_copied"], "snapshot": snapshot}
    for loading in loadings:
        keep_auto_increment(ends, loading.source, loading.destination)
    return filled


def _many(found: Mapping[str, Any]) -> str:
    number = len(found["discrepancies"])
    more = f"{number:,} differences or more"
    return more if found["truncated"] else counted(number, "difference")


def _issues(ends: Ends, job: Job, compared: Mapping[Name, dict[str, Any]]) -> list[str]:
    issues = [
        f"{schema}.{table}: {_many(found)}, the first:"
        f" {difference(found['discrepancies'][0] if found['discrepancies'] else {}, table)}"
        for (schema, table), found in compared.items()
        if not found["match"]
    ]
    dests = [building.dest for building in job.buildings]
    family = list(read_schemas(ends.destination, dests).values())
    for there in family:
        issues += verify(ends.destination, there, family)["issues"]
        issues += [
            f"{orphan['table']}: rows refer to rows that {orphan['references']} does not have, "
            f"as in production: {orphan['keys'][:3]}"
            for orphan in find_orphans(ends.destination, user_tables(there))
        ]
    return issues
