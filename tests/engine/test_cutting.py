"""Whatever a key is made of: bounds go on, and a journal is taken up where it ends."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import SOAK, drop
from datajoint_migrate import MigrationError, _core, compare_query_results, copy_table_data
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from generated import VALUES
from servers import Server

OLD, NEW = "cut_old", "cut_new"
JOURNAL = f"{NEW}.`~migrate_journal`"
MOST_ROWS = 120
# Of the server, for values that only an old one would take.
SETTINGS = "SET NAMES utf8mb4, time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES';"


@dataclass
class Keyed:
    """A table whose key has many rows behind each of its first columns' values."""

    types: list[str]
    order: list[str]
    rows: list[tuple[str, ...]]
    chunk_bytes: tuple[int, int]
    draw: random.Random

    @property
    def names(self) -> list[str]:
        return [column.split()[0] for column in self.order]

    def lines(self, collation: str) -> str:
        """What is in the parentheses of CREATE TABLE."""
        lines = []
        for number, name in enumerate(self.types):
            type_ = name.removesuffix(" null")
            if type_ in ("char(4)", "varchar(8)"):
                type_ += f" COLLATE {collation}"
            default = " DEFAULT '2000-01-01'" if "timestamp" in type_ else ""
            lines.append(f"k{number} {type_} NOT NULL{default}")
        return ", ".join([*lines, "n int", f"PRIMARY KEY ({', '.join(self.order)})"])


@st.composite
def tables(draw: st.DrawFn) -> Keyed:
    types = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3))
    last = len(types) - 1
    values = [
        draw(st.lists(VALUES[name], min_size=1 + 19 * (n == last), max_size=3 + 57 * (n == last)))
        for n, name in enumerate(types)
    ]
    order = [f"k{n}" + draw(st.sampled_from(["", "", " DESC"])) for n in range(len(types))]
    chance = random.Random(draw(st.integers(0, 2**32)))
    rows = {tuple(chance.choice(column) for column in values) for _ in range(MOST_ROWS)}
    sizes = st.sampled_from([64, 200, 1000])
    return Keyed(types, order, sorted(rows), (draw(sizes), draw(sizes)), chance)


def fill(server: Server, table: Keyed) -> int:
    """Both tables, of which the second is empty and orders text otherwise; the number of rows."""
    for schema, collation in ((OLD, "utf8mb4_general_ci"), (NEW, "utf8mb4_bin")):
        drop(server, schema)
        server.sql(
            f"{SETTINGS} CREATE DATABASE {schema} CHARACTER SET utf8mb4;"
            f"CREATE TABLE {schema}.t ({table.lines(collation)});"
        )
    rows = [f"({', '.join(row)}, {number})" for number, row in enumerate(table.rows)]
    # Of rows with one key the first stays.
    server.sql(
        f"{SETTINGS} INSERT IGNORE INTO {OLD}.t VALUES {', '.join(rows)}; ANALYZE TABLE {OLD}.t"
    )
    return count(server, OLD)


def count(server: Server, schema: str) -> int:
    ((rows,),) = server.sql(f"SELECT COUNT(*) FROM {schema}.t")
    return int(rows or 0)


def plan_of(server: Server, table: Keyed, rows: int) -> dict[str, Any]:
    spec = resolve(server.url).spec()
    columns = [*(f"k{n}" for n in range(len(table.types))), "n"]
    kinds = ["enum_index" if name.startswith("enum") else "value" for name in table.types]
    moved = {
        "source_schema": OLD,
        "source_table": "t",
        "destination_schema": NEW,
        "destination_table": "t",
        "key": table.names,
        "index": "PRIMARY",
        "columns": [
            {"source": name, "destination": name, "kind": kind}
            for name, kind in zip(columns, [*kinds, "value"], strict=True)
        ],
        "rows": rows,
        "data_bytes": rows * 32,
    }
    plan = {"source": spec, "destination": spec, "route": "river", "tables": [moved]}
    return plan | {"journal": True, "keep_journal": True, "chunk_bytes": table.chunk_bytes[0]}


def journal(server: Server) -> list[tuple[dict[str, Any], int]]:
    """The bounds of each chunk, and its rows."""
    rows = server.sql(f"SELECT bounds, row_count FROM {JOURNAL} ORDER BY chunk")
    return [(json.loads(bounds or ""), int(number or 0)) for bounds, number in rows]


def walks(server: Server, table: Keyed) -> None:
    rows = fill(server, table)
    plan = plan_of(server, table, rows)
    assert _core.copy(plan)["rows_copied"] == rows
    chunks = journal(server)
    bounds = [chunk for chunk, _ in chunks]
    assert (bounds[0]["lower"], bounds[-1]["upper"]) == (None, None)
    assert [chunk["lower"] for chunk in bounds[1:]] == [chunk["upper"] for chunk in bounds[:-1]]
    assert sum(number for _, number in chunks) == rows

    # Rows of chunks that are not done or were never planned, by the order that the server has.
    kept = table.draw.randint(1, len(chunks))
    undone = {n for n in range(kept) if table.draw.random() < 0.5}
    gone, first = [], 0
    for number, (_, size) in enumerate(chunks):
        if number in undone or number >= kept:
            gone.append(f"place BETWEEN {first + 1} AND {first + size}")
        first += size
    order = ", ".join(table.names)
    placed = f"SELECT n, ROW_NUMBER() OVER (ORDER BY {order}) AS place FROM {OLD}.t"
    if gone:
        server.sql(
            f"{SETTINGS} DELETE FROM {NEW}.t WHERE n IN (SELECT n FROM ({placed}) AS s"
            f" WHERE {' OR '.join(gone)});"
            f"DELETE FROM {JOURNAL} WHERE chunk >= {kept};"
            f"UPDATE {JOURNAL} SET done = 0 WHERE chunk IN ({', '.join(map(str, [*undone, -1]))})"
        )
    missing = rows - count(server, NEW)
    # A row that is in two chunks, or in none, would now be there already, or never come.
    assert _core.copy(plan | {"chunk_bytes": table.chunk_bytes[1]})["rows_copied"] == missing
    assert count(server, NEW) == rows

    there = {"tolerance": 0, "connection": server.url}
    found = compare_query_results(OLD, NEW, "t", **there)
    assert (found["match"], found["row_count"]) == (True, rows), found["discrepancies"]
    changed = table.draw.choice([row[0] for row in server.sql(f"SELECT n FROM {OLD}.t")])
    server.sql(f"{SETTINGS} UPDATE {NEW}.t SET n = -1 WHERE n = {changed}")
    found = compare_query_results(OLD, NEW, "t", **there)
    assert [(one["kind"], list(one["columns"])) for one in found["discrepancies"]] == [
        ("differs", ["n"])
    ]

    chunks = journal(server)
    if len(chunks) < 4:
        return
    # The bound behind a chunk goes back to the one before it, or further.
    number = table.draw.randrange(1, len(chunks) - 1)
    earlier = chunks[table.draw.randrange(number)][0]["upper"]
    for chunk, side in ((number, "upper"), (number + 1, "lower")):
        said = json.dumps(chunks[chunk][0] | {side: earlier})
        said = said.replace("\\", "\\\\").replace("'", "''")
        server.sql(f"UPDATE {JOURNAL} SET done = 0, bounds = '{said}' WHERE chunk = {chunk}")
    with pytest.raises(
        MigrationError, match=rf"{OLD}\.t do not go on: after the key \("
    ) as refused:
        _core.copy(plan)
    assert refused.value.code == "DJM-1501"
    assert count(server, NEW) == rows


def test_any_key_is_cut_walked_and_resumed(server: Server) -> None:
    @settings(
        max_examples=300 if SOAK else 12,
        derandomize=True,
        deadline=None,
        database=None,
        # A failure is made small where there is time for it.
        phases=list(Phase) if SOAK else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(table=tables())
    def holds(table: Keyed) -> None:
        walks(server, table)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LIMITS, "chunk_bytes", 200)
        try:
            holds()
        finally:
            drop(server, OLD, NEW)


@pytest.mark.parametrize("origin", ["mysql", "mariadb"])
def test_between_the_year_0_and_others_no_bound_is_a_number_that_is_no_year(
    mysql: Server, origin: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `year < 951` MySQL says that it is never so."""
    source: Server = request.getfixturevalue(origin)
    for server, schema in ((source, OLD), (mysql, NEW)):
        drop(server, schema)
        server.sql(
            f"CREATE DATABASE {schema};"
            f"CREATE TABLE {schema}.t (y year, k int, PRIMARY KEY (y, k)) ENGINE=InnoDB"
        )
    years = ", ".join(f"({year}, {k})" for year in (0, 1901, 1902, 2155) for k in range(40))
    source.sql(f"INSERT INTO {OLD}.t VALUES {years}; ANALYZE TABLE {OLD}.t")
    monkeypatch.setattr(LIMITS, "chunk_bytes", 200)
    try:
        ends = {"connection": source.url, "dest_connection": mysql.url}
        assert copy_table_data(OLD, NEW, "t", **ends)["rows_copied"] == 160
        compared = compare_query_results(OLD, NEW, "t", **ends)
        assert (compared["match"], compared["row_count"]) == (True, 160)
    finally:
        drop(source, OLD)
        drop(mysql, NEW)
