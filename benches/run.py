"""Speed against the peers, side by side on private servers; prints a table of ratios.

python benches/run.py                     # 2,000,000 rows, three rounds
python benches/run.py --rows 200000 --only copy scan --json FILE
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import archives
import data
import environments
import files
import jobs
import servers
from data import SOURCE, Size
from table import PEAK_GOAL_MIB, Row, render

# The same for everyone; what is left out is as the server ships.
SETTINGS = (
    "--skip-log-bin",
    "--local-infile=1",
    "--innodb-buffer-pool-size=2G",
    "--innodb-redo-log-capacity=4G",
    "--innodb-flush-log-at-trx-commit=2",
)
JOBS = ("same", "copy", "scan", "pointers", "compare", "reladiff", "backup", "restore")
FILE_JOB = "files"
FILES = 20_000
ROWS = 2_000_000
POINTER_ROWS = 200_000
BUSY = 0.7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the narrow table")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are printed")
    every = (*JOBS, FILE_JOB)
    parser.add_argument("--files", type=int, default=FILES, help="files of a store")
    parser.add_argument("--only", nargs="+", choices=every, default=every, help="these jobs")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    options = parser.parse_args()
    pointer_rows = max(jobs.SAMPLE, POINTER_ROWS * options.rows // ROWS)
    size = Size(options.rows, min(POINTER_ROWS, pointer_rows))
    with ExitStack() as stack:
        # Two at once would measure each other.
        stack.enter_context(environments.locked("bench"))
        load = os.getloadavg()[0]
        if load > BUSY:
            print(f"the machine is busy (load {load:.1f}); do not trust ratios", file=sys.stderr)
        rows: list[Row] = []
        if FILE_JOB in options.only:
            print(FILE_JOB, file=sys.stderr)
            rows += files.files(options.files, options.repeats)
        if set(options.only) == {FILE_JOB}:
            print(render(rows))
            return _write(options, {"load_before": load}, rows)
        # Never servers named by the environment: two are needed, with the settings above.
        source, destination = (servers.start("mysql", arguments=SETTINGS) for _ in range(2))
        stack.callback(destination.stop)
        stack.callback(source.stop)
        version = source.sql("SELECT VERSION()")[0][0]
        print(f"making {size.plain:,} rows", file=sys.stderr)
        data.declare(source, SOURCE)
        data.fill(source, SOURCE, size)
        plan: dict[str, Callable[[], list[Row]]] = {
            "same": lambda: jobs.copy_on_one_server(source, size, options.repeats),
            "copy": lambda: jobs.copy_between_servers(source, destination, size, options.repeats),
            "scan": lambda: jobs.scan(source, size, options.repeats),
            "pointers": lambda: jobs.pointers(source, destination, size, options.repeats),
            "compare": lambda: jobs.compare(source, destination, size, options.repeats),
            "reladiff": lambda: jobs.compare_on_mariadb(size, options.repeats),
            "backup": lambda: archives.backup(source, size, options.repeats),
            "restore": lambda: archives.restore(source, destination, size, options.repeats),
        }
        for name in JOBS:
            if name in options.only:
                print(name, file=sys.stderr)
                rows += plan[name]()
    print(render(rows))
    print(
        f"\nMySQL {version}, {os.cpu_count()} cores shared by servers and clients;"
        f" {' '.join(SETTINGS)}; {options.repeats} rounds, medians.\n"
        "ratio: the peer's time by ours (pointers: our rows/s by theirs), within a round."
        f" Peak: resident memory of our process, goal < {PEAK_GOAL_MIB} MiB.\n"
        "CPU s: of the process alone, ours / the peer's.\n"
        "on disk: MiB, ours / the peer's. Our backup is hashed and flushed, our restore proved.\n"
        "pointers: stores that are no folder; in a folder, copying also looks for each file."
        f" Load before the start: {load:.1f}."
    )
    said = {"server": version, "load_before": load, "settings": SETTINGS}
    return _write(options, said, rows)


def _write(options: argparse.Namespace, said: dict[str, object], rows: list[Row]) -> int:
    if options.json is not None:
        known = {"cores": os.cpu_count(), "repeats": options.repeats, **said}
        known["rows"] = [row.as_dict() for row in rows]
        options.json.write_text(json.dumps(known, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
