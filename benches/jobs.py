"""The jobs that are measured: who does each, and what has to come out of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import data
import peers
import servers
from data import COPY, LARGE_BLOBS, PLAIN, POINTERS, SIGNALS, SOURCE, STORE, Size
from measure import Contestant, Taken, alternate, ours, ratios
from servers import Server
from table import Row

SAMPLE = 2000
POINTED = "bench_rig"
POINTED_COPY = "bench_rig_v20"
SCANS = (1, 2, 4)


def copy_on_one_server(server: Server, size: Size, repeats: int) -> list[Row]:
    """Against upstream and against SQL written by hand."""
    data.declare(server, COPY)

    def prepare() -> None:
        data.empty(server, COPY)
        data.settle(server)

    def check() -> None:
        expect("rows", data.count(server, COPY, PLAIN), size.plain)

    words: dict[str, Any] = {"source_schema": SOURCE, "dest_schema": COPY, "table": PLAIN}
    us = _contestant(lambda: ours("copy", **words, connection=server.url), prepare, check)
    theirs = Contestant(
        "upstream copy_table_data",
        lambda: peers.upstream(server, "copy", **words)[0],
        prepare,
        check,
    )
    manual = Contestant(
        "INSERT … SELECT by hand, 4 connections",
        lambda: peers.insert_select(server),
        prepare,
        check,
    )
    alternate([us, theirs, manual], repeats)
    job = "copy, same server"
    return [versus(job, us, theirs, 2.0, size.plain), versus(job, us, manual, 0.95, size.plain)]


def copy_between_servers(
    source: Server, destination: Server, size: Size, repeats: int
) -> list[Row]:
    """Narrow rows, and blobs of 10 to 500 KB, against dumping and loading."""
    data.fill_large_blobs(source, LARGE_BLOBS, size.large_blobs)
    rows = []
    for what, schema, table, count, goals in (
        ("narrow rows", SOURCE, PLAIN, size.plain, (2.5, 2.7)),
        ("blobs", LARGE_BLOBS, SIGNALS, size.large_blobs, (1.5, 2.0)),
    ):

        def prepare(schema: str = schema) -> None:
            if schema == SOURCE:
                data.declare(destination, COPY)
            else:
                data.declare_empty(destination, schema, COPY)
            data.settle(destination)

        def check(table: str = table, count: int = count) -> None:
            expect("rows", data.count(destination, COPY, table), count)

        def copy(schema: str = schema, table: str = table) -> tuple[Taken, dict[str, Any]]:
            return ours(
                "copy",
                source_schema=schema,
                dest_schema=COPY,
                table=table,
                connection=source.url,
                dest_connection=destination.url,
            )

        us = _contestant(copy, prepare, check)
        moved = (source, destination, schema, table)
        parallel = Contestant(
            "mydumper + myloader, 4 threads",
            partial(peers.mydumper, *moved, count),
            prepare,
            check,
        )
        plain = Contestant("mysqldump | mysql", partial(peers.mysqldump, *moved), prepare, check)
        alternate([us, parallel, plain], repeats)
        job = f"copy, two servers, {what}"
        rows += [
            versus(job, us, parallel, goals[0], count),
            versus(job, us, plain, goals[1], count),
        ]
    source.sql(f"DROP DATABASE {LARGE_BLOBS}")
    return rows


def compare(source: Server, destination: Server, size: Size, repeats: int) -> list[Row]:
    """Two equal tables, then ten rows changed. Checksums answer less: not which rows differ."""
    data.declare(destination, COPY)
    ends = {"connection": source.url, "dest_connection": destination.url}
    ours("copy", source_schema=SOURCE, dest_schema=COPY, table=PLAIN, **ends)

    def run(changed: int = 0) -> Taken:
        words = {"prod_schema": SOURCE, "test_schema": COPY, "table": PLAIN}
        taken, found = ours("compare", **words, **ends)
        expect("match", (found["match"], len(found["discrepancies"])), (not changed, changed))
        expect("rows", found["row_count"], size.plain)
        return taken

    us = Contestant("datajoint_migrate", run)
    sums = Contestant("SUM(CRC32(…)) on both", lambda: peers.checksums(source, destination))
    alternate([us, sums], repeats)
    rows = [versus("compare, two servers", us, sums, 1.2, size.plain)]

    equal = Contestant("our own run of equal tables", run, lambda: data.change(destination, False))
    changed = Contestant(
        "datajoint_migrate", lambda: run(data.CHANGED), lambda: data.change(destination, True)
    )
    alternate([changed, equal], repeats)
    # No more than 1.3 times as long.
    rows.append(versus("compare, 10 rows changed", changed, equal, 0.77, size.plain))
    return rows


def compare_on_mariadb(size: Size, repeats: int) -> list[Row]:
    """Against reladiff, whose checksums are MD5s: MySQL 9.7 has none any more."""
    with servers.running("mariadb") as server:
        for schema in (SOURCE, COPY):
            data.declare(server, schema)
        data.fill(server, SOURCE, size)
        server.sql(f"INSERT INTO {COPY}.{PLAIN} SELECT * FROM {SOURCE}.{PLAIN}")

        def run() -> Taken:
            words = {"prod_schema": SOURCE, "test_schema": COPY, "table": PLAIN}
            taken, found = ours("compare", **words, connection=server.url)
            expect("match", found["match"], True)
            return taken

        us = Contestant("datajoint_migrate", run)
        theirs = Contestant("reladiff, 4 threads", lambda: peers.reladiff(server))
        alternate([us, theirs], repeats)
        return [versus("compare, one MariaDB", us, theirs, 3.0, size.plain)]


def scan(server: Server, size: Size, repeats: int) -> list[Row]:
    """All rows into one Arrow table in memory."""
    rows = []
    for lanes in SCANS:

        def read(lanes: int = lanes) -> Taken:
            words = {"schema": SOURCE, "table": PLAIN, "lanes": lanes}
            taken, found = ours("scan", **words, connection=server.url)
            expect("rows", found["rows"], size.plain)
            return taken

        def read_by_peer(lanes: int = lanes) -> Taken:
            taken, found = peers.connector_x(server, lanes)
            expect("rows", found["rows"], size.plain)
            return taken

        us = Contestant("datajoint_migrate", read)
        theirs = Contestant("ConnectorX", read_by_peer)
        alternate([us, theirs], repeats)
        plural = "connection" if lanes == 1 else "connections"
        row = versus(f"scan to Arrow, {lanes} {plural}", us, theirs, 1.5, size.plain)
        row.cpu_goal = 0.5
        rows.append(row)
    return rows


def pointers(source: Server, destination: Server, size: Size, repeats: int) -> list[Row]:
    """blob@store pointers to JSON: a column of a parallel schema, and on the way of a copy."""
    data.fill_pointers(source, POINTED, size.pointers)
    # An object store without keys: else copying would also look for the object of every pointer.
    bucket = {"protocol": "s3", "endpoint": "localhost:9", "bucket": "b", "location": "l"}
    stores = {"source_stores": {STORE: bucket}, "dest_stores": {STORE: bucket}}

    def prepare_column() -> None:
        source.sql(f"DROP DATABASE IF EXISTS {POINTED_COPY}")
        words = {"source": POINTED, "dest": POINTED_COPY, "copy_data": True}
        ours("parallel_schema", **words, connection=source.url)
        data.settle(source)

    def column() -> Taken:
        taken, found = ours(
            "external",
            schema=POINTED_COPY,
            table=POINTERS,
            attribute="signal",
            source_store=STORE,
            dest_store=STORE,
            source_schema=POINTED,
            connection=source.url,
            **stores,
        )
        expect("rows", (found["rows_migrated"], found["errors"]), (size.pointers, []))
        return taken

    def prepare_river() -> None:
        destination.sql(f"DROP DATABASE IF EXISTS {POINTED_COPY}")
        ours(
            "parallel_schema",
            source=POINTED,
            dest=POINTED_COPY,
            external="convert",
            connection=source.url,
            dest_connection=destination.url,
        )
        data.settle(destination)

    def river() -> Taken:
        return ours(
            "copy",
            source_schema=POINTED,
            dest_schema=POINTED_COPY,
            table=POINTERS,
            connection=source.url,
            dest_connection=destination.url,
            **stores,
        )[0]

    def check(server: Server) -> Callable[[], None]:
        json = f"SELECT COUNT(*) FROM {POINTED_COPY}.{POINTERS} WHERE `signal`->>'$.path' <> ''"
        return lambda: expect("rows", int(server.sql(json)[0][0] or 0), size.pointers)

    def prepare_upstream() -> None:
        data.fill_upstream_pointers(source, "bench_upstream", SAMPLE)
        data.settle(source)

    def statement_by_statement() -> Taken:
        taken, found = peers.upstream(
            source,
            "pointers",
            schema="bench_upstream",
            table=POINTERS,
            attribute="signal",
            source_store=STORE,
            dest_store=STORE,
        )
        expect("rows", (found["rows_migrated"], found["errors"]), (SAMPLE, []))
        return taken

    in_place = Contestant("datajoint_migrate", column, prepare_column, check(source))
    passing = Contestant("datajoint_migrate", river, prepare_river, check(destination))
    theirs = Contestant(
        f"upstream pointers, {SAMPLE} rows", statement_by_statement, prepare_upstream
    )
    alternate([in_place, passing, theirs], repeats)
    return [
        _pointer_row("pointers, in a parallel schema", in_place, theirs, size.pointers),
        _pointer_row("pointers, while copying", passing, theirs, size.pointers),
    ]


def _contestant(
    run: Callable[[], tuple[Taken, dict[str, Any]]],
    prepare: Callable[[], None],
    check: Callable[[], None],
) -> Contestant:
    return Contestant("datajoint_migrate", lambda: run()[0], prepare, check)


def versus(job: str, us: Contestant, peer: Contestant, goal: float | None, rows: int) -> Row:
    row = Row(job, rows, us.seconds, peer.name, us.peak_mib, goal=goal)
    if peer.unavailable is not None:
        row.unavailable = peer.unavailable
    else:
        row.peer_seconds, row.ratios = peer.seconds, ratios(us, peer)
        row.cpu_seconds, row.peer_cpu_seconds = us.cpu_seconds, peer.cpu_seconds
    return row


def _pointer_row(job: str, us: Contestant, peer: Contestant, rows: int) -> Row:
    """The peer's rate over a sample against ours over all rows."""
    row = versus(job, us, peer, 100.0, rows)
    row.rate_goal = 200_000
    if row.ratios:
        row.peer_rows = SAMPLE
        row.ratios = [ratio * rows / SAMPLE for ratio in row.ratios]
    return row


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise RuntimeError(f"{what}: {found!r} instead of {wanted!r}")
