"""Tables at the limits of a server: rows of 64 MB and more, a thousand columns, no rows, no key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conftest import Fresh
from datajoint_migrate import MigrationError, compare_query_results, copy_table_data
from servers import Server

OLD, NEW = "big_old", "big_new"
PACKET = 256 << 20


def make(server: Server, schema: str, table: str, rows: str = "") -> None:
    server.sql(
        f"SET NAMES utf8mb4; CREATE DATABASE IF NOT EXISTS {schema} CHARACTER SET utf8mb4;"
        f"USE {schema}; CREATE TABLE t ({table}); {rows}"
    )


def arrives(source: Server, dest: Server) -> int:
    there = {"connection": source.url, "dest_connection": dest.url}
    rows = int(copy_table_data(OLD, NEW, "t", **there)["rows_copied"])
    compared = compare_query_results(OLD, NEW, "t", tolerance=0, **there)
    assert (compared["match"], compared["row_count"]) == (True, rows), compared["discrepancies"]
    return rows


@pytest.fixture
def wide_packets(mysql: Server, mysql_b: Server) -> Iterator[None]:
    """Both servers take packets of 256 MiB."""
    before = [server.sql("SELECT @@global.max_allowed_packet")[0][0] for server in (mysql, mysql_b)]
    for server in (mysql, mysql_b):
        server.sql(f"SET GLOBAL max_allowed_packet = {PACKET}")
    yield
    for server, value in zip((mysql, mysql_b), before, strict=True):
        server.sql(f"SET GLOBAL max_allowed_packet = {value}")


@pytest.mark.usefixtures("wide_packets")
@pytest.mark.parametrize("route", ["mysql mysql_b", "mysql_b mysql"])
def test_a_row_of_70_mb_arrives(request: pytest.FixtureRequest, fresh: Fresh, route: str) -> None:
    source, dest = (request.getfixturevalue(name) for name in route.split())
    fresh(source, OLD)
    fresh(dest, NEW)
    value = "REPEAT(x'000a095c27ff0d1a', 8750000)"
    rows = f"INSERT INTO t VALUES (1, {value}), (2, '')"
    make(source, OLD, "id int PRIMARY KEY, b longblob", rows)
    make(dest, NEW, "id int PRIMARY KEY, b longblob")
    assert arrives(source, dest) == 2
    length = dest.sql(f"SELECT LENGTH(b), CRC32(b) FROM {NEW}.t WHERE id = 1")
    assert length == source.sql(f"SELECT LENGTH(b), CRC32(b) FROM {OLD}.t WHERE id = 1")
    assert length[0][0] == "70000000"


@pytest.mark.usefixtures("wide_packets")
def test_a_row_that_the_destination_takes_in_no_packet_is_refused_by_name(
    mysql: Server, mysql_b: Server, fresh: Fresh
) -> None:
    fresh(mysql, OLD)
    fresh(mysql_b, NEW)
    rows = "INSERT INTO t VALUES (1, ''), (2, REPEAT('x', 9000000))"
    make(mysql, OLD, "id int PRIMARY KEY, b longblob", rows)
    make(mysql_b, NEW, "id int PRIMARY KEY, b longblob")
    mysql_b.sql("SET GLOBAL max_allowed_packet = 4194304")
    with pytest.raises(MigrationError, match="max_allowed_packet"):
        arrives(mysql, mysql_b)
    mysql_b.sql(f"SET GLOBAL max_allowed_packet = {PACKET}")
    assert arrives(mysql, mysql_b) == 2


@pytest.mark.parametrize(
    ("route", "rows"), [("mysql mysql", 0), ("mysql_b mysql", 1), ("mysql mysql_b", 100)]
)
def test_a_thousand_columns_arrive(
    request: pytest.FixtureRequest, fresh: Fresh, route: str, rows: int
) -> None:
    source, dest = (request.getfixturevalue(name) for name in route.split())
    fresh(source, OLD)
    fresh(dest, NEW)
    columns = ", ".join(["id int PRIMARY KEY", *(f"c{n} smallint unsigned" for n in range(999))])
    values = ", ".join(f"({n}" + f", {n}" * 998 + ", NULL)" for n in range(rows))
    make(source, OLD, columns, f"INSERT INTO t VALUES {values}" if rows else "")
    make(dest, NEW, columns)
    assert arrives(source, dest) == rows


@pytest.mark.parametrize("route", ["mysql mysql", "mysql mysql_b"])
def test_without_a_key_no_row_is_lost_or_doubled(
    request: pytest.FixtureRequest, fresh: Fresh, route: str
) -> None:
    source, dest = (request.getfixturevalue(name) for name in route.split())
    fresh(source, OLD)
    fresh(dest, NEW)
    values = ", ".join("(1, 'x')" for _ in range(2000))
    make(source, OLD, "a int, b text", f"INSERT INTO t VALUES {values}, (NULL, NULL), (1, '')")
    make(dest, NEW, "a int, b text")
    assert arrives(source, dest) == 2002


def test_generated_columns_and_invisible_ones_arrive(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, OLD, NEW)
    table = (
        "id int PRIMARY KEY, a double, s double AS (a * 2) STORED,"
        " v varchar(9) AS (CONCAT(a, 'x')), KEY (v), hidden int INVISIBLE DEFAULT 7"
    )
    make(mysql, OLD, table, "INSERT INTO t (id, a, hidden) VALUES (1, -0e0, 1), (2, 1.5, NULL)")
    make(mysql, NEW, table)
    assert arrives(mysql, mysql) == 2
    assert mysql.sql(f"SELECT id, s, v, hidden FROM {NEW}.t ORDER BY id") == mysql.sql(
        f"SELECT id, s, v, hidden FROM {OLD}.t ORDER BY id"
    )


def test_what_a_charset_has_no_character_for_arrives_as_the_server_kept_it(
    mysql: Server, mysql_b: Server, fresh: Fresh
) -> None:
    for server in (mysql, mysql_b):
        fresh(server, OLD, NEW)
    rows = (
        "CREATE TABLE raw (id int PRIMARY KEY, t varbinary(20));"
        "INSERT INTO raw VALUES (1, x'ff'), (2, x'c3'), (3, x'610062'), (4, x'eda080');"
        "SET sql_mode = ''; INSERT IGNORE INTO t SELECT id, t FROM raw; DROP TABLE raw"
    )
    make(mysql, OLD, "id int PRIMARY KEY, t varchar(20) CHARACTER SET ascii", rows)
    make(mysql_b, NEW, "id int PRIMARY KEY, t varchar(20) CHARACTER SET ascii")
    assert arrives(mysql, mysql_b) == 4
    texts = f"SELECT id, HEX(t) FROM {OLD}.t ORDER BY id"
    assert mysql.sql(texts) == mysql_b.sql(texts.replace(OLD, NEW))
