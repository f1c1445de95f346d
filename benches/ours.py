"""One call of datajoint_migrate in a process of its own; prints its time and memory as JSON.

    python benches/ours.py copy '{"source_schema": ...}'

The time is that of the call, everything it does included; only starting Python is left out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow

import datajoint_migrate
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.backup.archive import load_archive, read_archive, write_archive


def read_all(**arguments: Any) -> dict[str, Any]:
    """Scan into one Arrow table, as ConnectorX returns it."""
    stream = datajoint_migrate.scan(**arguments)
    table = pyarrow.RecordBatchReader.from_stream(stream).read_all()
    return {"rows": table.num_rows}


def read_batches(**arguments: Any) -> dict[str, Any]:
    """Scan, a batch at a time, none of which is kept."""
    stream = datajoint_migrate.scan(**arguments)
    rows = sum(batch.num_rows for batch in pyarrow.RecordBatchReader.from_stream(stream))
    return {"rows": rows}


def backup(connection: str, schema: str, location: str) -> dict[str, Any]:
    """A schema into an archive."""
    return write_archive(resolve(connection), schema, location)


def restore(connection: str, location: str, dest_schema: str) -> dict[str, Any]:
    """An archive into empty tables."""
    return {"tables": load_archive(resolve(connection), read_archive(location), dest_schema)}


CALLS: dict[str, Callable[..., Any]] = {
    "backup": backup,
    "copy": datajoint_migrate.copy_table_data,
    "copy_all": datajoint_migrate.copy_all_data,
    "copy_store": datajoint_migrate.copy_store,
    "integrity": datajoint_migrate.verify_external_integrity,
    "migrate": datajoint_migrate.migrate,
    "external": datajoint_migrate.migrate_external_to_v20,
    "compare": datajoint_migrate.compare_query_results,
    "cutover": datajoint_migrate.cutover,
    "parallel_schema": datajoint_migrate.create_parallel_schema,
    "promote": datajoint_migrate.promote,
    "restore": restore,
    "rollback": datajoint_migrate.rollback,
    "scan": read_all,
    "stream": read_batches,
    "sync": datajoint_migrate.sync,
}
KEPT = (
    "rows",
    "rows_copied",
    "rows_migrated",
    "rows_promoted",
    "rows_updated",
    "tables",
    "executed",
    "window_seconds",
    "match",
    "row_count",
    "discrepancies",
    "errors",
    "valid",
    "files_copied",
)


def peak_mib() -> float:
    """The largest resident memory this process ever had."""
    # Not getrusage: its maximum is inherited from the process that started this one.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    begun, spent = time.perf_counter(), time.process_time()
    result = CALLS[name](**arguments)
    seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    kept = {key: result[key] for key in KEPT if key in result} if isinstance(result, dict) else {}
    said = {"seconds": seconds, "cpu_seconds": spent, "peak_mib": peak_mib(), **kept}
    print(json.dumps(said, default=str))


if __name__ == "__main__":
    main()
