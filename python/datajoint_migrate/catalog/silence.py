"""A statement that is silent for long: its server is asked whether it still works on it.

The engine judges (`rust/core/src/mysql/silence.rs`), so that there is one rule for the sessions of
both sides.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mysql.connector.abstracts import MySQLConnectionAbstract

from datajoint_migrate import _core
from datajoint_migrate.limits import LIMITS

if TYPE_CHECKING:
    from datajoint_migrate.catalog.server import Server


@dataclass(eq=False)
class _Statement:
    connection: MySQLConnectionAbstract
    seconds: float
    server: Server
    due: float
    suspected: bool = False


_lock = threading.Lock()
_statements: set[_Statement] = set()
# One for all, because a thread costs more than most statements; it ends when there are none.
_watcher: threading.Thread | None = None


@contextmanager
def judged(connection: MySQLConnectionAbstract, seconds: float, server: Server) -> Iterator[None]:
    """End the connection, and so the statement inside, when its server is done with it or gone.

    `server` is asked over another connection.
    """
    global _watcher
    statement = _Statement(connection, seconds, server, time.monotonic() + seconds)
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
        time.sleep(LIMITS.silence_tick)
        with _lock:
            if not _statements:
                _watcher = None
                return
            due = [one for one in _statements if one.due < time.monotonic()]
        for statement in due:
            _judge(statement)


def _judge(statement: _Statement) -> None:
    """Twice, because an answer may arrive just while we ask."""
    number = statement.connection.connection_id
    is_broken = number is not None and bool(_core.why_broken(statement.server.spec(), number))
    with _lock:
        if statement not in _statements:
            return
        if is_broken and statement.suspected:
            statement.connection.shutdown()
    statement.suspected = is_broken
    pause = statement.seconds / 4 if is_broken else statement.seconds
    statement.due = time.monotonic() + pause
