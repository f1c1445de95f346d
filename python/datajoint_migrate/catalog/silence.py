"""A statement that is silent for long: its server is asked whether it still works on it.

The engine's rule (`rust/core/src/mysql/silence.rs`), for the sessions on this side.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mysql.connector
from mysql.connector.abstracts import MySQLConnectionAbstract

from datajoint_migrate.errors import ConnectionFailed

# States of a session that waits for its client, in MySQL's words and in MariaDB's.
WAITING = {
    "Sending to client",
    "Writing to net",
    "Receiving from client",
    "Reading from net",
}


TICK = 0.5


@dataclass(eq=False)
class _Statement:
    connection: MySQLConnectionAbstract
    seconds: float
    connect: Callable[[], MySQLConnectionAbstract]
    due: float
    suspected: bool = False


_lock = threading.Lock()
_statements: set[_Statement] = set()
# One for all, because a thread costs more than most statements; it ends when there are none.
_watcher: threading.Thread | None = None


@contextmanager
def judged(
    connection: MySQLConnectionAbstract,
    seconds: float,
    connect: Callable[[], MySQLConnectionAbstract],
) -> Iterator[None]:
    """End the connection, and so the statement inside, when its server is done with it or gone.

    `connect` opens another connection to ask by.
    """
    global _watcher
    statement = _Statement(connection, seconds, connect, time.monotonic() + seconds)
    with _lock:
        _statements.add(statement)
        if _watcher is None or not _watcher.is_alive():
            _watcher = threading.Thread(target=_watch, daemon=True)
            _watcher.start()
    try:
        yield
    finally:
        with _lock:
            _statements.discard(statement)


def _forget() -> None:
    """A fork takes the statements along and perhaps a lock that is held, but not the thread."""
    global _lock, _watcher
    _lock, _watcher = threading.Lock(), None
    _statements.clear()


os.register_at_fork(after_in_child=_forget)


def _watch() -> None:
    global _watcher
    while True:
        time.sleep(TICK)
        with _lock:
            if not _statements:
                _watcher = None
                return
            due = [one for one in _statements if one.due < time.monotonic()]
        for statement in due:
            _judge(statement)


def _judge(statement: _Statement) -> None:
    """Twice, because an answer may arrive just while we ask."""
    is_broken = _is_broken(statement.connection, statement.connect)
    with _lock:
        if statement not in _statements:
            return
        if is_broken and statement.suspected:
            statement.connection.shutdown()
    statement.suspected = is_broken
    pause = statement.seconds / 4 if is_broken else statement.seconds
    statement.due = time.monotonic() + pause


def _is_broken(
    connection: MySQLConnectionAbstract, connect: Callable[[], MySQLConnectionAbstract]
) -> bool:
    try:
        asking = connect()
    except ConnectionFailed:
        return True
    try:
        cursor = asking.cursor()
        cursor.execute("SHOW PROCESSLIST")
        sessions = {row[0]: row for row in cursor.fetchall()}  # type: ignore[index]
    except mysql.connector.Error:
        return True
    finally:
        asking.shutdown()
    if asking.connection_id not in sessions:
        # Behind a proxy that numbers its sessions itself the list tells nothing.
        return False
    mine = sessions.get(connection.connection_id)
    return mine is None or mine[4] == "Sleep" or mine[6] in WAITING
