"""The calls of the migration guide, phases 1, 3 and 4, with the arguments as printed there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    backup_schema,
    compare_query_results,
    copy_all_data,
    copy_table_data,
    create_parallel_schema,
    migrate_external_to_v20,
    restore_schema,
    verify_schema_v20,
)
from servers import Server, ServerError
from small import LOG, TRACKING, Small, _blob

PIPELINE = """CREATE DATABASE my_pipeline;
CREATE TABLE my_pipeline.mouse (mouse_id int unsigned NOT NULL PRIMARY KEY, dob date);
CREATE TABLE my_pipeline.session (mouse_id int unsigned NOT NULL, session_date date NOT NULL,
 PRIMARY KEY (mouse_id, session_date),
 FOREIGN KEY (mouse_id) REFERENCES my_pipeline.mouse (mouse_id));
CREATE TABLE my_pipeline.neuron (mouse_id int unsigned NOT NULL, neuron smallint NOT NULL,
 PRIMARY KEY (mouse_id, neuron), FOREIGN KEY (mouse_id) REFERENCES my_pipeline.mouse (mouse_id));
CREATE TABLE my_pipeline.__activity_stats (mouse_id int unsigned NOT NULL, neuron smallint NOT NULL,
 mean float, PRIMARY KEY (mouse_id, neuron), FOREIGN KEY (mouse_id, neuron)
 REFERENCES my_pipeline.neuron (mouse_id, neuron));
CREATE TABLE my_pipeline.activity_stats LIKE my_pipeline.__activity_stats;"""

RECORDING = """CREATE TABLE my_pipeline._recording (recording_id int unsigned NOT NULL PRIMARY KEY,
 `signal` binary(16) NOT NULL COMMENT ':blob@raw:', sampling_rate float,
 FOREIGN KEY (`signal`) REFERENCES my_pipeline.`~external_raw` (hash));"""

BACKUPS = (
    "my_pipeline_backup_20250114",
    "my_pipeline_restore_test",
    "my_pipeline_before_restore",
)


@pytest.fixture
def pipeline(
    mysql: Server, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Server:
    """`my_pipeline`, and DataJoint's configuration files where the guide's reader has them."""
    fresh(mysql, "my_pipeline", "my_pipeline_v20", *BACKUPS)
    store = tmp_path / "external"
    small = Small(mysql, "my_pipeline", store)
    mysql.sql(PIPELINE + LOG.format(schema="my_pipeline") + TRACKING.format(schema="my_pipeline"))
    mysql.sql(RECORDING)
    for mouse in range(5):
        mysql.sql(
            f"INSERT INTO my_pipeline.mouse VALUES ({mouse}, NULL);"
            f"INSERT INTO my_pipeline.session VALUES ({mouse}, '2024-02-0{mouse + 1}');"
            f"INSERT INTO my_pipeline.neuron VALUES ({mouse}, 1);"
            f"INSERT INTO my_pipeline.activity_stats VALUES ({mouse}, 1, {mouse} / 3)"
        )
    mysql.sql("CREATE DATABASE IF NOT EXISTS my_pipeline_rig")
    mysql.sql(TRACKING.format(schema="my_pipeline_rig"))
    fresh_rig = _blob(small, b"signal")
    mysql.sql(
        "INSERT INTO my_pipeline.`~external_raw` SELECT * FROM my_pipeline_rig.`~external_raw`;"
        f"INSERT INTO my_pipeline._recording VALUES (1, x'{fresh_rig}', 30000);"
        "DROP DATABASE my_pipeline_rig"
    )
    (store / "my_pipeline_rig").rename(store / "my_pipeline")
    (tmp_path / "datajoint.json").write_text(
        f'{{"stores": {{"default": "raw", "raw": {{"protocol": "file", "location": "{store}"}}}}}}'
    )
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("DJ_HOST", mysql.host),
        ("DJ_PORT", str(mysql.port)),
        ("DJ_USER", mysql.user),
        ("DJ_PASS", mysql.password),
    ):
        monkeypatch.setitem(os.environ, name, value)
    return mysql


def test_the_guide_as_printed(pipeline: Server) -> None:
    result = create_parallel_schema(
        source="my_pipeline",
        dest="my_pipeline_v20",
        copy_data=False,  # Just structure, no data yet
    )
    assert result["tables_created"] == 8

    def count(schema: str) -> str | None:
        return pipeline.sql(
            f"SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='{schema}'"
        )[0][0]

    prod_tables, test_tables = count("my_pipeline"), count("my_pipeline_v20")
    assert prod_tables == test_tables, "Schema copy incomplete"

    result = copy_table_data(
        source_schema="my_pipeline",
        dest_schema="my_pipeline_v20",
        table="Mouse",
        limit=None,  # Copy all
    )
    assert result["rows_copied"] == 5
    result = copy_table_data(
        source_schema="my_pipeline",
        dest_schema="my_pipeline_v20",
        table="Session",
        limit=100,
        where_clause="session_date >= '2024-01-01'",
    )
    assert result["rows_copied"] == 5

    for table in ("Neuron", "activity_stats", "Recording"):
        copy_table_data("my_pipeline", "my_pipeline_v20", table)
    result = migrate_external_to_v20(
        schema="my_pipeline_v20",
        table="Recording",
        attribute="signal",
        source_store="external-raw",  # 0.14.6 store
        dest_store="raw",  # 2.0 store
        copy_files=True,
    )
    assert (result["rows_migrated"], result["files_copied"], result["errors"]) == (1, 1, [])

    result = compare_query_results(
        prod_schema="my_pipeline",
        test_schema="my_pipeline_v20",
        table="activity_stats",
        tolerance=1e-6,
    )
    assert (result["match"], result["row_count"], result["discrepancies"]) == (True, 5, [])
    assert compare_query_results("my_pipeline", "my_pipeline_v20", "Recording")["match"]

    result = verify_schema_v20("my_pipeline_v20")
    assert result["compatible"], result["issues"]


def test_the_troubleshooting_calls_as_printed(pipeline: Server) -> None:
    create_parallel_schema(source="my_pipeline", dest="my_pipeline_v20")
    copy_table_data("my_pipeline", "my_pipeline_v20", "Mouse")
    copy_table_data("my_pipeline", "my_pipeline_v20", "Recording")
    result = copy_table_data(
        source_schema="my_pipeline",
        dest_schema="my_pipeline_v20",
        table="Session",
        where_clause="session_date >= '2024-01-01'",
        limit=1000,
    )
    assert result["rows_copied"] == 5
    result = migrate_external_to_v20(
        schema="my_pipeline_v20",
        table="Recording",
        attribute="signal",
        source_store="external-raw",
        dest_store="raw",
        copy_files=False,  # Skip file copy
    )
    assert (result["rows_migrated"], result["files_copied"]) == (1, 0)
    path = pipeline.sql("SELECT `signal`->>'$.path' FROM my_pipeline_v20._recording")[0][0]
    assert Path("external", str(path)).is_file()


def test_everything_goes_back_into_recreated_tables(pipeline: Server, fresh: Fresh) -> None:
    """Cutover B: production is dropped, declared by 2.x code, and filled from the copy."""
    create_parallel_schema("my_pipeline", "my_pipeline_v20", copy_data=True, external="convert")
    fresh(pipeline, "my_pipeline_new")
    create_parallel_schema("my_pipeline_v20", "my_pipeline_new")
    result = copy_all_data(source="my_pipeline_v20", dest="my_pipeline_new")
    assert result["rows_copied"] == 21
    assert verify_schema_v20("my_pipeline_new")["compatible"]


def test_backup_and_rollback_as_printed(pipeline: Server) -> None:
    """Phase 5: backup, test of the restore, and the rollback when production was dropped."""
    # Create timestamped backup
    result = backup_schema(schema="my_pipeline", backup_name="my_pipeline_backup_20250114")
    assert f"Backed up {result['tables_backed_up']} tables" == "Backed up 8 tables"
    assert f"Location: {result['backup_location']}" == "Location: my_pipeline_backup_20250114"

    # Test restore procedure (on different schema)
    restore_schema(backup="my_pipeline_backup_20250114", dest="my_pipeline_restore_test")
    # If successful, drop test: DROP DATABASE my_pipeline_restore_test
    pipeline.sql("DROP DATABASE my_pipeline_restore_test")

    # Cutover option B drops production; then something goes wrong.
    pipeline.sql("DROP DATABASE my_pipeline")
    result = restore_schema(backup="my_pipeline_backup_20250114", dest="my_pipeline")
    assert (result["tables_restored"], result["rows_restored"]) == (8, 5 * 4 + 1 + 1 + 1)
    with pytest.raises(ServerError, match="1451"):
        pipeline.sql("DELETE FROM my_pipeline.mouse")


def test_a_rollback_over_a_cut_over_schema_needs_overwrite(pipeline: Server) -> None:
    """After option A `my_pipeline` is the 2.x schema, which no restore takes away unasked."""
    backup_schema(schema="my_pipeline", backup_name="my_pipeline_backup_20250114")
    create_parallel_schema("my_pipeline", "my_pipeline_v20", copy_data=True, external="convert")
    pipeline.sql("DROP DATABASE my_pipeline; CREATE DATABASE my_pipeline")
    tables = [row[0] for row in pipeline.sql("SHOW TABLES FROM my_pipeline_v20")]
    moves = [f"my_pipeline_v20.`{name}` TO my_pipeline.`{name}`" for name in tables]
    pipeline.sql(f"RENAME TABLE {', '.join(moves)}")
    with pytest.raises(DestinationNotEmpty, match="overwrite=True"):
        restore_schema(backup="my_pipeline_backup_20250114", dest="my_pipeline")
    restored = restore_schema("my_pipeline_backup_20250114", "my_pipeline", overwrite=True)
    kind = "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE COLUMN_NAME='signal'"
    assert pipeline.sql(f"{kind} AND TABLE_SCHEMA='my_pipeline'") == [("binary(16)",)]
    assert pipeline.sql(f"{kind} AND TABLE_SCHEMA='{restored['kept']}'") == [("json",)]
