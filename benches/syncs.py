"""A copy brought up to date when a thousandth of its rows has changed, all over the table.

By digest the price is processor time, of our process and of both servers together; by the binary
log it is how long it takes.
"""

from __future__ import annotations

from contextlib import ExitStack

import data
import peers
from data import COPY, PLAIN, SOURCE, Size
from drift import Drift
from jobs import expect
from measure import Contestant, Taken, alternate, ours, ratios
from processors import with_servers
from servers import Server
from table import Row

WHOLE = "bench_lab_again"
THEIRS = "bench_lab_synced"
# Of processor time.
BY_DIGEST, BY_LOG_SECONDS = 5.0, 1.0


def sync(settings: tuple[str, ...], rows: int, repeats: int) -> list[Row]:
    """By digest and by log, against the whole copy and against pt-table-sync."""
    size = Size(rows, 0)
    with ExitStack() as stack:
        source, destination = (data.server(settings) for _ in range(2))
        stack.callback(destination.stop)
        stack.callback(source.stop)
        data.declare(source, SOURCE)
        data.fill(source, SOURCE, size)
        return _sync(source, destination, size, repeats)


def _sync(source: Server, destination: Server, size: Size, repeats: int) -> list[Row]:
    ends = {"connection": source.url, "dest_connection": destination.url}
    both = (source, destination)
    drift = Drift(source, SOURCE)
    changed = 0

    def whole(dest: str) -> Taken:
        taken, found = ours("migrate", schema_map={SOURCE: dest}, **ends)
        expect("match", found["match"], True)
        return taken

    def bring(by: str) -> Taken:
        taken, found = ours("sync", schema_map={SOURCE: COPY}, by=by, **ends)
        expect("match", found["match"], True)
        expect("rows", found["rows_updated"], changed)
        if by != "auto":
            expect("how", found["tables"][f"{SOURCE}.{PLAIN}"]["how"], by)
        return taken

    def change(by: str) -> None:
        """As it goes on: one sync after the other, each after so many changes."""
        nonlocal changed
        changed = drift.go_on()
        # Where the log ends is noted by one that asks it.
        bring("digest" if by == "digest" else "auto")
        changed = drift.go_on()
        data.settle(destination)

    def drop(schema: str) -> None:
        destination.sql(f"DROP DATABASE IF EXISTS `{schema}`")
        data.settle(destination)

    def lag() -> None:
        nonlocal changed
        drift.follow(destination, THEIRS)
        changed = drift.go_on()
        # What it is to find; our copy is not to be behind by it in the next round.
        drift.followed[THEIRS] = drift.rounds
        bring("auto")
        data.settle(destination)

    whole(COPY)
    # Made by hand: of a copy of ours we remember what it holds.
    data.declare(destination, THEIRS)
    destination.sql(
        f"INSERT INTO `{THEIRS}`.`{PLAIN}` SELECT * FROM `{COPY}`.`{PLAIN}`;"
        f"ANALYZE TABLE `{THEIRS}`.`{PLAIN}`;"
    )
    us = "datajoint_migrate"
    digest = Contestant(
        us, lambda: with_servers(lambda: bring("digest"), *both), lambda: change("digest")
    )
    log = Contestant(us, lambda: with_servers(lambda: bring("log"), *both), lambda: change("log"))
    again = Contestant(
        "migrate, all of it again",
        lambda: with_servers(lambda: whole(WHOLE), *both),
        lambda: drop(WHOLE),
    )
    theirs = Contestant(
        "pt-table-sync",
        lambda: with_servers(lambda: peers.table_sync(source, destination, THEIRS), *both),
        lag,
    )
    alternate([digest, log, again, theirs], repeats)
    what = f"sync, 1/{1000} changed"
    spared = _row(f"{what}, by digest", digest, again, size)
    spared.goal, spared.of = BY_DIGEST, "CPU"
    spared.ratios = [
        peer.cpu_seconds / mine.cpu_seconds
        for mine, peer in zip(digest.taken, again.taken, strict=True)
        if mine.cpu_seconds and peer.cpu_seconds
    ]
    quick = _row(f"{what}, by log", log, again, size)
    quick.seconds_goal = BY_LOG_SECONDS
    return [
        spared,
        quick,
        _row(f"{what}, by digest", digest, theirs, size),
    ]


def _row(job: str, us: Contestant, peer: Contestant, size: Size) -> Row:
    row = Row(job, size.plain, us.seconds, peer.name, us.peak_mib)
    if peer.unavailable is not None:
        row.unavailable = peer.unavailable
        return row
    row.peer_seconds, row.ratios = peer.seconds, ratios(us, peer)
    row.cpu_seconds, row.peer_cpu_seconds = us.cpu_seconds, peer.cpu_seconds
    return row
