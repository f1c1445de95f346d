"""migrate_external and migrate_filepath: columns of a schema become JSON where they stand."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import inplace_pipeline
from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    ExternalMissing,
    InvalidArgument,
    StoreMissing,
    Unconvertible,
    migrate_blob_columns,
    migrate_external,
    migrate_filepath,
    rebuild_lineage,
    verify_external_integrity,
    verify_schema_v20,
)
from inplace_pipeline import Pipeline
from killing import killed_before
from line import Harm, Packet, line
from servers import Server
from small import RECORDINGS, Small, add_recording, make

SCHEMA = "inplace_lab"


@pytest.fixture
def pipeline(server: Server, fresh: Fresh, tmp_path: Path) -> Pipeline:
    fresh(server, SCHEMA)
    return inplace_pipeline.make(server, SCHEMA, tmp_path)


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(server, "inp_rig", "inp_lab")
    return make(server, "inp", tmp_path / "store")


def ddl(small: Small) -> str:
    return str(small.server.sql(f"SHOW CREATE TABLE `{small.rig}`._recording")[0][1])


def run(small: Small, **options: Any) -> dict[str, Any]:
    """migrate_external on the small pipeline's schema with external columns."""
    return migrate_external(small.rig, connection=small.server.url, **small.stores, **options)


def everything(pipeline: Pipeline, **options: Any) -> list[dict[str, Any]]:
    call = {"connection": pipeline.server.url, **pipeline.stores, **options}
    return [migrate_external(SCHEMA, **call), migrate_filepath(SCHEMA, **call)]


@pytest.mark.parametrize("version", ["2.3.5", "2.0.0"])
def test_2x_reads_and_writes_what_was_migrated_in_place(pipeline: Pipeline, version: str) -> None:
    before = pipeline.columns()
    everything(pipeline, dry_run=False)
    everything(pipeline, finalize=True)
    migrate_blob_columns(SCHEMA, dry_run=False, connection=pipeline.server.url)
    rebuild_lineage(SCHEMA, dry_run=False, connection=pipeline.server.url)

    assert pipeline.client(version, "fetch") == pipeline.fetched
    verdict = verify_schema_v20(SCHEMA, connection=pipeline.server.url)
    assert verdict["compatible"], verdict["issues"]
    assert pipeline.columns() == before
    checked = verify_external_integrity(
        SCHEMA, level="hash", connection=pipeline.server.url, **pipeline.stores
    )
    assert checked["missing"] == []
    if "maria" not in str(pipeline.value("SELECT VERSION()")).lower():
        # 2.x cannot insert into store columns on MariaDB.
        assert pipeline.client(version, "insert") == "ok"
        assert pipeline.client(version, "fetch")["0.9"]["movie"] == [1, 2]


def test_the_new_columns_can_be_looked_at_with_2x_before_they_take_their_places(
    pipeline: Pipeline,
) -> None:
    everything(pipeline, dry_run=False)
    rows = pipeline.client("2.3.5", "fetch")
    for key, row in pipeline.fetched.items():
        for column in inplace_pipeline.EXTERNAL:
            assert rows[key][f"{column}_v2"] == row[column], (key, column)


def test_the_definition_changes_in_nothing_but_the_type_and_the_keys_to_the_store(
    pipeline: Pipeline,
) -> None:
    everything(pipeline, dry_run=False)
    everything(pipeline, finalize=True)
    text = pipeline.ddl()
    assert "`movie` json NOT NULL COMMENT ':<blob@raw>:the mouse''s" in text or (
        "`movie` longtext" in text and "NOT NULL COMMENT ':<blob@raw>:the mouse''s \"film\"" in text
    )
    assert "~external" not in text
    assert "_v2" not in text
    assert "KEY `movie`" not in text
    assert "FOREIGN KEY (`mouse`)" in text


def test_a_dry_run_counts_says_how_and_changes_nothing(pipeline: Pipeline) -> None:
    before = pipeline.ddl()
    external, filepath = everything(pipeline, dry_run=True)
    assert (external["columns_found"], filepath["columns_found"]) == (2, 1)
    assert {d["column"]: d["rows"] for d in external["details"]} == {"movie": 5, "paper": 4}
    assert all(d["status"] == "dry_run" for d in external["details"] + filepath["details"])
    assert pipeline.ddl() == before
    made = everything(pipeline, dry_run=False)
    plan = external["details"] + filepath["details"]
    for said, done in zip(plan, made[0]["details"] + made[1]["details"], strict=True):
        assert said["algorithm"] == done["algorithm"]
    plan = [
        d for result in everything(pipeline, dry_run=True, finalize=True) for d in result["details"]
    ]
    assert "_v2" in pipeline.ddl()
    assert "~external" in pipeline.ddl()
    done_ = [d for result in everything(pipeline, finalize=True) for d in result["details"]]
    assert [d["algorithm"] for d in plan] == [d["algorithm"] for d in done_]


def test_without_being_told_otherwise_it_only_plans(small: Small) -> None:
    before = ddl(small)
    assert run(small)["rows_migrated"] == 0
    assert ddl(small) == before


def test_a_second_call_takes_what_was_inserted_and_updated_since(small: Small) -> None:
    assert run(small, dry_run=False)["rows_migrated"] == 2 * RECORDINGS - 1
    again = run(small, dry_run=False)
    assert (again["rows_migrated"], again["columns_migrated"]) == (0, 0)
    assert {d["status"] for d in again["details"]} == {"already_migrated"}
    table = f"`{small.rig}`._recording"
    small.server.sql(
        f"INSERT INTO {table} (recording_id, mouse_id, `signal`) SELECT 99, 1, `signal`"
        f" FROM {table} WHERE recording_id = 2; UPDATE {table} SET `signal` = (SELECT s FROM"
        f" (SELECT `signal` s FROM {table} WHERE recording_id = 6) x), paper = NULL"
        " WHERE recording_id = 2"
    )
    assert run(small, dry_run=False)["rows_migrated"] == 3
    run(small, finalize=True)
    rows = small.server.sql(f"SELECT recording_id, `signal`, paper FROM {table}")
    values = {row[0]: row[1] and json.loads(row[1])["hash"] for row in rows}
    assert values["2"] == values["6"] != values["99"]
    assert {row[0] for row in rows if row[2] is None} == {"1", "2", "99"}


def test_finalizing_takes_what_was_inserted_since(small: Small) -> None:
    run(small, dry_run=False)
    table = f"`{small.rig}`._recording"
    small.server.sql(
        f"INSERT INTO {table} (recording_id, mouse_id, `signal`) SELECT 99, 1, `signal`"
        f" FROM {table} WHERE recording_id = 2"
    )
    assert run(small, finalize=True)["rows_migrated"] == 1
    assert small.value(f"SELECT COUNT(*) FROM {table} WHERE `signal` IS NULL") == "0"


def test_finalizing_what_was_not_begun_is_refused(small: Small) -> None:
    with pytest.raises(InvalidArgument, match="no signal_v2"):
        run(small, finalize=True)


def test_a_foreign_v2_column_is_not_touched(small: Small) -> None:
    small.server.sql(f"ALTER TABLE `{small.rig}`._recording ADD paper_v2 int COMMENT 'mine'")
    before = ddl(small)
    with pytest.raises(DestinationNotEmpty, match="paper_v2 is there already"):
        run(small, dry_run=False)
    assert ddl(small) == before


def test_a_missing_file_a_lost_tracking_row_and_an_unknown_store_change_nothing(
    small: Small,
) -> None:
    before = ddl(small)
    with pytest.raises(StoreMissing):
        migrate_external(
            small.rig, False, source_stores={}, dest_stores={}, connection=small.server.url
        )
    path = next(path for path in small.objects.values() if path.name.endswith("paper 4.pdf"))
    path.rename(path.with_suffix(".away"))
    with pytest.raises(ExternalMissing, match="paper 4"):
        run(small, dry_run=False)
    path.with_suffix(".away").rename(path)
    small.server.sql(
        "SET foreign_key_checks=0;"
        f"DELETE FROM `{small.rig}`.`~external_raw` WHERE attachment_name = 'paper 5.pdf'"
    )
    with pytest.raises(ExternalMissing, match=r"_recording\.paper have no tracking row"):
        run(small, dry_run=False)
    assert ddl(small) == before


def test_an_attachment_that_comes_amid_the_work_is_written_anew_too(small: Small) -> None:
    with line(small.server, _once(b"ADD COLUMN", lambda: add_recording(small, 100))) as proxy:
        migrate_external(small.rig, False, connection=proxy.url, **small.stores)
    paper = small.value(f"SELECT paper_v2 FROM `{small.rig}`._recording WHERE recording_id = 100")
    assert paper is not None
    assert (small.root / json.loads(paper)["path"]).is_file()


def _once(words: bytes, happens: Callable[[], None]) -> Callable[[Packet], Harm]:
    done = threading.Event()

    def rule(packet: Packet) -> Harm:
        if packet.upward and words in packet.command and not done.is_set():
            done.set()
            happens()
        return None

    return rule


def test_a_trigger_is_not_run_behind_its_owners_back(small: Small) -> None:
    small.server.sql(
        f"CREATE TRIGGER `{small.rig}`.tick BEFORE UPDATE ON `{small.rig}`._recording"
        " FOR EACH ROW SET NEW.rate = 99"
    )
    with pytest.raises(Unconvertible, match="the trigger tick"):
        run(small, dry_run=False)


def test_a_column_that_notes_changes_notes_none(small: Small) -> None:
    table = f"`{small.rig}`._recording"
    small.server.sql(
        f"ALTER TABLE {table} ADD stamp timestamp NULL DEFAULT CURRENT_TIMESTAMP"
        f" ON UPDATE CURRENT_TIMESTAMP; UPDATE {table} SET stamp = '2001-02-03'"
    )
    assert run(small, dry_run=False)["rows_migrated"] == 2 * RECORDINGS - 1
    assert small.value(f"SELECT COUNT(*) FROM {table} WHERE stamp <> '2001-02-03'") == "0"


def test_a_unique_index_over_pointers_is_refused(small: Small) -> None:
    small.server.sql(f"ALTER TABLE `{small.rig}`._recording ADD UNIQUE INDEX u (movie, rate)")
    with pytest.raises(Unconvertible, match="unique key"):
        migrate_filepath(small.rig, False, connection=small.server.url, **small.stores)


def killed_ever_later(small: Small, **how: Any) -> int:
    """Kill the call before its first change, the next one before its second, until one ends."""
    for number in itertools.count(1):
        if not killed_before(
            small.server, number, "connection", "migrate_external", small.rig, **how, **small.stores
        ):
            return number - 1
    raise AssertionError


def test_a_call_killed_anywhere_is_done_by_the_same_call(small: Small) -> None:
    assert killed_ever_later(small, dry_run=False) > 5
    assert killed_ever_later(small, finalize=True) > 2
    while run(small, dry_run=True)["columns_found"]:
        remaining = run(small, dry_run=False)
        assert remaining["columns_found"]
        run(small, finalize=True)
    assert "_v2" not in ddl(small)
    assert "`signal` binary" not in ddl(small)
    table = f"`{small.rig}`._recording"
    assert small.value(f"SELECT COUNT(`signal`) FROM {table}") == str(RECORDINGS)
    assert small.value(f"SELECT COUNT(paper) FROM {table}") == str(RECORDINGS - 1)
    assert not small.server.sql(f"SHOW TABLES FROM `{small.rig}` LIKE '~migrate%'")
