"""Production between its comparison and the exchange: who is on it, and has anybody written?"""

from __future__ import annotations

import time
from threading import Event

from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import NotReady
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover.actions import tables_of
from datajoint_migrate.verbs.cutover.changes import REST, Mark, Name, look
from datajoint_migrate.verbs.cutover.following import Following
from datajoint_migrate.verbs.cutover.hold import (
    DoubtfulError,
    bounded,
    giving_way,
    kept_locked,
    locked,
)
from datajoint_migrate.verbs.cutover.moves import Journal, mark
from datajoint_migrate.verbs.cutover.occupants import (
    end_sessions,
    other_sessions,
    present,
    session_id,
    sessions_now,
)
from datajoint_migrate.verbs.cutover.preflight import Before
from datajoint_migrate.verbs.look.compare import Comparing, table_names


class Watch:
    """Looks at production before it is compared, and again when all of it is locked."""

    def __init__(self, before: Before, ends_sessions: bool) -> None:
        self.before = before
        self.ends_sessions = ends_sessions
        self.wanted = [
            (prod, parallel, name)
            for prod, parallel in before.pairs()
            for name in table_names(prod, parallel)
        ]
        # Sentences about the sessions that were ended.
        self.ended: list[str] = []
        self.marks = look(before.session, before.schema_map, first=True)
        # Compared again under a lock, so a mark that is only like the next one is enough.
        self.fresh: set[Name] = set()
        # Where rows that were counted later are written down.
        self.journal: Journal | None = None

    def ready(self, other: Session) -> None:
        """Raises `NotReady` when others are at work or have declared tables, and `DoubtfulError`
        for tables of which nothing proves that they are as they were when they were compared."""
        own = (session_id(self.before.session), *self.before.own_sessions)
        among = None
        if self.ends_sessions:
            # Who connects from now on finds everything locked, and is ended while it waits.
            among = present(other)
            for _ in range(LIMITS.ended_moments):
                self.ended += end_sessions(other, self.before.names, own)
                # One that was about to begin is seen once it has.
                if not sessions_now(other, self.before.names, own, among)[0]:
                    break
        problems, _ = other_sessions(other, self.before.names, own, among)
        if problems:
            raise NotReady(
                "others are at work: " + "; ".join(problems),
                hint="end these sessions (or end_sessions=True), then the same call again",
                context={"missing": problems},
            )
        now = look(other, self.before.schema_map)
        if new := sorted({*now} ^ {*self.marks}):
            raise NotReady(
                f"{', '.join('.'.join(name) for name in new)} was declared or dropped meanwhile",
                hint="the same call again sees it",
                context={"tables": [".".join(name) for name in new]},
            )
        doubtful = [
            (prod.name, name)
            for prod, _, name in self.wanted
            if not self._is_proved((prod.name, name), now)
        ]
        if doubtful:
            raise DoubtfulError(doubtful)

    def _is_proved(self, table: Name, now: dict[Name, Mark]) -> bool:
        if table not in self.marks or table not in now:
            return table not in now and table not in self.marks
        before, after = self.marks[table], now[table]
        if table in self.fresh:
            return before.is_like(after) and not before.open
        return before.proves(after)

    def look_again(self, tables: list[Name]) -> None:
        """Compare these tables once more, while nobody can write to them; bring all of the copies
        up to date where they follow production."""
        if self.before.following is not None:
            self._follow(self.before.following)
            return
        session, server = self.before.session, self.before.session.server
        pairs = [one for one in self.wanted if (one[0].name, one[2]) in tables]
        there = [
            (schema.name, name)
            for prod, parallel, name in pairs
            for schema in (prod, parallel)
            if name in schema.tables
        ]
        with (
            locked(session, there, "READ", LIMITS.watch_lock_seconds),
            giving_way(session, there) as waited,
            server.session(read_only=True) as source,
            server.session(read_only=True) as copy,
        ):
            ends = Ends(source, copy, True)
            comparing = Comparing(ends, pairs, self.before.tolerance, self.before.adapters)
            comparing.run(ends, LIMITS.lanes, None)
            different = [name for name, one in comparing.results.items() if not one["match"]]
            if different:
                names = ", ".join(".".join(name) for name in different)
                raise NotReady(
                    f"{names} was written to since the comparison, and the copy lacks that",
                    hint="bring the copy up to date, then the same call again",
                    context={"tables": [".".join(name) for name in different]},
                )
            for (prod_name, name), one in comparing.results.items():
                parallel_name = self.before.schema_map[prod_name]
                self.before.row_counts.setdefault(parallel_name, {})[name] = one["test_row_count"]
            now = self._rested(source, tables)
            if waited:
                raise NotReady(
                    "production is written to: " + "; ".join(waited),
                    hint="end every client of these schemas, then the same call again",
                    context={"waited": list(waited)},
                )
            for table in tables:
                if table in now:
                    self.marks[table] = now[table]
                    self.fresh.add(table)
        self._count(session)

    def _follow(self, following: Following) -> None:
        """The last sync: writers wait, readers read on, and nobody for longer than the limit.

        The locks stay with the session: whoever waits would go before the next ones.
        """
        before = self.before
        session = before.session
        tables = tables_of(session, before.schema_map)
        there = [(name, table) for name in tables for table in tables[name]]
        wait = LIMITS.cutover_wait_seconds
        with kept_locked(session, there, "READ", LIMITS.watch_lock_seconds):
            with bounded(session, wait) as late, following.open() as ends:
                # The fences came after the last one, and would have every copy read whole.
                following.sync(ends, "none", held=True, harmless=session.commented)
                before.row_counts |= following.rows
                self._count(ends.destination)
                now = self._rested(ends.source, there, late)
            if late.is_set():
                raise NotReady(
                    f"writers had waited for {wait:.0f} s, so production was given back to them:"
                    f" the last sync took {following.seconds:.0f} s, {following.dearest()}",
                    hint=following.way_out(),
                    context={"seconds": following.seconds},
                )
            following.refuse()
            following.refuse_declared()
            self.marks, self.fresh = now, set(now)

    def _count(self, session: Session) -> None:
        """Write down what is in the copies now: a rollback tells by it what 2.x has written."""
        if self.journal is not None:
            self.journal.facts["rows"] = self.before.counted()
            mark(session, self.journal)

    def _rested(
        self, session: Session, tables: list[Name], late: Event | None = None
    ) -> dict[Name, Mark]:
        """The marks once a further change would show: one in the second of the look would not."""
        while True:
            now = look(session, self.before.schema_map, first=True)
            if all(one not in now or now[one].updated is None or now[one].rested for one in tables):
                return now
            if late is not None and late.is_set():
                return now
            time.sleep(REST.total_seconds() / 10)

    def end_sessions(self) -> None:
        """End whoever has used the schemas, or may have."""
        own = (session_id(self.before.session), *self.before.own_sessions)
        self.ended += end_sessions(self.before.session, self.before.names, own)
