"""How long writers of production wait while a copy that follows it takes its place.

A thousandth of the rows has changed since the copy was last equal, and somebody goes on writing
until the tables are locked. The window must not grow with the table.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import data
from data import PLAIN, Size
from drift import Drift
from jobs import expect, versus
from measure import Contestant, Taken, alternate, ours
from servers import Server, ServerError
from table import Row

# What a large lab may wait for, and how much of that may come from ten times as many rows.
WINDOW_SECONDS, GROWTH = 10.0, 0.5
PAUSE = 0.1


def windows(quiet: tuple[str, ...], logged: tuple[str, ...], rows: int, repeats: int) -> list[Row]:
    """With a binary log and without one: the whole table, and a tenth of it."""
    made = []
    for settings, what in ((logged, "binary log"), (quiet, "no binary log")):
        server = data.server(settings)
        try:
            large, small = (_pipeline(server, count) for count in (rows, rows // 10))
            alternate([large, small], repeats)
            row = versus(f"cutover window, {what}", large, small, GROWTH, rows)
            row.seconds_goal = WINDOW_SECONDS
            made.append(row)
        finally:
            server.stop()
    return made


def _pipeline(server: Server, count: int) -> Contestant:
    size = Size(count, 0)
    prod = f"bench_{count}"
    pair = {prod: f"{prod}_v20"}
    drift = Drift(server, prod)
    data.declare(server, prod)
    data.fill(server, prod, size)
    _, found = ours("migrate", schema_map=pair, connection=server.url)
    expect("match", found["match"], True)

    def prepare() -> None:
        if server.sql(f"SHOW DATABASES LIKE '{prod}\\_old'"):
            ours("rollback", schema_map=pair, connection=server.url, execute=True)
        # Also what a rollback leaves doubtful.
        _, found = ours("sync", schema_map=pair, on_conflict="production", connection=server.url)
        expect("match", found["match"], True)
        drift.go_on()
        data.settle(server)

    def run() -> Taken:
        with _writer(server, prod):
            taken, found = ours(
                "cutover",
                schema_map=pair,
                sync=True,
                backups="rename",
                execute=True,
                end_sessions=True,
                connection=server.url,
            )
        expect("executed", found["executed"], True)
        return Taken(found["window_seconds"], taken.peak_mib, taken.cpu_seconds)

    return Contestant(f"our own, {size.plain:,} rows", run, prepare)


@contextmanager
def _writer(server: Server, schema: str) -> Iterator[None]:
    """Somebody who connects, changes a row of production and leaves, again and again."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(PAUSE):
            number += 1
            try:
                server.sql(
                    f"UPDATE `{schema}`.`{PLAIN}` SET spikes = {number} WHERE mouse_id = 7"
                    " AND session = 2 AND trial = 1 AND unit = 3"
                )
            except ServerError:
                # Ended, or production is another one by now.
                return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
