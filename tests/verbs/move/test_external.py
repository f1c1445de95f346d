"""migrate_external_to_v20: BINARY(16) pointers of a parallel schema become JSON."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    ExternalMissing,
    InvalidArgument,
    NotFound,
    StoreMissing,
    Unconvertible,
    copy_all_data,
    create_parallel_schema,
    migrate_external_to_v20,
    verify_schema_v20,
)
from servers import Server
from small import RECORDINGS, Small, make


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"ext_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    made = make(mysql, "ext", tmp_path / "store")
    for source, dest in made.map.items():
        create_parallel_schema(source, dest, schema_map=made.map, connection=mysql.url)
        copy_all_data(source, dest, connection=mysql.url)
    return made


def convert(
    small: Small, attribute: str, copy_files: bool = False, **options: Any
) -> dict[str, Any]:
    """One column, the guide's way."""
    return migrate_external_to_v20(
        schema=small.map[small.rig],
        table="Recording",
        attribute=attribute,
        source_store=options.pop("source_store", "external-raw"),
        dest_store="raw",
        copy_files=copy_files,
        connection=small.server.url,
        **{**small.stores, **options},
    )


def values(small: Small, attribute: str) -> list[Any]:
    """The JSON of a column, in key order."""
    sql = f"SELECT `{attribute}` FROM `{small.map[small.rig]}`._recording ORDER BY recording_id"
    return [json.loads(row[0]) if row[0] else None for row in small.server.sql(sql)]


def definition(small: Small) -> str:
    """SHOW CREATE TABLE of the copy."""
    return str(small.server.sql(f"SHOW CREATE TABLE `{small.map[small.rig]}`._recording")[0][1])


def test_blobs_are_read_where_they_are_and_no_file_is_touched(small: Small) -> None:
    before = sorted(small.root.rglob("*"))
    result = convert(small, "signal")
    assert result == {"rows_migrated": RECORDINGS, "files_copied": 0, "errors": []}
    assert sorted(small.root.rglob("*")) == before
    for value in values(small, "signal"):
        assert (small.root / value["path"]).is_file()
        assert value["store"] == "raw"


def test_the_column_keeps_its_place_and_gets_its_marker(small: Small) -> None:
    convert(small, "signal")
    columns = small.server.sql(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_NAME='_recording'"
        f" AND TABLE_SCHEMA='{small.map[small.rig]}' ORDER BY ORDINAL_POSITION"
    )
    assert [row[0] for row in columns] == [
        "recording_id", "mouse_id", "signal", "paper", "movie", "rate",
    ]  # fmt: skip
    assert "json NOT NULL COMMENT ':<blob@raw>:the signal: raw'" in definition(small)
    assert "_migrate" not in definition(small)


def test_every_kind_is_copied_and_verified(small: Small) -> None:
    for attribute, files in (("signal", 4), ("paper", RECORDINGS - 1), ("movie", 0)):
        result = convert(small, attribute, copy_files=True)
        assert result["files_copied"] == files, attribute
        for value in values(small, attribute):
            if value is not None:
                file = small.root / value["path"]
                assert file.stat().st_size == value["size"]
    assert verify_schema_v20(small.map[small.rig], connection=small.server.url)["compatible"]


def test_filepaths_go_to_another_folder_when_copied(small: Small, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    elsewhere = {"raw": {"protocol": "file", "location": str(tmp_path / "new")}}
    result = convert(small, "movie", copy_files=True, dest_stores=elsewhere)
    assert result["files_copied"] == RECORDINGS - 1
    assert (tmp_path / "new" / "movies" / "m 2.avi").is_file()


def test_files_of_rows_that_production_has_no_more_come_along(small: Small, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    elsewhere = {"raw": {"protocol": "file", "location": str(tmp_path / "new")}}
    small.server.sql(
        f"SET foreign_key_checks = 0; DELETE FROM `{small.rig}`._recording WHERE recording_id = 2"
    )
    result = convert(small, "movie", copy_files=True, dest_stores=elsewhere)
    assert result["rows_migrated"] == RECORDINGS - 1
    for value in values(small, "movie"):
        assert value is None or (tmp_path / "new" / value["path"]).is_file()


def test_files_are_copied_by_other_processes(small: Small, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    elsewhere = {"raw": {"protocol": "file", "location": str(tmp_path / "new")}}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        executor = Mock(wraps=pool)
        result = convert(small, "movie", copy_files=True, dest_stores=elsewhere, executor=executor)
    assert executor.submit.call_count > 0
    assert result["files_copied"] == RECORDINGS - 1
    assert (tmp_path / "new" / "movies" / "m 2.avi").is_file()


def test_attachments_say_that_they_have_to_be_rewritten(small: Small) -> None:
    with pytest.raises(Unconvertible, match="copy_files=True"):
        convert(small, "paper")
    assert "`paper` binary(16)" in definition(small)


def test_attachments_whose_objects_are_there_need_no_copy(small: Small) -> None:
    convert(small, "paper", copy_files=True)
    dest = small.map[small.rig]
    small.server.sql(f"DROP TABLE `{dest}`._recording")
    create_parallel_schema(small.rig, dest, schema_map=small.map, connection=small.server.url)
    copy_all_data(small.rig, dest, connection=small.server.url)
    assert convert(small, "paper")["rows_migrated"] == RECORDINGS - 1


def test_a_second_call_finds_nothing_to_do(small: Small) -> None:
    convert(small, "signal")
    assert convert(small, "signal")["rows_migrated"] == 0


def test_a_call_killed_half_way_is_done_by_the_same_call(small: Small) -> None:
    table = f"`{small.map[small.rig]}`._recording"
    small.server.sql(
        f"ALTER TABLE {table} ADD `_migrate_signal` json NULL AFTER `signal`;"
        f"UPDATE {table} SET `_migrate_signal` = '{{\"old\": 1}}' WHERE recording_id < 3;"
        f"CREATE TABLE `{small.map[small.rig]}`.`~migrate_pointers` (hash binary(16))"
    )
    assert convert(small, "signal")["rows_migrated"] == RECORDINGS
    assert all("path" in value for value in values(small, "signal"))
    assert "_migrate" not in definition(small)


@pytest.mark.parametrize(
    "kind", ["json NULL", "json NULL COMMENT 'mine'", "int NULL", "varchar(9) NOT NULL DEFAULT 'x'"]
)
def test_a_column_that_only_has_the_name_of_ours_is_not_dropped(small: Small, kind: str) -> None:
    table = f"`{small.map[small.rig]}`._recording"
    small.server.sql(f"ALTER TABLE {table} ADD `_migrate_signal` {kind}")
    before, files = definition(small), sorted(small.root.rglob("*"))
    for dry_run in (True, False):
        with pytest.raises(DestinationNotEmpty, match="_migrate_signal is in the way"):
            convert(small, "signal", copy_files=True, dry_run=dry_run)
    assert definition(small) == before
    assert sorted(small.root.rglob("*")) == files


def test_what_an_interrupted_call_left_for_other_arguments_is_made_anew(small: Small) -> None:
    table = f"`{small.map[small.rig]}`._recording"
    add, *_ = convert(small, "signal", dry_run=True, final_schema="another")["sql"]
    small.server.sql(add + f"; UPDATE {table} SET `_migrate_signal` = '{{}}'")
    assert convert(small, "signal")["rows_migrated"] == RECORDINGS
    assert all("path" in value for value in values(small, "signal"))
    assert "_migrate" not in definition(small)


def test_a_dry_run_shows_the_statements(small: Small) -> None:
    result = convert(small, "signal", dry_run=True)
    assert any("DROP COLUMN `signal`" in statement for statement in result["sql"])
    assert "`signal` binary(16)" in definition(small)


def test_a_dry_run_is_refused_what_a_call_would_be(small: Small) -> None:
    before = definition(small)
    with pytest.raises(Unconvertible, match="have to be written anew"):
        convert(small, "paper", dry_run=True)
    (small.root / "movies" / "m 3.avi").unlink()
    for dry_run in (True, False):
        with pytest.raises(ExternalMissing, match=r"1 file that .*movie refers to is missing"):
            convert(small, "movie", copy_files=True, dry_run=dry_run)
    assert definition(small) == before


def test_a_missing_tracking_row_leaves_the_column_as_it_was(small: Small) -> None:
    small.server.sql(
        "SET foreign_key_checks=0;"
        f"DELETE FROM `{small.rig}`.`~external_raw` WHERE filepath = 'movies/m 2.avi'"
    )
    with pytest.raises(ExternalMissing, match=r"1 value of .*movie"):
        convert(small, "movie")
    assert "`movie` binary(16)" in definition(small)
    assert "_migrate" not in definition(small)


def test_a_missing_file_leaves_the_column_as_it_was(small: Small) -> None:
    path = next(path for path in small.objects.values() if path.name.endswith("paper 4.pdf"))
    path.unlink()
    with pytest.raises(ExternalMissing, match="paper 4"):
        convert(small, "paper", copy_files=True)
    assert "`paper` binary(16)" in definition(small)


def test_a_store_that_is_not_configured_is_named(small: Small) -> None:
    with pytest.raises(StoreMissing, match="'raw'"):
        convert(small, "signal", source_stores={}, dest_stores={})


def test_a_wrong_store_or_column_is_named(small: Small) -> None:
    with pytest.raises(NotFound, match="'raw'"):
        convert(small, "signal", source_store="rw")
    with pytest.raises(NotFound, match="'signal'"):
        convert(small, "signall")
    with pytest.raises(Unconvertible, match="rate"):
        convert(small, "rate")


def test_a_store_the_column_does_not_point_into_is_refused(small: Small) -> None:
    small.server.sql(
        f"CREATE TABLE `{small.rig}`.`~external_arc` LIKE `{small.rig}`.`~external_raw`"
    )
    with pytest.raises(InvalidArgument, match="points into the store 'raw'"):
        convert(small, "signal", source_store="arc", source_schema=small.rig)


def test_a_copy_that_does_not_know_its_origin_is_told(small: Small) -> None:
    dest = small.map[small.rig]
    other = "ext_lab_v20"
    small.server.sql(
        f"CREATE TABLE `{other}`.`_recording` LIKE `{dest}`._recording;"
        f"INSERT INTO `{other}`.`_recording` SELECT * FROM `{dest}`._recording"
    )
    call = (other, "Recording", "signal", "raw", "raw")
    with pytest.raises(NotFound, match="source_schema="):
        migrate_external_to_v20(*call, connection=small.server.url, **small.stores)
    result = migrate_external_to_v20(
        *call, source_schema=small.rig, connection=small.server.url, **small.stores
    )
    assert result["rows_migrated"] == RECORDINGS
