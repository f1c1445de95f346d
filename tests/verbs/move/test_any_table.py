"""Whatever a table is made of, by each route it arrives as another reader finds it."""

from __future__ import annotations

import json
from typing import Any

import mysql.connector
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import SOAK, drop
from datajoint_migrate import compare_query_results, copy_table_data
from datajoint_migrate.limits import LIMITS
from generated import VALUES, bytes_, texts
from servers import Server

OLD, NEW = "any_old", "any_new"


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("aé😀\"\\' ", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("kü", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
ONLY_VALUES: dict[str, st.SearchStrategy[str]] = {
    "longblob": bytes_(40),
    "text": texts(40),
    "json": DOCUMENTS.map(
        lambda value: f"CONVERT(x'{json.dumps(value).encode().hex()}' USING utf8mb4)"
    ),
}
ALL = {**VALUES, **ONLY_VALUES}


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """What is in the parentheses of CREATE TABLE, the types, and the rows."""
    key = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=3))
    rest = draw(st.lists(st.sampled_from(sorted(ALL)), min_size=0 if key else 1, max_size=5))
    lines = [f"`k{n}` {type_.removesuffix(' null')} NOT NULL" for n, type_ in enumerate(key)]
    lines = [line + (" DEFAULT '2000-01-01'" if "timestamp" in line else "") for line in lines]
    lines += [f"`v{n}` {type_}" for n, type_ in enumerate(rest)]
    order = [f"`k{n}`" + draw(st.sampled_from(["", " DESC"])) for n in range(len(key))]
    lines += [f"PRIMARY KEY ({', '.join(draw(st.permutations(order)))})"] if key else []
    row = st.tuples(*(ALL[name] for name in key), *(st.just("NULL") | ALL[name] for name in rest))
    rows = draw(st.lists(row, max_size=25))
    return ", ".join(lines), [*key, *rest], [f"({', '.join(values)})" for values in rows]


def read(server: Server, schema: str, types: list[str], names: list[str]) -> list[tuple[Any, ...]]:
    """The rows by the binary protocol of another client, in a form that hides no bit."""
    forms = []
    for type_, name in zip(types, names, strict=True):
        if type_ in ("float", "double"):
            forms.append(f"`{name}`")
        elif type_.startswith(("varchar", "char", "text", "binary", "varbinary", "longblob")):
            forms.append(f"HEX(`{name}`)")
        elif type_.startswith(("enum", "set", "bit")):
            forms.append(f"CAST(`{name}` + 0 AS CHAR)")
        else:
            forms.append(f"CAST(`{name}` AS CHAR)")
    connection = mysql.connector.connect(
        host=server.host, port=server.port, user=server.user, password=server.password,
        database=schema, use_pure=True, collation="utf8mb4_general_ci",
    )  # fmt: skip
    try:
        cursor = connection.cursor(prepared=True)
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(f"SELECT {', '.join(forms)} FROM t")
        return sorted(cursor.fetchall(), key=repr)
    finally:
        connection.close()


ROUTES = {
    "inside the server": ("mysql", "mysql"),
    "by INSERT": ("mysql", "mysql_b"),
    "by LOAD DATA": ("mysql_b", "mysql"),
    "from MariaDB": ("mariadb", "mysql"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_any_table_arrives_as_another_reader_finds_it(
    request: pytest.FixtureRequest, route: str
) -> None:
    source, dest = (request.getfixturevalue(name) for name in ROUTES[route])

    @settings(
        max_examples=300 if SOAK else 10,
        derandomize=True,
        deadline=None,
        database=None,
        # A failure is made small where there is time for it.
        phases=list(Phase) if SOAK else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(table=tables())
    def holds(table: tuple[str, list[str], list[str]]) -> None:
        lines, types, rows = table
        for server, schema in ((source, OLD), (dest, NEW)):
            drop(server, schema)
            server.sql(
                f"SET NAMES utf8mb4, sql_mode='ALLOW_INVALID_DATES'; CREATE DATABASE {schema}"
                f" CHARACTER SET utf8mb4; CREATE TABLE {schema}.t ({lines});"
            )
        if rows:
            # Of rows with one key the first stays.
            source.sql(
                "SET NAMES utf8mb4, time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES';"
                f"INSERT IGNORE INTO {OLD}.t VALUES {', '.join(rows)}"
            )
        there = {"connection": source.url, "dest_connection": dest.url}
        copied = copy_table_data(OLD, NEW, "t", **there)
        names = [str(row[0]) for row in source.sql(f"SHOW COLUMNS FROM {OLD}.t")]
        before, after = (read(s, n, types, names) for s, n in ((source, OLD), (dest, NEW)))
        assert copied["rows_copied"] == len(before)
        if "json" not in types or route != "from MariaDB":
            # MySQL writes JSON in its own way, MariaDB keeps the text.
            assert [list(map(repr, row)) for row in after] == [
                list(map(repr, row)) for row in before
            ]
        compared = compare_query_results(OLD, NEW, "t", tolerance=0, **there)
        assert compared["match"], (compared["discrepancies"], compared["notes"])
        assert compared["row_count"] == len(before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LIMITS, "chunk_bytes", 200)
        try:
            holds()
        finally:
            drop(source, OLD)
            drop(dest, NEW)
