"""People at work on production meanwhile, and how long the longest of them waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mysql.connector

from datajoint_migrate.catalog.connector import Connector
from datajoint_migrate.catalog.server import resolve
from servers import Server

LONGEST = 3.0
# Shorter waits are nobody's business.
SHORT = 0.1
ROWS = 300
TABLES = ("first", "second", "third")


def connect(server: Server, *, autocommit: bool = True) -> Any:
    """A session as any client has it.

    By the connector that does not read the authorities of the system each time, which takes longer
    than the rest of a login: there are hundreds.
    """
    session = Connector(
        insist=False,
        server=resolve(server.url).spec(),
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
    )
    session.set_charset_collation("utf8mb4")
    session.autocommit = autocommit
    return session


def say(session: Any, sql: str) -> list[Any]:
    cursor = session.cursor()
    cursor.execute(sql)
    rows = cursor.fetchall() if cursor.description else []
    cursor.close()
    return list(rows)


def make(server: Server, schema: str) -> None:
    numbers = " UNION ALL ".join(f"SELECT {n}" for n in range(10))
    server.sql(
        f"CREATE DATABASE {schema};"
        + "".join(
            f"CREATE TABLE {schema}.{table} (id INT NOT NULL PRIMARY KEY, v INT NOT NULL,"
            " note VARCHAR(100) NOT NULL DEFAULT 'n');"
            f"INSERT INTO {schema}.{table} (id, v) SELECT a.i + 10 * b.i + 100 * c.i, 0 FROM"
            f" (SELECT 0 i UNION ALL SELECT 1 UNION ALL SELECT 2) c,"
            f" (SELECT 0 i UNION ALL {numbers.replace('SELECT 0 UNION ALL ', '')}) b,"
            f" (SELECT 0 i UNION ALL {numbers.replace('SELECT 0 UNION ALL ', '')}) a;"
            for table in TABLES
        )
    )


class People:
    """Sessions of production, each at one thing again and again, and their longest wait.

    One more asks for nothing that anybody could hold: what it waits for is the machine, and no
    wait of the others.
    """

    def __init__(self, server: Server, *statements: Callable[[int], list[str]]) -> None:
        self.server = server
        self.done = 0
        # When they began and ended.
        self.waits: list[tuple[float, float]] = []
        self.stalls: list[tuple[float, float]] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(one,)) for one in statements]
        self.threads.append(threading.Thread(target=self._stand_by))

    @property
    def longest(self) -> float:
        """The longest wait that was not the machine's."""
        return max((self.waited(*wait) for wait in self.waits), default=0.0)

    def waited(self, began: float, ended: float) -> float:
        """How long somebody waited, without what the machine let everybody wait meanwhile."""
        stalled = (min(ended, to) - max(began, since) for since, to in self.stalls)
        return ended - began - sum(max(0.0, one) for one in stalled)

    def _work(self, statements: Callable[[int], list[str]]) -> None:
        session = connect(self.server)
        number = 0
        while not self.stop.is_set():
            number += 1
            for sql in statements(number):
                self._say(session, sql, self.waits)
            self.done += 1
            time.sleep(0.005)
        session.close()

    def _stand_by(self) -> None:
        session = connect(self.server)
        while not self.stop.wait(0.005):
            self._say(session, "DO 0", self.stalls)
        session.close()

    def _say(self, session: Any, sql: str, kept: list[tuple[float, float]]) -> None:
        began = time.monotonic()
        say(session, sql)
        ended = time.monotonic()
        if ended - began > SHORT:
            kept.append((began, ended))

    def __enter__(self) -> People:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def reading(schema: str) -> Callable[[int], list[str]]:
    return lambda n: [f"SELECT v FROM {schema}.{TABLES[n % 3]} WHERE id = {n % ROWS}"]


def moving(schema: str) -> Callable[[int], list[str]]:
    """Takes from one table what it gives to another, so that the sum of all stays as it was."""
    return lambda n: [
        "START TRANSACTION",
        f"UPDATE {schema}.first SET v = v - 1 WHERE id = {n % ROWS}",
        f"UPDATE {schema}.third SET v = v + 1 WHERE id = {n % ROWS}",
        "COMMIT",
    ]


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextmanager
def long_statement(server: Server, sql: str) -> Iterator[Callable[[], None]]:
    """A statement of production that runs until the block ends."""
    session = connect(server)
    ident = say(session, "SELECT CONNECTION_ID()")[0][0]

    def run() -> None:
        try:
            say(session, sql)
        except mysql.connector.Error:
            return

    thread = threading.Thread(target=run)
    thread.start()
    running = (
        f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {ident} AND INFO LIKE '%SLEEP%'"
    )

    def end() -> None:
        server.sql(f"KILL QUERY {ident}")

    try:
        wait_for(lambda: server.sql(running))
        yield end
    finally:
        end()
        thread.join()
        session.close()
