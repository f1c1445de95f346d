"""Chunks go on: every bound lies beyond the one before, and what is compared is held in parts."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import MigrationError, _core, compare_query_results, migrate
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from peak import peak_within
from servers import Server

ROWS = 2500
CHUNK_BYTES = 64 << 10

# Keys in whose order both sides differ from some column on, and the values of row n.
KEYS = {
    "number, text": ("a int, b varchar(20) {}, PRIMARY KEY (a, b)", "7, CONCAT('k', n)"),
    "text": ("a varchar(20) {}, PRIMARY KEY (a)", "CONCAT('k', n)"),
    "text, number": ("a varchar(20) {}, b int, PRIMARY KEY (a, b)", "CONCAT('k', n % 2), n"),
    "date, text, time": (
        "a date, b char(9) {}, c time, PRIMARY KEY (a, b, c)",
        "'2020-01-01' + INTERVAL n DIV 1800 DAY, 'x', SEC_TO_TIME(n * 500 - 600000)",
    ),
    "enum, text, number": (
        "a enum('z','y'), b varchar(5) {}, c decimal(9,2), PRIMARY KEY (a, b, c)",
        "1 + (n > 100), n % 3, n / 4",
    ),
    "hash, text": (
        "a binary(16), b varchar(9) {}, PRIMARY KEY (a, b)",
        "UNHEX(LEFT(SHA2(n DIV 2000, 256), 32)), n",
    ),
}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "chunk_bytes", CHUNK_BYTES)


def fill(server: Server, schema: str, key: str, collation: str, rows: int = ROWS) -> None:
    columns, values = KEYS[key]
    depth = "cte_max_recursion_depth" if server.kind == "mysql" else "max_recursive_iterations"
    server.sql(
        f"SET {depth} = 1000000; CREATE DATABASE {schema}; USE {schema}; CREATE TABLE {schema}.t"
        f" (n int NOT NULL, x double, pad varchar(400), {columns.format('COLLATE ' + collation)})"
        " DEFAULT CHARSET utf8mb4;"
        f"INSERT INTO {schema}.t WITH RECURSIVE s (n) AS"
        f" (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {rows - 1})"
        f" SELECT n, n / 3, REPEAT('p', 300), {values} FROM s; ANALYZE TABLE {schema}.t"
    )


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("key", KEYS)
def test_keys_of_other_collations_are_compared_to_the_end_and_rows_are_named(
    key: str, server: Server, fresh: Fresh
) -> None:
    fresh(server, "bnd", "bnd_v20")
    fill(server, "bnd", key, "utf8mb4_general_ci")
    fill(server, "bnd_v20", key, "utf8mb4_bin")

    def compared() -> dict[str, Any]:
        return compare_query_results("bnd", "bnd_v20", "T", tolerance=1e-6, connection=server.url)

    server.sql("UPDATE bnd_v20.t SET x = x * 1.00000001")
    found = compared()
    assert (found["match"], found["discrepancies"], found["row_count"]) == (True, [], ROWS)
    draw = random.Random(key)
    changed = set(draw.sample(range(ROWS), 5))
    (gone,) = draw.sample(sorted(set(range(ROWS)) - changed), 1)
    server.sql(
        f"UPDATE bnd_v20.t SET x = -1 WHERE n IN ({', '.join(map(str, changed))});"
        f"DELETE FROM bnd_v20.t WHERE n = {gone}"
    )
    names = [name for name in "abc" if f"{name} " in KEYS[key][0].split("PRIMARY")[0]]
    # Of an ENUM a report has the number, as the index has it.
    asked = ", ".join(
        f"CAST({name} AS CHAR)"
        for name in names
        if not KEYS[key][0].startswith("a enum") or name != "a"
    )
    rows = server.sql(f"SELECT {asked} FROM bnd.t WHERE n IN ({', '.join(map(str, changed))})")
    found = compared()
    kinds = [one["kind"] for one in found["discrepancies"]]
    assert sorted(kinds) == ["differs"] * 5 + ["missing"]
    differing = [one for one in found["discrepancies"] if one["kind"] == "differs"]
    assert all(list(one["columns"]) == ["x"] and set(one["key"]) == set(names) for one in differing)
    if key != "hash, text" and key != "date, text, time":
        named = {tuple(one["key"][name] for name in names)[-len(rows[0]) :] for one in differing}
        assert named == set(rows)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("emptied", ["bnd", "bnd_v20"])
def test_a_prefix_longer_than_a_chunk_is_held_in_parts_in_both_directions(
    emptied: str, mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "bnd", "bnd_v20")
    fill(mysql, "bnd", "number, text", "utf8mb4_general_ci")
    fill(mysql, "bnd_v20", "number, text", "utf8mb4_bin")
    mysql.sql(f"DELETE FROM {emptied}.t WHERE n % 100 = 7")
    found = compare_query_results("bnd", "bnd_v20", "T", connection=mysql.url)
    kind = "extra" if emptied == "bnd" else "missing"
    assert {one["kind"] for one in found["discrepancies"]} == {kind}
    assert {one["key"]["b"] for one in found["discrepancies"]} == {
        f"k{n}" for n in range(7, ROWS, 100)
    }


# Only one side has rows, only the other has, or all of them differ.
UNLIKE = {
    "missing": "DELETE FROM bnd_v20.t WHERE n > 10",
    "extra": "DELETE FROM bnd.t WHERE n > 10",
    "differs": "UPDATE bnd_v20.t SET x = x + 1",
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_begins_with_one_key_is_never_held_as_a_whole(
    kind: str, mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "bnd", "bnd_v20")
    rows = 200_000
    fill(mysql, "bnd", "number, text", "utf8mb4_general_ci", rows)
    fill(mysql, "bnd_v20", "number, text", "utf8mb4_bin", rows)
    mysql.sql(f"{UNLIKE[kind]}; ANALYZE TABLE bnd.t, bnd_v20.t")
    grown, found = peak_within(
        {"chunk_bytes": 1 << 20},
        *("compare_query_results", "bnd", "bnd_v20", "T"),
        connection=mysql.url,
    )
    assert found["match"] is False
    assert {one["kind"] for one in found["discrepancies"]} == {kind}
    # The rows of one side alone, without what it takes to hold them.
    whole = rows * 400
    assert grown < 46 << 20 < whole


def test_a_migration_to_utf8mb4_of_one_long_subject_ends(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "bnd", "bnd_v20")
    mysql.sql(
        "SET cte_max_recursion_depth = 10000; CREATE DATABASE bnd CHARACTER SET latin1;"
        "CREATE TABLE bnd.trial (subject int, name varchar(20), data longblob,"
        " PRIMARY KEY (subject, name)) COMMENT 'trials';"
        f"INSERT INTO bnd.trial WITH RECURSIVE s (n) AS"
        f" (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS - 1})"
        " SELECT 1, CONCAT('t', n), CONCAT('mYm\\0', REPEAT(n % 10, 10000)) FROM s"
    )
    done = migrate({"bnd": "bnd_v20"}, charset="utf8mb4", connection=mysql.url)
    assert (done["match"], done["rows_copied"]) == (True, ROWS)


def journal_of(server: Server, key: str) -> tuple[dict[str, Any], list[str]]:
    """A copy whose journal is still there, and the bounds of its chunks."""
    columns = ["n", "x", "pad", *(c for c in "abc" if f"{c} " in KEYS[key][0].split("PRIMARY")[0])]
    spec = resolve(server.url).spec()
    table = {
        "source_schema": "bnd",
        "source_table": "t",
        "destination_schema": "bnd_v20",
        "destination_table": "t",
        "key": columns[3:],
        "columns": [{"source": name, "destination": name, "kind": "value"} for name in columns],
        "rows": ROWS,
        "data_bytes": ROWS * 400,
    }
    plan = {"source": spec, "destination": spec, "route": "river", "tables": [table]}
    plan |= {"journal": True, "keep_journal": True, "chunk_bytes": CHUNK_BYTES}
    assert _core.copy(plan)["rows_copied"] == ROWS
    rows = server.sql("SELECT bounds FROM bnd_v20.`~migrate_journal` ORDER BY chunk")
    return plan, [row[0] for row in rows]


@pytest.mark.parametrize("key", KEYS)
def test_a_resumed_journal_goes_on_or_is_refused_by_table_and_bound(
    key: str, mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "bnd", "bnd_v20")
    fill(mysql, "bnd", key, "utf8mb4_general_ci")
    mysql.sql("CREATE DATABASE bnd_v20; CREATE TABLE bnd_v20.t LIKE bnd.t")
    plan, bounds = journal_of(mysql, key)
    assert len(bounds) > 5
    assert _core.copy(plan)["rows_copied"] == 0
    # The bound behind chunk 2 goes back to the one before it: chunk 2 is empty, chunk 3 longer.
    earlier = json.loads(bounds[1])["upper"]
    for number, side in ((2, "upper"), (3, "lower")):
        changed = json.loads(bounds[number]) | {side: earlier}
        said = json.dumps(changed).replace("\\", "\\\\").replace("'", "''")
        mysql.sql(
            f"UPDATE bnd_v20.`~migrate_journal` SET done = 0, bounds = '{said}'"
            f" WHERE chunk = {number}"
        )
    with pytest.raises(MigrationError, match=r"bnd\.t do not go on: after the key \(") as refused:
        _core.copy(plan)
    assert refused.value.code == "DJM-1501"
    assert mysql.sql("SELECT COUNT(*) FROM bnd_v20.t") == [(str(ROWS),)]
