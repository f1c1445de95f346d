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
