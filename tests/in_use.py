"""Two schemas that were migrated and used since, and who writes meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from conftest import Fresh, drop
from datajoint_migrate import MigrationError, cutover, migrate
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from pair import make_pair
from servers import Server

MAP = {"late_a": "late_a_v20", "late_b": "late_b_v20"}
ALL = [f"{name}{end}" for name in MAP for end in ("", "_v20", "_old", "_bak")]
ELSEWHERE = "elsewhere"


def prepare(server: Server, fresh: Fresh) -> None:
    """Make both, migrate them, and write a row that the copy lacks."""
    fresh(server, *ALL)
    make_pair(server, *MAP)
    result = migrate(MAP, connection=server.url)
    assert result["compatible"], result["issues"]
    server.sql("INSERT INTO late_a.mouse (mouse_id, note) VALUES (10, 'since')")


def over(server: Server, **options: Any) -> dict[str, Any]:
    said = {"backups": "rename", "sync": True, "execute": True, "connection": server.url}
    return cutover(MAP, **{**said, **options})


def mice(server: Server, schema: str) -> set[int]:
    return {int(row[0] or 0) for row in server.sql(f"SELECT mouse_id FROM {schema}.mouse")}


def tables(server: Server, schema: str) -> set[str]:
    return {
        str(row[0])
        for row in server.sql(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'"
        )
    }


@contextmanager
def writer(server: Server, table: str = "late_a.mouse", rests: float = 0.0) -> Iterator[list[int]]:
    """Somebody who connects, writes a row and leaves, without an end; the rows that were taken."""
    accepted: list[int] = []
    stop, began = threading.Event(), threading.Event()

    def write() -> None:
        number = 1000
        while not stop.is_set():
            number += 1
            with suppress(MigrationError), resolve(server.url).session() as other:
                other.execute(f"INSERT INTO {table} (mouse_id) VALUES ({number})")
                accepted.append(number)
                began.set()
            stop.wait(rests)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert began.wait(60)
        yield accepted
    finally:
        stop.set()
        thread.join()


@contextmanager
def two_of_one_second(server: Server, insert: str) -> Iterator[tuple[Session, Session]]:
    """Two transactions that were begun in the same second. The first has written row 2002, the
    second to a table of its own: whoever reads the first one's waits for none of it.

    MariaDB gives what either writes the same time, whenever it writes and commits.
    """
    drop(server, ELSEWHERE)
    server.sql(f"CREATE DATABASE {ELSEWHERE}; CREATE TABLE {ELSEWHERE}.mouse (mouse_id int)")
    aside = f"INSERT INTO {ELSEWHERE}.mouse VALUES (%s)"
    try:
        with resolve(server.url).session() as first, resolve(server.url).session() as second:
            _begin_both(first, second, insert, aside)
            yield first, second
    finally:
        drop(server, ELSEWHERE)


def _begin_both(first: Session, second: Session, insert: str, aside: str) -> None:
    while True:
        for session, sql in ((first, insert), (second, aside)):
            session.execute("START TRANSACTION")
            session.execute(sql, (2002,))
        begun = first.query("SELECT trx_started FROM information_schema.INNODB_TRX")
        if len(begun) == 2 and begun[0] == begun[1]:
            return
        # Whoever reads the list more often than this is shown an old one.
        time.sleep(0.2)
        for session in (first, second):
            session.execute("ROLLBACK")
