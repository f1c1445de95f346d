"""The engine's plans, built from tables: plain dicts, readable before anything happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.steps.moving.matching import Match, Pair

CHUNK_BYTES = 16 << 20
MEMORY_BYTES = 256 << 20
LANES = 4
# Hidden tables of a destination while a copy is under way.
JOURNAL = "~migrate_journal"
POSTPONED = "~migrate_indexes"

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
    }


def needs_river(table: dict[str, Any]) -> bool:
    """Whether a table of a copy plan has a value that has to pass through us.

    Text that becomes utf8mb4 does not: every character has its place there.
    """
    return any(
        column["kind"] == "pointer" or (column["kind"] == "text" and column["charset"] != "utf8mb4")
        for column in table["columns"]
    )


def copy_plan(
    specs: dict[str, Any],
    tables: list[dict[str, Any]],
    *,
    route: str,
    lanes: int = LANES,
    compare: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A whole copy plan, with a journal in every destination schema.

    `compare` (see `comparison`) proves the copy under the snapshot it was made from.

    The journals stay until the caller's own work on the copy is done too.
    """
    return {
        **specs,
        "route": route,
        "lanes": lanes,
        "chunk_bytes": CHUNK_BYTES,
        "memory_bytes": MEMORY_BYTES,
        "load": "auto",
        "snapshot": True,
        "journal": True,
        "keep_journal": True,
        "compare": compare,
        "tables": tables,
    }


def compare_table(
    source: Table,
    destination: Table,
    match: Match,
    tracking: Mapping[str, dict[str, str]],
) -> dict[str, Any]:
    """One table of a compare plan. `tracking`: per pointer column, its tracking table."""
    return {
        "source_schema": source.schema,
        "source_table": source.name,
        "destination_schema": destination.schema,
        "destination_table": destination.name,
        "key": list(source.walk_key),
        "ordered": _ordered(source, match),
        "index": key_index(source),
        "columns": [_compared(pair, tracking) for pair in match.pairs],
        "where_clause": None,
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
        "charset": None,
        "pointer_kind": None,
        "source_content_hash": None,
    }
    if pair.kind == "pointer" and pair.external is not None:
        column["kind"] = "pointer"
        column["pointer_kind"] = pair.external.kind
        column["source_content_hash"] = tracking.get(pair.source.name)
    elif pair.kind == "json":
        column["kind"] = "json"
    elif "decimal" in (pair.source.data_type, pair.destination.data_type):
        # Equal numbers of two scales have different digits.
        column["kind"] = "decimal"
    elif (pair.source.charset or "") != (pair.destination.charset or ""):
        # Bytes of two charsets say nothing; both sides are read as Unicode.
        column["kind"] = "text"
        column["charset"] = "utf8mb4"
    return column


def comparison(
    tables: list[dict[str, Any]], *, tolerance: float, max_discrepancies: int = 1000
) -> dict[str, Any]:
    """What is compared and how exactly, without where."""
    return {
        "chunk_bytes": CHUNK_BYTES,
        "tolerance": tolerance,
        "max_discrepancies": max_discrepancies,
        "tables": tables,
    }


def compare_plan(
    specs: dict[str, Any], tables: list[dict[str, Any]], *, tolerance: float, lanes: int = LANES
) -> dict[str, Any]:
    """A whole compare plan."""
    return {**specs, "lanes": lanes, "snapshot": True, **comparison(tables, tolerance=tolerance)}
