"""Guards: nobody can write to a table while MariaDB's RENAME takes the tables one after another.

MariaDB renames no table that its own session has locked, so the RENAME of a second session waits
for the locks. When they are given back it takes its tables one by one, and a statement that waited
for a later one would go before it. So each table has a guard: a session that holds this table
alone, for reading. A guard lets go when the RENAME is seen to wait for its table; who comes after
that waits behind the RENAME.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import MigrationError, ServerError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover.changes import Name
from datajoint_migrate.verbs.cutover.occupants import session_id

LOCKED_OUT = (1205, 1317, 3024, 1969)


class Guard:
    """A session that holds tables for reading: one, or as many as it has to."""

    def __init__(self, session: Session, tables: Sequence[Name], seconds: int) -> None:
        self.tables = tables
        self.number = session_id(session)
        self._session = session
        self._failed: list[MigrationError] = []
        self._thread = threading.Thread(target=self._lock, daemon=True)
        session.execute(f"SET SESSION lock_wait_timeout = {seconds}")

    def ask(self) -> None:
        """Ask for the tables, and return at once."""
        self._thread.start()

    def wait(self) -> None:
        """Return when the tables are held; raises what kept them from it."""
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def let_go(self) -> None:
        """Give the tables back; doing it twice is harmless."""
        if self._thread.ident is not None:
            self._thread.join()
        self._session.execute("UNLOCK TABLES")

    def _lock(self) -> None:
        try:
            self._session.execute(
                "LOCK TABLES " + ", ".join(f"{quote(*table)} READ" for table in self.tables)
            )
        except MigrationError as error:
            self._failed.append(error)


@contextmanager
def guards_of(session: Session, tables: Iterable[Name], seconds: int) -> Iterator[list[Guard]]:
    """Guards of all tables, who hold nothing yet, in the order in which a RENAME takes them.

    Where the server has not so many connections to spare, a guard has several tables: between
    these somebody may slip in, which is for the caller to find.
    """
    names = sorted(tables)
    count = min(len(names), _spare(session)) if names else 0
    with ExitStack() as stack:
        guards = []
        for number in range(count):
            part = names[number * len(names) // count : (number + 1) * len(names) // count]
            guards.append(Guard(stack.enter_context(session.server.session()), part, seconds))
        try:
            yield guards
        finally:
            for guard in guards:
                with suppress(MigrationError):
                    guard.let_go()


def _spare(session: Session) -> int:
    """Half of the connections left to this user, and no more than are opened in moments."""
    [(most, mine)] = session.query(
        "SELECT @@GLOBAL.max_connections, @@SESSION.max_user_connections"
    )
    [(_, used)] = session.query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    free = int(most) - int(used)
    return max(1, min(LIMITS.guards, min(free, int(mine) or free) // 2))


def is_wanted(other: Session, guard: Guard) -> bool:
    """Whether somebody waits to have one of the tables to itself.

    A reader goes before writers that wait, and behind whoever wants the table for itself.
    """
    for table in guard.tables:
        try:
            other.query(
                f"SET STATEMENT lock_wait_timeout = 0 FOR SELECT 1 FROM {quote(*table)} LIMIT 0"
            )
        except ServerError as error:
            if error.context.get("errno") not in LOCKED_OUT:
                raise
            return True
    return False
