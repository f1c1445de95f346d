"""Those who write to production meanwhile: they wait for no copy, and it is of one instant."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from conftest import Fresh
from datajoint_migrate import migrate
from first_served import first_served
from line import Harm, Packet, line
from people import connect
from servers import Server

ACCOUNTS = 50
# What each of them does while a copy is held up.
MOVES = 20
# The destination takes so long for each piece of rows that the copy outlasts any fair wait.
PAUSE = 0.6
TABLES = "".join(
    f"CREATE TABLE wri_bank.{table} (id INT NOT NULL PRIMARY KEY, balance INT NOT NULL,"
    " moves INT NOT NULL DEFAULT 0);"
    for table in ("debit", "credit")
)


class Writers:
    """Two sessions that move money between two tables, each between rows of its own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.moves = [0, 0]
        # How long each move took.
        self.waits: list[float] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._write, args=(n,)) for n in range(2)]

    def _write(self, start: int) -> None:
        session = connect(self.server, autocommit=False)
        cursor = session.cursor()
        number = start
        while not self.stop.is_set():
            number = (number + 2) % ACCOUNTS
            began = time.monotonic()
            cursor.execute("START TRANSACTION")
            for table, sign in (("debit", "-"), ("credit", "+")):
                cursor.execute(
                    f"UPDATE wri_bank.{table} SET balance = balance {sign} 1, moves = moves + 1"
                    f" WHERE id = {number}"
                )
            cursor.execute("COMMIT")
            self.waits.append(time.monotonic() - began)
            self.moves[start] += 1
            time.sleep(0.002)
        session.close()

    def go_on(self) -> bool:
        """Whether each of them does some more, and waits for nobody."""
        wanted = [moves + MOVES for moves in self.moves]
        until = time.monotonic() + 30
        while any(done < goal for done, goal in zip(self.moves, wanted, strict=True)):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True


@contextmanager
def writers(server: Server) -> Iterator[Writers]:
    found = Writers(server)
    for thread in found.threads:
        thread.start()
    try:
        yield found
    finally:
        found.stop.set()
        for thread in found.threads:
            thread.join()


def make_bank(server: Server, other: Server, fresh: Fresh) -> None:
    """Accounts on one server, of which the other is to have a copy."""
    fresh(server, "wri_bank")
    fresh(other, "wri_bank_v20")
    server.sql(
        "CREATE DATABASE wri_bank;"
        + TABLES
        + "".join(
            f"INSERT INTO wri_bank.{table} (id, balance) WITH RECURSIVE n (i) AS (SELECT 0 UNION"
            f" ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS - 1}) SELECT i, 1000 FROM n;"
            for table in ("debit", "credit")
        )
    )


def moves_of_one_instant(server: Server) -> int:
    """How many moves the copy has seen; the same in both tables, and no money is lost."""
    sums = [
        server.sql(f"SELECT SUM(balance), SUM(moves) FROM wri_bank_v20.{table}")[0]
        for table in ("debit", "credit")
    ]
    balance = sum(int(str(balance)) for balance, _ in sums)
    assert balance == 2 * 1000 * ACCOUNTS
    # The instant lies amid the writing, and is the same in both tables.
    assert sums[0][1] == sums[1][1]
    return int(str(sums[0][1]))


def lock_waits(server: Server) -> str | None:
    return server.sql("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")[0][1]


def test_writers_go_on_while_their_rows_are_copied_and_the_copy_is_of_one_instant(
    mysql: Server, mysql_b: Server, fresh: Fresh
) -> None:
    make_bank(mysql_b, mysql, fresh)
    went_on: list[bool] = []

    def held(packet: Packet) -> Harm:
        # The snapshot is open, and no row of it has arrived yet.
        if packet.upward and packet.number == 1 and packet.command.startswith(b"\x03LOAD DATA"):
            went_on.append(beside.go_on())
        return None

    with line(mysql, held) as dest, writers(mysql_b) as beside:
        assert beside.go_on()
        before = lock_waits(mysql_b)
        result = migrate(
            {"wri_bank": "wri_bank_v20"}, connection=mysql_b.url, dest_connection=dest.url
        )
        # They never want the same row, so they would have waited for us.
        assert lock_waits(mysql_b) == before
    assert went_on
    assert all(went_on)
    assert result["match"], result["issues"]
    assert 2 * MOVES <= moves_of_one_instant(mysql) <= sum(beside.moves) - 2 * MOVES


def test_no_writer_waits_longer_than_the_snapshot_takes_to_open(
    mysql: Server, mysql_b: Server, fresh: Fresh
) -> None:
    make_bank(mysql_b, mysql, fresh)
    locked: list[float] = []

    def opening(packet: Packet) -> Harm:
        if packet.command.startswith((b"\x03LOCK TABLES", b"\x03UNLOCK TABLES")):
            locked.append(time.monotonic())
        return None

    def slow(packet: Packet) -> Harm:
        if packet.upward and packet.command.startswith(b"\x03LOAD DATA"):
            time.sleep(PAUSE)
        return None

    with first_served(mysql.pid, mysql_b.pid):
        with writers(mysql_b) as alone:
            time.sleep(2)
        with (
            line(mysql_b, opening) as source,
            line(mysql, slow) as dest,
            writers(mysql_b) as beside,
        ):
            began = time.monotonic()
            result = migrate(
                {"wri_bank": "wri_bank_v20"}, connection=source.url, dest_connection=dest.url
            )
            taken = time.monotonic() - began
    snapshot = max(locked) - min(locked)
    fair = snapshot + 10 * max(alone.waits) + 0.2
    # Else a writer that waited for all of the copy would not be noticed.
    assert taken > 2 * fair, (taken, fair)
    assert max(beside.waits) < fair, (max(beside.waits), max(alone.waits), snapshot, taken)
    # None is slowed down as a rule, either: four times is what two cores may cost.
    median = sorted(beside.waits)[len(beside.waits) // 2]
    assert median < 4 * sorted(alone.waits)[len(alone.waits) // 2] + 0.01
    assert result["match"], result["issues"]
    assert moves_of_one_instant(mysql) > len(alone.waits)
