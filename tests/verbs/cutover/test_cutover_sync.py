"""A cutover with sync: production works until its tables change places, and nothing is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    NotReady,
    backup_schema,
    carry_jobs,
    copy_all_data,
    copy_sample,
    copy_table_data,
    create_parallel_schema,
    migrate,
    rollback,
    status,
    sync,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover import fence, occupants
from datajoint_migrate.verbs.cutover.following import Following
from in_use import MAP, mice, over, prepare, tables, two_of_one_second, writer
from servers import Server

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    """A server with two schemas that were migrated, and used since."""
    found: Server = request.getfixturevalue(request.param)
    prepare(found, fresh)
    return found


def test_while_writers_wait_no_table_is_read_whole_where_the_log_tells_what_changed(
    logged: Server, fresh: Fresh
) -> None:
    prepare(logged, fresh)
    done = over(logged)
    assert mice(logged, "late_a") == {1, 2, 3, 10}
    found = {name: one["how"] for name, one in done["proved"].items()}
    assert set(found) == {"late_a.mouse", "late_a.best", "late_b.__scan"}
    assert set(found.values()) <= {"log", "skipped"}, found


def vouched_for(server: Server) -> None:
    """Make both sides equal, and wait until the server's word proves that they stay so."""
    sync(MAP, connection=server.url)
    server.rest(*MAP, *MAP.values())
    assert sync(MAP, connection=server.url)["match"]


def test_while_writers_wait_no_table_is_read_that_nobody_has_written_to(server: Server) -> None:
    vouched_for(server)
    done = over(server)
    found = {name: one["how"] for name, one in done["proved"].items()}
    assert set(found) == {"late_a.mouse", "late_a.best", "late_b.__scan"}
    assert set(found.values()) == {"skipped"}, found
    assert mice(server, "late_a") == {1, 2, 3, 10}


def test_a_cutover_that_did_not_come_about_makes_no_later_sync_read_more(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    vouched_for(server)
    last = Following.sync

    def refuse(self: Following, *arguments: Any, **options: Any) -> None:
        if options.get("held"):
            raise NotReady("not tonight")
        last(self, *arguments, **options)

    monkeypatch.setattr(Following, "sync", refuse)
    with pytest.raises(NotReady, match="not tonight"):
        over(server)
    found = sync(MAP, connection=server.url)["tables"]
    assert {one["how"] for one in found.values()} == {"skipped"}, found


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_2x_writes_to_a_copy_while_it_gets_its_fence_is_a_conflict(
    server: Server, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    vouched_for(server)
    patiently, statements = fence.patiently, []

    def beside(session: Session, sql: str, seconds: float) -> None:
        is_first = not statements and "`mouse`" in sql
        if is_first:
            statements.append(sql)
        if is_first and when == "before":
            server.sql("INSERT INTO late_a_v20.mouse (mouse_id) VALUES (50)")
        patiently(session, sql, seconds)
        if is_first and when == "after":
            server.sql("INSERT INTO late_a_v20.mouse (mouse_id) VALUES (50)")

    monkeypatch.setattr(fence, "patiently", beside)
    with pytest.raises(NotReady, match=r"late_a\.mouse: 1 row of the copy"):
        over(server)
    assert statements
    assert mice(server, "late_a") == {1, 2, 3, 10}
    assert mice(server, "late_a_v20") == {1, 2, 3, 10, 50}


@pytest.mark.parametrize("syncs", [True, False])
@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
def test_nothing_changes_places_while_a_write_could_leave_the_time_of_the_last_one(
    server: Server, monkeypatch: pytest.MonkeyPatch, syncs: bool
) -> None:
    """Somebody elsewhere has a transaction open that began in the same second."""
    # They would be named, but for those who come and go between two looks at the list.
    monkeypatch.setattr(occupants, "sessions_now", lambda *_: ([], []))
    sync(MAP, connection=server.url)
    with two_of_one_second(server, "INSERT INTO late_a.mouse (mouse_id) VALUES (%s)") as (
        first,
        second,
    ):
        first.execute("COMMIT")
        sync(MAP, connection=server.url)
        with pytest.raises(NotReady, match=r"does not come to rest: .*late_a\.mouse"):
            over(server, sync=syncs)
        second.execute("ROLLBACK")
    assert over(server, sync=syncs)["executed"]
    assert mice(server, "late_a") == {1, 2, 3, 10, 2002}


def test_what_was_written_since_the_copy_comes_along(server: Server) -> None:
    look = over(server, execute=False)
    assert look["missing"] == []
    assert look["window_seconds"] is None
    (compared,) = [check["detail"] for check in look["checks"] if check["name"] == "comparison"]
    assert any("1 row behind" in line for line in compared)
    assert any(f"{LIMITS.cutover_wait_seconds:.0f} s" in line for line in compared)
    assert mice(server, "late_a_v20") == {1, 2, 3}

    done = over(server)
    assert done["executed"]
    assert mice(server, "late_a") == {1, 2, 3, 10}
    assert 0 < done["window_seconds"] < done["time_taken"]
    assert set(done["proved"]) == {"late_a.mouse", "late_a.best", "late_b.__scan"}
    assert done["proved"]["late_a.mouse"]["rows"] == 4
    (backup,) = [check["detail"] for check in done["checks"] if check["name"] == "backup"]
    assert "late_a as late_a_old" in backup[0]
    stray = "~migrate_sync"
    assert tables(server, "late_a_v20") == {stray}
    assert stray not in tables(server, "late_a") | tables(server, "late_b")
    assert status(MAP, connection=server.url)["schemas"][0]["state"] == "cut over"
    assert over(server)["window_seconds"] == done["window_seconds"]


def test_after_a_rollback_everything_is_compared_and_what_2x_wrote_is_a_conflict(
    server: Server,
) -> None:
    over(server)
    server.sql("INSERT INTO late_a.mouse (mouse_id, note) VALUES (20, '2.x')")
    undone = rollback(MAP, connection=server.url, execute=True)
    assert undone["rows_written"] == {"late_a_v20.mouse": 1}
    assert undone["tables_new"] == []
    assert mice(server, "late_a") == {1, 2, 3, 10}
    for one in status(MAP, connection=server.url)["schemas"]:
        assert one["rolled_back"]
        assert (one["state"], one["next"]) == ("copied", "dj-migrate sync")
        assert "rolled back" in one["why"]
    server.sql("INSERT INTO late_a.mouse (mouse_id, note) VALUES (11, '0.14')")
    done = sync(MAP, connection=server.url)
    assert {found["how"] for found in done["tables"].values()} == {"digest"}
    (conflict,) = done["conflicts"]
    assert (conflict["table"], conflict["kind"]) == ("late_a.mouse", "extra")
    assert not done["match"]
    with pytest.raises(NotReady, match=r"late_a\.mouse"):
        over(server)
    assert sync(MAP, connection=server.url, on_conflict="production")["match"]
    assert "rolled back" not in status(MAP, connection=server.url)["schemas"][0]["why"]
    assert over(server)["executed"]
    assert mice(server, "late_a") == {1, 2, 3, 10, 11}
    assert mice(server, "late_a_old") == {1, 2, 3, 10, 11}


def test_a_writer_that_never_stops_loses_no_row(server: Server) -> None:
    """In the new schemas, or the cutover did not happen."""
    said: list[str] = []
    with writer(server) as accepted:
        while not any(tables(server, "late_a_old")):
            assert len(said) < 5, said
            try:
                over(server, end_sessions=True)
            except NotReady as error:
                said.append(error.message)
            known = set(accepted)
            assert known <= mice(server, "late_a")
    assert set(accepted) <= mice(server, "late_a")


def test_a_table_that_is_declared_while_the_checks_run_is_not_left_behind(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot, calls = Following.hot, []

    def declaring(self: Following) -> None:
        calls.append("hot")
        if len(calls) == 2:
            server.sql("CREATE TABLE late_a.extra (id int PRIMARY KEY)")
        hot(self)

    monkeypatch.setattr(Following, "hot", declaring)
    with pytest.raises(NotReady, match=r"late_a\.extra was declared meanwhile"):
        over(server)
    assert not tables(server, "late_a_old")
    assert over(server)["executed"]
    assert "extra" in tables(server, "late_a") & tables(server, "late_a_old")
    assert tables(server, "late_a_v20") == {"~migrate_sync"}


def test_writers_get_production_back_after_the_limit_and_nothing_has_changed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A last sync that takes longer than people may wait."""
    allowed = LIMITS.cutover_wait_seconds
    monkeypatch.setattr(LIMITS, "cutover_wait_seconds", 1.0)
    last, waited = Following.sync, []

    def write() -> None:
        with resolve(server.url).session() as other:
            began = time.monotonic()
            other.execute("INSERT INTO late_a.mouse (mouse_id) VALUES (90)")
            waited.append(time.monotonic() - began)

    def slow(self: Following, *arguments: Any, **options: Any) -> None:
        last(self, *arguments, **options)
        if options.get("held"):
            # Ends when the locks are given back, and not before.
            person = threading.Thread(target=write)
            person.start()
            person.join()

    before = tables(server, "late_a")
    monkeypatch.setattr(Following, "sync", slow)
    with pytest.raises(NotReady, match="writers had waited for 1 s, so production was given back"):
        over(server)
    assert waited
    assert mice(server, "late_a") == {1, 2, 3, 10, 90}
    assert tables(server, "late_a") == before
    assert not tables(server, "late_a_old")
    monkeypatch.setattr(Following, "sync", last)
    monkeypatch.setattr(LIMITS, "cutover_wait_seconds", allowed)
    assert over(server)["executed"]
    assert mice(server, "late_a") == {1, 2, 3, 10, 90}


def test_a_sync_that_does_not_become_short_locks_nobody_out(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMITS, "short_sync_seconds", 0.0)
    monkeypatch.setattr(LIMITS, "cutover_wait_seconds", 0.0)
    monkeypatch.setattr(LIMITS, "hot_syncs", 2)
    with pytest.raises(NotReady, match="the sync does not become short: the last of 2 took"):
        over(server)
    assert not tables(server, "late_a_old")


@pytest.mark.parametrize("archived", [False, True])
def test_a_backup_may_be_older_and_must_be_what_was_backed_up(
    server: Server, tmp_path: Path, archived: bool
) -> None:
    places = {name: str(tmp_path / name) if archived else f"{name}_bak" for name in MAP}
    for name, place in places.items():
        backup_schema(name, place, connection=server.url)
    server.sql("UPDATE late_a.mouse SET note = 'later' WHERE mouse_id = 10")
    if archived:
        part = next((tmp_path / "late_a" / "tables").rglob("*.parquet"))
        kept = part.read_bytes()
        harm = lambda: part.write_bytes(kept[:-1] + b"?")  # noqa: E731
        mend = lambda: part.write_bytes(kept)  # noqa: E731
        said = "late_a"
    else:
        harm = lambda: server.sql("INSERT INTO late_a_bak.mouse (mouse_id) VALUES (77)")  # noqa: E731
        mend = lambda: server.sql("DELETE FROM late_a_bak.mouse WHERE mouse_id = 77")  # noqa: E731
        said = "the rows of late_a_bak.mouse are not those that were backed up"
    harm()
    for backups, why in ((places, said), ({"late_a": places["late_b"]}, "late_b")):
        with pytest.raises(NotReady, match="backup") as refused:
            over(server, backups=backups)
        assert why in str(refused.value)
    assert not tables(server, "late_a_old")
    mend()
    done = over(server, backups=places)
    (detail,) = [check["detail"] for check in done["checks"] if check["name"] == "backup"]
    assert "when it was made" in detail[0]
    assert server.sql("SELECT note FROM late_a.mouse WHERE mouse_id = 10") == [("later",)]


def test_what_is_cut_over_is_copied_no_more_into_the_names_of_the_copies(server: Server) -> None:
    """It is 2.x by then, and would be in the way of a rollback."""
    over(server)
    for call in (
        lambda **where: migrate(MAP, **where),
        lambda **where: migrate(MAP, dry_run=True, **where),
        lambda **where: sync(MAP, **where),
        lambda **where: create_parallel_schema("late_a", "late_a_v20", **where),
        lambda **where: copy_all_data("late_a", "late_a_v20", **where),
        lambda **where: copy_table_data("late_a", "late_a_v20", "mouse", **where),
        lambda **where: copy_sample("late_a", "late_a_v20", {}, **where),
        lambda **where: carry_jobs(MAP, **where),
    ):
        with pytest.raises(InvalidArgument, match="late_a is cut over"):
            call(connection=server.url)
    assert tables(server, "late_a_v20") == {"~migrate_sync"}
    assert rollback(MAP, connection=server.url, execute=True)["executed"]
    assert sync(MAP, connection=server.url)["match"]


def test_backups_is_a_map_or_the_word_for_the_renamed_production(server: Server) -> None:
    with pytest.raises(InvalidArgument, match="backups of cutover is 'renamed'"):
        over(server, backups="renamed")
