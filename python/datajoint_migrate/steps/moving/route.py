"""How rows travel: inside the server while the source is quiet, else through us as one snapshot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.steps.moving.ends import Ends
from datajoint_migrate.steps.moving.indexes import build_postponed, postpone
from datajoint_migrate.steps.moving.journal import forget, rows_done
from datajoint_migrate.steps.moving.plan import LANES, copy_plan, needs_river
from datajoint_migrate.steps.moving.telling import OnEvent as OnEvent
from datajoint_migrate.steps.moving.telling import Telling

logger = logging.getLogger("datajoint_migrate")

Name = tuple[str, str]
# From source tables to the engine's comparison of them with their copies.
Compare = Callable[[list[Name]], dict[str, Any]] | None
# UPDATE_TIME counts whole seconds, so a younger one may hide a second write.
SETTLED_SECONDS = 2


def update_times(session: Session, tables: Iterable[Name]) -> dict[Name, tuple[Any, bool]]:
    """Per table when it was last written, and whether that is long enough ago to be trusted."""
    wanted = set(tables)
    found: dict[Name, tuple[Any, bool]] = {}
    for schema in sorted({schema for schema, _ in wanted}):
        for table, when, settled in session.query(
            "SELECT TABLE_NAME, UPDATE_TIME,"
            " COALESCE(UPDATE_TIME < NOW() - INTERVAL %s SECOND, TRUE)"
            " FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s",
            (SETTLED_SECONDS, schema),
        ):
            if (schema, table) in wanted:
                found[schema, table] = (when, bool(settled))
    return found


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
    lanes: int = LANES,
    assume_quiet: bool = False,
    on_event: OnEvent = None,
    compare: Compare = None,
) -> dict[str, Any]:
    """Copy the tables of a plan by the best route and return the engine's result, merged.

    Tables without conversion go inside the server when both ends are one server and nobody has
    written to any source table for two seconds; the rest go through us under one snapshot. If
    somebody wrote meanwhile, everything written to is copied again through us, so that
    the whole copy is the state of one instant. Key `snapshot` says which it was: "quiet" (inside
    the server, nothing changed), "accepted" (inside the server, the caller vouches for the
    source), else the engine's "shared", "single" or "none".

    With `compare` what came through us is compared under the snapshot it was read from: key
    `compared` lists the engine's findings. What went inside the server is the caller's to compare.
    """
    inside = [table for table in tables if not needs_river(table)] if ends.same_server else []
    names = [source_name(table) for table in tables]
    before: dict[Name, tuple[Any, bool]] = {}
    if inside and not assume_quiet:
        before = update_times(ends.source, names)
        if not all(settled for _, settled in before.values()):
            inside = []
    through = [table for table in tables if table not in inside]
    results = []
    postpone(ends.source, ends.destination, tables)
    if inside:
        results.append(_run(ends, inside, "server", lanes, on_event, None))
    if through:
        results.append(_run(ends, through, "river", lanes, on_event, compare))
    build_postponed(ends.destination, [destination_name(table) for table in tables])
    merged = _merge(results)
    if not inside:
        return merged
    merged["snapshot"] = "accepted" if assume_quiet else "quiet"
    if assume_quiet:
        return merged
    for _ in range(3):
        after = update_times(ends.source, names)
        changed = {name for name in names if before.get(name) != after.get(name)}
        if not changed:
            return merged
        again = [table for table in tables if source_name(table) in changed]
        logger.warning(
            "%d source tables were written to during the copy; copying them again", len(again)
        )
        before = after
        merged = copy_again(ends, merged, again, lanes, on_event, compare)
    logger.warning("the source does not come to rest; copying everything under one snapshot")
    return copy_again(ends, merged, tables, lanes, on_event, compare)


def copy_again(
    ends: Ends,
    merged: dict[str, Any],
    tables: list[dict[str, Any]],
    lanes: int,
    on_event: OnEvent,
    compare: Compare = None,
) -> dict[str, Any]:
    """Empty the destinations of these tables and copy them anew through us.

    `merged` is the result of the copy that is corrected.
    """
    emptied = {destination_name(table) for table in tables}
    for schema, table in sorted(emptied):
        forget(ends.destination, [(schema, table)])
        ends.destination.execute(f"TRUNCATE TABLE {quote(schema, table)}")
    fresh = _run(ends, tables, "river", lanes, on_event, compare)
    kept = [table for table in merged["tables"] if destination_name(table) not in emptied]
    both = _merge([{**merged, "tables": kept}, fresh])
    both["rows_copied"] = sum(table["rows_copied"] for table in both["tables"])
    both["snapshot"] = fresh["snapshot"]
    return both


def _run(
    ends: Ends,
    tables: list[dict[str, Any]],
    route: str,
    lanes: int,
    on_event: OnEvent,
    compare: Compare,
) -> dict[str, Any]:
    comparison = compare([source_name(table) for table in tables]) if compare else None
    plan = copy_plan(ends.specs(), tables, route=route, lanes=lanes, compare=comparison)
    return _core.copy(plan, _telling(ends, tables, lanes, on_event))


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
    return Telling(on_event, expected, lanes, before)


def _merge(results: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {
        "rows_copied": 0,
        "bytes": 0,
        "time_taken": 0.0,
        "snapshot": "none",
        "load": None,
        "tables": [],
        "compared": [],
    }
    for result in results:
        for key in ("rows_copied", "bytes", "time_taken"):
            merged[key] += result[key]
        merged["snapshot"] = result["snapshot"]
        merged["load"] = result.get("load") or merged["load"]
        merged["tables"].extend(result["tables"])
        found = result["compared"]
        merged["compared"].extend(found["tables"] if isinstance(found, dict) else found or [])
    return merged
