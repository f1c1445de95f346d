"""Between the comparison and the exchange: who writes, waits, is still connected, or is killed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
import servers
from conftest import Fresh
from datajoint_migrate import (
    DestinationBusy,
    NotReady,
    ServerError,
    backup_schema,
    cutover,
    migrate,
    rename_schema,
    rollback,
    status,
)
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover import actions, hold, occupants, watch
from killing import deserted
from line import Harm, Packet, line
from pair import make_pair
from people import LONGEST, People
from servers import Server

MAP = {"hold_a": "hold_a_v20", "hold_b": "hold_b_v20"}
BACKUPS = {"hold_a": "hold_a_bak", "hold_b": "hold_b_bak"}
ALL = [f"{name}{end}" for name in MAP for end in ("", "_v20", "_old", "_bak", "_new")]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    """A server with two schemas, migrated and backed up."""
    found: Server = request.getfixturevalue(request.param)
    fresh(found, *ALL)
    filled(found)
    return found


def filled(server: Server) -> None:
    make_pair(server, *MAP)
    result = migrate(MAP, connection=server.url)
    assert result["compatible"], result["issues"]
    for schema, backup in BACKUPS.items():
        backup_schema(schema, backup, connection=server.url)


def ready(server: Server, **options: Any) -> dict[str, Any]:
    return cutover(MAP, backups=BACKUPS, connection=server.url, execute=True, **options)


def before_the_hold(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Do something after all checks and before the first lock."""
    locked = hold.locked
    done: list[bool] = []

    def first(*arguments: Any) -> Any:
        if not done:
            done.append(True)
            act()
        return locked(*arguments)

    monkeypatch.setattr(hold, "locked", first)


def mice(server: Server, schema: str) -> int:
    return int(server.sql(f"SELECT COUNT(*) FROM {schema}.mouse")[0][0] or 0)


def test_a_row_written_after_the_comparison_keeps_the_schemas_where_they_are(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_the_hold(
        monkeypatch, lambda: server.sql("INSERT INTO hold_a.mouse (mouse_id) VALUES (77)")
    )
    with pytest.raises(NotReady, match=r"hold_a\.mouse was written to"):
        ready(server)
    assert mice(server, "hold_a") == 4
    assert mice(server, "hold_a_v20") == 3


def test_a_truncate_after_the_comparison_keeps_the_schemas_where_they_are(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_the_hold(monkeypatch, lambda: server.sql("TRUNCATE TABLE hold_a.best"))
    with pytest.raises(NotReady, match=r"hold_a\.best was written to"):
        ready(server)
    assert server.sql("SELECT COUNT(*) FROM hold_a.best") == [("0",)]


def test_a_writer_does_not_wait_for_a_comparison_under_locks(
    server: Server, mysql_b: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: the locks are given back, and nothing changes places."""
    run = watch.Comparing.run
    took: list[tuple[float, float]] = []

    def write() -> None:
        with resolve(server.url).session() as other:
            began = time.monotonic()
            other.execute("INSERT INTO hold_a.mouse (mouse_id) VALUES (90)")
            took.append((began, time.monotonic()))

    def slow(self: Any, *arguments: Any) -> None:
        run(self, *arguments)
        writer = threading.Thread(target=write)
        writer.start()
        writer.join()

    original = watch.Watch.look_again

    def look_again(self: watch.Watch, tables: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(watch.Comparing, "run", slow)
            original(self, tables)

    monkeypatch.setattr(watch.Watch, "look_again", look_again)
    monkeypatch.setattr(watch.Mark, "proves", lambda *_: False)
    # On another server, where nobody holds anything and no cutover looks who is there.
    with (
        People(mysql_b) as people,
        pytest.raises(NotReady, match="production is written to: session"),
    ):
        ready(server)
    assert took
    assert people.waited(*took[0]) < LONGEST
    assert mice(server, "hold_a") == 4


def test_a_row_that_slips_in_before_a_rename_without_locks_undoes_it(
    mariadb: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MariaDB renames no table that is locked."""
    fresh(mariadb, *ALL)
    filled(mariadb)
    slipped: list[Any] = []

    def rename_late(session: Session, second: Session, *rest: Any) -> list[str]:
        session.execute("UNLOCK TABLES")
        # As if there were one guard for all tables.
        for guard in rest[-1]:
            guard.let_go()
        if not slipped:
            slipped.append(mariadb.sql("INSERT INTO hold_a.mouse (mouse_id) VALUES (91)"))
        second.execute(rest[2])
        return []

    monkeypatch.setattr(hold, "_rename_behind", rename_late)
    with pytest.raises(NotReady, match=r"hold_a\.mouse was written to during the exchange"):
        ready(mariadb)
    assert mice(mariadb, "hold_a") == 4
    assert mice(mariadb, "hold_a_v20") == 3


def test_a_row_that_slips_in_while_locks_are_handed_over_keeps_the_schemas_where_they_are(
    mariadb: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh(mariadb, *ALL)
    filled(mariadb)
    hand_over = hold._hand_over
    triggers = (
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'hold_a'"
    )
    there = mariadb.sql(triggers)

    def hand_over_late(session: Session, *rest: Any) -> list[str]:
        session.execute("UNLOCK TABLES")
        mariadb.sql("INSERT INTO hold_a.mouse (mouse_id) VALUES (91)")
        return hand_over(session, *rest)

    monkeypatch.setattr(hold, "_hand_over", hand_over_late)
    monkeypatch.setattr(hold, "_rename_behind", None)
    with pytest.raises(NotReady, match=r"hold_a\.mouse was written to during the exchange"):
        ready(mariadb)
    assert mice(mariadb, "hold_a") == 4
    assert mice(mariadb, "hold_a_v20") == 3
    assert mariadb.sql(triggers) == there


def test_no_row_slips_in_before_a_rename_without_locks(mariadb: Server, fresh: Fresh) -> None:
    """Writers of every table never pause: nothing is renamed, or not a row more than was held."""
    fresh(mariadb, *ALL)
    tables = [f"t{number}" for number in range(6)]
    mariadb.sql("CREATE DATABASE hold_a; CREATE DATABASE hold_a_old")
    for table in tables:
        mariadb.sql(f"CREATE TABLE hold_a.{table} (i INT AUTO_INCREMENT PRIMARY KEY)")
    stop = threading.Event()

    def write(table: str) -> None:
        while not stop.is_set():
            with suppress(MigrationError), resolve(mariadb.url).session() as other:
                while not stop.is_set():
                    other.execute(f"INSERT INTO hold_a.{table} () VALUES ()")

    def rows(of: Session, schema: str) -> list[Any]:
        return [of.query(f"SELECT MAX(i) FROM {schema}.{table}") for table in tables]

    held: list[Any] = []

    def rested(other: Session) -> None:
        # The server keeps whole seconds: what comes in from now on shows.
        began = other.query("SELECT NOW()")
        while other.query("SELECT NOW()") == began:
            time.sleep(0.01)
        # Whoever holds the tables may read them.
        held[:] = rows(session, "hold_a")

    writers = [threading.Thread(target=write, args=(table,)) for table in tables]
    for writer in writers:
        writer.start()
    there, back = (
        [(one, table, other) for table in tables]
        for one, other in (("hold_a", "hold_a_old"), ("hold_a_old", "hold_a"))
    )
    done = 0
    try:
        with resolve(mariadb.url).session() as session:
            session.execute("SET SESSION lock_wait_timeout = 10")
            for _ in range(20):
                try:
                    actions.move(session, there, (), rested, proves=["hold_a"], evicts=True)
                except (NotReady, ServerError):
                    assert not mariadb.sql("SHOW TABLES FROM hold_a_old")
                    continue
                assert rows(session, "hold_a_old") == held
                actions.move(session, back, (), None)
                done += 1
                if done == 2:
                    break
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert done


def test_a_statement_that_waits_for_the_exchange_is_ended_and_lands_nowhere(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the locks until the tables have changed places."""
    said: list[str] = []
    looked = watch.Watch.ready

    def insert() -> None:
        with resolve(server.url).session() as other:
            try:
                other.execute("INSERT INTO hold_a.mouse (mouse_id) VALUES (78)")
            except MigrationError as error:
                said.append(str(error))

    writer = threading.Thread(target=insert)

    def ready_then_insert(self: watch.Watch, other: Session) -> None:
        looked(self, other)
        writer.start()
        until = time.monotonic() + 20
        while not hold._waiting(other, [("hold_a", "mouse", "x")]):
            assert time.monotonic() < until
            time.sleep(0.01)

    monkeypatch.setattr(watch.Watch, "ready", ready_then_insert)
    result = ready(server)
    writer.join()
    assert result["executed"]
    assert said
    assert any("was ended" in note for note in result["notes"])
    assert mice(server, "hold_a") == mice(server, "hold_a_old") == 3


def test_an_idle_session_that_did_much_else_is_named_and_ended_on_request(server: Server) -> None:
    with resolve(server.url).session() as other:
        other.query("SELECT * FROM hold_a.mouse")
        for number in range(12):
            other.query(f"SELECT {number}")
        seen = occupants.session_id(other)
        with pytest.raises(NotReady, match=f"session {seen} of dj@"):
            ready(server)
        done = ready(server, end_sessions=True)
        assert done["executed"]
        assert any(f"session {seen} of" in note and "process" in note for note in done["notes"])
        with pytest.raises(MigrationError):
            other.query("SELECT 1")


def test_nobody_is_ended_for_a_cutover_that_does_not_come(server: Server) -> None:
    server.sql("UPDATE hold_a_v20.mouse SET note = 'other' WHERE mouse_id = 1")
    with resolve(server.url).session() as other:
        other.query("SELECT * FROM hold_a.mouse")
        with pytest.raises(NotReady, match="differ in"):
            ready(server, end_sessions=True)
        assert other.query("SELECT 1") == [(1,)]


def test_who_may_not_use_the_schemas_is_left_alone(server: Server) -> None:
    server.sql("DROP USER IF EXISTS 'hold_else'@'%'; CREATE USER 'hold_else'@'%' IDENTIFIED BY 'x'")
    try:
        url = f"mysql://hold_else:x@{server.host}:{server.port}/"
        with resolve(url).session() as other:
            for number in range(12):
                other.query(f"SELECT {number}")
            assert ready(server, end_sessions=True)["executed"]
            assert other.query("SELECT 1") == [(1,)]
    finally:
        server.sql("DROP USER 'hold_else'@'%'")


def test_a_0146_worker_that_holds_headings_and_worked_elsewhere_is_named(
    server: Server, tmp_path: Path
) -> None:
    """Nothing of it is accepted: not while it is there, and a process that began anew is fenced."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    words = [str(environments.python("0.14.6")), str(worker), str(server.port)]
    client = clients.Talking(words)
    number = client.stdout.readline().strip()
    with pytest.raises(NotReady, match=f"session {number} of dj@"):
        ready(server)
    client.kill()
    client.communicate()
    deserted(server)
    assert ready(server)["executed"]
    words = [str(environments.python("0.14.6")), str(worker), str(server.port), "write"]
    said = clients.run(words, input="\n")
    assert "Unknown attribute type" in said.stderr
    assert mice(server, "hold_a") == 3


def test_an_insert_of_a_0146_worker_that_waits_for_the_exchange_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    words = [str(environments.python("0.14.6")), str(worker), str(server.port)]
    looked = watch.Watch.ready
    begun: list[clients.Talking] = []

    def ready_then_insert(self: watch.Watch, other: Session) -> None:
        looked(self, other)
        client = clients.Talking(words)
        begun.append(client)
        client.stdin.write("\n")
        client.stdin.flush()
        until = time.monotonic() + 60
        while not hold._waiting(other, [("hold_a", "mouse", "x")]):
            assert time.monotonic() < until
            assert client.poll() is None
            time.sleep(0.05)

    monkeypatch.setattr(watch.Watch, "ready", ready_then_insert)
    assert ready(server)["executed"]
    _, said = begun[0].communicate()
    assert begun[0].returncode, said
    assert mice(server, "hold_a") == mice(server, "hold_a_old") == 3


WORKER = """
import sys
import datajoint as dj
dj.config.update({"database.host": "127.0.0.1", "database.port": int(sys.argv[1]),
                  "database.user": "dj", "database.password": "dj", "loglevel": "ERROR"})
dj.config["database.use_tls"] = False
lab = dj.create_virtual_module("lab", "hold_a")
assert len(lab.Mouse.heading.attributes)
for number in range(12):
    dj.conn().query(f"SELECT {number}")
print(dj.conn().connection_id, flush=True)
sys.stdin.readline()
lab.Mouse.insert1({"mouse_id": 500})
"""


def test_a_call_killed_before_its_exchange_checks_everything_again(server: Server) -> None:
    """A row that came meanwhile is not left behind, and production kept its programs."""
    programs = server.sql("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS"
                          " WHERE TRIGGER_SCHEMA LIKE 'hold%' ORDER BY 1")  # fmt: skip
    killed(server, "LOCK TABLES")
    assert programs == server.sql("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS"
                                  " WHERE TRIGGER_SCHEMA LIKE 'hold%' ORDER BY 1")  # fmt: skip
    server.sql("INSERT INTO hold_a.mouse (mouse_id) VALUES (79)")
    with pytest.raises(NotReady, match=r"hold_a\.mouse"):
        ready(server)
    assert mice(server, "hold_a") == 4


def test_a_call_killed_between_triggers_and_exchange_says_so_until_it_is_undone(
    server: Server,
) -> None:
    triggers = ("SELECT TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_STATEMENT"
                " FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA LIKE 'hold%'"
                " ORDER BY 1, 2")  # fmt: skip
    there = server.sql(triggers)
    killed(server, "RENAME TABLE")
    gone = [row for row in there if row not in server.sql(triggers)]
    assert gone
    look = cutover(MAP, backups=BACKUPS, connection=server.url)
    now = status(MAP, connection=server.url)["schemas"]
    for schema, name, _ in gone:
        assert any(f"{schema}.{name}" in line and "rollback" in line for line in look["missing"])
        assert all(f"{schema}.{name}" in one["why"] for one in now)
    assert {one["state"] for one in now} == {"cutting over"}
    rollback(MAP, connection=server.url, execute=True)
    assert server.sql(triggers) == there
    assert not [line for line in cutover(MAP, connection=server.url)["missing"] if "drop" in line]


KILLED = """
import os, signal, sys
from datajoint_migrate import cutover
from datajoint_migrate.catalog.session import Session
execute = Session.execute
def until(session, sql, params=()):
    if sql.startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(session, sql, params)
Session.execute = until
import json
cutover(json.loads(sys.argv[3]), backups=json.loads(sys.argv[4]), connection=sys.argv[1],
        execute=True)
"""


def killed(server: Server, statement: str) -> None:
    """A cutover, killed before its first statement that begins so."""
    words = [sys.executable, "-c", KILLED, server.url, statement, json.dumps(MAP)]
    done = subprocess.run([*words, json.dumps(BACKUPS)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    deserted(server)


@pytest.mark.parametrize("name", ["hold_a", "hold_a_v20"])
def test_who_works_on_a_schema_is_not_renamed_away_from(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with resolve(server.url).session() as mover, monkeypatch.context() as impatient:
        take_turn(mover, [name])
        impatient.setattr(LIMITS, "turn_seconds", 0)
        with pytest.raises(DestinationBusy, match=name):
            rename_schema(name, "hold_a_new", connection=server.url)
        with pytest.raises(DestinationBusy, match=name):
            ready(server)
    assert ready(server)["executed"]
    with resolve(server.url).session() as mover, monkeypatch.context() as impatient:
        take_turn(mover, [name])
        impatient.setattr(LIMITS, "turn_seconds", 0)
        with pytest.raises(DestinationBusy, match=name):
            rollback(MAP, connection=server.url, execute=True)
    assert rollback(MAP, connection=server.url, execute=True)["executed"]


@pytest.fixture
def own_mysql() -> Iterator[Server]:
    found = servers.start("mysql")
    yield found
    found.stop()


def test_a_server_that_was_killed_inside_the_rename_is_recognised(own_mysql: Server) -> None:
    """Nearly every time MySQL does not find the file of `~log` at its next start."""
    server = own_mysql
    filled(server)
    for _ in range(6):
        death = Death(server)
        with line(server, death) as proxy, pytest.raises(MigrationError) as raised:
            cutover(MAP, backups=BACKUPS, connection=proxy.url, execute=True)
        assert death.killing.ident, raised.value
        death.killing.join()
        server.restart()
        try:
            ready(server)
        except ServerError as error:
            said = [str(error)]
            break
        rollback(MAP, connection=server.url, execute=True)
    else:
        pytest.fail("the server found all its files, each time")
    for again in (
        lambda: rollback(MAP, connection=server.url, execute=True),
        lambda: ready(server),
    ):
        with pytest.raises(ServerError) as raised:
            again()
        said.append(str(raised.value))
    for one in said:
        assert re.search(r"file of hold_[ab]_?\w*\.[~#]\w+.*restart the server in order", one), one
        assert "as it was before" not in one
    _restart(server)
    assert ready(server)["executed"]
    assert mice(server, "hold_a_old") == 3


class Death:
    """Kills the server when it has begun to exchange the tables: the file of one has moved."""

    def __init__(self, server: Server) -> None:
        self.server, self.killing = server, threading.Thread(target=self.kill)

    def __call__(self, packet: Packet) -> Harm:
        if packet.upward and b"RENAME TABLE" in packet.command[:40] and not self.killing.ident:
            self.killing.start()
        return None

    def kill(self) -> None:
        assert self.server.folder is not None
        archive = self.server.folder / "data" / "hold_a_old"
        until = time.monotonic() + 20
        while not list(archive.glob("*log.ibd")) and time.monotonic() < until:
            time.sleep(0.001)
        self.server.kill()


def _restart(server: Server) -> None:
    assert server.process is not None
    server.process.terminate()
    server.process.wait()
    server.restart()


def test_a_writer_loses_no_row_whenever_the_cutover_is_killed(server: Server) -> None:
    """Every row the server said yes to is in production, whatever the name means then."""
    accepted: list[int] = []
    stop = threading.Event()

    def write() -> None:
        number = 1000
        while not stop.is_set():
            with suppress(MigrationError), resolve(server.url).session() as other:
                number += 1
                other.execute(f"INSERT INTO hold_a.mouse (mouse_id) VALUES ({number})")
                accepted.append(number)
            stop.wait(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for statement in ("CREATE TABLE IF NOT EXISTS", "LOCK TABLES", "DROP TRIGGER"):
            with suppress(AssertionError):
                killed(server, statement)
            with suppress(NotReady, ServerError):
                ready(server)
    finally:
        stop.set()
        writer.join()
    kept = {int(row[0] or 0) for row in server.sql("SELECT mouse_id FROM hold_a.mouse")}
    assert set(accepted) <= kept
    assert accepted
