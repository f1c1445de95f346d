"""verify_schema_v20: what keeps 2.x from using a schema, named by table and column."""

from __future__ import annotations

import pytest

from conftest import Fresh, drop
from datajoint_migrate import (
    NotFound,
    copy_all_data,
    create_parallel_schema,
    rebuild_lineage,
    verify_schema_v20,
)
from servers import Server
from small import Small, make


@pytest.fixture(scope="module")
def module_small(mysql: Server, tmp_path_factory: pytest.TempPathFactory) -> Small:
    drop(mysql, *(f"ver_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "ver", tmp_path_factory.mktemp("ver"))


@pytest.fixture
def small(module_small: Small, fresh: Fresh) -> Small:
    fresh(module_small.server, *module_small.map.values())
    for source, dest in module_small.map.items():
        create_parallel_schema(
            source,
            dest,
            schema_map=module_small.map,
            external="convert",
            connection=module_small.server.url,
        )
        copy_all_data(source, dest, connection=module_small.server.url, **module_small.stores)
    return module_small


def test_a_migrated_schema_is_compatible(small: Small) -> None:
    for dest in small.map.values():
        result = verify_schema_v20(dest, connection=small.server.url)
        assert result["compatible"], result
        assert result["lineage_exists"]
        assert result["issues"] == []
    assert result["blob_markers"]["external"] == 3


def test_production_is_not_compatible_and_every_column_says_why(small: Small) -> None:
    found = verify_schema_v20(small.rig, connection=small.server.url)
    assert not found["compatible"]
    assert not found["lineage_exists"]
    assert found["blob_markers"]["unconverted"] == 3
    assert any("_recording.signal" in issue for issue in found["issues"])


CHANGES = {
    "an unmarked blob": ("lab", "session__trial", "MODIFY data longblob", "session__trial.data"),
    "an old attach": (
        "lab",
        "session__trial",
        "MODIFY data longblob COMMENT ':attach:x'",
        "session__trial.data",
    ),
    "a type of no release": (
        "lab",
        "mouse",
        "MODIFY weight float COMMENT ':uint32:x'",
        "'uint32'",
    ),
    "a marker that does not match": (
        "lab",
        "mouse",
        "MODIFY weight float COMMENT ':int64:x'",
        "mouse.weight",
    ),
    "a pointer that is not json": (
        "rig",
        "_recording",
        "DROP `signal`, ADD `signal` binary(16) COMMENT ':<blob@raw>:'",
        "_recording.signal",
    ),
    "a marker without a store": (
        "rig",
        "_recording",
        "MODIFY `signal` json COMMENT ':<blob@>:'",
        "names no store",
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_2x_cannot_read_is_an_issue(small: Small, change: tuple[str, ...]) -> None:
    which, table, alteration, said = change
    schema = small.map[small.lab if which == "lab" else small.rig]
    small.server.sql(f"ALTER TABLE `{schema}`.`{table}` {alteration}")
    result = verify_schema_v20(schema, connection=small.server.url)
    assert not result["compatible"]
    assert any(said in issue for issue in result["issues"]), result["issues"]


def test_a_pointer_without_its_path_is_an_issue(small: Small) -> None:
    table = f"`{small.map[small.rig]}`._recording"
    small.server.sql(
        f"UPDATE {table} SET `signal` = JSON_REMOVE(`signal`, '$.path') WHERE recording_id = 1;"
        f"UPDATE {table} SET movie = JSON_SET(movie, '$.size', NULL) WHERE recording_id = 2"
    )
    issues = verify_schema_v20(small.map[small.rig], connection=small.server.url)["issues"]
    assert any("_recording.signal: 1 " in issue for issue in issues)
    assert any("_recording.movie: 1 " in issue for issue in issues)


def test_lineage_of_another_schema_or_none_is_an_issue(small: Small) -> None:
    dest = small.map[small.lab]
    small.server.sql(
        f"UPDATE `{dest}`.`~lineage` SET lineage = REPLACE(lineage, '{dest}', 'x');"
        f"DELETE FROM `{dest}`.`~lineage` WHERE table_name = 'mouse'"
    )
    issues = verify_schema_v20(dest, connection=small.server.url)["issues"]
    assert any("mouse.mouse_id: no row" in issue for issue in issues)
    assert any("session.mouse_id: ~lineage says x." in issue for issue in issues)

    both = list(small.map.values())
    plan = rebuild_lineage(both, connection=small.server.url)
    assert plan["status"] == "dry_run"
    assert not verify_schema_v20(dest, connection=small.server.url)["compatible"]
    done = rebuild_lineage(both, dry_run=False, connection=small.server.url)
    assert (done["status"], done["lineage_entries"]) == ("rebuilt", plan["lineage_entries"])
    assert verify_schema_v20(dest, connection=small.server.url)["compatible"]


def test_a_reference_into_a_schema_that_is_not_migrated_is_an_issue(small: Small) -> None:
    small.server.sql(f"DROP TABLE `{small.map[small.lab]}`.`~lineage`")
    issues = verify_schema_v20(small.map[small.rig], connection=small.server.url)["issues"]
    assert any("not migrated" in issue for issue in issues)


def test_the_journal_of_an_unfinished_copy_is_an_issue(small: Small) -> None:
    dest = small.map[small.lab]
    small.server.sql(f"CREATE TABLE `{dest}`.`~migrate_journal` (a int)")
    issues = verify_schema_v20(dest, connection=small.server.url)["issues"]
    assert any("~migrate_journal" in issue for issue in issues)


def test_a_wrong_schema_is_named_with_its_near_misses(small: Small) -> None:
    with pytest.raises(NotFound, match=small.lab):
        verify_schema_v20("ver_lap", connection=small.server.url)
