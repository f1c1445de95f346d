"""Rows from a source schema into a schema that is declared for 2.x."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.externals import External, externals_of
from datajoint_migrate.catalog.sql import ended
from datajoint_migrate.catalog.tables import Schema, Table, find_table, read_schema
from datajoint_migrate.errors import (
    DestinationNotEmpty,
    ExternalMissing,
    InvalidArgument,
    Mismatch,
)
from datajoint_migrate.steps.checks.charset import check_charset
from datajoint_migrate.steps.lineage import with_neighbours
from datajoint_migrate.steps.moving.building import Building, build, plan_schema
from datajoint_migrate.steps.moving.carrying import TRIGGER, carry
from datajoint_migrate.steps.moving.ends import Ends, open_ends, read_if_there, whole_map
from datajoint_migrate.steps.moving.journal import forget, started
from datajoint_migrate.steps.moving.keys import empty_parents, has_rows, prove_keys
from datajoint_migrate.steps.moving.matching import Match, match_columns, prove
from datajoint_migrate.steps.moving.plan import LANES, copy_table
from datajoint_migrate.steps.moving.pointers import (
    FileJob,
    Pointed,
    Stores,
    check_places,
    file_jobs,
    final_name,
    move_files,
    pointer,
    prove_tracked,
)
from datajoint_migrate.steps.moving.route import OnEvent, run_copy
from datajoint_migrate.steps.moving.throttle import Throttle
from datajoint_migrate.steps.moving.turn import take_turn
from datajoint_migrate.target.charset import Charset

logger = logging.getLogger("datajoint_migrate")


def user_tables(schema: Schema) -> list[Table]:
    """The tables a user declared, without DataJoint's hidden ones."""
    return [table for table in schema.tables.values() if not table.hidden]


class Loading:
    """One table on its way: both ends, how columns meet, and what its pointers lead to."""

    def __init__(
        self,
        ends: Ends,
        source_schema: Schema,
        source: Table,
        destination: Table,
        *,
        final_schema: str,
        stores: Stores,
        copy_files: bool = False,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self.destination = destination
        self.externals: dict[str, External] = externals_of(
            ends.source, source_schema, source, adapters
        )
        self.match: Match = match_columns(source, destination, self.externals)
        self.pointers = {
            pair.source.name: pointer(
                pair.external, source.schema, final_schema, stores, copy_files
            )
            for pair in self.match.pairs
            if pair.kind == "pointer" and pair.external is not None
        }

    def plan(self, where_clause: str | None = None, limit: int | None = None) -> dict[str, Any]:
        """This table's part of the engine's plan."""
        return copy_table(
            self.source,
            self.destination,
            self.match,
            self.pointers,
            where_clause=where_clause,
            limit=limit,
        )

    def pointed(self) -> list[Pointed]:
        """The columns whose files matter, for `file_jobs`."""
        return [
            (self.source.schema, self.source.name, name, self.externals[name], where)
            for name, where in self.pointers.items()
        ]


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
    lanes: int = LANES,
    assume_quiet: bool = False,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Copy the rows of one table, converting each column to what the destination declares.

    `table` is a class name (`Mouse`, `Session.Trial`) or a table name. `limit` takes the first
    rows in key order; `where_clause` is the caller's own SQL. `assume_quiet` vouches that nobody
    writes to the source meanwhile. A call that was interrupted is resumed by the same call.

    `max_bytes_per_second` (of all connections together), `max_load` ("Threads_running=25", several
    with commas) and `pause_file` spare production: above a limit, or while the file is there,
    nothing is read from it. A snapshot stays open meanwhile, so the server keeps old versions of
    rows that are written to (its undo log grows) until the call goes on and ends.

    With `closure` the rows bring along what they refer to, in whatever schema that is: parents,
    and parts with their master. On one server tables may hold rows already, and only those with
    a missing key are copied; `tables` then tells the rows of each table (see `copy_sample`).

    Returns `rows_copied` (rows copied by this call), `time_taken` in seconds, `table`,
    `snapshot`, `files_copied`, `notes` (triggers that could not come along); with `dry_run` also
    `plan`, and nothing is written.

    Raises `NotFound`, `Unconvertible`, `DestinationNotEmpty`, `StoreMissing`, `ExternalMissing`,
    and `Mismatch` when a row refers to a parent the destination lacks; the destination table is
    then as empty as before.
    """
    began = time.monotonic()
    if limit is not None and (isinstance(limit, bool) or limit < 0):
        raise InvalidArgument(f"limit is {limit!r}", hint="give a number of rows, 0 or more")
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(connection, dest_connection, throttle) as ends:
        if not dry_run:
            take_turn(ends.destination, [dest_schema])
        schema = read_schema(ends.source, source_schema)
        source = find_table(schema, table)
        there = read_schema(ends.destination, dest_schema)
        destination = find_table(there, source.name)
        stores = Stores.find(source_stores, dest_stores, store_map)
        if closure:
            # A sample is made of copies of tables, so that module needs this one.
            from datajoint_migrate.steps.moving.closure import Seed
            from datajoint_migrate.steps.sample import copy_closed_table

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
            return {**closed, "table": source.name, "rows_copied": rows, "time_taken": taken}
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
        where_clause = ended(where_clause)
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
            return {**result, "plan": plan}
        if limit != 0:
            refuse_rows(ends, [destination])
            _refuse_orphans(ends, source, destination)
            result |= _load(
                ends, [plan], [loading], stores, jobs, copy_files, lanes, assume_quiet, on_event
            )
        result.pop("tables", None)
        return {**result, "time_taken": time.monotonic() - began}


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
    lanes: int = LANES,
    assume_quiet: bool = False,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Copy the rows of all user tables (or of `tables`) of a schema, as of one instant.

    The destination's columns may be those of the source, of `create_parallel_schema`, or of the
    user's own 2.x classes. A destination that does not exist is made first, its external columns
    as json, with `schema_map` and `charset` as in `create_parallel_schema`. Options,
    those that spare production among them, as in `copy_table_data`.

    Returns `tables_copied`, `rows_copied`, `time_taken`, `tables` (name → rows copied),
    `snapshot`, `files_copied`, `notes`; with `dry_run` also `plan`. Raises as `copy_table_data`.
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
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(connection, dest_connection, throttle) as ends:
        if not dry_run:
            take_turn(ends.destination, [dest])
        schema = read_schema(ends.source, source)
        stores = Stores.find(source_stores, dest_stores, store_map)
        there = read_if_there(ends.destination, dest)
        if there is None:
            building = _building(ends, schema, dest, schema_map, adapters, stores, charset)
            if dry_run:
                return {**result, "plan": [made.create_sql for made in building.declarations]}
            build(ends.destination, building, set())
            there = read_schema(ends.destination, dest)
        chosen = (
            user_tables(schema) if tables is None else [find_table(schema, name) for name in tables]
        )
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
            return {**result, "plan": plans}
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
        return {
            **result,
            **loaded,
            "tables_copied": len(plans),
            "time_taken": time.monotonic() - began,
        }


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
        whole_map(schema.name, dest, dict(schema_map or {}), ends.same_server),
        external="convert",
        unsigned="keep",
        adapters=adapters,
        store_map=stores.names,
        charset=charset,
    )


def refuse_rows(ends: Ends, tables: list[Table]) -> None:
    """Raises `DestinationNotEmpty` for rows that no interrupted call of this kind put there."""
    begun = started(ends.destination, {table.schema for table in tables})
    full = [
        f"{table.schema}.{table.name}"
        for table in tables
        if (table.schema, table.name) not in begun
        and has_rows(ends.destination, table.schema, table.name)
    ]
    if full:
        raise DestinationNotEmpty(
            f"{', '.join(full[:5])}{' and others' if len(full) > 5 else ''} already "
            f"{'holds' if len(full) == 1 else 'hold'} rows",
            hint="empty the destination first; rows are never merged",
            context={"tables": full},
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
    _refuse_triggers(ends, loadings)
    files = move_files(ends, jobs, stores, copy_files, on_event)
    raise_missing(files["errors"])
    copied = run_copy(
        ends,
        plans,
        lanes=lanes,
        assume_quiet=assume_quiet,
        on_event=on_event,
    )
    tables = [loading.destination for loading in loadings]
    for loading in loadings:
        keep_auto_increment(ends, loading.source, loading.destination)
    try:
        prove_keys(
            ends.destination,
            tables,
            "copy the parents first, or use copy_all_data; this call's rows were taken out again",
        )
    except Mismatch:
        for table in tables:
            ends.destination.execute(f"TRUNCATE TABLE {quote(table.schema, table.name)}")
        raise
    else:
        notes = _carry_triggers(ends, loadings, schema_map)
    finally:
        forget(ends.destination, [(table.schema, table.name) for table in tables])
    return {
        "rows_copied": copied["rows_copied"],
        "snapshot": copied["snapshot"],
        "files_copied": files["files_copied"],
        "tables": {table["destination_table"]: table["rows_copied"] for table in copied["tables"]},
        "notes": notes,
    }


def _refuse_triggers(ends: Ends, loadings: Iterable[Loading]) -> None:
    """A load would fire them; those of production itself are made after it."""
    for loading in loadings:
        ours = set(triggers_of(ends.source, loading.source))
        for name in triggers_of(ends.destination, loading.destination):
            if name not in ours:
                raise DestinationNotEmpty(
                    f"{loading.destination} has the trigger {name!r}, which loading would fire",
                    hint="drop it, and make it again after the copy",
                    context={"table": str(loading.destination), "trigger": name},
                )


def triggers_of(session: Session, table: Table) -> list[str]:
    """Names of the triggers of a table."""
    rows = session.query(
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS"
        " WHERE EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = %s",
        (table.schema, table.name),
    )
    return [str(row[0]) for row in rows]


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


def raise_missing(errors: list[dict[str, Any]]) -> None:
    """Raises `ExternalMissing` when files that rows refer to could not be found or copied."""
    if not errors:
        return
    first = errors[0]
    raise ExternalMissing(
        f"{len(errors)} files of external stores are missing or damaged, the first in store "
        f"{first['store']!r}: {first['path']}: {first['error']}",
        hint="restore the files, or delete the rows that refer to them; no row was copied",
        context={"errors": errors},
    )


def keep_auto_increment(ends: Ends, source: Table, destination: Table) -> None:
    """Let the destination go on numbering where the source would, even after deleted rows."""
    if not any(column.auto_increment for column in destination.columns):
        return
    rows = ends.source.query(
        "SELECT AUTO_INCREMENT FROM information_schema.TABLES"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        (source.schema, source.name),
    )
    value = rows[0][0] if rows else None
    found = re.search(r"\bAUTO_INCREMENT=(\d+)", source.create)
    value = value or (found[1] if found else None)
    if value:
        name = quote(destination.schema, destination.name)
        ends.destination.execute(f"ALTER TABLE {name} AUTO_INCREMENT = {int(value)}")
