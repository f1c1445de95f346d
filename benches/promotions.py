"""Columns of blobs that become `.npy` files, against fetching and inserting by DataJoint 2.3.5."""

from __future__ import annotations

import random
import shutil
import struct
import tempfile
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
import peers
from jobs import expect, versus
from measure import Contestant, Taken, alternate, ours
from servers import Server
from table import Row

KEPT, USED, THEIRS = "bench_arrays", "bench_promoted", "bench_inserted"
TABLE = "trace"
STORE = "raw"
FLOAT64, FLOAT32 = 6, 7
ARRAYS, SHAPE, KB = 1_000, (82, 384), 126
PAIRS = 20_000
LARGE, LARGE_BYTES = 2, 500_000_000
# Different arrays; the server repeats them.
DISTINCT = 50
ROWS_PER_STATEMENT = 1_000
# A row of that size has to get through.
ARGUMENTS = ("--max-allowed-packet=1G",)

DDL = """CREATE DATABASE IF NOT EXISTS `{schema}`; CREATE TABLE `{schema}`.`{table}` (
`trace_id` int NOT NULL COMMENT 'number of the trace',
`signal` longblob NOT NULL COMMENT ':<blob>:what was measured',
PRIMARY KEY (`trace_id`)) COMMENT 'traces';"""


def promotions(settings: tuple[str, ...], share: float, repeats: int) -> list[Row]:
    """Many arrays, many tiny ones, and two that are larger than the memory that may be used."""
    server = data.server((*settings, *ARGUMENTS))
    # Nothing is removed before the end: ext4 is slow to give numbers to new files for seconds after
    # others were removed.
    root = Path(tempfile.mkdtemp(prefix="djm-objects-"))
    try:
        arrays, pairs = max(DISTINCT, int(ARRAYS * share)), max(DISTINCT, int(PAIRS * share))
        _fill(server, "arrays", [_noise(number) for number in range(DISTINCT)], arrays)
        rows = _pair(server, root, "arrays", f"promote, arrays of {KB} KB", 8.0, repeats)
        _fill(server, "pairs", [_two(number) for number in range(pairs)], pairs)
        rows += _pair(server, root, "pairs", "promote, arrays of two numbers", 10.0, repeats)
        size = int(LARGE_BYTES * share)
        _fill(server, "large", [_long(number, size) for number in range(LARGE)], LARGE)
        return rows + _alone(server, root, "large", f"promote, arrays of {size // 1_000_000} MB")
    finally:
        server.stop()
        shutil.rmtree(root)


def _packed(kind: int, shape: tuple[int, ...], elements: bytes, level: int = 6) -> bytes:
    """A blob as DataJoint packs an array."""
    head = struct.pack(f"<Q{len(shape)}QII", len(shape), *shape, kind, 0)
    inner = b"mYm\0A" + head + elements
    if len(inner) <= 1000:
        return inner
    return b"ZL123\0" + struct.pack("<Q", len(inner)) + zlib.compress(inner, level)


def _noise(number: int) -> bytes:
    """A waveform: half of it is noise, as of a converter of 16 bits."""
    chance = random.Random(f"datajoint {number}")
    values = array("f", (chance.gauss(0, 1000) // 1 for _ in range(SHAPE[0] * SHAPE[1])))
    return _packed(FLOAT32, SHAPE, values.tobytes())


def _two(number: int) -> bytes:
    return _packed(FLOAT64, (2,), struct.pack("<2d", number / 7, number / 11))


def _long(number: int, size: int) -> bytes:
    chance = random.Random(f"datajoint {number}")
    piece = array("f", (chance.gauss(0, 1000) // 1 for _ in range(1 << 16))).tobytes()
    return _packed(FLOAT32, (size // 4,), (piece * (size // len(piece) + 1))[: size // 4 * 4], 1)


def _fill(server: Server, name: str, blobs: list[bytes], count: int) -> None:
    """The table of `count` rows, out of these blobs over and over."""
    schema = f"{KEPT}_{name}"
    server.sql(DDL.format(schema=schema, table=TABLE))
    into = f"INSERT INTO `{schema}`.`{TABLE}` VALUES "
    at, texts, held = 0, [], 0
    for number, blob in enumerate(blobs):
        texts.append(f"({number}, x'{blob.hex()}')")
        held += len(blob)
        if held > 8 << 20 or len(texts) == ROWS_PER_STATEMENT or number + 1 == len(blobs):
            server.sql(into + ", ".join(texts))
            texts, held = [], 0
    at = len(blobs)
    while at < count:
        more = min(at, count - at)
        server.sql(
            f"INSERT INTO `{schema}`.`{TABLE}` SELECT trace_id + {at}, `signal`"
            f" FROM `{schema}`.`{TABLE}` WHERE trace_id < {more}"
        )
        at += more
    server.sql(f"ANALYZE TABLE `{schema}`.`{TABLE}`")


def _pair(server: Server, root: Path, name: str, job: str, goal: float, repeats: int) -> list[Row]:
    schema = f"{KEPT}_{name}"
    count = data.count(server, schema, TABLE)
    store = _Folders(root, f"{name}-theirs")

    def prepare() -> None:
        store.another()
        server.sql(f"DROP DATABASE IF EXISTS `{THEIRS}`; CREATE DATABASE `{THEIRS}`")
        data.settle(server)

    def run() -> Taken:
        taken, found = peers.fetch_and_insert(server, schema, TABLE, THEIRS, store.stores())
        expect("rows", found["rows"], count)
        return taken

    us = _ours(server, root, name)
    peer = "to_dicts() and insert of 2.3.5"
    theirs = Contestant(peer, run, prepare, lambda: store.check(count))
    alternate([us, theirs], repeats)
    return [versus(job, us, theirs, goal, count)]


def _alone(server: Server, root: Path, name: str, job: str) -> list[Row]:
    """One round: the memory is what is asked for."""
    us = _ours(server, root, name)
    alternate([us], 1)
    count = data.count(server, f"{KEPT}_{name}", TABLE)
    return [Row(job, count, us.seconds, "none: memory alone", us.peak_mib)]


def _ours(server: Server, root: Path, name: str) -> Contestant:
    kept = f"`{KEPT}_{name}`.`{TABLE}`"
    count = data.count(server, f"{KEPT}_{name}", TABLE)
    store = _Folders(root, f"{name}-ours")

    def prepare() -> None:
        store.another()
        server.sql(
            f"DROP DATABASE IF EXISTS `{USED}`;{DDL.format(schema=USED, table=TABLE)}"
            f"INSERT INTO `{USED}`.`{TABLE}` SELECT * FROM {kept};"
            f"ANALYZE TABLE `{USED}`.`{TABLE}`"
        )
        data.settle(server)

    def run() -> Taken:
        taken, found = ours(
            "promote",
            schema=USED,
            table=TABLE,
            attribute="signal",
            to=f"npy@{STORE}",
            stores=store.stores(),
            connection=server.url,
        )
        expect("rows", (found["rows_promoted"], found["match"]), (count, True))
        return taken

    return Contestant("datajoint_migrate", run, prepare, lambda: store.check(count))


@dataclass
class _Folders:
    """A store in a folder, another one each round."""

    root: Path
    name: str
    round: int = 0

    @property
    def folder(self) -> Path:
        return self.root / f"{self.name}-{self.round}"

    def another(self) -> None:
        self.round += 1
        self.folder.mkdir()

    def stores(self) -> dict[str, Any]:
        return {STORE: {"protocol": "file", "location": str(self.folder)}}

    def check(self, count: int) -> None:
        found = sum(1 for path in self.folder.rglob("*.npy") if path.is_file())
        expect("files", found, count)
