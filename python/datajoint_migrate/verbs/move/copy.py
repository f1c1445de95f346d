"""Rows from a source schema into a schema that is declared for 2.x."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

from datajoint_migrate.build.building import Building, plan_schema
from datajoint_migrate.build.charset import check_charset
from datajoint_migrate.build.creating import drop_program
from datajoint_migrate.build.making import is_half_made, make_whole
from datajoint_migrate.build.programs import TRIGGER, carried_triggers, carry
from datajoint_migrate.call.connections import check_connections
from datajoint_migrate.call.ends import (
    Ends,
    check_names,
    open_ends,
    read_if_there,
    whole_map,
)
from datajoint_migrate.call.exchanges import refuse_cut_over
from datajoint_migrate.call.journal import forget, take_back
from datajoint_migrate.call.marks import marks
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.throttle import Throttle
from datajoint_migrate.call.turn import note_reading, take_turn
from datajoint_migrate.catalog.neighbours import with_neighbours
from datajoint_migrate.catalog.presence import has_rows
from datajoint_migrate.catalog.tables import Schema, Table, find_table, read_schema, user_tables
from datajoint_migrate.errors import (
    Mismatch,
)
from datajoint_migrate.files.pointers import (
    FileJob,
    Stores,
    check_places,
    external_columns,
    file_jobs,
    final_name,
    missing_files,
    move_files,
    move_later,
    prove_tracked,
    raise_missing,
)
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import CopyAllResult, CopyTableResult
from datajoint_migrate.rows.clause import checked_clause
from datajoint_migrate.rows.closure import Seed
from datajoint_migrate.rows.keys import empty_parents, prove_keys
from datajoint_migrate.rows.matching import prove
from datajoint_migrate.rows.numbering import keep_auto_increment
from datajoint_migrate.rows.plan import comparison
from datajoint_migrate.rows.route import Compare, Name, run_copy, source_name
from datajoint_migrate.target.charset import Charset
from datajoint_migrate.verbs.move.loading import Loading, refuse_rows
from datajoint_migrate.verbs.move.sample import copy_closed_table

logger = logging.getLogger("datajoint_migrate")


def copy_table_data(
    source_schema: str,
    dest_schema: str,
    table: str,
    limit: int | None = None,
    where_clause: str | None = None,
    connection: Any = None,
    *,
    closure: bool = False,
    dest_connection: Any = None,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    copy_files: bool = False,
    adapters: Mapping[str, str] | None = None,
    lanes: int = LIMITS.lanes,
    assume_quiet: bool = False,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> CopyTableResult:
    """Copy the rows of one table, converting each column to what the destination declares.

    A call that was interrupted is resumed by the same call.

    Examples:
        >>> copy_table_data("lab", "lab_v20", "Session", where_clause="session_date > '2024-01-01'")

    Args:
        source_schema: The schema that is read.
        dest_schema: The schema that gets the rows.
        table: A class name (`Mouse`, `Session.Trial`) or a table name.
        limit: No more rows than this, the first in key order.
        where_clause: Your own SQL, which chooses rows.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        closure: Bring along what the rows refer to, as `copy_sample` does.
        dest_connection: Of the destination, where that is another server.
        source_stores: 0.14.6 store specs by name, by default those of its own configuration.
        dest_stores: 2.x store specs by name, by default those of its own configuration.
        store_map: 0.14.6 store name to 2.x store name; a store that is not in it keeps its name.
        copy_files: Copy the files; else they stay where they are, but for attachments.
        adapters: {"name": "blob@raw"}: what an adapter stores, where the rows do not tell.
        lanes: Connections that read at once.
        assume_quiet: You vouch that nobody writes to the source meanwhile.
        max_bytes_per_second: Read no more of production than this, all connections together.
        max_load: Pause while the server is busier: "Threads_running=25", several with commas.
        pause_file: Pause while this file is there. The snapshot stays open in every pause.
        dry_run: Write nothing, and return the plan.
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `rows_copied` (by this call), `time_taken` in seconds, `table`, `snapshot`,
    `files_copied`, `notes` (triggers that could not come along); with `closure` also `tables`,
    the rows of each; with `dry_run` also `plan`.

    Raises `NotFound`, `Unconvertible`, `DestinationNotEmpty`, `StoreMissing`, `ExternalMissing`,
    and `Mismatch` when a row refers to a parent the destination lacks; the destination table is
    then as empty as before.
    """
    began = time.monotonic()
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(connection, dest_connection, throttle, on_event=on_event) as ends:
        check_names({source_schema: dest_schema}, ends.same_server, ends.folds)
        ends.spell({source_schema: dest_schema})
        refuse_cut_over(ends, {source_schema: dest_schema})
        if not dry_run:
            take_turn(ends.destination, [dest_schema])
            check_connections(ends, lanes)
            note_reading(ends.source, [source_schema])
        schema = read_schema(ends.source, source_schema)
        source = find_table(schema, table)
        there = read_schema(ends.destination, dest_schema)
        destination = find_table(there, source.name)
        stores = Stores.find(source_stores, dest_stores, store_map)
        if closure:
            closed = copy_closed_table(
                ends,
                schema,
                there,
                source,
                Seed(where_clause, limit),
                stores=stores,
                copy_files=copy_files,
                adapters=adapters,
                lanes=lanes,
                dry_run=dry_run,
                on_event=on_event,
            )
            rows = 0 if dry_run else closed["tables"][str(source)]
            taken = time.monotonic() - began
            return cast(
                CopyTableResult,
                {**closed, "table": source.name, "rows_copied": rows, "time_taken": taken},
            )
        loading = Loading(
            ends,
            schema,
            source,
            destination,
            final_schema=final_name(source_schema, dest_schema),
            stores=stores,
            copy_files=copy_files,
            adapters=adapters,
        )
        where_clause = checked_clause(ends.source, source, where_clause)
        prove(ends.source, source, loading.match, where_clause)
        prove_tracked(ends.source, loading.pointed())
        jobs = file_jobs(loading.pointed())
        check_places(jobs, stores, copy_files)
        plan = loading.plan(where_clause, limit)
        result: dict[str, Any] = {
            "rows_copied": 0,
            "time_taken": 0.0,
            "table": source.name,
            "snapshot": "none",
            "files_copied": 0,
            "notes": [],
        }
        if dry_run:
            return cast(CopyTableResult, {**result, "plan": plan})
        if limit != 0:
            refuse_rows(ends, [destination])
            _refuse_orphans(ends, source, destination)
            result |= _load(
                ends, [plan], [loading], stores, jobs, copy_files, lanes, assume_quiet, on_event
            )
        result.pop("tables", None)
        return cast(CopyTableResult, {**result, "time_taken": time.monotonic() - began})


def copy_all_data(
    source: str,
    dest: str,
    *,
    tables: Iterable[str] | None = None,
    schema_map: Mapping[str, str] | None = None,
    connection: Any = None,
    dest_connection: Any = None,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    copy_files: bool = False,
    adapters: Mapping[str, str] | None = None,
    charset: Charset = "keep",
    lanes: int = LIMITS.lanes,
    assume_quiet: bool = False,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> CopyAllResult:
    """Copy the rows of all user tables (or of `tables`) of a schema, as of one instant.

    The destination's columns may be those of the source, of `create_parallel_schema`, or of the
    user's own 2.x classes. A destination that does not exist is made first, its external columns
    as json. A call that was interrupted is resumed by the same call.

    Examples:
        >>> copy_all_data("lab", "lab_v20", connection="mysql://me:secret@db/")

    Args:
        source: The schema that is read.
        dest: The schema that gets the rows.
        tables: Only these, by class name or table name.
        schema_map: {source: dest} of all schemas that belong together, for a destination made here.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        dest_connection: Of the destination, where that is another server.
        source_stores: 0.14.6 store specs by name, by default those of its own configuration.
        dest_stores: 2.x store specs by name, by default those of its own configuration.
        store_map: 0.14.6 store name to 2.x store name; a store that is not in it keeps its name.
        copy_files: Copy the files; else they stay where they are, but for attachments.
        adapters: {"name": "blob@raw"}: what an adapter stores, where the rows do not tell.
        charset: "utf8mb4" makes text of other character sets utf8mb4, once proved to be the same.
        lanes: Connections that read at once.
        assume_quiet: You vouch that nobody writes to the source meanwhile.
        max_bytes_per_second: Read no more of production than this, all connections together.
        max_load: Pause while the server is busier: "Threads_running=25", several with commas.
        pause_file: Pause while this file is there. The snapshot stays open in every pause.
        dry_run: Write nothing, and return the plan.
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `tables_copied`, `rows_copied`, `time_taken`, `tables` (name → rows copied),
    `snapshot`, `files_copied`, `notes`; with `dry_run` also `plan`.

    Raises as `copy_table_data`.
    """
    began = time.monotonic()
    check_charset(charset)
    result: dict[str, Any] = {
        "tables_copied": 0,
        "rows_copied": 0,
        "time_taken": 0.0,
        "tables": {},
        "snapshot": "none",
        "files_copied": 0,
        "notes": [],
    }
    notes: list[str] = []
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(connection, dest_connection, throttle, on_event=on_event) as ends:
        check_names({source: dest}, ends.same_server, ends.folds)
        ends.spell({**(schema_map or {}), source: dest})
        refuse_cut_over(ends, {source: dest})
        if not dry_run:
            take_turn(ends.destination, [dest])
            check_connections(ends, lanes)
            note_reading(ends.source, [source])
        schema = read_schema(ends.source, source)
        stores = Stores.find(source_stores, dest_stores, store_map)
        there = read_if_there(ends.destination, dest)
        chosen = (
            user_tables(schema) if tables is None else [find_table(schema, name) for name in tables]
        )
        if there is None or is_half_made(ends.destination, there):
            building = _building(ends, schema, dest, schema_map, adapters, stores, charset)
            columns = [
                column
                for table in chosen
                for column in external_columns(
                    ends, schema, table, final_name(source, dest), stores, copy_files, adapters
                )
            ]
            prove_tracked(ends.source, columns)
            raise_missing(missing_files(ends, file_jobs(columns), stores, copy_files, on_event))
            if dry_run:
                return cast(
                    CopyAllResult,
                    {**result, "plan": [made.create_sql for made in building.declarations]},
                )
            names = whole_map(source, dest, dict(schema_map or {}), ends.same_server, ends.folds)
            made, notes = make_whole(ends, [building], names)
            there = made[source]
        loadings = [
            Loading(
                ends,
                schema,
                table,
                find_table(there, table.name),
                final_schema=final_name(source, dest),
                stores=stores,
                copy_files=copy_files,
                adapters=adapters,
            )
            for table in chosen
        ]
        for loading in loadings:
            prove(ends.source, loading.source, loading.match)
            prove_tracked(ends.source, loading.pointed())
        jobs = file_jobs(column for loading in loadings for column in loading.pointed())
        check_places(jobs, stores, copy_files)
        plans = [loading.plan() for loading in loadings]
        if dry_run:
            return cast(CopyAllResult, {**result, "plan": plans})
        refuse_rows(ends, [loading.destination for loading in loadings])
        loaded = _load(
            ends,
            plans,
            loadings,
            stores,
            jobs,
            copy_files,
            lanes,
            assume_quiet,
            on_event,
            schema_map,
        )
        return cast(
            CopyAllResult,
            {
                **result,
                **loaded,
                "notes": notes + loaded["notes"],
                "tables_copied": len(plans),
                "time_taken": time.monotonic() - began,
            },
        )


def _building(
    ends: Ends,
    schema: Schema,
    dest: str,
    schema_map: Mapping[str, str] | None,
    adapters: Mapping[str, str] | None,
    stores: Stores,
    charset: Charset,
) -> Building:
    return plan_schema(
        ends,
        schema,
        with_neighbours(ends.source, [schema]),
        whole_map(schema.name, dest, dict(schema_map or {}), ends.same_server, ends.folds),
        external="convert",
        unsigned="keep",
        adapters=adapters,
        store_map=stores.names,
        charset=charset,
    )


def _refuse_orphans(ends: Ends, source: Table, destination: Table) -> None:
    """The cheap half of the proof, before the load: no parent can be found in an empty table."""
    empty = empty_parents(ends.destination, destination)
    if empty and has_rows(ends.source, source.schema, source.name):
        raise Mismatch(
            f"{destination.schema}.{destination.name} refers to {', '.join(empty)}, which "
            "holds no rows yet",
            code="DJM-1702",
            hint="copy the parents first, or use copy_all_data",
            context={"empty_parents": empty},
        )


def _load(
    ends: Ends,
    plans: list[dict[str, Any]],
    loadings: list[Loading],
    stores: Stores,
    jobs: list[FileJob],
    copy_files: bool,
    lanes: int,
    assume_quiet: bool,
    on_event: OnEvent,
    schema_map: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Files, rows, AUTO_INCREMENT, proof, triggers; what the proof refuses is taken back."""
    tables = [loading.destination for loading in loadings]
    pairs = [(loading.source, loading.destination) for loading in loadings]
    triggers = carried_triggers(ends, pairs, schema_map)
    before = marks(ends.source, {loading.source.schema for loading in loadings})
    files = move_files(ends, jobs, stores, copy_files, on_event)
    raise_missing(files["errors"])
    for trigger in triggers:
        drop_program(ends.destination, trigger)
    copied = run_copy(
        ends,
        plans,
        lanes=lanes,
        assume_quiet=assume_quiet,
        on_event=on_event,
        compare=_proof_of(plans, loadings),
    )
    later = move_later(ends, jobs, stores, copy_files, before, on_event)
    for loading in loadings:
        keep_auto_increment(ends, loading.source, loading.destination)
    try:
        prove_keys(
            ends.destination,
            tables,
            "copy the parents first, or use copy_all_data; this call's rows were taken out again",
        )
    except Mismatch as refused:
        if not take_back(ends.destination, tables):
            refused.hint = (
                "copy the parents first, or use copy_all_data; the rows are still there, because "
                "somebody else's are among them"
            )
        raise
    notes = _carry_triggers(ends, loadings, schema_map)
    forget(ends.destination, [(table.schema, table.name) for table in tables])
    return {
        "rows_copied": copied["rows_copied"],
        "snapshot": copied["snapshot"],
        "files_copied": files["files_copied"] + later + copied["files_written"],
        "tables": {table["destination_table"]: table["rows_copied"] for table in copied["tables"]},
        "notes": notes,
    }


def _proof_of(plans: list[dict[str, Any]], loadings: list[Loading]) -> Compare:
    """Bit by bit: a table that is not quite as it was is copied once more, never refused."""
    proofs = {
        source_name(plan): loading.proof(plan["where_clause"])
        for plan, loading in zip(plans, loadings, strict=True)
        # Which rows are the first ones is not told by the rows.
        if plan["limit"] is None
    }

    def compare(names: list[Name]) -> dict[str, Any]:
        found = [proof for name in names if (proof := proofs.get(name)) is not None]
        return comparison(found, tolerance=0)

    return compare


def _carry_triggers(
    ends: Ends, loadings: Iterable[Loading], schema_map: Mapping[str, str] | None
) -> list[str]:
    by_schema: dict[tuple[str, str], list[str]] = {}
    for loading in loadings:
        pair = loading.source.schema, loading.destination.schema
        by_schema.setdefault(pair, []).append(loading.source.name)
    notes = []
    for (source, dest), tables in by_schema.items():
        names = {**(schema_map or {}), source: dest}
        notes += carry(ends, source, names, TRIGGER, tables=tables)
    return notes
