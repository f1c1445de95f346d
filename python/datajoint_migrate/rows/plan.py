"""The engine's plans, built from tables: plain dicts, readable before anything happens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows.matching import Match, Pair, object_kind

EMPTY_MEMBER = re.compile(r"^enum\((?:.*,)?''[,)]", re.IGNORECASE)

Pointers = Mapping[str, dict[str, Any]]


def copy_table(
    source: Table,
    destination: Table,
    match: Match,
    pointers: Pointers,
    *,
    where_clause: str | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """One table of a copy plan. `pointers`: per source column, where its pointers lead."""
    return {
        "source_schema": source.schema,
        "source_table": source.name,
        "destination_schema": destination.schema,
        "destination_table": destination.name,
        "key": list(source.walk_key),
        "index": key_index(source),
        "columns": [_copied(pair, pointers) for pair in match.pairs],
        "where_clause": where_clause,
        "limit": limit,
        "rows": source.rows,
        "data_bytes": source.data_bytes,
    }


def key_index(table: Table) -> str | None:
    """The name of the index behind `Table.walk_key`."""
    if table.primary_key:
        return "PRIMARY"
    key = table.walk_key
    return next(
        (index.name for index in table.indexes if index.unique and index.columns == key), None
    )


def _copied(pair: Pair, pointers: Pointers) -> dict[str, Any]:
    return {
        "source": pair.source.name,
        "destination": pair.destination.name,
        "kind": pair.kind,
        "charset": pair.charset,
        "pointer": pointers[pair.source.name] if pair.kind == "pointer" else None,
        "object": pointers[pair.source.name] if pair.kind == "object" else None,
    }


def needs_river(table: dict[str, Any]) -> bool:
    """Whether a table of a copy plan has a value that has to pass through us.

    Text that becomes utf8mb4 does not: every character has its place there.
    """
    return any(
        column["kind"] in ("pointer", "object")
        or (column["kind"] == "text" and column["charset"] != "utf8mb4")
        for column in table["columns"]
    )


def copy_plan(
    specs: dict[str, Any],
    tables: list[dict[str, Any]],
    *,
    route: str,
    lanes: int = LIMITS.lanes,
    compare: dict[str, Any] | None = None,
    counted_by: str = "copy",
    snapshot: bool = True,
) -> dict[str, Any]:
    """A whole copy plan, with a journal in every destination schema.

    Without a `snapshot` each chunk is of its own instant. `compare` (see `comparison`) proves the
    copy under the snapshot it was made from. Where another plan does that, rows are `counted_by`
    its "comparison", and not by the "copy".

    The journals stay until the caller's own work on the copy is done too.
    """
    return {
        **specs,
        "route": route,
        "lanes": lanes,
        "chunk_bytes": LIMITS.chunk_bytes,
        "memory_bytes": LIMITS.memory_bytes,
        "patience_seconds": LIMITS.away_seconds,
        "load": "auto",
        "snapshot": snapshot,
        "journal": True,
        "keep_journal": True,
        "compare": compare,
        "counted_by": counted_by,
        "tables": tables,
    }


def compare_table(
    source: Table,
    destination: Table,
    match: Match,
    tracking: Mapping[str, dict[str, str]],
    *,
    where_clause: str | None = None,
) -> dict[str, Any]:
    """One table of a compare plan. `tracking`: per pointer column, its tracking table.

    `where_clause` chooses rows of the source; the destination has no others.
    """
    return {
        "source_schema": source.schema,
        "source_table": source.name,
        "destination_schema": destination.schema,
        "destination_table": destination.name,
        "key": list(source.walk_key),
        "ordered": _ordered(source, match),
        "index": key_index(source),
        "columns": [_compared(pair, tracking) for pair in match.pairs],
        "where_clause": where_clause,
        "rows": source.rows,
        "data_bytes": source.data_bytes,
    }


def _ordered(source: Table, match: Match) -> int:
    """How many leading columns of the key have the same order on both sides.

    Text of another collation has another order: the rows of a chunk of one side would be in
    several chunks of the other.
    """
    pairs = {pair.source.name: pair for pair in match.pairs}
    for number, name in enumerate(source.walk_key):
        pair = pairs.get(name)
        if pair and pair.source.collation != pair.destination.collation:
            return number
    return len(source.walk_key)


def _compared(pair: Pair, tracking: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    column: dict[str, Any] = {
        "source": pair.source.name,
        "destination": pair.destination.name,
        "kind": "value",
        "pointer_kind": None,
        "becomes": None,
        "source_content_hash": None,
    }
    if pair.kind == "pointer" and pair.external is not None:
        column["kind"] = "pointer"
        column["pointer_kind"] = pair.external.kind
        column["source_content_hash"] = tracking.get(pair.source.name)
    elif pair.kind == "object":
        column["kind"] = "object"
        column["becomes"] = object_kind(pair.source, pair.destination)
    elif pair.kind == "json":
        column["kind"] = "json"
    elif "decimal" in (pair.source.data_type, pair.destination.data_type):
        # Equal numbers of two scales have different digits.
        column["kind"] = "decimal"
    elif EMPTY_MEMBER.search(pair.source.column_type + pair.destination.column_type):
        column["kind"] = "enum"
    elif (pair.source.charset or "") != (pair.destination.charset or ""):
        # Bytes of two charsets say nothing; both sides are read as Unicode.
        column["kind"] = "text"
    return column


def comparison(
    tables: list[dict[str, Any]],
    *,
    tolerance: float,
    max_discrepancies: int = 1000,
    note: bool = False,
) -> dict[str, Any]:
    """What is compared and how exactly, without where; what is equal is noted for a later sync."""
    return {
        "note": note,
        "chunk_bytes": LIMITS.chunk_bytes,
        "memory_bytes": LIMITS.memory_bytes,
        "tolerance": tolerance,
        "max_discrepancies": max_discrepancies,
        "tables": tables,
    }


def compare_plan(
    specs: dict[str, Any],
    tables: list[dict[str, Any]],
    *,
    tolerance: float,
    lanes: int = LIMITS.lanes,
    note: bool = False,
) -> dict[str, Any]:
    """A whole compare plan."""
    what = comparison(tables, tolerance=tolerance, note=note)
    return {**specs, "lanes": lanes, "snapshot": True, **what}
