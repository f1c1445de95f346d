"""Speed against the peers, side by side on private servers; prints a table of ratios.

python benches/run.py                     # 2,000,000 rows, two rounds
python benches/run.py sync promote        # these jobs only
python benches/run.py --rows 20000 --json FILE
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import archiving
import cutovers
import data
import environments
import files
import jobs
import limit
import many_tables
import promotions
import servers
import syncs
from data import SOURCE, Size
from table import PEAK_GOAL_MIB, Row, render

# The same for everyone; what is left out is as the server ships.
COMMON = (
    "--local-infile=1",
    "--innodb-buffer-pool-size=2G",
    "--innodb-redo-log-capacity=4G",
    "--innodb-flush-log-at-trx-commit=2",
    # Some peers encrypt and some do not.
    "--tls-version=",
)
SETTINGS = ("--skip-log-bin", *COMMON)
LOGGED = ("--log-bin=log", "--server-id=1", "--sync-binlog=0", *COMMON)
FILES = 20_000
ROWS = 2_000_000
POINTER_ROWS = 200_000
BUSY = 0.7

JOBS = (
    "same",
    "copy",
    "limit",
    "small",
    "scan",
    "pointers",
    "compare",
    "reladiff",
    "backup",
    "restore",
    "files",
    "sync",
    "cutover",
    "promote",
)
Job = Callable[[], list[Row]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", nargs="*", metavar="NAME", help=f"of {', '.join(JOBS)}")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the narrow table")
    parser.add_argument("--repeats", type=int, default=2, help="rounds; medians are printed")
    parser.add_argument("--files", type=int, default=FILES, help="files of a store")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    options = parser.parse_args()
    if strange := set(options.jobs) - set(JOBS):
        parser.error(f"no job is called {', '.join(sorted(strange))}; there are {', '.join(JOBS)}")
    wanted = [name for name in JOBS if name in (options.jobs or JOBS)]
    begun = time.monotonic()
    # Two at once would measure each other.
    with environments.locked("bench"):
        load = os.getloadavg()[0]
        if load > BUSY:
            print(f"the machine is busy (load {load:.1f}); do not trust ratios", file=sys.stderr)
        plan = _alone(options)
        rows = [row for name in wanted if name in plan for row in _timed(name, plan[name])]
        if shared := [name for name in wanted if name not in plan]:
            rows += _shared(options, shared)
    print(render(rows))
    version = _version()
    minutes = (time.monotonic() - begun) / 60
    print(
        f"\nMySQL {version}, {os.cpu_count()} cores shared by servers and clients;"
        f" {' '.join(SETTINGS)}; {options.repeats} rounds, medians; {minutes:.0f} minutes in all.\n"
        "ratio: the peer's time by ours (pointers: our rows/s by theirs), within a round."
        f" Peak: resident memory of our process, goal < {PEAK_GOAL_MIB} MiB.\n"
        "CPU s: of the process alone, ours / the peer's; of a sync also of both servers, of a copy"
        " beside loading of the destination's server alone.\n"
        "cutover: the seconds are those that writers wait.\n"
        "on disk: MiB, ours / the peer's. Our backup is hashed and flushed, our restore proved.\n"
        "pointers: stores that are no folder; in a folder, copying also looks for each file."
        f" Load before the start: {load:.1f}."
    )
    if options.json is not None:
        known = {"cores": os.cpu_count(), "repeats": options.repeats, "minutes": minutes}
        known |= {"server": version, "load_before": load, "settings": SETTINGS}
        known["rows"] = [row.as_dict() for row in rows]
        options.json.write_text(json.dumps(known, indent=1) + "\n")
    return 0


def _alone(options: argparse.Namespace) -> dict[str, Job]:
    """Jobs that start what they need."""
    rows, repeats = options.rows, options.repeats
    return {
        "files": lambda: files.files(options.files, repeats),
        "sync": lambda: syncs.sync(LOGGED, rows // 2, repeats),
        "cutover": lambda: cutovers.windows(SETTINGS, LOGGED, rows, repeats),
        "promote": lambda: promotions.promotions(SETTINGS, min(1.0, rows / ROWS), repeats),
    }


def _shared(options: argparse.Namespace, names: list[str]) -> list[Row]:
    """Jobs on two servers, of which the first has the tables of `data`."""
    pointer_rows = max(jobs.SAMPLE, POINTER_ROWS * options.rows // ROWS)
    size = Size(options.rows, min(POINTER_ROWS, pointer_rows))
    repeats = options.repeats
    with ExitStack() as stack:
        # Never servers named by the environment: two are needed, with the settings above.
        source, destination = (data.server(SETTINGS) for _ in range(2))
        stack.callback(destination.stop)
        stack.callback(source.stop)
        print(f"making {size.plain:,} rows", file=sys.stderr)
        data.declare(source, SOURCE)
        data.fill(source, SOURCE, size)
        plan: dict[str, Job] = {
            "same": lambda: jobs.copy_on_one_server(source, size, repeats),
            "copy": lambda: jobs.copy_between_servers(source, destination, size, repeats),
            "limit": lambda: limit.limit(source, destination, size, repeats),
            "small": lambda: many_tables.many_small_tables(source, destination, repeats),
            "scan": lambda: jobs.scan(source, size, repeats),
            "pointers": lambda: jobs.pointers(source, destination, size, repeats),
            "compare": lambda: jobs.compare(source, destination, size, repeats),
            "reladiff": lambda: jobs.compare_on_mariadb(size, repeats),
            "backup": lambda: archiving.backup(source, size, repeats),
            "restore": lambda: archiving.restore(source, destination, size, repeats),
        }
        return [row for name in names for row in _timed(name, plan[name])]


def _timed(name: str, job: Job) -> list[Row]:
    print(name, file=sys.stderr)
    begun = time.monotonic()
    rows = job()
    print(f"  {name}: {time.monotonic() - begun:.0f} s in all", file=sys.stderr, flush=True)
    return rows


def _version() -> str:
    words = [*servers.programs("mysql").command("mysqld"), "--version"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return said[said.index("Ver") + 1]


if __name__ == "__main__":
    sys.exit(main())
