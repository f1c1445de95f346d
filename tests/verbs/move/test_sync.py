"""sync: a copy follows production, and nobody's row is overwritten unseen."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    ExternalMissing,
    InvalidArgument,
    MigrationError,
    PermissionMissing,
    compare_schemas,
    migrate,
    sync,
)
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.move import migrate as migrating
from killing import PROGRAM
from line import Harm, Packet, line
from servers import Server, ServerError
from small import MICE, RECORDINGS, Small, add_trials, make

TRIALS = 400


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few hundred rows are many chunks."""
    monkeypatch.setattr(LIMITS, "chunk_bytes", 4096)


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(server, *(f"syn_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    made = make(server, "syn", tmp_path / "store")
    add_trials(made, TRIALS)
    tags = ", ".join(f"({i}, {i * 7}, 'tag {i}')" for i in range(300))
    server.sql(
        f"CREATE TABLE `{made.lab}`.tag (tag_id int NOT NULL, code int NOT NULL,"
        " note varchar(20) NOT NULL, PRIMARY KEY (tag_id), UNIQUE KEY (code));"
        f"INSERT INTO `{made.lab}`.tag VALUES {tags};"
        f"CREATE TABLE `{made.lab}`.old (id int NOT NULL PRIMARY KEY);"
        f"INSERT INTO `{made.lab}`.old VALUES (1); ANALYZE TABLE `{made.lab}`.tag"
    )
    done = migrate(made.map, connection=server.url, **made.stores)
    assert done["match"], done["issues"]
    return made


def run(small: Small, **options: Any) -> dict[str, Any]:
    return sync(small.map, **{"connection": small.server.url, **small.stores, **options})


def equal(small: Small) -> bool:
    """Whether both copies hold what production holds, compared afresh."""
    return all(
        compare_schemas(source, dest, 0, connection=small.server.url)["match"]
        for source, dest in small.map.items()
    )


def counts(done: dict[str, Any]) -> tuple[int, int, int]:
    return done["rows_inserted"], done["rows_updated"], done["rows_deleted"]


def test_a_copy_that_nothing_has_happened_to_is_left_as_it_is(small: Small) -> None:
    done = run(small)
    assert done["match"], done["issues"]
    assert counts(done) == (0, 0, 0)
    assert set(done["tables"]) == {
        f"{small.lab}.#species",
        f"{small.lab}.mouse",
        f"{small.lab}.old",
        f"{small.lab}.tag",
        f"{small.lab}.session",
        f"{small.lab}.session__trial",
        f"{small.rig}._recording",
    }


def test_rows_inserted_updated_and_deleted_follow(small: Small) -> None:
    small.server.sql(
        f"INSERT INTO `{small.lab}`.mouse VALUES (100, 'rat', 3.25, NULL), (101, 'rat', 0.1, NULL);"
        f"INSERT INTO `{small.lab}`.session VALUES (100, '2024-05-01', 'new');"
        f"UPDATE `{small.lab}`.session__trial SET data = x'00ff0a5c09' WHERE mouse_id = 3 AND trial"
        f" BETWEEN 5 AND 9;"
        f"DELETE FROM `{small.lab}`.session__trial WHERE mouse_id = 5 AND trial > 20;"
        f"UPDATE `{small.lab}`.mouse SET weight = weight + 1 WHERE mouse_id = 7"
    )
    before = run(small, dry_run=True)
    assert not equal(small)
    done = run(small)
    assert counts(done) == counts(before)
    assert done["match"], done["issues"]
    assert counts(done)[:2] == (3, 6)
    assert done["rows_deleted"] > 0
    assert done["tables"][f"{small.lab}.session__trial"]["how"] == "digest"
    assert equal(small)
    assert counts(run(small)) == (0, 0, 0)


def test_files_come_before_the_rows_that_point_to_them(small: Small) -> None:
    signal = small.value(f"SELECT HEX(MAX(`signal`)) FROM `{small.rig}`._recording")
    small.server.sql(
        f"INSERT INTO `{small.rig}`._recording (recording_id, mouse_id, `signal`)"
        f" VALUES (900, 1, x'{signal}')"
    )
    done = run(small)
    assert done["match"], done["issues"]
    assert equal(small)
    path = small.value(
        f"SELECT JSON_UNQUOTE(JSON_EXTRACT(`signal`, '$.path')) FROM `{small.rig}_v20`._recording"
        " WHERE recording_id = 900"
    )
    assert path is not None
    assert str(signal).lower() in path


@pytest.mark.parametrize("dirty", [True, False])
def test_what_2x_wrote_stops_its_table_and_is_named_row_by_row(small: Small, dirty: bool) -> None:
    copy = f"`{small.lab}_v20`.session__trial"
    small.server.sql(
        f"INSERT INTO {copy} VALUES (1, '2024-01-02', 9999, x'aa');"
        f"UPDATE {copy} SET data = x'bb' WHERE mouse_id = 2 AND trial = 3;"
        f"DELETE FROM {copy} WHERE mouse_id = 4 AND trial = 5"
    )
    if dirty:
        small.server.sql(
            f"UPDATE `{small.lab}`.session__trial SET data = x'cc' WHERE trial IN (2, 6)"
        )
    small.server.sql(f"INSERT INTO `{small.lab}`.mouse VALUES (100, 'rat', 3.25, NULL)")
    done = run(small)
    found = {(c["kind"], c["key"]["mouse_id"], c["key"]["trial"]) for c in done["conflicts"]}
    assert found == {("extra", "1", "9999"), ("differs", "2", "3"), ("missing", "4", "5")}
    assert {conflict["table"] for conflict in done["conflicts"]} == {f"{small.lab}.session__trial"}
    assert not done["match"]
    assert done["rows_inserted"] == 1, "other tables go on"
    assert small.value(f"SELECT HEX(data) FROM {copy} WHERE trial = 9999") == "AA"
    again = run(small, on_conflict="production")
    assert again["match"], again["issues"]
    assert equal(small)
    assert not run(small)["conflicts"]


@pytest.mark.parametrize(
    "written",
    [
        "UPDATE tag SET note = '2x' WHERE tag_id = 105",
        "UPDATE tag SET note = '2x' WHERE tag_id = 106",
        "DELETE FROM tag WHERE tag_id = 106",
        "UPDATE mouse SET weight = 99 WHERE mouse_id = 2",
        "UPDATE session__trial SET data = 'x2' WHERE mouse_id = 1 AND trial = 9",
        "UPDATE session__trial SET data = 'x2' WHERE mouse_id = 1 AND trial = 10",
        "DELETE FROM session__trial WHERE mouse_id = 1 AND trial = 10",
    ],
)
@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_what_2x_writes_between_the_look_and_the_writing_stays(small: Small, written: str) -> None:
    production, copy = small.lab, f"{small.lab}_v20"
    small.server.sql(
        f"UPDATE `{production}`.tag SET note = 'new' WHERE tag_id = 105;"
        f"UPDATE `{production}`.mouse SET weight = 7 WHERE mouse_id = 2;"
        f"UPDATE `{production}`.session__trial SET data = 'new' WHERE mouse_id = 1 AND trial = 9"
    )
    (table,) = (name for name in ("tag", "mouse", "session__trial") if f" {name} " in written)
    columns = "mouse_id, trial, HEX(data)" if table == "session__trial" else "*"
    look = f"SELECT {columns} FROM `{copy}`.{table} ORDER BY 1, 2"
    after: list[str] = []

    def rule(packet: Packet) -> Harm:
        if packet.upward and packet.payload[1:] == b"START TRANSACTION" and not after:
            small.server.sql(f"USE `{copy}`; {written}")
            after.append(small.server.sql(look))
        return None

    with line(small.server, rule) as through, pytest.raises(MigrationError, match="somebody else"):
        run(small, dest_connection=through.url)
    assert after == [small.server.sql(look)]
    again = run(small)
    assert {one["table"] for one in again["conflicts"]} == {f"{production}.{table}"}


def test_unique_values_move_between_rows_and_pointers_are_swapped(small: Small) -> None:
    tag, recording = f"`{small.lab}`.tag", f"`{small.rig}`._recording"
    two = small.server.sql(f"SELECT HEX(`signal`) FROM {recording} WHERE recording_id IN (1, 6)")
    small.server.sql(
        f"UPDATE {tag} SET code = -1 WHERE tag_id = 1;"
        f"UPDATE {tag} SET code = 7 WHERE tag_id = 299;"
        f"UPDATE {tag} SET code = 2093 WHERE tag_id = 1;"
        f"UPDATE {tag} SET code = -code - 7 WHERE tag_id BETWEEN 100 AND 200;"
        f"UPDATE {tag} SET code = -code WHERE tag_id BETWEEN 100 AND 199;"
        f"UPDATE {tag} SET code = 700 WHERE tag_id = 200;"
        f"DELETE FROM {tag} WHERE tag_id = 50; INSERT INTO {tag} VALUES (1000, 350, 'heir');"
        f"UPDATE {recording} SET `signal` = x'{two[1][0]}' WHERE recording_id = 1;"
        f"UPDATE {recording} SET `signal` = x'{two[0][0]}' WHERE recording_id = 6"
    )
    before = run(small, dry_run=True)
    done = run(small)
    assert done["match"], (done["issues"], done["conflicts"])
    assert counts(done) == counts(before) == (1, 105, 1)
    assert equal(small)


def test_a_table_is_skipped_only_if_the_server_vouches_for_both_sides(small: Small) -> None:
    tag = f"`{small.lab}`.tag"
    small.server.rest(*small.map, *small.map.values())
    run(small)
    again = run(small)
    assert again["tables"][f"{small.lab}.tag"]["how"] == "skipped"
    assert again["match"]
    small.server.sql(f"UPDATE `{small.lab}_v20`.old SET id = 2")
    stopped = run(small)
    assert stopped["tables"][f"{small.lab}.old"]["how"] == "digest"
    assert {conflict["key"]["id"] for conflict in stopped["conflicts"]} == {"1", "2"}
    small.server.sql(f"TRUNCATE TABLE {tag}")
    emptied = run(small)
    assert emptied["tables"][f"{small.lab}.tag"]["deleted"] == 300
    create = str(small.server.sql(f"SHOW CREATE TABLE {tag}")[0][1])
    small.server.sql(
        f"USE `{small.lab}`; DROP TABLE tag; {create}; INSERT INTO tag VALUES (1, 2, 'x')"
    )
    anew = run(small)
    assert anew["tables"][f"{small.lab}.tag"]["inserted"] == 1


def test_what_is_written_to_a_copy_while_its_migration_ends_is_not_taken_for_equal(
    small: Small, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the comparison and the note of it, by somebody who could not wait."""
    monkeypatch.setattr(LIMITS, "settled_seconds", 0)
    fresh(small.server, *small.map.values())
    carry = migrating.carry_programs

    def carry_late(*arguments: Any) -> Any:
        monkeypatch.setattr(migrating, "carry_programs", carry)
        small.server.sql(f"UPDATE `{small.lab}_v20`.tag SET note = 'by 2.x' WHERE tag_id = 9")
        time.sleep(4)
        return carry(*arguments)

    monkeypatch.setattr(migrating, "carry_programs", carry_late)
    assert migrate(small.map, connection=small.server.url, **small.stores)["match"]
    run(small, on_conflict="production")
    assert equal(small)


def test_tables_that_are_new_altered_or_gone_follow(small: Small) -> None:
    small.server.sql(
        f"CREATE TABLE `{small.lab}`.fresh (mouse_id int unsigned NOT NULL, n int NOT NULL,"
        " PRIMARY KEY (mouse_id, n), FOREIGN KEY (mouse_id)"
        f" REFERENCES `{small.lab}`.mouse (mouse_id));"
        f"INSERT INTO `{small.lab}`.fresh VALUES (1, 1), (2, 1);"
        f"ALTER TABLE `{small.lab}`.session ADD COLUMN more int DEFAULT 7;"
        f"ALTER TABLE `{small.lab}`.tag ADD COLUMN more int DEFAULT 8;"
        f"DROP TABLE `{small.lab}`.old;"
        f"UPDATE `{small.lab}_v20`.tag SET note = 'by 2.x' WHERE tag_id = 9"
    )
    before = run(small, dry_run=True)
    assert (before["tables_created"], before["tables_rebuilt"]) == (1, 1)
    done = run(small)
    assert done["tables"][f"{small.lab}.fresh"]["how"] == "copied"
    assert done["tables"][f"{small.lab}.session"]["how"] == "rebuilt"
    assert done["tables_gone"] == [f"{small.lab}.old"]
    assert not done["tables"][f"{small.lab}.tag"]["match"]
    assert "somebody wrote to its copy" in " ".join(done["issues"])
    assert small.value(f"SELECT note FROM `{small.lab}_v20`.tag WHERE tag_id = 9") == "by 2.x"
    assert small.value(f"SELECT SUM(more) FROM `{small.lab}_v20`.session") == str(7 * MICE)
    lineage = f"SELECT COUNT(*) FROM `{small.lab}_v20`.`~lineage` WHERE table_name = 'fresh'"
    assert small.value(lineage) == "2"
    small.server.sql(f"UPDATE `{small.lab}_v20`.tag SET note = 'tag 9' WHERE tag_id = 9")
    done = run(small, drop=True)
    assert done["match"], done["issues"]
    assert equal(small)


def test_a_file_that_is_missing_keeps_its_rows_out(small: Small) -> None:
    digest = "00112233445566778899aabbccddeeff"
    small.server.sql(
        f"INSERT INTO `{small.rig}`.`~external_raw` (`hash`, size) VALUES (x'{digest}', 5);"
        f"INSERT INTO `{small.rig}`._recording (recording_id, mouse_id, `signal`)"
        f" VALUES (901, 1, x'{digest}');"
        f"INSERT INTO `{small.lab}`.mouse VALUES (100, 'rat', 3.25, NULL)"
    )
    with pytest.raises(ExternalMissing, match=digest[:4]):
        run(small)
    assert small.count(f"{small.rig}_v20", "_recording") == RECORDINGS
    path = small.root / small.rig / digest[:2] / digest[2:4] / digest
    path.parent.mkdir(parents=True)
    path.write_bytes(b"12345")
    assert run(small)["match"]
    assert equal(small)


def test_a_user_who_may_only_select_can_read_for_a_sync(small: Small) -> None:
    small.server.sql(
        "DROP USER IF EXISTS syn_reads; CREATE USER syn_reads IDENTIFIED BY 'pw';"
        + "".join(f"GRANT SELECT ON `{name}`.* TO syn_reads;" for name in small.map)
    )
    source = f"mysql://syn_reads:pw@{small.server.host}:{small.server.port}/"
    small.server.sql(f"UPDATE `{small.lab}`.tag SET note = 'new' WHERE tag_id = 3")
    try:
        with pytest.raises(PermissionMissing):
            run(small, connection=source, dest_connection=small.server.url)
        copies = [f"`{name}`.`~migrate_sync`" for name in small.map.values()]
        for copy in copies:
            small.server.sql(
                f"UPDATE {copy} SET bounds = REPLACE(bounds, '\"refuse\"', '\"leave\"')"
                " WHERE table_name = ''"
            )
        done = run(small, connection=source, dest_connection=small.server.url)
        assert done["match"], done["issues"]
        assert counts(done) == (0, 1, 0)
    finally:
        small.server.sql("DROP USER syn_reads")


@pytest.mark.parametrize(
    "harm",
    [
        "blocks = x'00'",
        'bounds = \'{"lower": null, "upper": [{"number": "1 OR 1=1"}]}\'',
        "bounds = 'x'",
        "row_count = row_count + 1",
    ],
)
@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_a_state_that_somebody_changed_is_refused(small: Small, harm: str) -> None:
    small.server.sql(
        f"UPDATE `{small.lab}_v20`.`~migrate_sync` SET {harm}"
        " WHERE table_name = 'tag' AND chunk = 1"
    )
    with pytest.raises(InvalidArgument, match="state"):
        run(small)
    small.server.sql(f"DROP TABLE `{small.lab}_v20`.`~migrate_sync`")
    assert run(small)["match"]


def killed(small: Small, at: int, **more: Any) -> None:
    """A sync that is killed before its copy gets the COMMIT of this number."""
    running: list[subprocess.Popen[bytes]] = []
    seen = 0

    def rule(packet: Packet) -> Harm:
        nonlocal seen
        seen += packet.upward and packet.payload[1:] == b"COMMIT"
        if seen < at:
            return None
        running[0].kill()
        return "stall"

    with line(small.server, rule) as through:
        options = {
            "connection": small.server.url,
            "dest_connection": through.url,
            **small.stores,
            **more,
        }
        what = {"verb": "sync", "arguments": [small.map], "options": options}
        words = [sys.executable, str(PROGRAM), json.dumps(what)]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
            running.append(process)
            assert process.wait() != 0


def work(small: Small) -> None:
    small.server.sql(
        f"UPDATE `{small.lab}`.tag SET code = -code - 1, note = 'new' WHERE tag_id MOD 3 = 0;"
        f"DELETE FROM `{small.lab}`.session__trial WHERE trial = 11;"
        f"INSERT INTO `{small.lab}`.mouse VALUES (100, 'rat', 3.25, NULL)"
    )


@pytest.mark.parametrize("at", [2, 5, 9])
@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_killed_between_two_commits_the_same_call_goes_on(small: Small, at: int) -> None:
    work(small)
    killed(small, at)
    done = run(small)
    assert done["match"], (done["issues"], done["conflicts"])
    assert equal(small)


@pytest.mark.parametrize("at", [1, 3, 6, 10])
def test_killed_amid_the_first_sync_of_a_copy_without_notes_the_same_call_goes_on(
    small: Small, at: int
) -> None:
    """Its notes are begun by that call: what they say is what the copy holds, whenever it ends."""
    for copy in small.map.values():
        small.server.sql(f"DROP TABLE `{copy}`.`~migrate_sync`")
    work(small)
    killed(small, at, on_conflict="production")
    theirs = f"UPDATE `{small.lab}_v20`.tag SET note = 'by 2.x' WHERE tag_id = 7"
    small.server.sql(theirs)
    stopped = run(small)
    assert {one["table"] for one in stopped["conflicts"]} >= {f"{small.lab}.tag"}
    assert small.value(f"SELECT note FROM `{small.lab}_v20`.tag WHERE tag_id = 7") == "by 2.x"
    done = run(small, on_conflict="production")
    assert done["match"], (done["issues"], done["conflicts"])
    assert equal(small)
    assert counts(run(small)) == (0, 0, 0)


def test_writers_wait_for_nobody_while_a_copy_is_brought_up_to_date(small: Small) -> None:
    stop, began = threading.Event(), threading.Event()
    waited: list[ServerError] = []

    def write() -> None:
        number = 10_000
        while not stop.is_set():
            number += 1
            try:
                small.server.sql(
                    # Who waits so long for a lock, of rows or of the table, is told so.
                    "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2;"
                    f"INSERT INTO `{small.lab}`.tag VALUES ({number}, {-number}, 'w');"
                    f"UPDATE `{small.lab}`.tag SET note = 'w2' WHERE tag_id = {number - 10_000}"
                )
            except ServerError as error:
                waited.append(error)
            began.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert began.wait(60)
        first = run(small, max_bytes_per_second=40_000)
    finally:
        stop.set()
        writer.join()
    assert not first["conflicts"]
    assert not waited
    assert run(small)["match"]
    assert equal(small)


def test_a_copy_that_catches_up_holds_no_snapshot_open_and_is_of_one_instant(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(server, *(f"cat_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    small = make(server, "cat", tmp_path / "store")
    add_trials(small, TRIALS)
    held, written = [], []

    def look(event: dict[str, Any]) -> None:
        if event.get("verb") != "copy":
            return
        held.extend(
            server.sql(
                "SELECT trx_id FROM information_schema.innodb_trx"
                " WHERE trx_isolation_level = 'REPEATABLE READ' AND trx_rows_modified = 0"
            )
        )
        if not written:
            written.append(1)
            server.sql(
                f"UPDATE `{small.lab}`.mouse SET weight = weight + 1 WHERE mouse_id = 3;"
                f"INSERT INTO `{small.lab}`.mouse VALUES (100, 'rat', 3.25, NULL);"
                f"DELETE FROM `{small.lab}`.session__trial WHERE trial = 11"
            )

    done = migrate(
        small.map,
        connection=server.url,
        **small.stores,
        consistency="catch-up",
        max_bytes_per_second=60_000,
        on_event=look,
    )
    assert written
    assert not held
    assert done["match"], done["issues"]
    assert done["compatible"], done["issues"]
    assert done["snapshot"] in ("shared", "single")
    assert equal(small)
    again = run(small)
    assert again["match"]
    assert counts(again) == (0, 0, 0)
