"""Indexes that are built after the load: the same ones in the end, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from conftest import Fresh
from datajoint_migrate import copy_table_data, create_parallel_schema, verify_schema_v20
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows import indexes
from servers import Server

SOURCE, COPY = "idx_lab", "idx_lab_v20"
DDL = f"""CREATE DATABASE `{SOURCE}`;
CREATE TABLE `{SOURCE}`.`probe` (`probe` int NOT NULL, `kind` varchar(8) NOT NULL,
PRIMARY KEY (`probe`), UNIQUE KEY `kind` (`kind`));
CREATE TABLE `{SOURCE}`.`unit` (`unit` int NOT NULL, `probe` int NOT NULL,
`100% name` varchar(16) NOT NULL DEFAULT '', `depth` float NOT NULL,
`row` int NOT NULL AUTO_INCREMENT, PRIMARY KEY (`unit`), KEY `back``tick` (`100% name`(4) DESC),
KEY `depth` (`depth`,`probe`), KEY `probe` (`probe`), KEY `row` (`row`),
UNIQUE KEY `one` (`unit`,`depth`), FOREIGN KEY (`probe`) REFERENCES `probe` (`probe`));
INSERT INTO `{SOURCE}`.`probe` VALUES (1, 'a'), (2, 'b');
INSERT INTO `{SOURCE}`.`unit` (`unit`, `probe`, `100% name`, `depth`)
VALUES (1, 1, 'x', 0.1), (2, 2, 'y', 0.2), (3, 2, 'z', 0.3);"""

KILLED = """
import os, signal
from datajoint_migrate import copy_table_data
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows import indexes, route
LIMITS.large_index_share = 0
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
{patch} = die
copy_table_data({source!r}, {copy!r}, "Unit", connection={url!r})
"""


@pytest.fixture
def server(mysql: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> Server:
    fresh(mysql, SOURCE, COPY)
    mysql.sql(DDL)
    create_parallel_schema(SOURCE, COPY, connection=mysql.url)
    copy_table_data(SOURCE, COPY, "Probe", connection=mysql.url)
    monkeypatch.setattr(LIMITS, "large_index_share", 0)
    return mysql


def keys(server: Server, schema: str) -> set[str]:
    """The index lines of the table, as the server prints them."""
    create = str(server.sql(f"SHOW CREATE TABLE `{schema}`.`unit`")[0][1])
    return {line.strip(" ,") for line in create.splitlines() if "KEY `" in line}


def names(server: Server) -> set[str]:
    """The indexes that are there now."""
    rows = server.sql(f"SHOW INDEX FROM `{COPY}`.`unit`")
    return {str(row[2]) for row in rows}


def test_what_is_postponed_is_there_again_after_the_load(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def seen(*arguments: object) -> None:
        loaded.append(names(server))
        build(*arguments)  # type: ignore[arg-type]

    build = indexes.build_postponed
    monkeypatch.setattr("datajoint_migrate.rows.route.build_postponed", seen)
    before = keys(server, COPY)
    assert copy_table_data(SOURCE, COPY, "Unit", connection=server.url)["rows_copied"] == 3
    # The key of a foreign key, a counter and every unique key are needed during the load.
    assert loaded == [{"PRIMARY", "probe", "row", "one"}]
    assert keys(server, COPY) == before == keys(server, SOURCE)
    assert verify_schema_v20(COPY, connection=server.url)["compatible"]
    assert not server.sql(f"SHOW TABLES FROM `{COPY}` LIKE '~migrate%'")


@pytest.mark.parametrize("patch", ["route.build_postponed", "indexes._build", "route._run"])
def test_a_run_killed_before_the_indexes_are_built_builds_them_when_called_again(
    server: Server, patch: str
) -> None:
    before = keys(server, COPY)
    code = KILLED.format(patch=patch, source=SOURCE, copy=COPY, url=server.url)
    died = subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False)
    assert died.returncode == -signal.SIGKILL
    assert names(server) == {"PRIMARY", "probe", "row", "one"}
    left = verify_schema_v20(COPY, connection=server.url)["issues"]
    assert any("~migrate_indexes" in issue for issue in left)
    copy_table_data(SOURCE, COPY, "Unit", connection=server.url)
    assert keys(server, COPY) == before
    assert server.sql(f"SELECT COUNT(*) FROM `{COPY}`.`unit`") == [("3",)]
    assert not server.sql(f"SHOW TABLES FROM `{COPY}` LIKE '~migrate%'")


def test_small_indexes_stay(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "large_index_share", 0.5)

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(indexes, "_spare", never)
    assert copy_table_data(SOURCE, COPY, "Unit", connection=server.url)["rows_copied"] == 3


@pytest.mark.parametrize("row_bytes", [0, 60_000])
def test_an_index_that_is_small_beside_its_rows_stays(
    mysql: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch, row_bytes: int
) -> None:
    fresh(mysql, SOURCE, COPY)
    mysql.sql(
        f"CREATE DATABASE `{SOURCE}`; CREATE TABLE `{SOURCE}`.`unit` (`unit` int NOT NULL,"
        " `depth` float NOT NULL, `wave` longblob NOT NULL, PRIMARY KEY (`unit`),"
        f" KEY `depth` (`depth`)); INSERT INTO `{SOURCE}`.`unit` WITH RECURSIVE n (n) AS"
        f" (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100)"
        f" SELECT n, 1 / n, REPEAT('a', {row_bytes}) FROM n; ANALYZE TABLE `{SOURCE}`.`unit`"
    )
    create_parallel_schema(SOURCE, COPY, connection=mysql.url)
    # Half the memory of the server is more than either of them.
    monkeypatch.setattr(LIMITS, "late_index_bytes", 1)
    postponed: list[dict[str, str]] = []
    build = indexes._build

    def seen(server: object, schema: str, table: str, texts: dict[str, str]) -> None:
        postponed.append(texts)
        build(server, schema, table, texts)  # type: ignore[arg-type]

    monkeypatch.setattr(indexes, "_build", seen)
    assert copy_table_data(SOURCE, COPY, "Unit", connection=mysql.url)["rows_copied"] == 100
    assert [list(texts) for texts in postponed] == ([] if row_bytes else [["depth"]])
    assert keys(mysql, COPY) == keys(mysql, SOURCE)
