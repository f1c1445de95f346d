"""MariaDB as the server of production: the functions whose own tests use MySQL."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pytest

from conftest import Fresh
from datajoint_migrate import (
    add_job_metadata_columns,
    analyze_columns,
    check_setup,
    check_store_configuration,
    compare_query_results,
    compare_schemas,
    copy_all_data,
    copy_table_data,
    create_parallel_schema,
    inspect_schemas,
    migrate_columns,
    migrate_external_to_v20,
    populate_v2_columns,
    rebuild_lineage,
    scan,
    verify_schema_v20,
)
from servers import Server
from small import MICE, RECORDINGS, Small, make


@pytest.fixture
def small(mariadb: Server, mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    names = [f"mdb_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")]
    fresh(mariadb, *names)
    fresh(mysql, *names)
    return make(mariadb, "mdb", tmp_path / "store")


def test_what_is_there_is_told(small: Small) -> None:
    url = small.server.url
    found = inspect_schemas(
        [small.rig, small.lab], connection=url, source_stores=small.source_stores
    )
    assert found["groups"] == [[small.lab, small.rig]]
    assert [one["kind"] for one in found["schemas"]] == ["0.14", "0.14"]
    assert [one["obstacles"] for one in found["schemas"]] == [[], []]
    assert found["schemas"][0]["stores"] == {"raw": ["attach", "blob", "filepath"]}


def test_a_destination_on_mariadb_is_not_fine_and_one_on_mysql_is(
    small: Small, mysql: Server
) -> None:
    url = small.server.url
    told = check_setup(small.map, connection=url, **small.stores)
    assert [check["name"] for check in told["checks"] if not check["ok"]] == ["destination"]
    told = check_setup(small.map, connection=url, dest_connection=mysql.url, **small.stores)
    assert told["ok"], told["checks"]


def test_a_table_is_scanned(small: Small) -> None:
    stream = scan(small.lab, "Mouse", ["mouse_id", "weight"], connection=small.server.url)
    table = pyarrow.RecordBatchReader.from_stream(stream).read_all()
    assert sorted(table.column("mouse_id").to_pylist()) == list(range(MICE))


@pytest.mark.quick
def test_the_guides_steps_lead_from_mariadb_to_mysql(small: Small, mysql: Server) -> None:
    ends = {"connection": small.server.url, "dest_connection": mysql.url}
    for source, dest in small.map.items():
        made = create_parallel_schema(source, dest, schema_map=small.map, **ends)
        assert made["tables_created"] == len(made["tables"])
    lab, rig = small.map[small.lab], small.map[small.rig]
    assert copy_table_data(small.lab, lab, "Species", **ends)["rows_copied"] == 2
    rest = ["Mouse", "Session", "Session.Trial"]
    assert copy_all_data(small.lab, lab, tables=rest, **ends)["rows_copied"] == 3 * MICE
    assert copy_table_data(small.rig, rig, "Recording", **ends)["rows_copied"] == RECORDINGS
    for column in ("signal", "movie", "paper"):
        files = column == "paper"
        done = migrate_external_to_v20(
            rig, "Recording", column, "raw", "raw", files, **ends, **small.stores
        )
        assert done["errors"] == []
        assert done["files_copied"] == (RECORDINGS - 1 if files else 0)
    assert compare_query_results(small.rig, rig, "Recording", **ends)["match"]
    for source, dest in small.map.items():
        compared = compare_schemas(source, dest, **ends)
        assert (compared["match"], compared["structure"]) == (True, [])
        assert verify_schema_v20(dest, connection=mysql.url)["compatible"]


def test_a_schema_is_labelled_where_it_stands(small: Small) -> None:
    url = small.server.url
    before = {
        row["column"] for row in analyze_columns(small.lab, connection=url)["needs_migration"]
    }
    assert before
    migrate_columns(small.lab, dry_run=False, connection=url)
    assert analyze_columns(small.lab, connection=url)["needs_migration"] == []
    default = (
        "SELECT COLUMN_DEFAULT FROM information_schema.COLUMNS"
        f" WHERE TABLE_SCHEMA = '{small.lab}' AND TABLE_NAME = 'mouse' AND COLUMN_NAME = 'weight'"
    )
    assert small.value(default) == "12.5"
    rebuilt = rebuild_lineage([small.lab, small.rig], dry_run=False, connection=url)
    assert rebuilt["status"] == "rebuilt"
    assert small.count(small.lab, "~lineage") == rebuilt["schemas"][small.lab] > 0
    added = add_job_metadata_columns(small.rig, dry_run=False, connection=url)
    assert added["tables_modified"] == 1


def test_stores_are_looked_at_and_2x_gets_a_part_of_its_own(small: Small) -> None:
    url = small.server.url
    looked = check_store_configuration(small.rig, connection=url, **small.stores)
    assert looked["stores_missing"] == []
    made = populate_v2_columns(small.rig, "Recording", "signal", connection=url, **small.stores)
    assert made["rows"] == RECORDINGS
    again = populate_v2_columns(small.rig, "Recording", "signal", connection=url, **small.stores)
    assert again["rows"] == 0
