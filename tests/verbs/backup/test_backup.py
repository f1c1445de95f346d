"""backup_schema and restore_schema on a server: exact, proved, and nothing lost on the way."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import servers
from backups import (
    LAB_ROWS,
    NAMES,
    add_programs,
    backup,
    definitions,
    problems,
    programs,
    restore,
    rows,
    schemas,
)
from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    MigrationError,
    Mismatch,
    NotFound,
    PermissionMissing,
    backup_schema,
    restore_schema,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from full_pipeline import FullPipeline, reread
from servers import Server
from small import MICE, RECORDINGS, Small, make


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(server, *NAMES)
    return make(server, "bak", tmp_path / "store")


# -- what a backup is -------------------------------------------------------------------------


def test_a_backup_has_every_table_and_row_hidden_ones_included(small: Small) -> None:
    result = backup(small, small.lab)
    assert {"tables_backed_up", "rows_backed_up", "backup_location"} <= set(result)
    assert result["tables_backed_up"] == 5
    assert result["rows_backed_up"] == LAB_ROWS
    assert result["backup_location"] == "bak_lab_b"
    assert definitions(small.server, "bak_lab_b") == definitions(small.server, small.lab)
    assert rows(small.server, "bak_lab_b") == rows(small.server, small.lab)
    assert problems(small, small.lab, "bak_lab_b") == []


def test_a_backup_holds_no_key_into_production_and_blocks_no_delete_there(small: Small) -> None:
    result = backup(small, small.rig)
    assert any("_recording -> bak_lab.mouse" in note for note in result["notes"])
    small.server.sql(
        f"DELETE FROM `{small.rig}`._recording; DELETE FROM `{small.lab}`.session__trial;"
        f"DELETE FROM `{small.lab}`.session; DELETE FROM `{small.lab}`.mouse"
    )
    assert small.count("bak_rig_b", "_recording") == RECORDINGS


def test_keys_and_programs_of_a_restored_schema_are_those_it_had(small: Small) -> None:
    before = definitions(small.server, small.rig)
    backup(small, small.rig)
    small.server.sql(f"DROP DATABASE `{small.rig}`")
    result = restore(small, "bak_rig_b", small.rig)
    assert (result["tables_restored"], result["rows_restored"]) == (3, 22 + 1)
    assert result["kept"] is None
    assert definitions(small.server, small.rig) == before
    with pytest.raises(servers.ServerError, match="1451"):
        small.server.sql(f"DELETE FROM `{small.lab}`.mouse WHERE mouse_id = 2")


def test_a_restore_under_another_name_blocks_no_delete_either(small: Small) -> None:
    backup(small, small.rig)
    result = restore(small, "bak_rig_b", "bak_rig_test")
    assert any("left out" in note for note in result["notes"])
    assert rows(small.server, "bak_rig_test") == rows(small.server, small.rig)
    small.server.sql(
        f"DELETE FROM `{small.rig}`._recording WHERE mouse_id = 2;"
        f"DELETE FROM `{small.lab}`.session__trial WHERE mouse_id = 2;"
        f"DELETE FROM `{small.lab}`.session WHERE mouse_id = 2;"
        f"DELETE FROM `{small.lab}`.mouse WHERE mouse_id = 2"
    )
    assert small.count("bak_rig_test", "_recording") == RECORDINGS


def test_schema_defaults_and_what_people_do_by_hand_survive(small: Small) -> None:
    small.server.sql(
        f"ALTER DATABASE `{small.lab}` CHARACTER SET latin1 COLLATE latin1_bin;"
        f"CREATE TABLE `{small.lab}`.a_child (id int NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " `z%` int, twice int GENERATED ALWAYS AS (`z%` * 2) VIRTUAL, secret int INVISIBLE,"
        " CHECK (`z%` < 100)) AUTO_INCREMENT=77 COMMENT '100%';"
        f"CREATE TABLE `{small.lab}`.z_parent (id int NOT NULL PRIMARY KEY,"
        f" up int, FOREIGN KEY (up) REFERENCES `{small.lab}`.a_child (id));"
        f"ALTER TABLE `{small.lab}`.a_child ADD FOREIGN KEY (`z%`)"
        f" REFERENCES `{small.lab}`.z_parent (id);"
        "SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO', foreign_key_checks=0;"
        f"INSERT INTO `{small.lab}`.a_child (id, `z%`, secret) VALUES (0, 5, 6);"
        f"INSERT INTO `{small.lab}`.z_parent VALUES (5, 0)"
    )
    before = definitions(small.server, small.lab)
    backup(small, small.lab)
    assert definitions(small.server, "bak_lab_b") == before
    restore(small, "bak_lab_b", "bak_lab_test")
    assert definitions(small.server, "bak_lab_test") == before
    found = small.server.sql("SELECT id, `z%`, twice, secret FROM bak_lab_test.a_child")
    assert [str(value) for value in found[0]] == ["0", "5", "10", "6"]
    for name in ("bak_lab_b", "bak_lab_test"):
        assert "latin1_bin" in str(small.server.sql(f"SHOW CREATE DATABASE `{name}`")[0][1])


def test_any_schema_can_be_restored_from_as_it_is(small: Small) -> None:
    """One that somebody copied or renamed by hand: no record, and keys into other schemas."""
    before = definitions(small.server, small.rig)
    restore(small, small.rig, "bak_rig_test")
    assert definitions(small.server, "bak_rig_test") == before
    assert rows(small.server, "bak_rig_test") == rows(small.server, small.rig)


def test_a_missing_privilege_is_named_and_nothing_is_made(small: Small) -> None:
    small.server.sql(
        "CREATE USER IF NOT EXISTS 'bak_reader'@'%' IDENTIFIED BY 'x';"
        f"GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `{small.lab}`.* TO 'bak_reader'@'%'"
    )
    reader = {"host": small.server.host, "port": small.server.port, "user": "bak_reader"}
    try:
        with pytest.raises(PermissionMissing, match="bak_lab_b"):
            backup_schema(small.lab, "bak_lab_b", connection={**reader, "password": "x"})
        with pytest.raises(PermissionMissing, match="bak_lab_test"):
            restore_schema(small.lab, "bak_lab_test", connection={**reader, "password": "x"})
    finally:
        small.server.sql("DROP USER 'bak_reader'@'%'")
    assert schemas(small) == {small.lab, small.rig}


def test_production_goes_on_while_it_is_backed_up(small: Small) -> None:
    stop, began = threading.Event(), threading.Event()

    def write() -> None:
        number = 1000
        while not stop.is_set():
            number += 1
            small.server.sql(
                f"INSERT INTO `{small.lab}`.mouse VALUES ({number}, 'rat', 1, NULL);"
                f"INSERT INTO `{small.lab}`.session VALUES ({number}, '2024-01-01', '')"
            )
            began.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert began.wait(60)
        result = backup(small, small.lab)
    finally:
        stop.set()
        writer.join()
    assert result["snapshot"] in ("shared", "single")
    orphans = (
        "SELECT COUNT(*) FROM bak_lab_b.session s LEFT JOIN bak_lab_b.mouse m USING (mouse_id)"
        " WHERE m.mouse_id IS NULL"
    )
    assert small.value(orphans) == "0"


def test_a_dry_run_writes_nothing(small: Small) -> None:
    plan = backup_schema(small.lab, "bak_lab_b", connection=small.server.url, dry_run=True)
    assert "5 tables" in plan["plan"][0]
    assert any("CREATE TABLE `bak_lab_b`.`mouse`" in statement for statement in plan["ddl"])
    backup(small, small.rig)
    name = "bak_rig_test"
    plan = restore_schema("bak_rig_b", name, connection=small.server.url, dry_run=True)
    assert "3 tables" in plan["plan"][0]
    assert schemas(small) == {small.lab, small.rig, "bak_rig_b"}


def test_a_proof_tells_what_has_changed_since(small: Small) -> None:
    backup(small, small.lab)
    small.server.sql(f"UPDATE `{small.lab}`.mouse SET weight = 1 WHERE mouse_id = 3")
    [problem] = problems(small, small.lab, "bak_lab_b")
    assert "bak_lab.mouse" in problem
    small.server.sql(f"ALTER TABLE `{small.lab}`.session ADD x int")
    assert any("session" in problem for problem in problems(small, small.lab, "bak_lab_b"))
    assert "no backup" in problems(small, small.lab, "nosuch")[0]
    assert "is a backup of" in problems(small, small.rig, "bak_lab_b")[0]


def test_programs_come_along_and_events_never_run_twice(small: Small) -> None:
    add_programs(small)
    before = programs(small, small.lab)
    assert len(before) == 6
    result = backup(small, small.lab)
    assert any("clean" in note for note in result["notes"])
    assert rows(small.server, "bak_lab_b")["mouse"] == rows(small.server, small.lab)["mouse"]
    without = {name: text for name, text in before.items() if name != "event clean"}
    assert programs(small, "bak_lab_b") == without
    assert problems(small, small.lab, "bak_lab_b") == []
    restore(small, "bak_lab_b", "bak_lab_test")
    assert programs(small, "bak_lab_test") == without
    small.server.sql(
        f"DROP VIEW `{small.lab}`.heavier; DROP TRIGGER `{small.lab}`.grow;"
        f"CREATE VIEW `{small.lab}`.mine AS SELECT * FROM `{small.lab}`.mouse"
    )
    changed = programs(small, small.lab)
    assert len(problems(small, small.lab, "bak_lab_b")) == 3
    kept = restore(small, "bak_lab_b", small.lab, True)["kept"]
    assert programs(small, small.lab) == before
    assert small.count(small.lab, "heavy") == small.count(small.lab, "mouse")
    del changed["event clean"]
    assert programs(small, kept) == changed
    restore(small, kept, small.lab, True)
    assert set(programs(small, small.lab)) == {*changed, "event clean"}


# -- what is refused ----------------------------------------------------------------------------


def test_a_missing_backup_leaves_the_destination_alone(small: Small) -> None:
    before = rows(small.server, small.lab)
    for overwrite in (False, True):
        with pytest.raises(NotFound, match="nosuch"):
            restore(small, "nosuch", small.lab, overwrite)
    assert rows(small.server, small.lab) == before
    assert schemas(small) == {small.lab, small.rig}


def test_an_empty_or_unfinished_backup_is_refused(small: Small) -> None:
    small.server.sql("CREATE DATABASE bak_lab_b")
    with pytest.raises(InvalidArgument, match="empty"):
        restore(small, "bak_lab_b", small.lab, True)
    backup(small, small.lab)
    small.server.sql(
        """UPDATE bak_lab_b.`~migrate_backup` SET content = REPLACE(content,"""
        """ '"finished": true', '"finished": false') WHERE kind = 'backup'"""
    )
    with pytest.raises(InvalidArgument, match="unfinished"):
        restore(small, "bak_lab_b", small.lab, True)
    assert "unfinished" in problems(small, small.lab, "bak_lab_b")[0]


def test_a_used_name_is_refused(small: Small) -> None:
    backup(small, small.lab)
    with pytest.raises(DestinationNotEmpty, match="finished backup of bak_lab"):
        backup(small, small.lab)
    with pytest.raises(DestinationNotEmpty, match="tables"):
        backup_schema(small.lab, small.rig, connection=small.server.url)
    with pytest.raises(DestinationNotEmpty, match="overwrite=True"):
        restore(small, "bak_lab_b", small.lab)
    with pytest.raises(InvalidArgument):
        restore(small, "bak_lab_b", "bak_lab_b", True)
    with pytest.raises(InvalidArgument, match="itself a backup"):
        backup_schema("bak_lab_b", "bak_lab_test", connection=small.server.url)


def test_a_name_that_holds_nothing_but_an_event_is_used(small: Small) -> None:
    backup(small, small.lab)
    small.server.sql("CREATE DATABASE bak_lab_test")
    small.server.sql(
        "CREATE EVENT bak_lab_test.nightly ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1"
    )
    with pytest.raises(DestinationNotEmpty, match="programs"):
        backup_schema(small.lab, "bak_lab_test", connection=small.server.url)
    with pytest.raises(DestinationNotEmpty, match="overwrite=True"):
        restore(small, "bak_lab_b", "bak_lab_test")


def test_a_backup_somebody_changed_is_refused(small: Small) -> None:
    backup(small, small.lab)
    small.server.sql("UPDATE bak_lab_b.mouse SET weight = 1 WHERE mouse_id = 3")
    before = rows(small.server, small.lab)
    with pytest.raises(Mismatch, match=r"bak_lab_b\.mouse"):
        restore(small, "bak_lab_b", small.lab, True)
    assert rows(small.server, small.lab) == before


def test_rows_without_their_parents_are_refused_and_nothing_changes(small: Small) -> None:
    backup(small, small.rig)
    small.server.sql(f"SET foreign_key_checks=0;DELETE FROM `{small.lab}`.mouse WHERE mouse_id = 3")
    before = rows(small.server, small.rig)
    with pytest.raises(Mismatch, match=r"bak_lab\.mouse"):
        restore(small, "bak_rig_b", small.rig, True)
    assert rows(small.server, small.rig) == before
    # What was made beside holds no key into production either.
    assert "bak_lab" not in str(definitions(small.server, "bak_rig_restoring"))


def test_rows_of_other_schemas_never_lose_their_parents(small: Small) -> None:
    small.server.sql(f"DELETE FROM `{small.rig}`._recording WHERE mouse_id = 4")
    for child in ("session__trial", "session", "mouse"):
        small.server.sql(f"DELETE FROM `{small.lab}`.{child} WHERE mouse_id = 4")
    backup(small, small.lab)
    small.server.sql(
        f"INSERT INTO `{small.lab}`.mouse VALUES (4, 'rat', 1, NULL);"
        f"INSERT INTO `{small.rig}`._recording (mouse_id, `signal`)"
        f" SELECT 4, `signal` FROM `{small.rig}`._recording LIMIT 1"
    )
    with pytest.raises(Mismatch, match=r"bak_rig\._recording.*lacks the parents"):
        restore(small, "bak_lab_b", small.lab, True)
    assert small.count(small.lab, "mouse") == MICE


def test_orphans_production_had_anyway_are_said_and_restored(small: Small) -> None:
    small.server.sql(f"SET foreign_key_checks=0;DELETE FROM `{small.lab}`.mouse WHERE mouse_id = 3")
    assert any("session" in note for note in backup(small, small.lab)["notes"])
    assert any("_recording" in note for note in backup(small, small.rig)["notes"])
    result = restore(small, "bak_rig_b", small.rig, True)
    assert any("_recording" in note for note in result["notes"])


# -- overwriting ------------------------------------------------------------------------------


def test_what_is_overwritten_is_kept_and_can_be_put_back(small: Small) -> None:
    backup(small, small.lab)
    full, keys = rows(small.server, small.lab), definitions(small.server, small.rig)
    small.server.sql(f"DELETE FROM `{small.lab}`.session__trial")
    less = rows(small.server, small.lab)
    result = restore(small, "bak_lab_b", small.lab, True)
    assert rows(small.server, small.lab) == full
    assert rows(small.server, result["kept"]) == less
    # The keys of the other schema lead to the restored tables, by their old names.
    assert definitions(small.server, small.rig) == keys
    with pytest.raises(servers.ServerError, match="1451"):
        small.server.sql(f"DELETE FROM `{small.lab}`.mouse WHERE mouse_id = 2")
    again = restore(small, result["kept"], small.lab, True)
    assert rows(small.server, small.lab) == less
    assert again["kept"] not in (result["kept"], None)
    assert definitions(small.server, small.rig) == keys


def test_the_kept_schema_blocks_no_delete(small: Small) -> None:
    backup(small, small.rig)
    kept = restore(small, "bak_rig_b", small.rig, True)["kept"]
    small.server.sql(
        f"DELETE FROM `{small.rig}`._recording; DELETE FROM `{small.lab}`.session__trial;"
        f"DELETE FROM `{small.lab}`.session; DELETE FROM `{small.lab}`.mouse"
    )
    assert small.count(kept, "_recording") == RECORDINGS


def test_keys_that_lead_nowhere_find_the_restored_tables(small: Small) -> None:
    """A dropped schema whose children stayed: their keys hold again after the restore."""
    backup(small, small.lab)
    small.server.sql(f"SET foreign_key_checks=0; DROP DATABASE `{small.lab}`")
    restore(small, "bak_lab_b", small.lab)
    with pytest.raises(servers.ServerError, match="1451"):
        small.server.sql(f"DELETE FROM `{small.lab}`.mouse WHERE mouse_id = 2")


def test_rows_that_have_no_parents_anyway_do_not_stop_a_restore(small: Small) -> None:
    backup(small, small.lab)
    small.server.sql(
        f"INSERT INTO `{small.lab}`.mouse VALUES (400, 'rat', 1, NULL);"
        f"INSERT INTO `{small.rig}`._recording (mouse_id, `signal`)"
        f" SELECT 400, `signal` FROM `{small.rig}`._recording LIMIT 1;"
        f"SET foreign_key_checks=0; DROP DATABASE `{small.lab}`"
    )
    [note] = restore(small, "bak_lab_b", small.lab)["notes"]
    assert "lacks the parents" in note
    assert "400" in note


def test_an_open_transaction_stops_the_exchange_and_nothing_is_lost(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMITS, "restore_lock_seconds", 1)
    add_programs(small)
    backup(small, small.lab)
    before, made = rows(small.server, small.lab), programs(small, small.lab)
    with resolve(small.server.url).session() as holder:
        holder.execute("BEGIN")
        holder.query(f"SELECT * FROM `{small.lab}`.mouse FOR UPDATE")
        with pytest.raises(MigrationError, match="the same call tries again"):
            restore(small, "bak_lab_b", small.lab, True)
        holder.execute("ROLLBACK")
    assert rows(small.server, small.lab) == before
    assert programs(small, small.lab) == made
    assert restore(small, "bak_lab_b", small.lab, True)["kept"]
    assert rows(small.server, small.lab) == before


# -- archives -----------------------------------------------------------------------------------


def test_an_archive_is_restored_like_a_schema(small: Small, tmp_path: Path) -> None:
    folder = str(tmp_path / "archives" / "rig")
    result = backup_schema(small.rig, folder, connection=small.server.url)
    assert (result["tables_backed_up"], result["rows_backed_up"]) == (3, 23)
    before, full = definitions(small.server, small.rig), rows(small.server, small.rig)
    add_programs(small)
    lab = str(tmp_path / "archives" / "lab")
    backup_schema(small.lab, lab, connection=small.server.url)
    assert problems(small, small.lab, lab) == []
    made = programs(small, small.lab)
    small.server.sql(f"DROP VIEW `{small.lab}`.heavier")
    assert len(problems(small, small.lab, lab)) == 1
    restore(small, lab, small.lab, True)
    assert programs(small, small.lab) == made
    with pytest.raises(DestinationNotEmpty, match="overwrite=True"):
        restore(small, folder, small.rig)
    tested = restore(small, folder, "bak_rig_test")
    assert any("left out" in note for note in tested["notes"])
    assert rows(small.server, "bak_rig_test") == full
    small.server.sql(f"DELETE FROM `{small.rig}`._recording")
    again = restore(small, folder, small.rig, True)
    assert (again["tables_restored"], again["rows_restored"]) == (3, 23)
    assert rows(small.server, small.rig) == full
    assert definitions(small.server, small.rig) == before
    assert small.count(again["kept"], "_recording") == 0


def test_files_go_into_an_archive_only(small: Small, tmp_path: Path) -> None:
    options = {"with_files": True, "source_stores": small.source_stores}
    with pytest.raises(InvalidArgument, match="archive"):
        backup_schema(small.rig, "bak_rig_b", connection=small.server.url, **options)
    folder = str(tmp_path / "archive")
    result = backup_schema(small.rig, folder, connection=small.server.url, **options)
    # Two objects belong to no row any more.
    assert result["files_backed_up"] == len(small.objects) - 2


def test_a_missing_unfinished_or_damaged_archive_leaves_the_destination_alone(
    small: Small, tmp_path: Path
) -> None:
    before = rows(small.server, small.lab)
    folder = tmp_path / "archive"
    for _ in ("missing", "empty"):
        with pytest.raises(MigrationError, match="archive"):
            restore(small, str(folder), small.lab, True)
        folder.mkdir(exist_ok=True)
    backup_schema(small.lab, str(folder), connection=small.server.url)
    chunk = next((folder / "tables" / "mouse").iterdir())
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    with pytest.raises(MigrationError, match="mouse"):
        restore(small, str(folder), small.lab, True)
    assert problems(small, small.lab, str(folder))
    assert rows(small.server, small.lab) == before


def test_an_archive_is_proved_against_its_schema(small: Small, tmp_path: Path) -> None:
    folder = str(tmp_path / "archive")
    small.server.sql(
        f"CREATE TABLE `{small.lab}`.listed (id int PRIMARY KEY, e enum('a','b'), d decimal(6,3));"
        f"INSERT INTO `{small.lab}`.listed VALUES (1, 'a', 1.5), (2, NULL, 2)"
    )
    backup_schema(small.lab, folder, connection=small.server.url)
    assert problems(small, small.lab, folder) == []
    small.server.sql(f"UPDATE `{small.lab}`.mouse SET weight = 1 WHERE mouse_id = 3")
    small.server.sql(f"UPDATE `{small.lab}`.listed SET e = 'b' WHERE id = 1")
    found = problems(small, small.lab, folder)
    assert len(found) == 2
    assert all("hold different rows" in problem for problem in found)
    assert "archive of" in problems(small, small.rig, folder)[0]


# -- everything 0.14.6 can hold --------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_0_14_6_reads_a_restored_pipeline_under_its_own_names(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """On another server, whose schemas refer to each other, and once more over themselves."""
    name = "full_pipeline_mysql" if kind == "mysql" else "full_pipeline_maria"
    pipeline: FullPipeline = request.getfixturevalue(name)
    other = servers.start(kind)
    try:
        for schema in pipeline.schemas:
            backed = backup_schema(
                schema,
                f"{schema}_backup",
                connection=pipeline.server.url,
                dest_connection=other.url,
            )
            restored = restore_schema(f"{schema}_backup", schema, connection=other.url)
            assert restored["rows_restored"] == backed["rows_backed_up"] > 0
            assert restored["tables_restored"] == backed["tables_backed_up"]
        expected = reread(pipeline, pipeline.server, tmp_path)
        found = reread(pipeline, other, tmp_path)
        assert_same(found, expected)
        for schema in pipeline.schemas:
            assert definitions(other, schema) == definitions(pipeline.server, schema)
            restore_schema(f"{schema}_backup", schema, overwrite=True, connection=other.url)
        assert_same(reread(pipeline, other, tmp_path), expected)
        for schema in pipeline.schemas:
            assert definitions(other, schema) == definitions(pipeline.server, schema)
    finally:
        other.stop()


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Part by part, so that a difference is small enough to be read."""
    for part in ("fetched", "exact", "structure"):
        assert found[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            assert found[part][name] == value, f"{part} of {name}"
