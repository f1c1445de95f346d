"""A cutover with sync that is killed: production is whole, and the same call goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from conftest import SOAK, Fresh
from datajoint_migrate import NotReady, ServerError, rollback, status, sync
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover.hold import BEHIND
from in_use import MAP, mice, over, prepare, tables, writer
from places import TESTS
from servers import Server

KILLS_PROGRAM = TESTS / "kills.py"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    """A server with two schemas that were migrated, and used since."""
    found: Server = request.getfixturevalue(request.param)
    prepare(found, fresh)
    return found


KILLED = """
import json, os, re, signal, sys
from datajoint_migrate import cutover
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover import hold
LIMITS.hot_syncs = 1
url, what = sys.argv[1], json.loads(sys.argv[2])
words = what["words"]
end_waiting = hold._end_waiting
def behind(*arguments, own, **options):
    if isinstance(own, tuple) and own:
        print("here", flush=True)
        signal.pause()
    return end_waiting(*arguments, own=own, **options)
if what["stops"]:
    # For which the RENAME waits: the test looks at it and kills this meanwhile.
    LIMITS.hold_slice_seconds = 30.0
    hold._end_waiting = behind
def harm():
    os.kill(os.getpid(), signal.SIGKILL)
def through(call):
    def until(session, sql, params=()):
        here = bool(words) and re.match(words[0], sql) is not None
        if here:
            words.pop(0)
        last = here and not words
        if last and not what["done"]:
            harm()
        result = call(session, sql, params)
        if last:
            harm()
        return result
    return until
Session.execute, Session.query = through(Session.execute), through(Session.query)
cutover(what["map"], backups="rename", sync=True, end_sessions=True, connection=url, execute=True)
"""
READ, WRITE = "LOCK TABLES .* READ", "LOCK TABLES .* WRITE"
NOTED = "REPLACE INTO .*~migrate_sync"
LOOK = "SELECT TABLE_SCHEMA, TABLE_NAME, UPDATE_TIME"
# Statements, each after those before it, and whether the last of them is done when it is killed.
KILLS: dict[str, tuple[list[str], bool]] = {
    "the last sync": ([READ, NOTED], False),
    "rest": ([READ, NOTED, LOOK], True),
    "the second look": ([WRITE, LOOK], True),
    "triggers": ([WRITE, "DROP TRIGGER"], True),
    "the exchange": (["RENAME TABLE"], True),
}


def killed(server: Server, name: str) -> None:
    """A cutover killed there. Where it is refused before it comes so far, it is called again."""
    words, done = KILLS[name]
    for _ in range(5):
        what = json.dumps({"map": MAP, "words": words, "done": done, "stops": False})
        command = [sys.executable, "-c", KILLED, server.url, what]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode == -9:
            return
        assert "NotReady" in ended.stderr, (name, ended.stderr)
    raise AssertionError(f"not killed at {name}: {ended.stderr}")


def programs(server: Server) -> list[Any]:
    return server.sql(
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN"
        " ('late_a', 'late_b') UNION SELECT TABLE_NAME FROM information_schema.VIEWS"
        " WHERE TABLE_SCHEMA IN ('late_a', 'late_b') ORDER BY 1"
    )


def test_killed_at_any_step_production_is_whole_and_the_same_call_goes_on(server: Server) -> None:
    whole = tables(server, "late_a"), tables(server, "late_b")
    runs = programs(server)
    with writer(server, rests=0.05) as accepted:
        for name in KILLS:
            killed(server, name)
            known = set(accepted)
            assert known <= mice(server, "late_a"), name
            if name == "the exchange":
                break
            assert (tables(server, "late_a"), tables(server, "late_b")) == whole, name
            gone = [row for row in runs if row not in programs(server)]
            look = over(server, execute=False)
            for (program,) in gone:
                assert any(f"{program}" in line and "rollback" in line for line in look["missing"])
        assert over(server)["executed"]
    assert set(accepted) <= mice(server, "late_a")
    assert programs(server) == runs
    assert tables(server, "late_a_v20") == {"~migrate_sync"}
    assert status(MAP, connection=server.url)["schemas"][0]["state"] == "cut over"


@pytest.mark.timeout(3600)
def test_killed_after_any_statement_it_is_finished_or_undone(server: Server) -> None:
    """From the first sync to what follows the exchange, the journal's own statements included."""
    # So that one cutover leaves in the copy what the next one finds.
    assert sync(MAP, connection=server.url)["match"]
    options = {"backups": "rename", "sync": True, "end_sessions": True}
    what = {"map": MAP, "stride": 1 if SOAK else 37, "options": options}
    words = [sys.executable, str(KILLS_PROGRAM), "cutover", server.url, json.dumps(what)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 40


# -- MariaDB renames no locked table -------------------------------------------------------------


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def waits(server: Server, words: str) -> bool:
    """Whether a statement that begins so waits for a table."""
    return bool(
        server.sql(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for%lock'"
            f" AND INFO LIKE '{words}%'"
        )
    )


def stopped(server: Server) -> subprocess.Popen[str]:
    """A cutover whose RENAME waits behind its locks, and that does nothing more."""
    what = json.dumps({"map": MAP, "words": [], "done": False, "stops": True})
    command = [sys.executable, "-c", KILLED, server.url, what]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n", process.communicate()[1]
    assert waits(server, "RENAME TABLE")
    return process


@pytest.fixture
def late(mariadb: Server, fresh: Fresh) -> Server:
    """With a table that comes last in the RENAME, and that nothing refers to."""
    prepare(mariadb, fresh)
    mariadb.sql("CREATE TABLE late_b.zzz (id int PRIMARY KEY); INSERT INTO late_b.zzz VALUES (1)")
    return mariadb


def last_rows(server: Server, schema: str) -> list[tuple[str | None, ...]]:
    return server.sql(f"SELECT id FROM {schema}.zzz ORDER BY id")


def test_a_row_that_slips_in_before_the_rename_of_a_killed_call_is_not_lost(late: Server) -> None:
    process = stopped(late)

    def write() -> None:
        with resolve(late.url).session() as other:
            other.execute("INSERT INTO late_b.zzz VALUES (2)")

    person = threading.Thread(target=write)
    person.start()
    until(lambda: waits(late, "INSERT INTO late_b.zzz"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    person.join()
    said = []
    while not said or said[-1]:
        try:
            said.append("" if over(late)["executed"] else "nothing")
        except NotReady as error:
            said.append(str(error))
            assert len(said) < 4, said
            if "rollback" in str(error):
                rollback(MAP, connection=late.url, execute=True)
                assert last_rows(late, "late_b") == [("1",), ("2",)]
    assert last_rows(late, "late_b") == [("1",), ("2",)], said
    assert tables(late, "late_b_v20") == {"~migrate_sync"}


def test_nobody_begins_while_a_rename_of_a_killed_call_waits(
    late: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session has a lock of its own, for as long as the server is at it."""
    process = stopped(late)
    used = late.sql(f"SELECT IS_USED_LOCK('{BEHIND}')")[0][0]
    rename = late.sql(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'RENAME TABLE%'"
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [(used,)] == rename
    monkeypatch.setattr(LIMITS, "rename_turn_seconds", 0)
    with resolve(late.url).session() as other:
        until(lambda: other.query("SELECT GET_LOCK(%s, 1)", (BEHIND,))[0][0])
        with pytest.raises(ServerError, match="another rename, cutover or rollback is at work"):
            over(late)
    until(lambda: late.sql(f"SELECT IS_USED_LOCK('{BEHIND}')") == [(None,)])
    assert over(late)["executed"]
    assert last_rows(late, "late_b") == [("1",)]
    assert "zzz" in tables(late, "late_b_old")
