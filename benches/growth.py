"""What more rows cost: time in proportion, memory not at all.

    python benches/growth.py [MILLIONS ...]     # 1 10 40

Each table is copied from server to server, compared, and read as a stream; the first, small one is
a rehearsal that counts for nothing.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from measure import Taken, ours

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import data
from data import COPY, PLAIN, SOURCE, Size
from jobs import expect
from run import SETTINGS
from servers import Server

REHEARSAL = 0.2


def main(millions: list[float]) -> int:
    with ExitStack() as stack:
        source, destination = (data.server(SETTINGS) for _ in range(2))
        stack.callback(destination.stop)
        stack.callback(source.stop)
        print(f"{'rows':>12}  {'job':8}  {'seconds per million':>20}  {'peak MiB':>9}")
        for count in (REHEARSAL, *millions):
            size = Size(int(count * 1_000_000), 0)
            for job, taken in measure(source, destination, size).items():
                if count != REHEARSAL:
                    rate = taken.seconds / size.plain * 1_000_000
                    print(
                        f"{size.plain:>12,}  {job:8}  {rate:>20.2f}  {taken.peak_mib:>9.0f}",
                        flush=True,
                    )
    return 0


def measure(source: Server, destination: Server, size: Size) -> dict[str, Taken]:
    """A table of that size copied, compared and read."""
    data.declare(source, SOURCE)
    data.fill(source, SOURCE, size)
    data.declare(destination, COPY)
    for server in (source, destination):
        data.settle(server)
    ends = {"connection": source.url, "dest_connection": destination.url}
    words = {"source_schema": SOURCE, "dest_schema": COPY, "table": PLAIN}
    copied, found = ours("copy", **words, **ends)
    expect("rows", found["rows_copied"], size.plain)
    data.settle(destination)
    words = {"prod_schema": SOURCE, "test_schema": COPY, "table": PLAIN}
    compared, found = ours("compare", **words, **ends)
    expect("rows", (found["row_count"], found["match"]), (size.plain, True))
    read, found = ours("stream", schema=SOURCE, table=PLAIN, connection=source.url)
    expect("rows", found["rows"], size.plain)
    return {"copy": copied, "compare": compared, "scan": read}


if __name__ == "__main__":
    sys.exit(main([float(word) for word in sys.argv[1:]] or [1, 10, 40]))
