"""A small 0.14.6 pipeline written as SQL and files, for tests that need one of their own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datajoint_migrate.catalog.names import SYNC
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.stores import Store, dest_stores, source_stores
from servers import Server

TRACKING = """CREATE TABLE `{schema}`.`~external_raw` (
`hash` binary(16) NOT NULL COMMENT ':uuid:hash of contents (blob), of filename + contents (attach)',
`size` bigint unsigned NOT NULL COMMENT 'size of object in bytes',
`attachment_name` varchar(255) DEFAULT NULL COMMENT 'the filename of an attachment',
`filepath` varchar(1000) DEFAULT NULL COMMENT 'relative filepath or attachment filename',
`contents_hash` binary(16) DEFAULT NULL COMMENT ':uuid:used for the filepath datatype',
`timestamp` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP COMMENT 'automatic timestamp',
PRIMARY KEY (`hash`)) COMMENT 'external storage tracking';"""

LOG = """CREATE TABLE `{schema}`.`~log` (`id` int unsigned NOT NULL AUTO_INCREMENT,
`event` varchar(255) NOT NULL DEFAULT '', PRIMARY KEY (`id`)) COMMENT 'event logging table';
INSERT INTO `{schema}`.`~log` (event) VALUES ('Declared');"""

LAB = """CREATE DATABASE `{lab}`;
CREATE TABLE `{lab}`.`#species` (`species` varchar(24) NOT NULL, PRIMARY KEY (`species`));
CREATE TABLE `{lab}`.`mouse` (`mouse_id` int unsigned NOT NULL COMMENT 'the id: 100%',
`species` varchar(24) NOT NULL, `weight` float NOT NULL DEFAULT 12.5 COMMENT 'grams',
`dob` date DEFAULT NULL, PRIMARY KEY (`mouse_id`), FOREIGN KEY (`species`)
REFERENCES `{lab}`.`#species` (`species`) ON UPDATE CASCADE ON DELETE RESTRICT) COMMENT 'mice';
CREATE TABLE `{lab}`.`session` (`mouse_id` int unsigned NOT NULL COMMENT 'the id: 100%',
`session_date` date NOT NULL, `notes` varchar(200) NOT NULL DEFAULT '',
PRIMARY KEY (`mouse_id`,`session_date`), FOREIGN KEY (`mouse_id`)
REFERENCES `{lab}`.`mouse` (`mouse_id`) ON UPDATE CASCADE ON DELETE RESTRICT);
CREATE TABLE `{lab}`.`session__trial` (`mouse_id` int unsigned NOT NULL,
`session_date` date NOT NULL, `trial` smallint unsigned NOT NULL, `data` longblob,
PRIMARY KEY (`mouse_id`,`session_date`,`trial`), FOREIGN KEY (`mouse_id`,`session_date`)
REFERENCES `{lab}`.`session` (`mouse_id`,`session_date`) ON UPDATE CASCADE ON DELETE RESTRICT);"""

RIG = """CREATE DATABASE `{rig}`;
CREATE TABLE `{rig}`.`_recording` (`recording_id` int unsigned NOT NULL AUTO_INCREMENT,
`mouse_id` int unsigned NOT NULL COMMENT 'the id: 100%',
`signal` binary(16) NOT NULL COMMENT ':blob@raw:the signal: raw',
`paper` binary(16) DEFAULT NULL COMMENT ':attach@raw:a document',
`movie` binary(16) DEFAULT NULL COMMENT ':filepath@raw:', `rate` float DEFAULT NULL,
PRIMARY KEY (`recording_id`), FOREIGN KEY (`mouse_id`) REFERENCES `{lab}`.`mouse` (`mouse_id`)
ON UPDATE CASCADE ON DELETE RESTRICT,
FOREIGN KEY (`signal`) REFERENCES `{rig}`.`~external_raw` (`hash`),
FOREIGN KEY (`paper`) REFERENCES `{rig}`.`~external_raw` (`hash`),
FOREIGN KEY (`movie`) REFERENCES `{rig}`.`~external_raw` (`hash`)) AUTO_INCREMENT=500;"""

# What 0.14.6 packs of numpy.array([0.5, 1.5]).
DATA = "6d596d004101" + "00" * 7 + "02" + "00" * 7 + "06" + "00" * 13 + "e03f" + "00" * 6 + "f83f"

MICE = 12
RECORDINGS = 6


@dataclass(frozen=True)
class Small:
    """The pipeline: `lab` (plain tables) and `rig`, which refers to it and has external columns."""

    server: Server
    prefix: str
    root: Path
    objects: dict[str, Path] = field(default_factory=dict)

    @property
    def lab(self) -> str:
        return f"{self.prefix}_lab"

    @property
    def rig(self) -> str:
        return f"{self.prefix}_rig"

    @property
    def map(self) -> dict[str, str]:
        """Old to new names, the guide's way."""
        return {self.lab: f"{self.lab}_v20", self.rig: f"{self.rig}_v20"}

    @property
    def source_stores(self) -> dict[str, Any]:
        """The 0.14.6 store spec."""
        return {"raw": {"protocol": "file", "location": str(self.root), "stage": "/stage"}}

    @property
    def dest_stores(self) -> dict[str, Any]:
        """The 2.x spec of the same folder."""
        return {"raw": {"protocol": "file", "location": str(self.root)}}

    @property
    def stores(self) -> dict[str, Any]:
        """Both, as keywords."""
        return {"source_stores": self.source_stores, "dest_stores": self.dest_stores}

    def value(self, sql: str) -> str | None:
        """The one value of a query."""
        return self.server.sql(sql)[0][0]

    def count(self, schema: str, table: str) -> int:
        """How many rows a table has."""
        return int(self.value(f"SELECT COUNT(*) FROM `{schema}`.`{table}`") or 0)

    def schemas_there(self) -> set[str]:
        """Schemas of this pipeline and its copies that exist."""
        like = f"SHOW DATABASES LIKE '{self.prefix}\\_%'"
        return {str(row[0]) for row in self.server.sql(like)}


def make(server: Server, prefix: str, root: Path) -> Small:
    """Make and fill the pipeline (`fresh` must have dropped its schemas); files go below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    small = Small(server, prefix, root)
    names = {"lab": small.lab, "rig": small.rig}
    server.sql(LAB.format(**names) + LOG.format(schema=small.lab))
    create, recording = RIG.format(**names).split(";", 1)
    server.sql(create + ";" + TRACKING.format(schema=small.rig) + LOG.format(schema=small.rig))
    server.sql(recording)
    lab = [f"INSERT INTO `{small.lab}`.`#species` VALUES ('mouse'), ('rat');"]
    for mouse in range(MICE):
        lab.append(
            f"INSERT INTO `{small.lab}`.mouse VALUES ({mouse}, 'rat', {mouse} / 7, '2020-01-01');"
            f"INSERT INTO `{small.lab}`.session VALUES ({mouse}, '2024-01-{mouse + 1:02}', 'a%');"
            f"INSERT INTO `{small.lab}`.session__trial VALUES"
            f" ({mouse}, '2024-01-{mouse + 1:02}', 1, x'{DATA}');"
        )
    server.sql("".join(lab))
    rows = []
    for number in range(1, RECORDINGS + 1):
        signal = _blob(small, f"signal {number // 2}".encode())
        paper = _attachment(small, f"paper {number}.pdf", b"%PDF" * number)
        movie = _filepath(small, f"movies/m {number}.avi", b"avi" * number)
        values = (
            f"x'{signal}', x'{paper}', x'{movie}', 0.1"
            if number > 1
            else f"x'{signal}'" + ", NULL" * 3
        )
        rows.append(f"INSERT INTO `{small.rig}`._recording VALUES ({number}, {number}, {values});")
    server.sql("".join(rows))
    # Statistics come when the server likes: what is planned by them, or printed, is the same now.
    lab_tables = ("#species", "mouse", "session", "session__trial", "~log")
    rig_tables = ("_recording", "~external_raw", "~log")
    server.sql(
        "ANALYZE LOCAL TABLE "
        + ", ".join(f"`{small.lab}`.`{table}`" for table in lab_tables)
        + ", "
        + ", ".join(f"`{small.rig}`.`{table}`" for table in rig_tables)
    )
    return small


def add_recording(small: Small, number: int) -> None:
    """One more row with external values."""
    signal = _blob(small, f"signal {number}".encode())
    paper = _attachment(small, f"paper {number}.pdf", b"%PDF" * number)
    small.server.sql(
        f"INSERT INTO `{small.rig}`._recording VALUES"
        f" ({number}, 1, x'{signal}', x'{paper}', NULL, 0.1)"
    )


def replace_paper(small: Small, number: int) -> None:
    """Another attachment in a row that is there."""
    paper = _attachment(small, f"paper {number} anew.pdf", b"anew")
    small.server.sql(
        f"UPDATE `{small.rig}`._recording SET paper = x'{paper}' WHERE recording_id = {number}"
    )


def add_trials(small: Small, count: int) -> None:
    """More rows of `session__trial`, of 60 bytes and their keys."""
    rows = ", ".join(
        f"({i % MICE}, '2024-01-{i % MICE + 1:02}', {i // MICE + 2}, REPEAT('x', 60))"
        for i in range(count)
    )
    small.server.sql(
        f"INSERT INTO `{small.lab}`.session__trial VALUES {rows};"
        # Chunks are planned by the server's statistics, which come when they like.
        f"ANALYZE TABLE `{small.lab}`.session__trial"
    )


def tracked_files(small: Small, to: Path) -> tuple[Store, Store, dict[str, Any]]:
    """Both stores and the `tracked` of a plan that copies the blobs of `rig` to another folder."""
    to.mkdir(exist_ok=True)
    destination = {"raw": {"protocol": "file", "location": str(to)}}
    tracked = {
        "source": resolve(small.server.url).spec(),
        "pointer": {
            "kind": "blob",
            "store": "raw",
            "tracking_schema": small.rig,
            "tracking_table": "~external_raw",
            "source_schema": small.rig,
            "schema": small.rig,
            "layout": "hash",
            "source_subfolding": [2, 2],
        },
        "where": [{"schema": small.rig, "table": "_recording", "column": "signal"}],
    }
    return source_stores(small.source_stores)["raw"], dest_stores(destination)["raw"], tracked


def _blob(small: Small, data: bytes) -> str:
    digest = hashlib.md5(data).hexdigest()
    path = small.root / small.rig / digest[:2] / digest[2:4] / digest
    return _track(small, digest, path, data, f"{len(data)}, NULL, NULL, NULL")


def _attachment(small: Small, name: str, data: bytes) -> str:
    digest = hashlib.md5(name.encode() + b"\0" + data).hexdigest()
    path = small.root / small.rig / digest[:2] / digest[2:4] / f"{digest}.{name}"
    return _track(small, digest, path, data, f"{len(data)}, '{name}', NULL, NULL")


def _filepath(small: Small, relative: str, data: bytes) -> str:
    digest = hashlib.md5(relative.encode()).hexdigest()
    contents = hashlib.md5(data).hexdigest()
    columns = f"{len(data)}, NULL, '{relative}', x'{contents}'"
    return _track(small, digest, small.root / relative, data, columns)


def _track(small: Small, digest: str, path: Path, data: bytes, columns: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    small.objects[digest] = path
    small.server.sql(
        f"INSERT IGNORE INTO `{small.rig}`.`~external_raw` VALUES (x'{digest}', {columns}, NOW())"
    )
    return digest


def unfinished(server: Server, schema: str) -> list[tuple[str | None, ...]]:
    """Tables of a call that has not ended: what a later sync needs is none."""
    return server.sql(
        "SELECT table_name FROM information_schema.tables"
        f" WHERE table_schema = '{schema}' AND table_name LIKE '~migrate%'"
        f" AND table_name <> '{SYNC}'"
    )
