"""Those who write to production meanwhile: they wait for no copy, and it is of one instant."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import mysql.connector

from conftest import Fresh
from datajoint_migrate import migrate
from line import Harm, Packet, line
from servers import Server

ACCOUNTS = 50
# The destination takes so long for each piece of rows that the copy outlasts any fair wait.
PAUSE = 0.6
TABLES = "".join(
    f"CREATE TABLE wri_bank.{table} (id INT NOT NULL PRIMARY KEY, balance INT NOT NULL,"
    " moves INT NOT NULL DEFAULT 0);"
    for table in ("debit", "credit")
)


class Writers:
    """Two sessions that move money between two tables, and how long each move took."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.waits: list[float] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._write, args=(n,)) for n in range(2)]

    def _write(self, start: int) -> None:
        session = mysql.connector.connect(
            host=self.server.host,
            port=self.server.port,
            user=self.server.user,
            password=self.server.password,
            use_pure=True,
        )
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
            time.sleep(0.002)
        session.close()


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


def test_no_writer_waits_longer_than_the_snapshot_takes_to_open(
    mysql: Server, mysql_b: Server, fresh: Fresh
) -> None:
    fresh(mysql_b, "wri_bank")
    fresh(mysql, "wri_bank_v20")
    mysql_b.sql(
        "CREATE DATABASE wri_bank;"
        + TABLES
        + "".join(
            f"INSERT INTO wri_bank.{table} (id, balance) WITH RECURSIVE n (i) AS (SELECT 0 UNION"
            f" ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS - 1}) SELECT i, 1000 FROM n;"
            for table in ("debit", "credit")
        )
    )
    with writers(mysql_b) as alone:
        time.sleep(2)
    locked: list[float] = []

    def opening(packet: Packet) -> Harm:
        if packet.command.startswith((b"\x03LOCK TABLES", b"\x03UNLOCK TABLES")):
            locked.append(time.monotonic())
        return None

    def slow(packet: Packet) -> Harm:
        if packet.upward and packet.command.startswith(b"\x03LOAD DATA"):
            time.sleep(PAUSE)
        return None

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
    sums = [
        mysql.sql(f"SELECT SUM(balance), SUM(moves) FROM wri_bank_v20.{table}")[0]
        for table in ("debit", "credit")
    ]
    balance = sum(int(str(balance)) for balance, _ in sums)
    assert balance == 2 * 1000 * ACCOUNTS
    # The instant lies amid the writing, and is the same in both tables.
    assert sums[0][1] == sums[1][1]
    assert int(str(sums[0][1])) > len(alone.waits)
