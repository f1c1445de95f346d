"""Cutting tables: every row is in one chunk, and no chunk is much longer than it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from conftest import Fresh
from datajoint_migrate import scan
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.backup.archive import check_backup, write_archive
from servers import Server

SCHEMA = "chk"
ROWS = 40_000
CHUNK_BYTES = 64 << 10

# Keys, and the values of row n. One value in front of most rows, gaps, both ends of a type's range.
KEYS = {
    "one number": ("a int PRIMARY KEY", "n - 20000"),
    "skewed": ("a int, b bigint, PRIMARY KEY (a, b)", "IF(n < 38000, 7, n), n * 1000003"),
    "gaps": ("a bigint PRIMARY KEY", "IF(n < 39000, n, 9223372036854775807 - n)"),
    "largest": ("a bigint unsigned PRIMARY KEY", "18446744073709551615 - n"),
    "hashes": ("a binary(16) PRIMARY KEY", "UNHEX(LEFT(SHA2(n, 256), 32))"),
    "behind dates": (
        "a smallint, b date, c int unsigned, PRIMARY KEY (a, b, c)",
        "n DIV 10000, '2020-01-01' + INTERVAL n % 4 DAY, n",
    ),
    "behind text": (
        "a varchar(9), b int, PRIMARY KEY (a, b)",
        "CONCAT('m', n % 3), n",
    ),
    "decimals": ("a decimal(9,3) PRIMARY KEY", "n / 7"),
    "doubles": ("a double PRIMARY KEY", "n / 7"),
    "enums": ("a enum('z','y'), b int, PRIMARY KEY (a, b)", "1 + n % 2, n"),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_every_row_is_in_one_chunk_and_chunks_are_alike(
    request: pytest.FixtureRequest,
    fresh: Fresh,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    key: str,
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, SCHEMA)
    columns, values = KEYS[key]
    server.sql(f"CREATE DATABASE {SCHEMA}; CREATE TABLE {SCHEMA}.t ({columns}, x char(64))")
    fill(server, values)
    server.sql(f"ANALYZE TABLE {SCHEMA}.t")
    sizes = chunks(server, tmp_path / "archive", monkeypatch)
    assert len(sizes) > 25
    assert max(sizes) < 3 * ROWS / len(sizes)


def test_statistics_that_are_wrong_make_no_chunk_of_everything(
    mysql: Server, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mysql
    fresh(server, SCHEMA)
    server.sql(
        f"CREATE DATABASE {SCHEMA}; CREATE TABLE {SCHEMA}.t (a int PRIMARY KEY, x char(64))"
        " STATS_PERSISTENT=1 STATS_AUTO_RECALC=0"
    )
    fill(server, "n")
    server.sql(
        f"ANALYZE TABLE {SCHEMA}.t; UPDATE mysql.innodb_table_stats SET n_rows = 3,"
        f" clustered_index_size = 1 WHERE database_name = '{SCHEMA}'; FLUSH TABLE {SCHEMA}.t"
    )
    (said,) = server.sql(f"EXPLAIN FORMAT=TRADITIONAL SELECT a FROM {SCHEMA}.t")
    assert said[9] == "3"
    sizes = chunks(server, tmp_path / "archive", monkeypatch)
    assert max(sizes) < ROWS / 10


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_finds_the_chunks_of_many_rows_reads_few_of_them(
    mysql: Server, fresh: Fresh, lanes: int
) -> None:
    rows = 120_000
    fresh(mysql, SCHEMA)
    mysql.sql(f"CREATE DATABASE {SCHEMA}; CREATE TABLE {SCHEMA}.t (a int PRIMARY KEY, x char(64))")
    fill(mysql, "n", rows)
    mysql.sql(f"ANALYZE TABLE {SCHEMA}.t")
    before = rows_read(mysql)
    stream = scan(SCHEMA, "t", connection=mysql.url, lanes=lanes)
    assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows == rows
    assert rows <= rows_read(mysql) - before < 1.1 * rows


def rows_read(server: Server) -> int:
    """How many rows InnoDB has read since the server began."""
    ((_, read),) = server.sql("SHOW GLOBAL STATUS LIKE 'Innodb_rows_read'")
    return int(str(read))


def fill(server: Server, values: str, rows: int = ROWS) -> None:
    """`rows` rows, n from 0 on."""
    depth = "cte_max_recursion_depth" if server.kind == "mysql" else "max_recursive_iterations"
    server.sql(
        f"SET {depth} = 1000000; INSERT INTO {SCHEMA}.t WITH RECURSIVE s (n) AS"
        f" (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {rows - 1})"
        f" SELECT {values}, SHA2(n, 256) FROM s"
    )


def chunks(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each chunk of the table's archive, which holds all rows as they are."""
    monkeypatch.setattr(LIMITS, "chunk_bytes", CHUNK_BYTES)
    write_archive(resolve(server.url), SCHEMA, folder)
    checked = check_backup(folder)
    assert (checked["ok"], checked["rows"]) == (True, ROWS)
    (table,) = json.loads((folder / "manifest.json").read_text())["tables"]
    return [chunk["rows"] for chunk in table["chunks"]]
