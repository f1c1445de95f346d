"""Rows larger than a batch share one budget of the run, whatever the number of lanes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from peak import BESIDE, peak_within
from servers import Server

# Large enough to come in two frames, and few enough to last seconds.
ROW, LARGE, SMALL = 17 << 20, 5, 95
# Smaller than one row: each is alone then.
BUDGET = 1 << 20


def peak(name: str, *args: Any, **named: Any) -> tuple[int, dict[str, Any]]:
    return peak_within({"memory_bytes": BUDGET}, name, *args, **named)


@pytest.fixture(scope="module", autouse=True)
def large_packets(mysql: Server, mysql_b: Server, mariadb: Server) -> Iterator[None]:
    """Servers that take such a row in one statement."""
    servers = (mysql, mysql_b, mariadb)
    before = [server.sql("SELECT @@GLOBAL.max_allowed_packet")[0][0] for server in servers]
    for server in servers:
        server.sql(f"SET GLOBAL max_allowed_packet = {64 << 20}")
    yield
    for server, size in zip(servers, before, strict=True):
        server.sql(f"SET GLOBAL max_allowed_packet = {size}")


def make(server: Server) -> None:
    """Small rows, and among them large ones that nothing packs."""
    depth = "cte_max_recursion_depth" if server.kind == "mysql" else "max_recursive_iterations"
    every = (LARGE + SMALL) // LARGE
    server.sql(
        f"SET SESSION {depth} = 100000, SESSION group_concat_max_len = {64 << 20};"
        "CREATE DATABASE lrg; USE lrg; CREATE TABLE trial (id int AUTO_INCREMENT,"
        " note varchar(9) NOT NULL, data longblob, PRIMARY KEY (id), UNIQUE (note));"
        "CREATE TEMPORARY TABLE noise (data longblob); INSERT INTO noise"
        f" WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROW >> 10})"
        " SELECT GROUP_CONCAT(RANDOM_BYTES(1024) SEPARATOR '') FROM s;"
        f"INSERT INTO trial WITH RECURSIVE s (n) AS"
        f" (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {LARGE + SMALL})"
        f" SELECT n, n, IF(n % {every} = 0, CONCAT(data, n), REPEAT(n, 5000)) FROM s, noise;"
        "ANALYZE TABLE trial"
    )


def rows(server: Server, schema: str) -> list[tuple[str | None, ...]]:
    return server.sql(f"SELECT id, note, SHA2(data, 256) FROM {schema}.trial ORDER BY id")


@pytest.mark.parametrize("to", ["mysql", "mysql_b"])
def test_lanes_that_wait_for_a_budget_smaller_than_a_row_copy_every_row(
    fresh: Fresh, to: str, request: pytest.FixtureRequest
) -> None:
    dest: Server = request.getfixturevalue(to)
    source: Server = request.getfixturevalue("mariadb" if to == "mysql" else "mysql")
    fresh(source, "lrg")
    fresh(dest, "lrg_v20")
    make(source)
    ends = {"connection": source.url, "dest_connection": dest.url}
    grown, done = peak("migrate", {"lrg": "lrg_v20"}, lanes=4, **ends)
    assert (done["rows_copied"], done["match"]) == (LARGE + SMALL, True)
    assert rows(dest, "lrg_v20") == rows(source, "lrg")
    # Four lanes would hold four rows, and several copies of each.
    assert grown < ROW + BESIDE


def test_a_value_that_is_promoted_is_never_held_and_on_the_way_once(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "lrg", "lrg_v20")
    many, stores = (48 << 20) // 8, {"raw": {"protocol": "file", "location": str(tmp_path)}}
    head = b"mYm\0A" + b"".join(n.to_bytes(8, "little") for n in (1, many))
    head += (6).to_bytes(4, "little") + bytes(4)
    mysql.sql(
        "CREATE DATABASE lrg; CREATE TABLE lrg.trial (id int PRIMARY KEY, data longblob COMMENT"
        " ':<blob>:'); INSERT INTO lrg.trial WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT"
        f" n + 1 FROM s WHERE n < 3) SELECT n, CONCAT(x'{head.hex()}', REPEAT('01234567', {many}))"
        " FROM s"
    )
    named = {"stores": stores, "connection": mysql.url}
    grown, done = peak("promote", "lrg", "trial", "data", "npy@raw", **named)
    assert (done["rows_promoted"], done["match"], grown < BESIDE) == (3, True, True)
    peak("promote", "lrg", "trial", "data", "npy@raw", undo=True, **named)
    mysql.sql("ALTER TABLE lrg.trial MODIFY data longblob")
    for to, files in (("npy@raw", 3), ("blob@raw", 1)):
        fresh(mysql, "lrg_v20")
        grown, done = peak(
            "migrate",
            {"lrg": "lrg_v20"},
            promote={"lrg.trial.data": to},
            dest_stores=stores,
            connection=mysql.url,
        )
        assert (done["files_copied"], done["match"]) == (0 if to == "npy@raw" else files, True)
        assert grown < (48 << 20) + BESIDE


def test_readers_and_writers_of_archives_hold_one_large_row_at_a_time(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(server, "lrg", "lrg_back")
    make(server)
    ends, archive = {"connection": server.url}, str(tmp_path / "archive")
    # As it came, as the page of it, and packed.
    packed = 3 * ROW + BESIDE
    grown, done = peak("backup_schema", "lrg", archive, lanes=4, **ends)
    assert (done["rows_backed_up"], grown < packed) == (LARGE + SMALL, True)
    grown, done = peak("check_backup", archive, lanes=4)
    assert (done["ok"], grown < packed) == (True, True)
    grown, done = peak("restore_schema", archive, "lrg_back", lanes=4, **ends)
    assert (done["rows_restored"], grown < packed) == (LARGE + SMALL, True)
    assert rows(server, "lrg_back") == rows(server, "lrg")
    grown, done = peak("scan", "lrg", "trial", lanes=4, **ends)
    assert (done["rows"], grown < 2 * ROW + BESIDE) == (LARGE + SMALL, True)
    # One bit of each: no letter is sure to be another than the one that is there.
    flipped = "CHAR(ASCII(SUBSTR(data, 101, 1)) ^ 1)"
    server.sql(
        f"UPDATE lrg_back.trial SET data = CONCAT(LEFT(data, 100), {flipped}, SUBSTR(data, 102))"
    )
    grown, done = peak("compare_schemas", "lrg", "lrg_back", **ends)
    differences = done["tables"]["trial"]["discrepancies"]
    assert (done["match"], len(differences)) == (False, LARGE + SMALL)
    # One side's row is held while the other's goes by.
    assert grown < 2 * ROW + BESIDE
