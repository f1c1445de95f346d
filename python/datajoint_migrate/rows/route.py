"""How rows travel: through us as one snapshot, with a head start inside the server."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.journal import rows_done
from datajoint_migrate.call.progress import OnEvent, Telling, tell, tell_stage
from datajoint_migrate.catalog.definition import definition
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import GaveWay, ServerError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows.indexes import build_postponed, postpone
from datajoint_migrate.rows.plan import copy_plan, needs_river
from datajoint_migrate.rows.shares import Workers, share_out

logger = logging.getLogger("datajoint_migrate")

Name = tuple[str, str]
# From source tables to the engine's comparison of them with their copies.
Compare = Callable[[list[Name]], dict[str, Any]] | None
NO_SUCH_TABLE = 1146
# Engines whose rows a snapshot holds.
VERSIONED = frozenset({"innodb", "rocksdb", "tokudb", "ndbcluster"})


def update_times(session: Session, tables: Iterable[Name]) -> dict[Name, tuple[Any, bool]]:
    """Per table when it was last written, and whether that was some time ago, or nobody knows.

    Good for a guess only: a restart, TRUNCATE and an eviction leave NULL, transactions count when
    they commit, and MariaDB tells the time of the statement.
    """
    wanted = set(tables)
    return {
        (schema, table): (when, bool(settled))
        for schema, table, when, settled in of_schemas(
            session,
            "SELECT TABLE_SCHEMA, TABLE_NAME, UPDATE_TIME,"
            f" COALESCE(UPDATE_TIME < NOW() - INTERVAL {LIMITS.settled_seconds} SECOND, TRUE)"
            " FROM information_schema.TABLES WHERE {TABLE_SCHEMA}",
            {schema for schema, _ in wanted},
        )
        if (schema, table) in wanted
    }


def destination_name(table: dict[str, Any]) -> Name:
    """Schema and name of the destination of one table of a plan."""
    return table["destination_schema"], table["destination_table"]


def source_name(table: dict[str, Any]) -> Name:
    """Schema and name of the source of one table of a plan."""
    return table["source_schema"], table["source_table"]


def run_copy(
    ends: Ends,
    tables: list[dict[str, Any]],
    *,
    lanes: int = LIMITS.lanes,
    assume_quiet: bool = False,
    on_event: OnEvent = None,
    compare: Compare = None,
    snapshot: bool = True,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Copy the tables of a plan as of one instant and return the engine's result, merged.

    Everything goes through us under one snapshot, and `compare` proves the copy under that very
    snapshot; key `compared` lists the engine's findings. Tables without conversion may get a head
    start: where both ends are one server they are copied inside it, each chunk at its own instant.
    Then the snapshot is opened, and what is not equal to it is copied once more from it.
    Without `compare` nobody would know, so there is no head start. Without a `snapshot` every chunk
    is of its own instant, and whoever calls makes them one; then `workers` may copy them.

    Key `snapshot` says what the copy is: "shared" or "single" (of one instant, that of the
    snapshot), "quiet" (the same, and nothing that was copied inside the server had changed),
    "several" (no one instant: see `_instant`), "accepted" (inside the server, the caller vouches
    for the source: nothing is proved).
    """
    inside: list[dict[str, Any]] = []
    if ends.same_server and (compare or assume_quiet or not snapshot):
        inside = [table for table in tables if not needs_river(table) and table["limit"] is None]
        if not assume_quiet and snapshot:
            times = update_times(ends.source, map(source_name, inside))
            # What is being written to now would only be copied twice.
            inside = [table for table in inside if times.get(source_name(table), _NEVER)[1]]
    results = []
    postpone(ends.source, ends.destination, tables)
    known: dict[Name, str] = {}
    once = assume_quiet or not snapshot
    if inside:
        counted_by = "copy" if once else "comparison"
        run = _run(
            ends, inside, "server", lanes, on_event, None, known, snapshot, workers, counted_by
        )
        results.append(run)
    through = [table for table in tables if table not in inside] if once else tables
    if through:
        run = _run(ends, through, "river", lanes, on_event, compare, known, snapshot, workers)
        results.append(run)
    tell_stage(on_event, "keys", detail="indexes and foreign keys")
    build_postponed(ends.destination, [destination_name(table) for table in tables])
    merged = _merge(results)
    if inside and assume_quiet:
        merged["snapshot"] = "accepted"
    elif inside and len(inside) == len(tables) and merged["untouched"]:
        merged["snapshot"] = "quiet"
    merged["snapshot"] = _instant(ends.source, tables, merged["snapshot"])
    return merged


_NEVER = (None, True)


def _instant(source: Session, tables: Iterable[dict[str, Any]], snapshot: str) -> str:
    """The word for what was copied: a snapshot does not hold what an engine without one keeps."""
    names = set(map(source_name, tables))
    engines = of_schemas(
        source,
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES"
        " WHERE {TABLE_SCHEMA}",
        {schema for schema, _ in names},
    )
    if any(
        (schema, table) in names and str(engine).lower() not in VERSIONED
        for schema, table, engine in engines
    ):
        return "several"
    return snapshot


def _run(
    ends: Ends,
    tables: list[dict[str, Any]],
    route: str,
    lanes: int,
    on_event: OnEvent,
    compare: Compare,
    known: dict[Name, str],
    snapshot: bool,
    workers: Workers | None,
    counted_by: str = "copy",
) -> dict[str, Any]:
    """One run of the engine; again, where production waited for it and its tables are as before.

    `known` are definitions that an earlier run ended with, and this one begins with; those it ends
    with are added. Raises `GaveWay` when production has changed a table of the plan.
    """
    comparison = compare([source_name(table) for table in tables]) if compare else None
    plan = copy_plan(
        ends.specs(),
        tables,
        route=route,
        lanes=lanes,
        compare=comparison,
        counted_by=counted_by,
        snapshot=snapshot,
    )
    new = [table for table in tables if source_name(table) not in known]
    known |= _definitions(ends.source, new)
    before = {name: known[name] for name in map(source_name, tables)}
    # Only under no snapshot: nobody else can see what one holds.
    shared = share_out(ends.destination, plan, workers, on_event) if workers else {}
    for pause in (*LIMITS.pauses, None):
        try:
            done = _core.copy(plan, _telling(ends, tables, lanes, on_event))
        except GaveWay as error:
            tell(on_event, "gave_way", why=error.message)
            logger.warning("%s", error.message)
            # Asked for again at once, a lock would be before those that wait for it.
            time.sleep(pause or 0)
            _refuse_changed(before, _definitions(ends.source, tables), error)
            if pause is None:
                raise
        else:
            _refuse_changed(before, _definitions(ends.source, tables), None)
            for table in done["tables"]:
                table["rows_copied"] += shared.get(destination_name(table), 0)
            return done
    raise AssertionError("the last try has returned or raised")


def _definitions(source: Session, tables: Iterable[dict[str, Any]]) -> dict[Name, str]:
    """Each source table as the server would declare it, but for where it goes on numbering."""
    found = {}
    for name in map(source_name, tables):
        try:
            create = definition(source, *name)
        except ServerError as error:
            if error.context.get("errno") != NO_SUCH_TABLE:
                raise
            create = ""
        found[name] = re.sub(r" AUTO_INCREMENT=\d+", "", create)
    return found


def _refuse_changed(
    before: Mapping[Name, str], after: Mapping[Name, str], error: GaveWay | None
) -> None:
    changed = [".".join(name) for name in before if before[name] != after[name]]
    if changed:
        why = error.message if error else "a statement of production came in between"
        raise GaveWay(
            f"production has changed {', '.join(changed)} while it was copied: {why}",
            hint="start the same call again; what the copy has of these tables is as they were",
            context={"tables": changed},
        ) from error


def _telling(ends: Ends, tables: list[dict[str, Any]], lanes: int, on_event: OnEvent) -> OnEvent:
    if on_event is None:
        return None
    done = rows_done(ends.destination, {table["destination_schema"] for table in tables})
    places = {".".join(source_name(table)): table for table in tables}
    expected = {
        place: min(table["rows"], table["limit"] or table["rows"])
        for place, table in places.items()
    }
    before = {
        place: done[destination_name(table)]
        for place, table in places.items()
        if destination_name(table) in done
    }
    sizes = {place: table["data_bytes"] for place, table in places.items() if not table["limit"]}
    return Telling(on_event, expected, lanes, before, sizes)


def _merge(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of runs over the same tables, or over others.

    Key `untouched` says that the last run copied nothing of what those before it had.
    """
    merged: dict[str, Any] = {
        "rows_copied": 0,
        "bytes": 0,
        "time_taken": 0.0,
        "snapshot": "none",
        "load": None,
        "compared": [],
        "untouched": True,
    }
    tables: dict[Name, dict[str, Any]] = {}
    for result in results:
        for key in ("bytes", "time_taken"):
            merged[key] += result[key]
        merged["snapshot"] = result["snapshot"]
        merged["load"] = result.get("load") or merged["load"]
        for table in result["tables"]:
            former = tables.setdefault(destination_name(table), table)
            if former is table:
                continue
            if table["chunks"]:
                merged["untouched"] = False
                former |= {key: table[key] for key in ("rows_copied", "bytes", "chunks")}
            for key in ("time_taken", "files_written"):
                former[key] += table[key]
        found = result["compared"]
        merged["compared"].extend(found["tables"] if isinstance(found, dict) else found or [])
    merged["tables"] = list(tables.values())
    for key in ("rows_copied", "files_written"):
        merged[key] = sum(table[key] for table in tables.values())
    return merged
