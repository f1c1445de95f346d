"""create_parallel_schema: the same tables beside production."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    ForeignKeyLeavesMap,
    InvalidArgument,
    NotFound,
    PermissionMissing,
    Unconvertible,
    create_parallel_schema,
    verify_schema_v20,
)
from servers import Server
from small import MICE, Small, make


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"par_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "par", tmp_path / "store")


def tables(small: Small, schema: str) -> int:
    """What the guide counts: every table of information_schema, hidden ones too."""
    where = f"WHERE TABLE_SCHEMA='{schema}'"
    return int(small.value(f"SELECT COUNT(*) FROM information_schema.TABLES {where}") or 0)


def test_both_schemas_have_equally_many_tables_and_the_copy_has_lineage(small: Small) -> None:
    made = create_parallel_schema(small.lab, small.map[small.lab], connection=small.server.url)

    assert made["tables_created"] == tables(small, small.lab)
    assert tables(small, small.map[small.lab]) == tables(small, small.lab)
    assert not made["data_copied"]
    origin = small.value(
        f"SELECT lineage FROM `{small.map[small.lab]}`.`~lineage`"
        " WHERE table_name='session__trial' AND attribute_name='mouse_id'"
    )
    assert origin == f"{small.map[small.lab]}.mouse.mouse_id"
    assert small.count(small.map[small.lab], "mouse") == 0


def test_keys_point_into_the_copies_whatever_comes_first(small: Small) -> None:
    for source in (small.rig, small.lab):
        create_parallel_schema(
            source, small.map[source], schema_map=small.map, connection=small.server.url
        )

    leading = small.server.sql(
        "SELECT DISTINCT REFERENCED_TABLE_SCHEMA FROM information_schema.KEY_COLUMN_USAGE"
        f" WHERE TABLE_SCHEMA='{small.map[small.rig]}' AND REFERENCED_TABLE_NAME IS NOT NULL"
    )
    assert leading == [(small.map[small.lab],)]
    small.server.sql(f"DELETE FROM `{small.lab}`.session__trial; DELETE FROM `{small.lab}`.session")


def test_a_second_call_finds_everything_made(small: Small) -> None:
    call = (small.lab, small.map[small.lab])
    create_parallel_schema(*call, connection=small.server.url)
    assert create_parallel_schema(*call, connection=small.server.url)["tables_created"] == 0


def test_a_half_made_schema_is_completed(small: Small) -> None:
    call = (small.lab, small.map[small.lab])
    create_parallel_schema(*call, connection=small.server.url)
    small.server.sql(f"DROP TABLE `{call[1]}`.session__trial, `{call[1]}`.`~lineage`")
    assert create_parallel_schema(*call, connection=small.server.url)["tables_created"] == 2


def test_the_data_comes_along_when_asked_for(small: Small) -> None:
    dest = small.map[small.lab]
    made = create_parallel_schema(small.lab, dest, copy_data=True, connection=small.server.url)
    assert made["data_copied"]
    assert small.count(dest, "session__trial") == MICE
    assert verify_schema_v20(dest, connection=small.server.url)["compatible"]


def test_a_dry_run_shows_the_statements_and_writes_nothing(small: Small) -> None:
    dest = small.map[small.lab]
    plan = create_parallel_schema(small.lab, dest, dry_run=True, connection=small.server.url)
    assert any("`mouse`" in statement for statement in plan["ddl"])
    assert dest not in small.schemas_there()


def test_external_columns_wait_or_become_json(small: Small) -> None:
    for mode, kind in (("defer", "binary"), ("convert", "json")):
        small.server.sql(f"DROP DATABASE IF EXISTS `{small.map[small.rig]}`")
        create_parallel_schema(
            small.rig,
            small.map[small.rig],
            schema_map=small.map,
            external=mode,
            connection=small.server.url,
        )
        where = f"TABLE_SCHEMA='{small.map[small.rig]}' AND COLUMN_NAME='signal'"
        found = f"SELECT DATA_TYPE FROM information_schema.COLUMNS WHERE {where}"
        assert small.value(found) == kind


def test_unsigned_keys_widen_together_with_what_refers_to_them(small: Small) -> None:
    create_parallel_schema(
        small.lab, small.map[small.lab], unsigned="widen", connection=small.server.url
    )
    where = f"TABLE_SCHEMA='{small.map[small.lab]}' AND COLUMN_NAME='mouse_id'"
    found = small.server.sql(
        f"SELECT DISTINCT COLUMN_TYPE FROM information_schema.COLUMNS WHERE {where}"
    )
    assert found == [("bigint",)]


def test_a_value_too_big_to_widen_stops_before_anything_is_made(small: Small) -> None:
    small.server.sql(
        f"CREATE TABLE `{small.lab}`.big (id bigint unsigned NOT NULL PRIMARY KEY);"
        f"INSERT INTO `{small.lab}`.big VALUES (18446744073709551615)"
    )
    with pytest.raises(Unconvertible, match=r"big\.id"):
        create_parallel_schema(
            small.lab, small.map[small.lab], unsigned="widen", connection=small.server.url
        )
    assert small.map[small.lab] not in small.schemas_there()


def test_a_wrong_schema_is_named_with_its_near_misses(small: Small) -> None:
    with pytest.raises(NotFound, match="par_lab"):
        create_parallel_schema("par_labb", "par_lab_v20", connection=small.server.url)


def test_a_key_leaving_the_map_names_the_schema_to_add(small: Small) -> None:
    with pytest.raises(ForeignKeyLeavesMap, match=rf"add '{small.lab}' to schema_map"):
        create_parallel_schema(small.rig, small.map[small.rig], connection=small.server.url)
    assert small.map[small.rig] not in small.schemas_there()


@pytest.mark.parametrize(
    "filler",
    [
        "CREATE TABLE `{dest}`.mine (id int PRIMARY KEY)",
        "CREATE TABLE `{dest}`.mouse (id int PRIMARY KEY)",
    ],
    ids=["foreign table", "other definition"],
)
def test_a_destination_with_something_else_is_refused(small: Small, filler: str) -> None:
    dest = small.map[small.lab]
    small.server.sql(f"CREATE DATABASE `{dest}`; {filler.format(dest=dest)}")
    with pytest.raises(DestinationNotEmpty, match=dest):
        create_parallel_schema(small.lab, dest, connection=small.server.url)
    assert tables(small, dest) == 1


def test_a_destination_with_rows_is_refused(small: Small) -> None:
    dest = small.map[small.lab]
    create_parallel_schema(small.lab, dest, connection=small.server.url)
    small.server.sql(f"INSERT INTO `{dest}`.`#species` VALUES ('mine')")
    with pytest.raises(DestinationNotEmpty, match="#species"):
        create_parallel_schema(small.lab, dest, connection=small.server.url)


def test_a_missing_privilege_is_named(small: Small) -> None:
    small.server.sql(
        "CREATE USER IF NOT EXISTS 'par_reader'@'%' IDENTIFIED BY 'x';"
        f"GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `{small.lab}`.* TO 'par_reader'@'%'"
    )
    reader = {"host": "127.0.0.1", "port": small.server.port, "user": "par_reader", "password": "x"}
    try:
        with pytest.raises(PermissionMissing, match="CREATE"):
            create_parallel_schema(small.lab, small.map[small.lab], connection=reader)
    finally:
        small.server.sql("DROP USER 'par_reader'@'%'")
    assert small.map[small.lab] not in small.schemas_there()


@pytest.mark.parametrize(
    ("source", "dest", "options"),
    [
        ("par_lab", "par_lab", {}),
        ("par_lab", "", {}),
        ("par_lab", "x" * 65, {}),
        ("par_lab", "par_lab_v20", {"external": "later"}),
        ("par_lab", "par_lab_v20", {"unsigned": "yes"}),
        ("par_lab", "par_lab_v20", {"schema_map": {"par_lab": "other"}}),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(
    small: Small, source: str, dest: str, options: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument):
        create_parallel_schema(source, dest, connection=small.server.url, **options)  # type: ignore[arg-type]
