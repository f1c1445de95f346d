"""The exchange itself: production is locked, looked at once more and renamed under one hold.

Whoever writes to production waits meanwhile, for moments; readers wait for the RENAME only. A
statement that waited would find the other table under the name, so it is ended before the locks
are given back. MySQL renames under the locks of the session. MariaDB does not: there the locks are
handed over to guards, one for each table of production; what came in between is looked for before
anything is renamed, and a second session's RENAME then takes table after table from its guard.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import MigrationError, NotFound, NotReady, ServerError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover.changes import Mark, Name, look
from datajoint_migrate.verbs.cutover.guards import LOCKED_OUT, Guard, guards_of, is_wanted
from datajoint_migrate.verbs.cutover.occupants import session_id, spelt

Pair = tuple[str, str, str]
# Looks while all is locked, over a session that holds no lock; raises when something is not as it
# must be.
Ready = Callable[[Session], None]
# Keeps what a look under the locks has found, by a session that holds none.
Note = Callable[[Session, dict[Name, Mark]], None]
# Held by whoever's RENAME waits, for as long as the server is at it.
BEHIND = "datajoint_migrate.rename.behind"


class DoubtfulError(Exception):
    """Tables of which nothing proves that nobody has written to them since they were compared."""

    def __init__(self, tables: Iterable[Name]) -> None:
        self.tables = list(tables)
        super().__init__(", ".join(".".join(table) for table in self.tables))


def can_rename_under_locks(session: Session) -> bool:
    """MySQL since 8.0.13."""
    return not session.is_mariadb and session.version >= (8, 0, 13)


@contextmanager
def locked(
    session: Session,
    tables: Iterable[Name],
    how: str,
    seconds: float,
    first: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold a lock on all tables, `how` is READ or WRITE; asked for again and again for `seconds`.

    Locks that the session has are given back for these; `first` is called right before that.
    Raises `ServerError` when somebody else keeps one of them.
    """
    try:
        _lock(session, tables, how, seconds, first)
        yield
    finally:
        session.execute("UNLOCK TABLES")


@contextmanager
def kept_locked(
    session: Session, tables: Iterable[Name], how: str, seconds: float
) -> Iterator[None]:
    """As `locked`, but the locks are given back at the end only if that is an error."""
    try:
        _lock(session, tables, how, seconds)
        yield
    except BaseException:
        session.execute("UNLOCK TABLES")
        raise


def _lock(
    session: Session,
    tables: Iterable[Name],
    how: str,
    seconds: float,
    first: Callable[[], None] | None = None,
) -> None:
    said = ", ".join(f"{quote(*table)} {how}" for table in tables)
    until = time.monotonic() + seconds
    number = session_id(session)
    while True:
        with session.server.session() as other, _ended_after(other, number):
            try:
                if first is not None:
                    first()
                session.execute(f"LOCK TABLES {said}")
                return
            except MigrationError as error:
                if error.context.get("errno") not in LOCKED_OUT:
                    raise
                last = error
        session.execute("UNLOCK TABLES")
        if time.monotonic() + LIMITS.hold_turn_seconds > until:
            raise ServerError(
                f"somebody else uses the tables: no lock on them within {seconds:.0f} seconds",
                hint="end what runs there (SHOW PROCESSLIST), then the same call again",
                context=last.context,
            ) from last
        time.sleep(LIMITS.hold_turn_seconds)


@contextmanager
def giving_way(session: Session, tables: Sequence[Name]) -> Iterator[list[str]]:
    """Give the locks of an idle session back as soon as others have waited for them for long.

    Yields a list that then holds what waited: what was read under the locks proves nothing.
    """
    waited: list[str] = []
    done = threading.Event()
    pairs = [(schema, table, schema) for schema, table in tables]

    def look() -> None:
        since: float | None = None
        with session.server.session() as other:
            while not done.wait(LIMITS.hold_moment * 10):
                waiting = _waiting(other, pairs)
                if not waiting:
                    since = None
                    continue
                since = since or time.monotonic()
                if time.monotonic() - since > LIMITS.hold_slice_seconds:
                    session.execute("UNLOCK TABLES")
                    waited.extend(f"session {one}: {text}" for one, text in waiting.items())
                    return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield waited
    finally:
        done.set()
        thread.join()


@contextmanager
def bounded(session: Session, seconds: float) -> Iterator[threading.Event]:
    """Give the locks of an idle session back after so long, whatever is not done by then.

    Yields what is set when that has happened: nothing that was read then proves anything.
    """
    late, done = threading.Event(), threading.Event()

    def end() -> None:
        if not done.wait(seconds):
            late.set()
            session.execute("UNLOCK TABLES")

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    try:
        yield late
    finally:
        done.set()
        thread.join()


@contextmanager
def _ended_after(other: Session, number: int) -> Iterator[None]:
    """End the statement of a session after a slice: locks it has got already would hold others."""
    done = threading.Event()

    def end() -> None:
        if not done.wait(LIMITS.hold_slice_seconds):
            other.execute(f"KILL QUERY {number}")

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def rename(
    session: Session,
    pairs: Sequence[Pair],
    triggers: Iterable[Name],
    statement: str,
    ready: Ready | None,
    seconds: float,
    *,
    proves: Collection[str],
    evicts: bool,
    note: Note | None = None,
) -> list[str]:
    """Move tables while nobody else can write to them; a sentence for each statement ended.

    When all is locked and `ready`, the `triggers` are dropped, which no table can take to another
    schema, and `statement` is run. Where a server cannot do that under the locks, tables of the
    schemas that `proves` names are handed over to guards, and if somebody slipped in meanwhile:
    `NotReady`, and nothing is renamed. What is written to another goes with its table.
    `note` gets what was seen under the locks, for whoever has to ask again because this call was
    killed. With `evicts` sessions that wait for locks which this one has already are ended first,
    or they would go before the exchange.
    """
    tables = [(schema, table) for schema, table, _ in pairs]
    how = "KILL" if evicts else "KILL QUERY"
    with session.server.session() as other:
        evicted: list[str] = []

        def evict() -> None:
            evicted.extend(_end_waiting(other, pairs, own=(), how="KILL"))

        behind = not can_rename_under_locks(session)
        proved = [pair for pair in pairs if pair[0] in proves]
        slice_seconds = math.ceil(LIMITS.hold_slice_seconds)
        guarded = [(schema, table) for schema, table, _ in proved] if behind else []
        with (
            locked(session, tables, "WRITE", seconds, evict if evicts else None),
            ExitStack() as stack,
        ):
            marks = look(other, {schema for schema, _ in tables})
            if ready is not None:
                ready(other)
            # Not before: whoever is connected is somebody at work.
            guards = stack.enter_context(guards_of(session, guarded, slice_seconds))
            for schema, name in triggers:
                session.execute(f"DROP TRIGGER IF EXISTS {quote(schema, name)}")
            if not behind:
                session.execute(statement)
                return evicted + _end_waiting(other, pairs, own=(), how=how)
            if note is not None:
                note(other, marks)
            ended = []
            if guards:
                ended += _hand_over(session, other, pairs, guards, how)
                _prove_unwritten(other, [(old, table, old) for old, table, _ in proved], marks)
                seconds = slice_seconds
            with session.server.session() as second:
                ended += _rename_behind(
                    session, second, other, pairs, statement, seconds, how, guards
                )
        _prove_unwritten(other, proved, marks)
        return evicted + ended


def _hand_over(
    session: Session, other: Session, pairs: Sequence[Pair], guards: Sequence[Guard], how: str
) -> list[str]:
    """Give the session's locks back while the guards wait for them, and nobody else does."""
    numbers = {guard.number for guard in guards}
    for guard in guards:
        guard.ask()
    for _ in range(LIMITS.hold_moments):
        if numbers <= _waiting(other, pairs).keys():
            break
        time.sleep(LIMITS.hold_moment)
    # A writer that waits would go before a guard.
    ended = _end_waiting(other, pairs, own=numbers, how=how)
    session.execute("UNLOCK TABLES")
    for guard in guards:
        guard.wait()
    return ended


def _rename_behind(
    session: Session,
    second: Session,
    other: Session,
    pairs: Sequence[Pair],
    statement: str,
    seconds: float,
    how: str,
    guards: Sequence[Guard],
) -> list[str]:
    failed: list[MigrationError] = []

    def run() -> None:
        try:
            second.execute(statement)
        except MigrationError as error:
            failed.append(error)

    second.execute(f"SET SESSION lock_wait_timeout = {max(1, int(seconds))}")
    second.query("SELECT GET_LOCK(%s, 0)", (BEHIND,))
    number = session_id(second)
    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(LIMITS.hold_moments):
        if number in _waiting(other, pairs) or not thread.is_alive():
            break
        time.sleep(LIMITS.hold_moment)
    ended = _end_waiting(other, pairs, own=(number,), how=how)
    session.execute("UNLOCK TABLES")
    left = list(guards)
    try:
        while left and thread.is_alive():
            # The next is the first one, unless the server sorts otherwise.
            wanted = next((guard for guard in left if is_wanted(other, guard)), None)
            if wanted is None:
                time.sleep(LIMITS.hold_moment / 20)
                continue
            if len(left) == 1:
                ended += _end_waiting(other, pairs, own=(number,), how=how)
            wanted.let_go()
            left.remove(wanted)
    finally:
        # Whatever ended this: nothing is decided while the RENAME may still come.
        for guard in left:
            with suppress(MigrationError):
                guard.let_go()
        thread.join()
    if failed:
        raise failed[0]
    return ended


def _end_waiting(
    other: Session, pairs: Sequence[Pair], own: Collection[int], how: str
) -> list[str]:
    """End every statement that waits for one of the tables: it was meant for the one before.

    Ends as soon as nobody waits, and takes no rest meanwhile: whoever comes back goes before us.
    """
    ended: dict[int, str] = {}
    # Who asks again and again is not waited for: all others wait, too.
    until = time.monotonic() + LIMITS.hold_slice_seconds
    while time.monotonic() < until:
        waiting = {
            number: text for number, text in _waiting(other, pairs).items() if number not in own
        }
        if not waiting:
            break
        for number, text in waiting.items():
            ended[number] = text
            try:
                other.execute(f"{how} {number}")
            except (NotFound, ServerError):
                # It has ended by itself.
                continue
    return [
        f"a statement of session {number} waited for the exchange and was ended: {text}"
        for number, text in ended.items()
    ]


def _waiting(other: Session, pairs: Sequence[Pair]) -> dict[int, str]:
    """Sessions that wait for a lock on a table, and what they run."""
    schemas = {name for old, _, new in pairs for name in (old, new)}
    names = spelt(schemas)
    rows = other.query(
        "SELECT ID, DB, INFO FROM information_schema.PROCESSLIST"
        " WHERE STATE LIKE 'Waiting for%lock' AND INFO IS NOT NULL"
    )
    return {
        int(number): " ".join(str(text).split())[:200]
        for number, db, text in rows
        if db in schemas or any(name in str(text) for name in names)
    }


def _prove_unwritten(other: Session, pairs: Sequence[Pair], marks: dict[Name, Mark]) -> None:
    """Raises `NotReady` when somebody wrote between the giving back of the locks and the RENAME,
    or after it with a statement that had waited."""
    if not pairs:
        return
    now = look(other, {new for _, _, new in pairs})
    written = [
        f"{schema}.{table}"
        for schema, table, new in pairs
        if (schema, table) in marks
        and (new, table) in now
        and not marks[schema, table].is_like(now[new, table])
    ]
    if written:
        raise NotReady(
            f"{', '.join(written)} was written to during the exchange",
            hint="end every client of these schemas, then the same call again",
            context={"tables": written},
        )
