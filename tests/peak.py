"""How much memory a call takes at most: measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

# What connections, batches and the interpreter take beside the rows.
BESIDE = 30 << 20

# Runs a function in a process of its own, and prints by how much the most that it held grew,
# without the pages of the program itself: of those an engine that is not optimised has more.
PEAK = """
import json, sys
import datajoint_migrate, mysql.connector
from datajoint_migrate.limits import LIMITS
def most():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    held, program = (int(lines[name].split()[0]) << 10 for name in ("VmHWM", "RssFile"))
    return held - program
limits, name, args, named = json.load(sys.stdin)
for limit, value in limits.items():
    setattr(LIMITS, limit, value)
if name == "scan":
    import pyarrow
run = getattr(datajoint_migrate, name)
before = most()
done = run(*args, **named)
if name == "scan":
    done = {"rows": sum(b.num_rows for b in pyarrow.RecordBatchReader.from_stream(done))}
print(json.dumps([most() - before, dict(done)], default=str))
"""


def peak_within(
    limits: dict[str, int], name: str, *args: Any, **named: Any
) -> tuple[int, dict[str, Any]]:
    """By how much the memory of a process with these limits grew, and what it returned."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        input=json.dumps([limits, name, args, named]),
        # Left to itself the C library keeps blocks of up to 32 MiB of each thread for later.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    grown, said = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {grown / (1 << 20):.0f} MiB")
    return grown, said
