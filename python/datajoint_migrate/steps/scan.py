"""A table as a stream of Arrow record batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate.catalog.sql import ended
from datajoint_migrate.catalog.tables import find_table, read_schema
from datajoint_migrate.steps.moving.ends import schema_of
from datajoint_migrate.steps.moving.plan import CHUNK_BYTES, LANES, key_index

BATCH_BYTES = 4 << 20


def scan(
    schema: Any,
    table: str,
    columns: Iterable[str] | None = None,
    where_clause: str | None = None,
    *,
    connection: Any = None,
    lanes: int = LANES,
) -> Any:
    """Read a table, as it is, into Arrow.

    `columns` are names, all columns by default, in their order. `where_clause` is the caller's
    own SQL. `lanes` connections read in parallel.

    Returns an object with `__arrow_c_stream__`: `pyarrow.RecordBatchReader.from_stream(scan(...))`,
    `polars.from_arrow(scan(...))`. Raises `NotFound` naming the near misses.
    """
    name, server = schema_of(schema, connection)
    with server.session(read_only=True) as session:
        found = find_table(read_schema(session, name), table)
    wanted = [column.name for column in found.columns] if columns is None else columns
    chosen = [found.column(column).name for column in wanted]
    return _core.scan(
        {
            "source": server.spec(),
            "schema": name,
            "table": found.name,
            "key": list(found.walk_key),
            "index": key_index(found),
            "columns": chosen,
            "where_clause": ended(where_clause),
            "lanes": lanes,
            "chunk_bytes": CHUNK_BYTES,
            "batch_bytes": BATCH_BYTES,
            "rows": found.rows,
            "data_bytes": found.data_bytes,
        }
    )
