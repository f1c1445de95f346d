"""Nobody waits for a snapshot, whatever runs there, and it is of one instant."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mysql.connector
import pytest

import servers
from conftest import Fresh, drop
from datajoint_migrate import backup_schema, compare_schemas, copy_all_data, migrate
from datajoint_migrate.errors import GaveWay, MigrationError
from line import Harm, Packet, line
from people import (
    LONGEST,
    ROWS,
    TABLES,
    People,
    connect,
    long_statement,
    make,
    moving,
    reading,
    say,
    wait_for,
)
from servers import Server


@contextmanager
def open_transaction(server: Server, *statements: str) -> Iterator[Any]:
    """A transaction that is not committed before the block ends."""
    session = connect(server)
    say(session, "START TRANSACTION")
    for sql in statements:
        say(session, sql)
    try:
        yield session
    finally:
        say(session, "COMMIT")
        session.close()


def sum_of(server: Server, schema: str) -> int:
    total = " + ".join(f"(SELECT SUM(v) FROM {schema}.{table})" for table in TABLES)
    return int(str(server.sql(f"SELECT {total}")[0][0]))


@pytest.fixture
def bank(server: Server, fresh: Fresh) -> str:
    fresh(server, "ins_bank", "ins_bank_v20")
    make(server, "ins_bank")
    return "ins_bank"


LONG = {
    "SELECT": "SELECT COUNT(*) FROM {0}.second WHERE SLEEP(60)",
    "dump": "SELECT * FROM {0}.first, {0}.second, {0}.third WHERE SLEEP(60)",
    "UPDATE": "UPDATE {0}.second SET v = v WHERE SLEEP(60)",
}


@pytest.mark.parametrize("what", LONG)
def test_nobody_waits_for_a_copy_that_begins_beside_a_long_statement(
    server: Server, bank: str, what: str
) -> None:
    told: list[str] = []
    with (
        long_statement(server, LONG[what].format(bank)) as end,
        People(server, reading(bank), moving(bank)) as people,
    ):

        def on_event(event: dict[str, Any]) -> None:
            if event.get("paused"):
                told.append(event["paused"])
                if what == "UPDATE":
                    end()

        wait_for(lambda: people.done > 20)
        before = people.done
        done = migrate({bank: f"{bank}_v20"}, connection=server.url, on_event=on_event)
        meanwhile = people.done - before
        runs = server.sql(
            "SELECT 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(60)'"
        )
    assert people.longest < LONGEST, people.longest
    assert meanwhile > 0
    assert done["match"], done["issues"]
    assert done["snapshot"] == "shared"
    assert sum_of(server, f"{bank}_v20") == 0
    # Whoever writes is waited for, and that is said; whoever reads reads on.
    assert told or what != "UPDATE"
    assert bool(runs) == (what != "UPDATE")


def test_a_mover_that_stops_while_it_holds_its_lock_holds_nobody_up(
    server: Server, bank: str
) -> None:
    locked = threading.Event()

    def stop(packet: Packet) -> Harm:
        if packet.command.startswith(b"\x03LOCK TABLES") and not packet.upward:
            locked.set()
        return "stall" if locked.is_set() else None

    def copying() -> None:
        with suppress(MigrationError):
            copy_all_data(bank, f"{bank}_v20", connection=f"{proxy.url}?read_timeout=2")

    with line(server, stop) as proxy, People(server, moving(bank)) as people:
        thread = threading.Thread(target=copying)
        thread.start()
        assert locked.wait(30)
        before = people.done
        wait_for(lambda: people.done > before + 20)
        proxy.closed.set()
        thread.join()
    assert people.longest < LONGEST, people.longest


@pytest.mark.parametrize(("held", "wanted"), [("first", "third"), ("third", "first")])
def test_no_transaction_of_production_fails_because_a_snapshot_is_opened(
    server: Server, bank: str, held: str, wanted: str
) -> None:
    said: list[str] = []
    asked = threading.Event()

    def rule(packet: Packet) -> Harm:
        if packet.command.startswith(b"\x03LOCK TABLES") and packet.upward:
            asked.set()
        return None

    def write(transaction: Any) -> None:
        assert asked.wait(30)
        # Where a lock is waited for, it is by now.
        time.sleep(0.3)
        try:
            say(transaction, f"UPDATE {bank}.{wanted} SET v = v + 1")
            say(transaction, "COMMIT")
            said.append("committed")
        except mysql.connector.Error as error:
            said.append(str(error))

    settle(server, bank)
    update = f"UPDATE {bank}.{held} SET v = v - 1"
    with line(server, rule) as proxy, open_transaction(server, update) as transaction:
        writing = threading.Thread(target=write, args=(transaction,))
        writing.start()
        done = copy_all_data(bank, f"{bank}_v20", connection=proxy.url)
        writing.join()
    assert said == ["committed"]
    assert done["snapshot"] == "shared"
    assert sum_of(server, f"{bank}_v20") == 0
    assert compare_schemas(bank, f"{bank}_v20", 0, connection=server.url)["match"]


# -- one instant -------------------------------------------------------------------------------


def amid(table: str, happens: Callable[[], object]) -> Callable[[Packet], Harm]:
    """Does something before the first statement that fills the copy of a table."""
    done = threading.Event()
    name = f"`{table}`".encode()

    def rule(packet: Packet) -> Harm:
        begins = packet.command.startswith((b"\x03INSERT INTO", b"\x03LOAD DATA"))
        if packet.upward and begins and name in packet.command[:200] and not done.is_set():
            done.set()
            happens()
        return None

    return rule


def settle(server: Server, schema: str) -> None:
    """Makes the tables look as if nobody had written to them, which is what a rebuild leaves."""
    server.sql("".join(f"ALTER TABLE {schema}.{table} FORCE;" for table in TABLES))


MOVE = "START TRANSACTION; UPDATE {0}.first SET v = v - 5; UPDATE {0}.third SET v = v + 5; COMMIT;"
CHANGES = {
    "transaction": MOVE,
    "truncate": "TRUNCATE TABLE {0}.first",
    "optimize": "DELETE FROM {0}.first WHERE id > 50; OPTIMIZE TABLE {0}.first",
    "swap": MOVE + "RENAME TABLE {0}.first TO {0}.x, {0}.third TO {0}.first, {0}.x TO {0}.third;",
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("call", ["copy_all_data", "migrate"])
def test_what_changes_amid_a_copy_inside_a_server_is_in_it_whole_or_not_at_all(
    server: Server, bank: str, what: str, call: str
) -> None:
    settle(server, bank)
    change = CHANGES[what].format(bank)
    copy = f"{bank}_v20"
    happened: list[str] = []

    def happens() -> None:
        happened.append(what)
        server.sql(change)

    with line(server, amid("second", happens)) as proxy:
        if call == "migrate":
            done = migrate({bank: copy}, connection=proxy.url, lanes=1)
            assert done["match"], done["issues"]
        else:
            done = copy_all_data(bank, copy, connection=proxy.url, lanes=1)
    assert happened
    assert done["snapshot"] == "shared"
    assert compare_schemas(bank, copy, 0, connection=server.url)["match"]


def test_a_transaction_that_is_committed_amid_a_copy_is_in_it_whole_or_not_at_all(
    server: Server, bank: str
) -> None:
    copy = f"{bank}_v20"
    written_lately = (
        "SELECT 1 FROM information_schema.TABLES WHERE UPDATE_TIME > NOW() - INTERVAL 3 SECOND"
        f" AND TABLE_SCHEMA = '{bank}'"
    )
    if server.kind == "mysql":
        written_lately = "SET SESSION information_schema_stats_expiry = 0;" + written_lately
    settle(server, bank)
    with open_transaction(server, *MOVE.format(bank).split("; ")[1:3]) as transaction:
        # On MariaDB the time of a change is that of its statement, not of its commit.
        wait_for(lambda: not server.sql(written_lately))
        with line(server, amid("second", lambda: say(transaction, "COMMIT"))) as proxy:
            done = copy_all_data(bank, copy, connection=proxy.url, lanes=1)
    assert done["snapshot"] == "shared"
    assert sum_of(server, copy) == 0
    assert compare_schemas(bank, copy, 0, connection=server.url)["match"]


@contextmanager
def xa_transaction(server: Server, bank: str, gone: bool) -> Iterator[Callable[[], None]]:
    """One that has moved something, and how it is committed; prepared by a session that has gone
    and left no lock of tables, or prepared only when it is committed."""
    session = connect(server)
    for sql in ("XA START 'move'", *MOVE.format(bank).split("; ")[1:3], "XA END 'move'"):
        say(session, sql)
    if gone:
        say(session, "XA PREPARE 'move'")
        session.close()
        session = connect(server)
        wait_for(lambda: bool(server.sql("XA RECOVER")))
    committed: list[bool] = []

    def commit() -> None:
        if not committed:
            committed.append(True)
            if not gone:
                say(session, "XA PREPARE 'move'")
            say(session, "XA COMMIT 'move'")

    try:
        yield commit
    finally:
        commit()
        session.close()


@pytest.mark.parametrize("gone", [False, True])
def test_an_xa_transaction_that_is_committed_amid_a_copy_is_in_it_whole_or_not_at_all(
    server: Server, bank: str, gone: bool
) -> None:
    settle(server, bank)
    with (
        xa_transaction(server, bank, gone) as commit,
        line(server, amid("second", commit)) as proxy,
    ):
        done = copy_all_data(bank, f"{bank}_v20", connection=proxy.url, lanes=1)
    assert done["snapshot"] == "shared"
    assert sum_of(server, f"{bank}_v20") == 0
    assert compare_schemas(bank, f"{bank}_v20", 0, connection=server.url)["match"]


def test_beside_one_that_is_prepared_and_may_be_committed_at_any_time_one_snapshot_reads_all(
    server: Server, mysql_b: Server, fresh: Fresh, bank: str
) -> None:
    copy = f"{bank}_v20"
    fresh(mysql_b, copy)
    with (
        xa_transaction(server, bank, True) as commit,
        line(mysql_b, amid("second", commit)) as proxy,
    ):
        ends = {"connection": server.url, "dest_connection": proxy.url}
        done = copy_all_data(bank, copy, lanes=4, **ends)
    assert done["snapshot"] == "single"
    assert sum_of(mysql_b, copy) == 0


def test_a_quiet_copy_inside_a_server_says_that_it_was_and_is_read_once_more(
    server: Server, bank: str
) -> None:
    settle(server, bank)
    done = copy_all_data(bank, f"{bank}_v20", connection=server.url)
    assert (done["snapshot"], done["rows_copied"]) == ("quiet", 3 * ROWS)


def test_what_is_repaired_after_the_comparison_is_of_the_instant_of_all_the_rest(
    server: Server, bank: str
) -> None:
    settle(server, bank)
    with People(server, moving(bank)) as people:
        wait_for(lambda: people.done > 3)
        done = migrate({bank: f"{bank}_v20"}, connection=server.url)
    assert done["match"], done["issues"]
    assert done["snapshot"] == "shared"
    assert sum_of(server, f"{bank}_v20") == 0


def test_a_copy_that_was_interrupted_and_goes_on_is_of_one_instant(
    server: Server, mysql_b: Server, fresh: Fresh, bank: str
) -> None:
    copy = f"{bank}_v20"
    fresh(mysql_b, copy)
    begun, stopped = threading.Event(), threading.Event()

    def rule(packet: Packet) -> Harm:
        begins = packet.command.startswith(b"\x03INSERT INTO")
        if packet.upward and begins and b"`third`" in packet.command[:200]:
            begun.set()
            # Else it would be done before anybody hears of it.
            stopped.wait(30)
        return None

    def on_event(_: dict[str, Any]) -> None:
        if begun.is_set():
            stopped.set()
            raise KeyboardInterrupt

    both: dict[str, Any] = {"connection": server.url, "dest_connection": mysql_b.url}
    with line(mysql_b, rule) as proxy, pytest.raises(KeyboardInterrupt):
        copy_all_data(
            bank,
            copy,
            lanes=1,
            connection=server.url,
            dest_connection=proxy.url,
            on_event=on_event,
        )
    assert stopped.is_set()
    assert sum_of(mysql_b, copy) == 0
    server.sql(MOVE.format(bank))
    done = copy_all_data(bank, copy, **both)
    assert done["snapshot"] == "shared"
    assert sum_of(mysql_b, copy) == 0
    assert compare_schemas(bank, copy, 0, **both)["match"]


def test_rows_of_an_engine_without_snapshots_are_not_called_one_instant(
    server: Server, bank: str, mysql_b: Server, fresh: Fresh
) -> None:
    fresh(mysql_b, f"{bank}_v20")
    server.sql(f"ALTER TABLE {bank}.second ENGINE=MyISAM")
    for dest in (server, mysql_b):
        done = copy_all_data(bank, f"{bank}_v20", connection=server.url, dest_connection=dest.url)
        assert done["snapshot"] == "several"


# -- production changes its tables -------------------------------------------------------------

CHILD = (
    "CREATE TABLE {0}.child (id INT NOT NULL PRIMARY KEY,"
    " FOREIGN KEY (id) REFERENCES {0}.first (id))"
)
DDL = {
    "child": CHILD,
    "truncate": "TRUNCATE TABLE {0}.first",
    "comment": "ALTER TABLE {0}.first COMMENT 'other'",
    "column": "ALTER TABLE {0}.first ADD COLUMN more INT",
    "drop": "DROP TABLE {0}.first",
    "lock": "LOCK TABLES {0}.first WRITE; UNLOCK TABLES",
}


class Changing:
    """What production changes while a copy holds its snapshot, and how long that waited."""

    def __init__(self, server: Server, sql: str) -> None:
        self.server, self.sql = server, sql
        self.begun = threading.Event()
        self.waited: tuple[float, float] | None = None

    def rule(self, packet: Packet) -> Harm:
        loads = packet.command.startswith((b"\x03INSERT INTO `ins_bank_v20`.`", b"\x03LOAD DATA"))
        ours = b"~migrate" in packet.command[:60]
        if packet.upward and loads and not ours and not self.begun.is_set():
            self.begun.set()
            began = time.monotonic()
            self.server.sql(self.sql)
            self.waited = began, time.monotonic()
        return None


@pytest.mark.parametrize("what", DDL)
def test_a_copy_gives_way_to_what_production_changes_about_its_tables(
    server: Server, bank: str, mysql_b: Server, fresh: Fresh, what: str
) -> None:
    copy = f"{bank}_v20"
    fresh(mysql_b, copy)
    changing = Changing(server, DDL[what].format(bank))
    told: list[str] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "gave_way":
            told.append(event["why"])

    # Who reads the table that is changed may find it gone.
    everybody = People(server, lambda n: [f"SELECT v FROM {bank}.second WHERE id = {n % ROWS}"])
    with line(mysql_b, changing.rule) as proxy, everybody:
        both: dict[str, Any] = {"connection": server.url, "dest_connection": proxy.url}
        goes_on = what in ("child", "truncate", "lock")
        if goes_on:
            # What leaves the tables declared as they were is no reason to end.
            migrate({bank: copy}, on_event=on_event, **both)
            assert compare_schemas(bank, copy, 0, **both)["tables"]["first"]["match"]
        else:
            with pytest.raises(GaveWay, match=f"{bank}.first") as caught:
                migrate({bank: copy}, on_event=on_event, **both)
            assert "same call" in str(caught.value.hint)
    assert changing.waited is not None
    assert everybody.waited(*changing.waited) < LONGEST, changing.waited
    assert everybody.longest < LONGEST
    if server.kind == "mariadb" and what == "child":
        # MariaDB needs no lock on the table that a new one refers to.
        assert not told
    else:
        assert DDL[what].format(bank).split(";")[0][:40] in told[0]


def test_an_archive_gives_way_too_and_the_same_call_goes_on(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "ins_bank")
    make(mysql, "ins_bank")
    pause = tmp_path / "pause"
    waited: list[tuple[float, float]] = []

    def happens() -> None:
        wait_for(pause.exists)
        began = time.monotonic()
        mysql.sql(CHILD.format("ins_bank"))
        waited.append((began, time.monotonic()))
        pause.unlink()

    def rule(packet: Packet) -> Harm:
        # The tables are read by then, and nothing else is as long as the file is there.
        if packet.command.startswith(b"\x03UNLOCK TABLES") and packet.upward and not waited:
            pause.touch()
        return None

    thread = threading.Thread(target=happens)
    thread.start()
    with line(mysql, rule) as proxy:
        with People(mysql) as people, pytest.raises(GaveWay, match="CREATE TABLE"):
            backup_schema("ins_bank", tmp_path / "a", connection=proxy.url, pause_file=pause)
        thread.join()
        assert people.waited(*waited[0]) < LONGEST
        done = backup_schema("ins_bank", tmp_path / "a", connection=proxy.url)
    assert done["rows_backed_up"] == 3 * ROWS


# -- one server or two -------------------------------------------------------------------------


def test_two_servers_that_say_they_are_one_are_two(mysql: Server) -> None:
    clone = servers.start("mysql")
    try:
        assert clone.folder is not None
        uuid = mysql.sql("SELECT @@server_uuid")[0][0]
        clone.kill()
        (clone.folder / "data" / "auto.cnf").write_text(f"[auto]\nserver-uuid={uuid}\n")
        clone.restart()
        assert clone.sql("SELECT @@server_uuid") == [(uuid,)]
        for one in (mysql, clone):
            drop(one, "ins_bank", "ins_bank_v20")
            make(one, "ins_bank")
            settle(one, "ins_bank")
        mysql.sql("UPDATE ins_bank.first SET v = 7; ALTER TABLE ins_bank.first FORCE")
        both: dict[str, Any] = {"connection": mysql.url, "dest_connection": clone.url}
        done = copy_all_data("ins_bank", "ins_bank_v20", **both)
        assert done["snapshot"] == "shared"
        assert clone.sql("SELECT MIN(v) FROM ins_bank_v20.first") == [("7",)]
        drop(mysql, "ins_bank")
    finally:
        clone.stop()


# -- no lock where the log tells ---------------------------------------------------------------


@pytest.fixture(scope="module", params=["mysql", "mariadb"])
def logging_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with a binary log."""
    server = servers.start(request.param, arguments=["--log-bin=binlog", "--server-id=7"])
    yield server
    server.stop()


def test_where_the_log_tells_the_instant_no_lock_is_needed(
    logging_server: Server, mysql_b: Server, fresh: Fresh
) -> None:
    server = logging_server
    fresh(mysql_b, "ins_bank_v20")
    fresh(server, "ins_bank")
    make(server, "ins_bank")
    right = "REPLICATION CLIENT" if server.kind == "mysql" else "BINLOG MONITOR"
    server.sql(
        "DROP USER IF EXISTS reader; CREATE USER reader IDENTIFIED BY 'pw';"
        f"GRANT {right} ON *.* TO reader; GRANT SELECT ON ins_bank.* TO reader"
    )
    # This user may lock nothing.
    url = f"mysql://reader:pw@{server.host}:{server.port}/"
    with People(server, moving("ins_bank")) as people:
        wait_for(lambda: people.done > 3)
        done = copy_all_data(
            "ins_bank", "ins_bank_v20", connection=url, dest_connection=mysql_b.url
        )
    assert done["snapshot"] == "shared"
    assert sum_of(mysql_b, "ins_bank_v20") == 0
    assert people.longest < LONGEST
