"""Every smallest difference is seen by a comparison, for every type; no harmless rewrite is."""

from __future__ import annotations

import pytest

from conftest import Fresh
from datajoint_migrate import compare_query_results, compare_schemas
from servers import Server

# Two values of a type that differ as little as they can.
PAIRS: list[tuple[str, str, str]] = [
    ("tinyint", "-128", "-127"),
    ("tinyint unsigned", "255", "254"),
    ("smallint", "0", "1"),
    ("mediumint unsigned", "16777215", "16777214"),
    ("int", "-1", "1"),
    ("bigint", "-9223372036854775808", "-9223372036854775807"),
    ("bigint unsigned", "18446744073709551615", "18446744073709551614"),
    ("decimal(65,30)", "'0.000000000000000000000000000001'", "0"),
    ("decimal(12,4)", "1.0001", "-1.0001"),
    ("varchar(9)", "'a'", "'a '"),
    ("varchar(9)", "'a'", "'A'"),
    ("varchar(9)", "'é'", "'e'"),
    ("varchar(9)", "_utf8mb4 x'c3a9'", "_utf8mb4 x'65cc81'"),
    ("varchar(9)", "'ß'", "'ss'"),
    ("varchar(9)", "''", "_utf8mb4 x'00'"),
    ("varchar(9)", "'a'", "_utf8mb4 x'6100'"),
    ("varchar(9)", "'NULL'", "'null'"),
    ("char(5)", "'ab'", "'aB'"),
    ("varchar(9) character set latin1", "_latin1 x'e9'", "_latin1 x'e8'"),
    ("text", "REPEAT('x', 60000)", "CONCAT(REPEAT('x', 59999), 'y')"),
    ("enum('a','A ','b') collate utf8mb4_bin", "1", "2"),
    ("enum('','b')", "1", "2"),
    ("set('x','y')", "1", "3"),
    ("date", "'2024-02-29'", "'2024-02-28'"),
    ("date", "'0000-00-00'", "'0000-01-00'"),
    ("datetime(6)", "'9999-12-31 23:59:59.999999'", "'9999-12-31 23:59:59.999998'"),
    ("timestamp null", "'2024-03-31 01:30:00'", "'2024-03-31 01:30:01'"),
    ("timestamp(6) null", "'2024-03-31 01:30:00.000001'", "'2024-03-31 01:30:00'"),
    ("time", "'-00:00:01'", "'00:00:01'"),
    ("time(3)", "'-838:59:58.999'", "'-838:59:58.998'"),
    ("year", "1901", "0"),
    ("bit(1)", "0", "1"),
    ("bit(64)", "18446744073709551615", "18446744073709551614"),
    ("binary(4)", "x'00000000'", "x'00000001'"),
    ("varbinary(9)", "x''", "x'00'"),
    ("varbinary(9)", "x'80'", "x'00'"),
    ("longblob", "REPEAT(x'00', 70000)", "REPEAT(x'00', 69999)"),
    ("json", "'{\"a\": 1}'", "'{\"a\": 2}'"),
    ("json", "'[1, 2]'", "'[2, 1]'"),
    ("json", "'1'", "'\"1\"'"),
    ("json", "'{}'", "'[]'"),
    ("json", "'{\"a\": null}'", "'{}'"),
    ("geometry", "ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(1 3)')"),
    ("float", "1", "1.0000001192092896e0"),
    ("double", "1", "1.0000000000000002e0"),
]
FLOATS = ("float", "double")

OLD, NEW = "mut_old", "mut_new"


def make(server: Server, schema: str, rows: list[list[tuple[int, str]]]) -> None:
    """A table a pair, `t0` and so on, with these rows."""
    statements = [
        "SET time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES', NAMES utf8mb4;"
        f"CREATE DATABASE {schema} CHARACTER SET utf8mb4; USE {schema};"
    ]
    for number, ((type_, _, _), values) in enumerate(zip(PAIRS, rows, strict=True)):
        said = ", ".join(f"({key}, {value})" for key, value in values)
        statements.append(f"CREATE TABLE t{number} (id int PRIMARY KEY, v {type_});")
        if said:
            statements.append(f"INSERT INTO t{number} VALUES {said};")
    server.sql("".join(statements))


def seen(server: Server, tolerance: float = 0.0) -> list[int]:
    """The numbers of the tables that a comparison calls equal."""
    result = compare_schemas(OLD, NEW, tolerance=tolerance, connection=server.url)
    tables = result["tables"]
    assert len(tables) == len(PAIRS)
    return [n for n in range(len(PAIRS)) if tables[f"t{n}"]["match"]]


WAYS = {
    "a value changed": lambda a, b: ([(1, a), (2, b)], [(1, b), (2, b)]),
    "two values exchanged": lambda a, b: ([(1, a), (2, b)], [(1, b), (2, a)]),
    "nothing for something": lambda a, b: ([(1, a), (2, b)], [(1, a), (2, "NULL")]),
    "something for nothing": lambda a, _: ([(1, "NULL")], [(1, a)]),
}


@pytest.mark.parametrize(
    ("kind", "way"), [*(("mysql", way) for way in WAYS), ("mariadb", "a value changed")]
)
def test_the_smallest_difference_of_any_type_is_seen(
    request: pytest.FixtureRequest, fresh: Fresh, kind: str, way: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, OLD, NEW)
    sides = [WAYS[way](a, b) for _, a, b in PAIRS]
    make(server, OLD, [old for old, _ in sides])
    make(server, NEW, [new for _, new in sides])
    overlooked = [PAIRS[n] for n in seen(server)]
    assert overlooked == []
    if way == "a value changed":
        within = [PAIRS[n][0] for n in seen(server, 1e-6)]
        assert within == list(FLOATS)


def make_pair(server: Server, old: str, new: str) -> None:
    """Two tables `t`, each the rest of a statement."""
    server.sql(
        "SET time_zone='+00:00', NAMES utf8mb4;"
        f"CREATE DATABASE {OLD} CHARACTER SET utf8mb4; CREATE DATABASE {NEW} CHARACTER SET utf8mb4;"
        f"USE {OLD}; {old}; USE {NEW}; {new};"
    )


ROWS = "INSERT INTO t VALUES (1, 7), (2, 8)"
KEYLESS = "CREATE TABLE t (a int, b double)"
DIFFERENT = {
    "a row missing": "INSERT INTO t VALUES (2, 8)",
    "a row too many": "INSERT INTO t VALUES (1, 7), (2, 8), (3, 8)",
    "a row doubled": "INSERT INTO t VALUES (1, 7), (2, 8), (2, 8)",
    "one doubled, one missing": "INSERT INTO t VALUES (2, 8), (2, 8)",
    "values exchanged between rows": "INSERT INTO t VALUES (1, 8), (2, 7)",
}


@pytest.mark.parametrize("how", DIFFERENT)
def test_rows_without_a_key_are_counted(mysql: Server, fresh: Fresh, how: str) -> None:
    fresh(mysql, OLD, NEW)
    make_pair(mysql, f"{KEYLESS}; {ROWS}", f"{KEYLESS}; {DIFFERENT[how]}")
    assert not compare_query_results(OLD, NEW, "t", connection=mysql.url)["match"]
    mysql.sql(f"DELETE FROM {NEW}.t; USE {NEW}; INSERT INTO t VALUES (2, 8), (1, 7)")
    assert compare_query_results(OLD, NEW, "t", connection=mysql.url)["match"]


# The same in meaning: what a migration writes otherwise than production has it.
TEXT = "varchar(9) CHARACTER SET"
HARMLESS = {
    "a wider integer": ("v int unsigned", "v bigint", "4294967295", "4294967295"),
    "another sign": ("v tinyint", "v smallint unsigned", "7", "7"),
    "another charset": (f"v {TEXT} latin1", f"v {TEXT} utf8mb4", "'é'", "'é'"),
    "utf16": (f"v {TEXT} utf16", f"v {TEXT} utf8mb4", "'😀'", "'😀'"),
    "another collation": ("v varchar(9)", "v varchar(9) COLLATE utf8mb4_bin", "'aA '", "'aA '"),
    "a longer text": ("v varchar(9)", "v longtext", "''", "''"),
    "zeros of a decimal": ("v decimal(6,2)", "v decimal(9,4)", "-1.5", "-1.5000"),
    "the two zeros": ("v double", "v double", "-0e0", "0"),
    "the two zeros of FLOAT": ("v float", "v float", "-0e0", "0"),
    "within the tolerance": ("v double", "v double", "1e9", "1e9 + 1e2"),
    "a finer second": ("v datetime", "v datetime(6)", "'2024-01-01'", "'2024-01-01'"),
    "keys of JSON": ("v json", "v json", '\'{"a": 1, "bb": 2}\'', '\'{"bb": 2, "a": 1}\''),
    "members elsewhere": ("v enum('a','b')", "v enum('b','a')", "'a'", "'a'"),
    "another order": ("v int, w int", "w int, v int", "1, 2", "2, 1"),
}


@pytest.mark.parametrize("how", HARMLESS)
def test_a_harmless_rewrite_is_no_difference(mysql: Server, fresh: Fresh, how: str) -> None:
    fresh(mysql, OLD, NEW)
    old, new, before, after = HARMLESS[how]
    make_pair(
        mysql,
        f"CREATE TABLE t (id int PRIMARY KEY, {old}); INSERT INTO t VALUES (1, {before}),"
        f" (2, {before})",
        f"CREATE TABLE t (id int PRIMARY KEY, {new}) ROW_FORMAT=COMPRESSED;"
        f" INSERT INTO t VALUES (2, {after}), (1, {after})",
    )
    result = compare_query_results(OLD, NEW, "t", connection=mysql.url)
    assert result["match"], result["discrepancies"]
    assert result["row_count"] == 2
