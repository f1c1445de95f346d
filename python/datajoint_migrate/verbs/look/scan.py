"""A table as a stream of Arrow record batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.catalog.tables import find_table, read_schema
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows.clause import checked_clause
from datajoint_migrate.rows.plan import key_index


def scan(
    schema: Any,
    table: str,
    columns: Iterable[str] | None = None,
    where_clause: str | None = None,
    *,
    connection: Any = None,
    lanes: int = LIMITS.lanes,
) -> Any:
    """Read a table, as it is, into Arrow.

    `columns` are names, all columns by default, in their order. `where_clause` is the caller's
    own SQL. `lanes` connections read in parallel, all of one instant, that of the first batch:
    before it is asked for nothing is read, and no snapshot is open on the server. Batches come
    in the order of the key with `lanes=1` only; with several they come as they are read. A stream
    that is dropped closes its connections and ends their statements on the server. One that is
    read slowly gives its instant up as soon as production waits for it, and ends with an error.

    Returns an object with `__arrow_c_stream__`: `pyarrow.RecordBatchReader.from_stream(scan(...))`,
    `polars.from_arrow(scan(...))`. Raises `NotFound` naming the near misses.
    """
    name, server = schema_of(schema, connection)
    with server.session(read_only=True) as session:
        found = find_table(read_schema(session, name), table)
        clause = checked_clause(session, found, where_clause)
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
            "where_clause": clause,
            "lanes": lanes,
            "chunk_bytes": LIMITS.chunk_bytes,
            "batch_bytes": LIMITS.batch_bytes,
            "memory_bytes": LIMITS.memory_bytes,
            "rows": found.rows,
            "data_bytes": found.data_bytes,
        }
    )
