"""Narrow rows copied to another server, beside what that server takes for loading them at all.

The files are ready, four connections load them, and only the processor seconds of the destination
count: what is read, converted and sent on the way to it costs that server nothing.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import data
import peers
from data import COPY, MICE, PLAIN, SOURCE, Size
from jobs import expect, versus
from measure import Contestant, Taken, alternate, ours, timed
from processors import of_servers
from servers import Server
from table import Row

GOAL = 1.05


def limit(source: Server, destination: Server, size: Size, repeats: int) -> list[Row]:
    """Against four `LOAD DATA LOCAL` of ready files."""
    with tempfile.TemporaryDirectory(prefix="djm-ready-") as root:
        # The server writes them.
        Path(root).chmod(0o777)
        files = _ready(source, Path(root))

        def prepare() -> None:
            data.declare(destination, COPY)
            data.settle(destination)

        def check() -> None:
            expect("rows", data.count(destination, COPY, PLAIN), size.plain)

        def copy() -> Taken:
            return ours(
                "copy",
                source_schema=SOURCE,
                dest_schema=COPY,
                table=PLAIN,
                connection=source.url,
                dest_connection=destination.url,
            )[0]

        def load() -> Taken:
            settings = "SET unique_checks = 0, foreign_key_checks = 0;"
            return timed(
                *(
                    [
                        destination.program(
                            "mysql",
                            "--local-infile=1",
                            f"--execute={settings} LOAD DATA LOCAL INFILE '{file}'"
                            f" INTO TABLE `{COPY}`.`{PLAIN}`",
                        )
                    ]
                    for file in files
                )
            )

        us = Contestant("datajoint_migrate", lambda: of_servers(copy, destination), prepare, check)
        ready = Contestant(
            f"LOAD DATA of ready files, {len(files)} connections",
            lambda: of_servers(load, destination),
            prepare,
            check,
        )
        alternate([us, ready], repeats)
        row = versus("copy beside loading, CPU s of the server", us, ready, None, size.plain)
        row.cpu_goal = GOAL
        return [row]


def _ready(source: Server, folder: Path) -> list[Path]:
    """Equal ranges of the first key column, as the server itself writes them."""
    edges = [MICE * part // peers.CONNECTIONS for part in range(peers.CONNECTIONS + 1)]
    files = []
    for low, high in pairwise(edges):
        file = folder / f"{low}.tsv"
        source.sql(
            f"SELECT * FROM `{SOURCE}`.`{PLAIN}` WHERE mouse_id > {low} AND mouse_id <= {high}"
            f" ORDER BY mouse_id, session, trial, unit INTO OUTFILE '{file}'"
        )
        files.append(file)
    return files
