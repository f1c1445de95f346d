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


def test_indexes_that_fit_into_the_servers_memory_stay(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMITS, "large_index_share", 0.5)

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(indexes, "_spare", never)
    assert copy_table_data(SOURCE, COPY, "Unit", connection=server.url)["rows_copied"] == 3
