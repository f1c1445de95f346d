"""One reading by ConnectorX into an Arrow table; prints its time and memory as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import connectorx


def main() -> None:
    given = json.loads(sys.argv[1])
    # One partition is its plain reading, without the query for the bounds.
    split = (
        {"partition_on": given["partition_on"], "partition_num": given["connections"]}
        if given["connections"] > 1
        else {}
    )
    begun, spent = time.perf_counter(), time.process_time()
    table = connectorx.read_sql(given["url"], given["query"], return_type="arrow", **split)
    seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    found = {"rows": table.num_rows, "peak_mib": int(peak.split()[1]) / 1024}
    print(json.dumps({"seconds": seconds, "cpu_seconds": spent, **found}))


if __name__ == "__main__":
    main()
