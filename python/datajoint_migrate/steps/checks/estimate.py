"""How long a migration takes and what it needs, from a sample that is read; nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.externals import External, externals_of
from datajoint_migrate.catalog.tables import Column, Schema, Table, read_schema
from datajoint_migrate.steps.copying import user_tables
from datajoint_migrate.steps.moving.ends import Ends, open_ends
from datajoint_migrate.steps.moving.matching import BINARIES, pair_up
from datajoint_migrate.steps.moving.plan import LANES, compare_plan, compare_table

SAMPLE_TABLES = 3
SAMPLE_ROWS = 50_000
SAMPLE_BYTES = 32 << 20
# A table that is a smaller share of the whole says little.
SAMPLE_SHARE = 0.05
# How many times as long as comparing copying took so far, within a server and between two. It
# cannot be measured without writing.
COPY_TIMES = (1.0, 5.0)
# A pointer of 16 bytes becomes JSON with path, size and hash.
POINTER_BYTES = 300


def estimate_migration(
    schemas: Iterable[str],
    *,
    copy_files: bool = False,
    adapters: Mapping[str, str] | None = None,
    connection: Any = None,
) -> dict[str, Any]:
    """Estimate time and disk of a migration of these schemas; nothing is changed.

    The first rows of the largest tables are compared with themselves, which is how every table
    is read and hashed on both sides in the end; everything else is taken to go at that speed.

    Returns `rows` and `bytes` (the server's statistics), `compare_seconds`, `copy_seconds` (the
    least and the most), `disk_bytes` on the destination server, `file_bytes` that are written to
    stores, `samples` (dicts with `table`, `rows`, `seconds`) and `based_on` (sentences). Seconds
    are None when no table has rows. Raises `NotFound`.
    """
    with open_ends(connection) as ends:
        read = [read_schema(ends.source, name) for name in schemas]
        tables = [table for schema in read for table in user_tables(schema)]
        externals = {
            (schema.name, table.name): externals_of(ends.source, schema, table, adapters)
            for schema in read
            for table in user_tables(schema)
        }
        size = sum(table.data_bytes for table in tables)
        samples = [
            sample
            for table in _largest(tables)
            if table.data_bytes >= SAMPLE_SHARE * size
            and (sample := _sample(ends, table)) is not None
        ]
        pointers = sum(table.rows * len(externals[table.schema, table.name]) for table in tables)
        seconds = _seconds(tables, samples)
        return {
            "rows": sum(table.rows for table in tables),
            "bytes": size,
            "compare_seconds": seconds,
            "copy_seconds": None
            if seconds is None
            else [seconds * COPY_TIMES[0], seconds * COPY_TIMES[1]],
            "disk_bytes": _on_disk(ends.source, read, tables) + pointers * POINTER_BYTES,
            "file_bytes": _of_files(ends.source, externals, copy_files),
            "samples": samples,
            "based_on": _sentences(samples),
        }


def _largest(tables: list[Table]) -> list[Table]:
    # First rows are those of a key: a table without one would be read to its end.
    keyed = [table for table in tables if table.walk_key]
    return sorted(keyed, key=lambda table: table.data_bytes, reverse=True)[:SAMPLE_TABLES]


def _sample(ends: Ends, table: Table) -> dict[str, Any] | None:
    """Read the first rows of a table on two sides and hash them, as a comparison does."""
    each = table.data_bytes // max(table.rows, 1)
    rows = max(min(SAMPLE_ROWS, SAMPLE_BYTES // max(each, 1)), 1)
    specs = {"source": ends.source.server.spec(), "destination": ends.source.server.spec()}
    compared = compare_table(table, table, pair_up(table, table, {}), {})
    compared["where_clause"] = _first_rows(ends.source, table, rows)
    plan = compare_plan(specs, [compared], tolerance=0.0, lanes=LANES)
    (found,) = _core.compare(plan)["tables"]
    if not found["row_count"]:
        return None
    return {
        "table": str(table),
        "rows": found["row_count"],
        "bytes": found["row_count"] * each,
        "seconds": found["time_taken"],
    }


def _first_rows(session: Session, table: Table, rows: int) -> str | None:
    """A condition that the first rows in key order meet; None when there are no more than those."""
    key = table.walk_key
    written = ", ".join(_literal(table.column(name)) for name in key)
    order = ", ".join(map(quote, key))
    last = session.query(
        f"SELECT {written} FROM {quote(table.schema, table.name)} ORDER BY {order}"
        f" LIMIT 1 OFFSET {rows}"
    )
    if not last:
        return None
    literals = [value.decode() if isinstance(value, bytes) else str(value) for value in last[0]]
    return "(" + " OR ".join(_before(key, literals)) + ")"


def _literal(column: Column) -> str:
    """SQL with which the server writes a value as it can be compared with the column."""
    name = quote(column.name)
    if column.data_type in BINARIES:
        return f"CONCAT('x''', HEX({name}), '''')"
    # An ENUM is in the order of its members, which only numbers follow.
    return f"{name} + 0" if column.data_type in ("enum", "set") else f"QUOTE({name})"


def _before(key: tuple[str, ...], literals: list[str]) -> list[str]:
    return [
        "("
        + " AND ".join(
            [f"{quote(name)} = {value}" for name, value in zip(key[:at], literals, strict=False)]
            + [f"{quote(key[at])} < {literals[at]}"]
        )
        + ")"
        for at in range(len(key))
    ]


def _seconds(tables: list[Table], samples: list[dict[str, Any]]) -> float | None:
    """What comparing all tables takes: a sampled one at its own speed, others at that of all."""
    if not samples:
        return None
    own: dict[str, float] = {
        sample["table"]: sample["seconds"] / sample["rows"] for sample in samples
    }
    size = sum(sample["bytes"] for sample in samples)
    per_byte: float = sum(sample["seconds"] for sample in samples) / max(size, 1)
    return sum(
        float(table.rows) * own[str(table)] if str(table) in own else table.data_bytes * per_byte
        for table in tables
    )


def _on_disk(session: Session, schemas: list[Schema], tables: list[Table]) -> int:
    """Bytes of rows and indexes in production: a copy takes as much, or less."""
    wanted = {(table.schema, table.name) for table in tables}
    total = 0
    for schema in schemas:
        for name, size in session.query(
            "SELECT TABLE_NAME, DATA_LENGTH + INDEX_LENGTH FROM information_schema.TABLES"
            " WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE'",
            (schema.name,),
        ):
            total += int(size or 0) if (schema.name, name) in wanted else 0
    return total


def _of_files(
    session: Session,
    externals: Mapping[tuple[str, str], Mapping[str, External]],
    copy_files: bool,
) -> int:
    """Bytes of the objects that will be written: attachments, and with `copy_files` all."""
    tracked = {
        (schema, external.tracking_table, external.kind)
        for (schema, _), columns in externals.items()
        for external in columns.values()
        if copy_files or external.kind == "attach"
    }
    kinds = {
        "attach": "attachment_name IS NOT NULL",
        "filepath": "filepath IS NOT NULL",
        "blob": "attachment_name IS NULL AND filepath IS NULL",
    }
    total = 0
    for schema, table, kind in sorted(tracked):
        rows = session.query(
            f"SELECT COALESCE(SUM(size), 0) FROM {quote(schema, table)} WHERE {kinds[kind]}"
        )
        total += int(rows[0][0])
    return total


def _sentences(samples: list[dict[str, Any]]) -> list[str]:
    said = [
        f"the first {sample['rows']:,} rows of {sample['table']} were read on both sides of a "
        f"comparison in {sample['seconds']:.2f} s"
        for sample in samples
    ]
    low, high = COPY_TIMES
    return [
        *said,
        "rows and bytes are the server's statistics",
        f"copying was not measured, because nothing is written; so far it took {low:g} to {high:g} "
        "times as long as comparing",
        "files are not in the time",
    ]
