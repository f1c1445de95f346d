"""The tables that are measured, made inside the server from sequences; equal on every run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import servers
from servers import Server

SOURCE = "bench_lab"
COPY = "bench_lab_v20"
PLAIN = "spike_count"
POINTERS = "_recording"
BLOBS = "bench_blobs"
SIGNALS = "signal"
LARGE_BLOBS = "bench_large_blobs"
STORE = "raw"
MICE = 40
SESSIONS = 5
UNITS = 50
SEED = "datajoint"
CHANGED = 10
SETTLE_SECONDS = 60
SETTLED_PAGES = 100

# What DataJoint 0.14.6 stores for `longblob`, mostly compressed by it already.
SIGNALS_DDL = """CREATE TABLE `{schema}`.`signal` (
`recording_id` int unsigned NOT NULL COMMENT 'number of the recording',
`trace` longblob NOT NULL COMMENT 'the signal',
PRIMARY KEY (`recording_id`)) COMMENT 'signals in the table itself';"""

PARENT_DDL = """CREATE TABLE `{schema}`.`session` (
`mouse_id` int unsigned NOT NULL COMMENT 'the mouse', `session` smallint unsigned NOT NULL,
PRIMARY KEY (`mouse_id`, `session`)) COMMENT 'recording sessions';"""

PLAIN_DDL = """CREATE TABLE `{schema}`.`spike_count` (
`mouse_id` int unsigned NOT NULL COMMENT 'the mouse',
`session` smallint unsigned NOT NULL,
`trial` int unsigned NOT NULL,
`unit` smallint unsigned NOT NULL,
`spikes` int NOT NULL COMMENT 'spikes in the trial',
`rate` float NOT NULL COMMENT 'spikes per second',
`depth` double NOT NULL COMMENT 'millimetres',
`region` varchar(16) NOT NULL,
`counted` datetime NOT NULL,
PRIMARY KEY (`mouse_id`, `session`, `trial`, `unit`), KEY `region` (`region`),
FOREIGN KEY (`mouse_id`, `session`) REFERENCES `session` (`mouse_id`, `session`)
ON DELETE RESTRICT ON UPDATE CASCADE) COMMENT 'spikes of each unit in each trial';"""

# The words of 0.14.6: what its client sends for ~external_raw and for an attribute `blob@raw`.
TRACKING_DDL = """CREATE TABLE `{schema}`.`~external_raw` (
`hash` binary(16) NOT NULL COMMENT ':uuid:hash of contents (blob), of filename + contents (attach),\
 or relative filepath (filepath)',
`size` bigint unsigned NOT NULL COMMENT 'size of object in bytes',
`attachment_name` varchar(255) DEFAULT NULL COMMENT 'the filename of an attachment',
`filepath` varchar(1000) DEFAULT NULL COMMENT 'relative filepath or attachment filename',
`contents_hash` binary(16) DEFAULT NULL COMMENT ':uuid:used for the filepath datatype',
`timestamp` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP COMMENT 'automatic timestamp',
PRIMARY KEY (`hash`)) ENGINE=InnoDB, COMMENT 'external storage tracking';"""

POINTERS_DDL = """CREATE TABLE `{schema}`.`_recording` (
`recording_id` int unsigned NOT NULL COMMENT 'number of the recording',
`signal` binary(16) NOT NULL COMMENT ':blob@raw:the signal',
`rate` float NOT NULL COMMENT 'samples per second',
PRIMARY KEY (`recording_id`),
FOREIGN KEY (`signal`) REFERENCES `{schema}`.`~external_raw` (`hash`)
ON UPDATE RESTRICT ON DELETE RESTRICT) COMMENT 'recordings';"""


@dataclass(frozen=True)
class Size:
    """How many rows; narrow rows come in whole trials of every unit, session and mouse."""

    rows: int
    pointers: int

    @property
    def trials(self) -> int:
        """Trials of each session."""
        return max(1, self.rows // (MICE * SESSIONS * UNITS))

    @property
    def blobs(self) -> int:
        """Rows of 64 KiB."""
        return max(100, self.rows // 400)

    @property
    def large_blobs(self) -> int:
        """Rows of 10 to 500 KB, 255 KB in the mean."""
        return max(40, self.rows // 500)

    @property
    def plain(self) -> int:
        """Rows of the narrow table."""
        return self.trials * MICE * SESSIONS * UNITS


def server(settings: Sequence[str]) -> Server:
    """A MySQL that has met its user: the first login asks for the password, and needs a line that
    is encrypted or a socket."""
    made = servers.start("mysql", arguments=settings)
    made.sql("DO 0")
    return made


def numbers(name: str, count: int) -> str:
    """A common table expression `name` with 1 to `count` as `n`."""
    return (
        f"{name} AS (WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c"
        f" WHERE n < {count}) SELECT n FROM c)"
    )


def declare(server: Server, schema: str) -> None:
    """The narrow table, empty, and its filled parent, in a schema of its own."""
    sequences = f"WITH {numbers('m', MICE)}, {numbers('s', SESSIONS)}"
    server.sql(
        f"DROP DATABASE IF EXISTS `{schema}`; CREATE DATABASE `{schema}`;"
        + PARENT_DDL.format(schema=schema)
        + PLAIN_DDL.format(schema=schema)
        + f"INSERT INTO `{schema}`.session {sequences} SELECT m.n, s.n FROM m, s ORDER BY 1, 2;"
    )


def fill(server: Server, schema: str, size: Size) -> None:
    """The rows of the narrow table."""
    sequences = ", ".join(
        numbers(name, count)
        for name, count in (("m", MICE), ("s", SESSIONS), ("t", size.trials), ("u", UNITS))
    )
    dice = f"CRC32(CONCAT_WS('/', '{SEED}', m.n, s.n, t.n, u.n))"
    # A unit lies in one region, in whatever trial it is counted.
    place = f"CRC32(CONCAT_WS('/', '{SEED}', m.n, s.n, u.n))"
    # MariaDB has no such setting, and takes no empty statement.
    deep = f"SET cte_max_recursion_depth = {max(1000, size.trials)};"
    server.sql(
        (deep if server.kind == "mysql" else "")
        + f"INSERT INTO `{schema}`.spike_count WITH {sequences}, r AS (SELECT m.n AS m, s.n AS s,"
        f" t.n AS t, u.n AS u, {dice} AS dice, {place} AS place FROM m, s, t, u)"
        " SELECT m, s, t, u, dice % 200, (dice % 200) / 1.7, dice / 1e9 + u / 7,"
        " CONCAT('region ', place % 300),"
        " '2024-01-01' + INTERVAL dice % 30000000 SECOND FROM r ORDER BY m, s, t, u;"
        f"ANALYZE TABLE `{schema}`.spike_count;"
    )


def fill_pointers(server: Server, schema: str, count: int) -> None:
    """A schema with `count` rows of blob@raw and as many tracking rows; no file is needed."""
    sequence = f"WITH {numbers('r', count)}"
    digest = f"UNHEX(LEFT(SHA2(CONCAT('{SEED}', r.n), 256), 32))"
    server.sql(
        f"DROP DATABASE IF EXISTS `{schema}`; CREATE DATABASE `{schema}`;"
        f"SET cte_max_recursion_depth = {count + 1};"
        + TRACKING_DDL.format(schema=schema)
        + POINTERS_DDL.format(schema=schema)
        + f"INSERT INTO `{schema}`.`~external_raw` (hash, size, timestamp) {sequence}"
        f" SELECT {digest}, 100 + CRC32(r.n) % 1000000,"
        " '2023-01-01' + INTERVAL r.n SECOND FROM r ORDER BY 1;"
        f"INSERT INTO `{schema}`._recording {sequence}"
        f" SELECT r.n, {digest}, 30000 FROM r;"
        f"ANALYZE TABLE `{schema}`._recording, `{schema}`.`~external_raw`;"
    )


def fill_blobs(server: Server, schema: str, count: int) -> None:
    """A schema with `count` blobs of 64 KiB that nothing compresses, as zlib has done it."""
    octets = "CONCAT('ZL123', x'00'" + ", RANDOM_BYTES(1024)" * 64 + ")"
    server.sql(
        f"DROP DATABASE IF EXISTS `{schema}`; CREATE DATABASE `{schema}`;"
        f"SET cte_max_recursion_depth = {count + 1};"
        + SIGNALS_DDL.format(schema=schema)
        + f"INSERT INTO `{schema}`.`signal` WITH {numbers('r', count)} SELECT r.n, {octets} FROM r;"
        f"ANALYZE TABLE `{schema}`.`signal`;"
    )


def fill_large_blobs(server: Server, schema: str, count: int) -> None:
    """A schema with `count` blobs of 10 to 500 KB that nothing compresses."""
    noise = (
        "SET @noise = RANDOM_BYTES(1024);"
        + "SET @noise = CONCAT(@noise, RANDOM_BYTES(1024));" * 999
    )
    piece = "SUBSTRING(@noise, 1 + CRC32(r.n) % 500000, 10000 + CRC32(CONCAT(r.n, 'l')) % 490000)"
    server.sql(
        f"DROP DATABASE IF EXISTS `{schema}`; CREATE DATABASE `{schema}`;"
        f"SET cte_max_recursion_depth = {count + 1};"
        + noise
        + SIGNALS_DDL.format(schema=schema)
        + f"INSERT INTO `{schema}`.`signal` WITH {numbers('r', count)}"
        f" SELECT r.n, CONCAT('ZL123', x'00', {piece}) FROM r;"
        f"ANALYZE TABLE `{schema}`.`signal`;"
    )


def change(server: Server, changed: bool) -> None:
    """Ten rows of the copy, all over it, changed by one spike, or as they were."""
    rows = " OR ".join(f"(mouse_id = {4 * n + 2} AND session = 3)" for n in range(CHANGED))
    server.sql(
        f"UPDATE `{COPY}`.spike_count SET spikes = (spikes % 200) + {200 if changed else 0}"
        f" WHERE ({rows}) AND trial = 1 AND unit = 7"
    )


def declare_empty(server: Server, of: str, schema: str) -> None:
    """The tables of the schema `of`, empty, in `schema`."""
    tables = SIGNALS_DDL if of in (BLOBS, LARGE_BLOBS) else PARENT_DDL + PLAIN_DDL
    server.sql(
        f"DROP DATABASE IF EXISTS `{schema}`; CREATE DATABASE `{schema}`;"
        + tables.format(schema=schema)
    )


def fill_upstream_pointers(server: Server, schema: str, count: int) -> None:
    """What upstream's function can write to: JSON does not fit a binary(16), so a wider column."""
    fill_pointers(server, schema, count)
    server.sql(
        f"ALTER TABLE `{schema}`._recording DROP FOREIGN KEY `_recording_ibfk_1`;"
        f"ALTER TABLE `{schema}`._recording DROP KEY `signal`,"
        " MODIFY `signal` varbinary(1000) NOT NULL;"
    )


def empty(server: Server, schema: str) -> None:
    """The narrow table again as just declared."""
    server.sql(
        f"DROP TABLE IF EXISTS `{schema}`.spike_count, `{schema}`.`~migrate_journal`;"
        + PLAIN_DDL.format(schema=schema)
    )


def count(server: Server, schema: str, table: str) -> int:
    """How many rows a table has."""
    return int(server.sql(f"SELECT COUNT(*) FROM `{schema}`.`{table}`")[0][0] or 0)


def settle(server: Server) -> None:
    """Wait until the server has written its dirty pages: nobody pays for what ran before."""
    names = ("innodb_max_dirty_pages_pct_lwm", "innodb_max_dirty_pages_pct")
    kept = server.sql("SELECT " + ", ".join(f"@@GLOBAL.{name}" for name in names))[0]
    server.sql("".join(f"SET GLOBAL {name} = 0;" for name in names))
    until = time.monotonic() + SETTLE_SECONDS
    status = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'"
    while int(server.sql(status)[0][1] or 0) > SETTLED_PAGES and time.monotonic() < until:
        time.sleep(0.2)
    pairs = reversed(list(zip(names, kept, strict=True)))
    server.sql("".join(f"SET GLOBAL {name} = {value};" for name, value in pairs))
