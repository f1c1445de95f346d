"""A schema to files and back: who does it, and what it takes on the disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import data
import peers
from data import BLOBS, COPY, PLAIN, SIGNALS, SOURCE, Size
from jobs import expect, versus
from measure import Contestant, Taken, alternate, ours
from servers import Server
from table import Row

# Schema, its table that counts, and what to call it.
SHAPES = ((SOURCE, PLAIN, "narrow rows"), (BLOBS, SIGNALS, "blobs"))
DUMP, PARALLEL = "mysqldump | zstd", "mydumper -c, 4 threads"
GOALS = {DUMP: 3.0, PARALLEL: 2.0}

Move = Callable[[Server, str, Path], Taken]


def _archive(server: Server, schema: str, folder: Path) -> Taken:
    taken, _ = ours("backup", connection=server.url, schema=schema, location=str(folder))
    return taken


def _load(server: Server, schema: str, folder: Path) -> Taken:
    taken, _ = ours("restore", connection=server.url, location=str(folder), dest_schema=schema)
    return taken


WRITERS: dict[str, Move] = {
    "datajoint_migrate": _archive,
    DUMP: peers.dump_to_file,
    PARALLEL: peers.dump_to_folder,
}
READERS: dict[str, Move] = {
    "datajoint_migrate": _load,
    DUMP: peers.load_file,
    PARALLEL: peers.load_folder,
}


def backup(source: Server, size: Size, repeats: int) -> list[Row]:
    """Into an archive that is hashed and on the disk, against dumps that are neither."""
    data.fill_blobs(source, BLOBS, size.blobs)
    rows = []
    for schema, table, what in SHAPES:
        with _folders() as folders:
            contestants = [
                Contestant(
                    name,
                    partial(write, source, schema, folders[name]),
                    prepare=partial(shutil.rmtree, folders[name], ignore_errors=True),
                )
                for name, write in WRITERS.items()
            ]
            alternate(contestants, repeats)
            rows += _rows(f"backup, {what}", contestants, folders, _count(size, table))
    return rows


def restore(source: Server, destination: Server, size: Size, repeats: int) -> list[Row]:
    """Out of an archive, every row read back and proved, against dumps that are believed."""
    data.fill_blobs(source, BLOBS, size.blobs)
    rows = []
    for schema, table, what in SHAPES:
        with _folders() as folders:
            for name, write in WRITERS.items():
                write(source, schema, folders[name])

            def prepare(schema: str = schema) -> None:
                data.declare_empty(destination, schema, COPY)
                data.settle(destination)

            def check(table: str = table) -> None:
                expect("rows", data.count(destination, COPY, table), _count(size, table))

            contestants = [
                Contestant(name, partial(read, destination, COPY, folders[name]), prepare, check)
                for name, read in READERS.items()
            ]
            alternate(contestants, repeats)
            rows += _rows(f"restore, {what}", contestants, folders, _count(size, table))
    return rows


def _count(size: Size, table: str) -> int:
    return size.plain if table == PLAIN else size.blobs


def _rows(
    job: str, contestants: list[Contestant], folders: dict[str, Path], count: int
) -> list[Row]:
    us, *others = contestants
    made = []
    for peer in others:
        one = versus(job, us, peer, GOALS[peer.name], count)
        one.disk_mib, one.peer_disk_mib = _mib(folders[us.name]), _mib(folders[peer.name])
        made.append(one)
    return made


def _mib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


@contextmanager
def _folders() -> Iterator[dict[str, Path]]:
    """A folder for each contestant, not there yet."""
    with tempfile.TemporaryDirectory(prefix="djm-archive-") as root:
        yield {name: Path(root) / str(number) for number, name in enumerate(WRITERS)}
