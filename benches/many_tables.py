"""A whole server: many schemas of nearly empty tables, where statements cost all."""

from __future__ import annotations

import tempfile
from typing import Any

import jobs
import many
import peers
from many import Many
from measure import Contestant, Taken, alternate, ours, timed
from servers import Server
from table import Row

PREFIX = "bench_many"
SCHEMAS, TABLES = 75, 278
SECONDS_A_TABLE = 0.05


def many_small_tables(source: Server, destination: Server, repeats: int) -> list[Row]:
    """Ours declares, copies, compares and writes lineages; the peer dumps and loads."""
    lab = many.make(source, PREFIX, SCHEMAS, TABLES)

    def prepare() -> None:
        there = destination.sql(f"SHOW DATABASES LIKE '{PREFIX}%'")
        drops = "".join(f"DROP DATABASE `{row[0]}`;" for row in there)
        destination.sql("SET foreign_key_checks = 0;" + drops)

    def run() -> Taken:
        ends = {"connection": source.url, "dest_connection": destination.url}
        taken, found = ours("migrate", schema_map=lab.map, **ends)
        jobs.expect("match", found["match"], True)
        jobs.expect("rows", found["rows_copied"], lab.rows)
        return taken

    us = Contestant("datajoint_migrate", run, prepare)
    theirs = Contestant(
        "mydumper + myloader, 4 threads", lambda: _dumped(source, destination, lab), prepare
    )
    alternate([us, theirs], repeats)
    job = f"{lab.tables} tables in {len(lab.schemas)} schemas, two servers"
    row = jobs.versus(job, us, theirs, None, lab.rows)
    row.seconds_goal = SECONDS_A_TABLE * lab.tables
    prepare()
    drops = "".join(f"DROP DATABASE `{name}`;" for name in lab.schemas)
    source.sql("SET foreign_key_checks = 0;" + drops)
    return [row]


def _dumped(source: Server, destination: Server, lab: Many) -> Taken:
    peers.need_mydumper()
    with tempfile.TemporaryDirectory(prefix="djm-dump-") as folder:
        threads = f"--threads={peers.CONNECTIONS}"
        dump = ["mydumper", *peers.reach(source), f"--outputdir={folder}"]
        dumped = timed([[*dump, f"--regex=^{PREFIX}_", "--no-locks", threads]])
        load = ["myloader", *peers.reach(destination), f"--directory={folder}"]
        loaded = timed([[*load, "--overwrite-tables", threads]])
    found: Any = destination.sql(
        "SELECT COUNT(*) FROM information_schema.TABLES"
        f" WHERE TABLE_SCHEMA LIKE '{PREFIX}%' AND TABLE_NAME NOT LIKE '~%'"
    )
    jobs.expect("tables", int(found[0][0]), lab.tables)
    return Taken(dumped.seconds + loaded.seconds)
