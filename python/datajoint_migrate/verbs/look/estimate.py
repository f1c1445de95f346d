"""How long a migration takes and what it needs, from a sample that is read; nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends, open_ends
from datajoint_migrate.catalog.externals import External, externals_of
from datajoint_migrate.catalog.kinds import BINARIES, compared_as
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Schema, Table, read_schemas, user_tables
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import EstimateResult
from datajoint_migrate.rows.matching import pair_up
from datajoint_migrate.rows.plan import compare_plan, compare_table
from datajoint_migrate.words import counted

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
) -> EstimateResult:
    """Estimate time and disk of a migration of these schemas; nothing is changed.

    The first rows of the largest tables are compared with themselves, which is how every table
    is read and hashed on both sides in the end; everything else is taken to go at that speed.

    Returns `rows` and `bytes` (the server's statistics), `compare_seconds`, `copy_seconds` (the
    least and the most), `disk_bytes` on the destination server, `file_bytes` that are written to
    stores, `samples` (dicts with `table`, `rows`, `seconds`), `consistency` (what is recommended
    for `migrate`) and `based_on` (sentences). Seconds
    are None when no table has rows. Raises `NotFound`.
    """
    with open_ends(connection, looking=True) as ends:
        ends.source.spell(schemas)
        read = list(read_schemas(ends.source, schemas).values())
        return estimated(ends, read, copy_files, adapters)


def estimated(
    ends: Ends, read: list[Schema], copy_files: bool, adapters: Mapping[str, str] | None
) -> EstimateResult:
    """As `estimate_migration`, of schemas that are read already."""
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
        if table.data_bytes >= LIMITS.sample_share * size
        and (sample := _sample(ends, table)) is not None
    ]
    pointers = sum(table.rows * len(externals[table.schema, table.name]) for table in tables)
    seconds = _seconds(tables, samples)
    consistency, why = _consistency(seconds)
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
        "consistency": consistency,
        "based_on": [*_sentences(samples), why],
    }


def _consistency(seconds: float | None) -> tuple[str, str]:
    """Which `consistency` of `migrate` is recommended, and why."""
    most = (seconds or 0) * COPY_TIMES[1]
    if most < LIMITS.snapshot_seconds:
        return "snapshot", (
            "consistency = 'snapshot' is recommended: the copy is done within minutes, and so long"
            " production keeps old versions of its rows"
        )
    return "catch-up", (
        f"consistency = 'catch-up' is recommended: the copy may take {most / 3600:.1f} hours, and a"
        " snapshot would make production keep old versions of its rows so long"
    )


def _largest(tables: list[Table]) -> list[Table]:
    # First rows are those of a key: a table without one would be read to its end.
    keyed = [table for table in tables if table.walk_key]
    return sorted(keyed, key=lambda table: table.data_bytes, reverse=True)[: LIMITS.sample_tables]


def _sample(ends: Ends, table: Table) -> dict[str, Any] | None:
    """Read the first rows of a table on two sides and hash them, as a comparison does."""
    each = table.data_bytes // max(table.rows, 1)
    rows = max(min(LIMITS.sample_rows, LIMITS.sample_bytes // max(each, 1)), 1)
    specs = {"source": ends.source.server.spec(), "destination": ends.source.server.spec()}
    compared = compare_table(table, table, pair_up(table, table, {}), {})
    compared["where_clause"] = _first_rows(ends.source, table, rows)
    plan = compare_plan(specs, [compared], tolerance=0.0, lanes=LIMITS.lanes)
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
    compared = compared_as(column)
    return compared if compared != name else f"QUOTE({name})"


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
    for schema, name, size in of_schemas(
        session,
        "SELECT TABLE_SCHEMA, TABLE_NAME, DATA_LENGTH + INDEX_LENGTH"
        " FROM information_schema.TABLES WHERE {TABLE_SCHEMA} AND TABLE_TYPE = 'BASE TABLE'",
        [schema.name for schema in schemas],
    ):
        total += int(size or 0) if (schema, name) in wanted else 0
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
        f"comparing the first {counted(sample['rows'], 'row')} of {sample['table']} took "
        f"{sample['seconds']:.2f} s"
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
