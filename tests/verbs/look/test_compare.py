"""compare_query_results and compare_schemas: equal in meaning, whatever the bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    NotFound,
    compare_query_results,
    compare_schemas,
    copy_all_data,
    create_parallel_schema,
)
from servers import Server
from small import MICE, RECORDINGS, Small, make


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"cmp_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    made = make(mysql, "cmp", tmp_path / "store")
    for source, dest in made.map.items():
        create_parallel_schema(
            source, dest, schema_map=made.map, external="convert", connection=mysql.url
        )
        copy_all_data(source, dest, connection=mysql.url, **made.stores)
    return made


def compare(small: Small, table: str, tolerance: float = 1e-6) -> dict[str, object]:
    """One table of `lab` with its copy, the guide's way."""
    return compare_query_results(
        prod_schema=small.lab,
        test_schema=small.map[small.lab],
        table=table,
        tolerance=tolerance,
        connection=small.server.url,
    )


def test_a_copy_equals_production(small: Small) -> None:
    result = compare(small, "mouse")
    assert (result["match"], result["row_count"], result["discrepancies"]) == (True, MICE, [])


def test_pointers_equal_the_json_made_from_them(small: Small) -> None:
    result = compare_schemas(small.rig, small.map[small.rig], connection=small.server.url)
    assert result["match"], result
    assert result["tables"]["_recording"]["row_count"] == RECORDINGS


def test_swapped_pointers_are_seen(small: Small) -> None:
    table = f"`{small.map[small.rig]}`._recording"
    small.server.sql(
        f"UPDATE {table} a JOIN {table} b ON (a.recording_id, b.recording_id) IN ((2, 5), (5, 2))"
        " SET a.`signal` = b.`signal`"
    )
    result = compare_query_results(
        small.rig, small.map[small.rig], "Recording", connection=small.server.url
    )
    assert not result["match"]
    assert {d["key"]["recording_id"] for d in result["discrepancies"]} <= {"2", "5"}


def test_missing_extra_and_changed_rows_are_named_by_key_and_column(small: Small) -> None:
    dest = small.map[small.lab]
    small.server.sql(
        f"DELETE FROM `{dest}`.session__trial WHERE mouse_id = 3;"
        f"INSERT INTO `{dest}`.session__trial VALUES (4, '2024-01-05', 9, NULL);"
        f"UPDATE `{dest}`.session__trial SET data = x'00' WHERE mouse_id = 5"
    )
    result = compare(small, "Session.Trial")
    found = {d["kind"]: d for d in result["discrepancies"]}  # type: ignore[attr-defined]
    assert not result["match"]
    assert found["missing"]["key"]["mouse_id"] == "3"
    assert found["extra"]["key"]["trial"] == "9"
    assert list(found["differs"]["columns"]) == ["data"]


def test_floats_may_differ_by_the_tolerance(small: Small) -> None:
    small.server.sql(f"UPDATE `{small.map[small.lab]}`.mouse SET weight = weight * 1.00001")
    assert not compare(small, "mouse")["match"]
    assert compare(small, "mouse", tolerance=1e-4)["match"]


def test_columns_only_the_copy_has_are_noted(small: Small) -> None:
    small.server.sql(f"ALTER TABLE `{small.map[small.lab]}`.mouse ADD _job_duration float FIRST")
    result = compare(small, "mouse")
    assert result["match"]
    assert "_job_duration" in str(result["notes"])


def test_a_column_the_copy_lacks_is_a_discrepancy(small: Small) -> None:
    small.server.sql(f"ALTER TABLE `{small.map[small.lab]}`.mouse DROP weight")
    assert compare(small, "mouse")["discrepancies"] == [
        {"kind": "missing_column", "table": "mouse", "column": "weight"}
    ]


def test_a_table_the_copy_lacks_is_a_discrepancy(small: Small) -> None:
    small.server.sql(f"DROP TABLE `{small.map[small.lab]}`.session__trial")
    result = compare_schemas(small.lab, small.map[small.lab], connection=small.server.url)
    assert not result["match"]
    assert result["tables"]["session__trial"]["discrepancies"][0]["kind"] == "missing_table"
    assert not compare(small, "Session.Trial")["match"]


def test_wider_columns_and_other_charsets_are_equal(small: Small) -> None:
    small.server.sql(
        f"ALTER TABLE `{small.lab}`.session MODIFY notes varchar(200) CHARACTER SET latin1;"
        f"UPDATE `{small.lab}`.session SET notes = 'é';"
        f"UPDATE `{small.map[small.lab]}`.session SET notes = 'é'"
    )
    assert compare(small, "Session")["match"]


def test_a_wrong_name_is_answered_with_the_near_misses(small: Small) -> None:
    with pytest.raises(NotFound, match="'mouse'"):
        compare(small, "mouze")
    with pytest.raises(NotFound, match="cmp_lab"):
        compare_schemas("cmp_la", "cmp_lab_v20", connection=small.server.url)


def test_a_tolerance_below_zero_is_refused(small: Small) -> None:
    with pytest.raises(InvalidArgument):
        compare(small, "mouse", tolerance=-1)


# Blocks of 4,096 rows are what a chunk is looked through by.
NUMBERS = 30_000


def differing(mysql: Server, statements: str) -> dict[str, set[str]]:
    """Which keys differ, by kind, after that was done to a copy of a table of many rows."""
    columns = "(a int, b varchar(8), n int, PRIMARY KEY (a, b))"
    for schema in ("cmp_many", "cmp_many_v20"):
        mysql.sql(
            f"SET cte_max_recursion_depth = {NUMBERS}; CREATE DATABASE {schema};"
            f"CREATE TABLE {schema}.many {columns}; INSERT INTO {schema}.many WITH RECURSIVE r AS"
            f" (SELECT 1 n UNION ALL SELECT n + 1 FROM r WHERE n < {NUMBERS})"
            " SELECT n DIV 100, LPAD(n, 6, '0'), n FROM r"
        )
    mysql.sql(f"USE cmp_many_v20; {statements}")
    found = compare_query_results("cmp_many", "cmp_many_v20", "Many", connection=mysql.url)
    assert not found["match"]
    kinds: dict[str, set[str]] = {}
    for one in found["discrepancies"]:
        kinds.setdefault(one["kind"], set()).add(one["key"]["b"].lstrip("0"))
    return kinds


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (
            "UPDATE many SET n = -1 WHERE n IN (1, 4096, 4097, 20000, 30000)",
            {"differs": {"1", "4096", "4097", "20000", "30000"}},
        ),
        ("DELETE FROM many WHERE n IN (5000, 29999)", {"missing": {"5000", "29999"}}),
        (
            "INSERT INTO many VALUES (40, '4096x', 0), (900, '1', 0), (0, '', 0)",
            {"extra": {"", "4096x", "1"}},
        ),
        (
            "DELETE FROM many WHERE n = 100; INSERT INTO many VALUES (250, 'x', 0);"
            "UPDATE many SET n = 0 WHERE n = 12345",
            {"missing": {"100"}, "differs": {"12345"}, "extra": {"x"}},
        ),
        (
            "UPDATE many SET b = CONCAT(b, 'y') WHERE n = 9000",
            {"missing": {"9000"}, "extra": {"9000y"}},
        ),
    ],
)
def test_of_many_rows_exactly_those_that_differ_are_named(
    mysql: Server, fresh: Fresh, statements: str, expected: dict[str, set[str]]
) -> None:
    fresh(mysql, "cmp_many", "cmp_many_v20")
    assert differing(mysql, statements) == expected


@pytest.mark.parametrize("emptied", ["cmp_many", "cmp_many_v20"])
def test_a_side_without_rows_lacks_all_of_them(mysql: Server, fresh: Fresh, emptied: str) -> None:
    fresh(mysql, "cmp_many", "cmp_many_v20")
    kinds = differing(mysql, f"DELETE FROM {emptied}.many")
    assert {kind: len(keys) for kind, keys in kinds.items()} == {
        "extra" if emptied == "cmp_many" else "missing": 1000
    }
