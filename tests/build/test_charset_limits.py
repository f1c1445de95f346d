"""What cannot be utf8mb4, or would mean something else there, is refused by name beforehand."""

from __future__ import annotations

import re

import pytest

import servers
from conftest import Fresh, drop
from datajoint_migrate import Unconvertible, create_parallel_schema
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.tables import read_schema
from datajoint_migrate.target import declare
from old_text import Old, make
from servers import Server


@pytest.fixture
def latin(mysql: Server, fresh: Fresh) -> Old:
    fresh(mysql, "cs_lab", "cs_rig", "cs_lab_v20", "cs_rig_v20")
    return make(mysql, "cs", "latin1", "latin1_swedish_ci")


def _refused(old: Old, sql: str) -> list[dict[str, object]]:
    """What is said about one more table in the lab, made by `sql`."""
    old.sql(sql)
    with pytest.raises(Unconvertible) as caught:
        create_parallel_schema(
            old.lab, old.map[old.lab], charset="utf8mb4", connection=old.server.url
        )
    assert old.copies() == 0
    conflicts: list[dict[str, object]] = caught.value.context["conflicts"]
    assert str(conflicts[0]["why"]) in str(caught.value)
    return conflicts


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("`a` varchar(769) NOT NULL, PRIMARY KEY (`a`))", "primary key of .* 3076 bytes"),
        ("`i` int PRIMARY KEY, `a` varchar(1000), KEY `wide` (`a`))", "'wide' .* 4000 bytes"),
        ("`a` varchar(400), `b` varchar(369), PRIMARY KEY (`a`,`b`))", "is 3076 bytes long"),
        ("`i` int PRIMARY KEY, `t` text, UNIQUE KEY `u` (`t`(769)))", "'u' .* 3076 bytes"),
        ("`i` int PRIMARY KEY, `a` varchar(16384))", "at most 16383 characters"),
        ("`i` int PRIMARY KEY, `a` varchar(9000), `b` varchar(9000))", "72009 bytes a row"),
        ("`a` varchar(192) PRIMARY KEY) ROW_FORMAT=COMPACT", "768 bytes .* 767 with ROW"),
    ],
    ids=["key", "index", "both", "prefix", "varchar", "row", "compact"],
)
def test_what_is_too_long_in_utf8mb4_is_refused_by_name(latin: Old, body: str, said: str) -> None:
    (conflict,) = _refused(latin, f"CREATE TABLE `{{lab}}`.`wide` ({body}")
    assert conflict["kind"] == "limit"
    assert re.search(said, str(conflict["why"])), conflict["why"]


@pytest.mark.parametrize(
    "body",
    [
        "`a` varchar(768) NOT NULL, PRIMARY KEY (`a`))",
        "`a` varchar(767), `b` int, PRIMARY KEY (`a`,`b`))",
        "`a` varchar(760), `b` datetime(6), `d` decimal(11,3), `e` enum('a','b'), `f` date, "
        "`g` tinyint unsigned, `h` year, PRIMARY KEY (`a`,`b`,`d`,`e`,`f`,`g`,`h`))",
        "`i` int PRIMARY KEY, `t` text, UNIQUE KEY `u` (`t`(768)))",
        "`i` int PRIMARY KEY, `a` varchar(16000) NOT NULL, `b` varchar(380) NOT NULL)",
        "`a` varchar(191) PRIMARY KEY) ROW_FORMAT=COMPACT",
    ],
)
def test_what_just_fits_is_made_as_it_was(latin: Old, body: str) -> None:
    latin.sql(f"CREATE TABLE `{{lab}}`.`wide` ({body}")
    create_parallel_schema(
        latin.lab, latin.map[latin.lab], charset="utf8mb4", connection=latin.server.url
    )
    columns = (
        "SELECT COLUMN_NAME, COLUMN_TYPE, COLUMN_KEY FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = 'wide' ORDER BY 1"
    )
    prefixes = (
        "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS"
        " WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = 'wide' ORDER BY 1, SEQ_IN_INDEX"
    )
    for sql in (columns, prefixes):
        assert latin.server.sql(sql.format(latin.lab)) == latin.server.sql(
            sql.format(latin.map[latin.lab])
        )


EDGES = {
    "row": (
        "`i` int NOT NULL, `a` varchar({}) NOT NULL, `b` char(90), `c` varchar(63),"
        " `d` varchar(225) NOT NULL, `e` decimal(11,3), `f` longblob, `g` timestamp(3) NULL,"
        " `h` enum('x','y'), `j` set('a','b'), `k` tinytext, `l` binary(9), `m` bit(9),"
        " `n` varbinary(300), PRIMARY KEY (`i`)",
        range(15_906, 15_926),
    ),
    "key": (
        "`i` int NOT NULL, `a` varchar({}) NOT NULL, `b` char(9) NOT NULL, `e` decimal(11,3),"
        " `g` timestamp(3) NULL, `h` enum('x','y'), `l` binary(9), `m` double,"
        " UNIQUE KEY (`a`,`b`,`e`,`g`,`h`,`l`,`m`), PRIMARY KEY (`i`)",
        range(742, 762),
    ),
}


@pytest.mark.parametrize("edge", EDGES)
def test_the_limits_are_the_servers_own_to_the_byte(latin: Old, edge: str) -> None:
    body, sizes = EDGES[edge]
    made = "".join(f"CREATE TABLE `{latin.lab}`.`t{size}` ({body.format(size)});" for size in sizes)
    latin.server.sql(made)
    with resolve(latin.server.url).session(read_only=True) as session:
        tables = read_schema(session, latin.lab).tables
    verdicts = []
    for size in sizes:
        refused = declare(tables[f"t{size}"], dest_schema="cs_lab_v20", charset="utf8mb4").excesses
        drop(latin.server, "cs_lab_v20")
        latin.server.sql("CREATE DATABASE cs_lab_v20 CHARACTER SET utf8mb4")
        try:
            latin.server.sql(f"CREATE TABLE cs_lab_v20.t ({body.format(size)})")
            taken = True
        except servers.ServerError:
            taken = False
        assert taken == (not refused), (size, refused)
        verdicts.append(taken)
    assert set(verdicts) == {True, False}


@pytest.mark.parametrize(
    ("column", "counts"),
    [
        ("varchar(9)", range(216, 220)),
        ("varchar(10) NOT NULL", range(195, 198)),
        ("char(10)", range(195, 198)),
        ("varchar(79) DEFAULT NULL", range(194, 198)),
    ],
)
def test_a_table_of_too_many_columns_is_refused_where_the_server_refuses(
    latin: Old, column: str, counts: range
) -> None:
    verdicts = []
    for count in counts:
        columns = "".join(f"`c{at}` {column}, " for at in range(count - 1))
        body = (
            f"`i` int NOT NULL, {columns}`t` tinytext CHARACTER SET latin1, `b` blob,"
            " `v` varchar(9) GENERATED ALWAYS AS (`t`) VIRTUAL, PRIMARY KEY (`i`)"
        )
        drop(latin.server, "cs_x", "cs_y")
        latin.server.sql("CREATE DATABASE cs_x CHARACTER SET utf8mb4")
        latin.server.sql("CREATE DATABASE cs_y CHARACTER SET latin1")
        try:
            latin.server.sql(f"CREATE TABLE cs_x.t ({body})")
            taken = True
        except servers.ServerError:
            taken = False
        try:
            latin.server.sql(f"CREATE TABLE cs_y.t ({body})")
        except servers.ServerError:
            break  # too many in latin1 too
        with resolve(latin.server.url).session(read_only=True) as session:
            table = read_schema(session, "cs_y").tables["t"]
        refused = declare(table, dest_schema="cs_lab_v20", charset="utf8mb4").excesses
        assert taken == (not refused), (count, refused)
        verdicts.append(taken)
    drop(latin.server, "cs_x", "cs_y")
    assert True in verdicts


def test_a_text_that_outgrows_its_column_is_named(latin: Old) -> None:
    (conflict,) = _refused(
        latin,
        "CREATE TABLE `{lab}`.`tiny` (`i` int PRIMARY KEY, `t` tinytext, `u` tinytext);"
        "INSERT INTO `{lab}`.`tiny` VALUES (1, REPEAT('x', 255), NULL),"
        " (2, REPEAT('ü', 127), 'ü'), (3, 'a', REPEAT('ü', 128))",
    )
    assert (conflict["kind"], conflict["keys"]) == ("overflow", [{"i": 3}])


def test_a_generated_column_with_another_value_is_named(latin: Old) -> None:
    conflicts = _refused(
        latin,
        "CREATE TABLE `{lab}`.`made` (`i` int PRIMARY KEY, `t` varchar(9), `n` int GENERATED ALWAYS"
        " AS (length(`t`)) VIRTUAL, `ok` varchar(20) GENERATED ALWAYS AS (concat(`t`,'é')) STORED,"
        " `same` tinyint GENERATED ALWAYS AS (`t` = 'abc') STORED,"
        " CONSTRAINT `small` CHECK (`t` <> 'qq' or `i` < 9));"
        "INSERT INTO `{lab}`.`made` (i, t) VALUES (1, 'abc'), (2, 'é'), (3, 'ABC'), (4, NULL)",
    )
    assert [(found["kind"], found["keys"]) for found in conflicts] == [
        ("generated", [{"i": 2}]),
        ("generated", [{"i": 3}]),
    ]


def test_a_check_that_would_fail_is_named(latin: Old) -> None:
    (conflict,) = _refused(
        latin,
        "CREATE TABLE `{lab}`.`sure` (`i` int PRIMARY KEY, `t` varchar(9),"
        " CONSTRAINT `known` CHECK (`t` in ('on','off')));"
        "INSERT INTO `{lab}`.`sure` VALUES (1, 'on'), (2, 'OFF')",
    )
    assert (conflict["kind"], conflict["keys"]) == ("check", [{"i": 2}])


def test_an_expression_with_a_collation_of_its_own_is_refused(latin: Old) -> None:
    latin.sql(
        "CREATE TABLE `{lab}`.`coll` (`i` int PRIMARY KEY, `t` varchar(9),"
        " `g` tinyint GENERATED ALWAYS AS (`t` = _latin1'a' COLLATE latin1_bin) VIRTUAL)"
    )
    with pytest.raises(Unconvertible, match="'g' compares by latin1_bin"):
        create_parallel_schema(
            latin.lab, latin.map[latin.lab], charset="utf8mb4", connection=latin.server.url
        )
    assert latin.copies() == 0
