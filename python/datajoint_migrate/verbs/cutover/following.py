"""The copies of a cutover follow production, until it is held still and they are equal to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from datajoint_migrate.call import state
from datajoint_migrate.call.connections import check_connections
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.throttle import FREE, Throttle, Turn
from datajoint_migrate.catalog.server import Server
from datajoint_migrate.errors import NotReady
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import ProvedTable
from datajoint_migrate.verbs.move.sync import Keys, bring_up_to_date
from datajoint_migrate.words import counted, verb

HOW = {
    "skipped": "nobody has written to either side since",
    "log": "by the log's list of what changed",
    "digest": "all of it was read",
    "copied": "it is new in the copy",
    "rebuilt": "it was made anew in the copy",
}


@dataclass
class Following:
    """What syncs for a cutover have found: `proved` says of each table when it was last equal."""

    server: Server
    schema_map: dict[str, str]
    throttle: Throttle = FREE
    source_stores: Mapping[str, Any] | None = None
    dest_stores: Mapping[str, Any] | None = None
    result: dict[str, Any] = field(default_factory=dict)
    proved: dict[str, ProvedTable] = field(default_factory=dict)
    # Parallel schema → table → rows.
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    # Tables of production that were found new, or declared in another way, since it was read.
    declared: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Count what a sync would bring; nothing is written."""
        with self._ends(looking=True) as ends:
            self.sync(ends, "none", dry_run=True)

    def hot(self) -> None:
        """Sync while production works, until the last time was short.

        Raises `NotReady` where that does not come, or something keeps the copies from being equal.
        """
        keys: Keys = "changed"
        for _ in range(LIMITS.hot_syncs):
            with self._ends() as ends:
                check_connections(ends, LIMITS.lanes)
                self.sync(ends, keys)
            self.refuse()
            if self.seconds <= LIMITS.short_sync_seconds:
                return
            # They hold in the copies now, and what comes is equal to production's.
            keys = "none"
        if self.seconds > LIMITS.cutover_wait_seconds:
            raise NotReady(
                f"the sync does not become short: the last of {LIMITS.hot_syncs} took"
                f" {self.seconds:.0f} s ({self.dearest()}), and writers would wait for as long,"
                f" of {LIMITS.cutover_wait_seconds:.0f} s that they may",
                hint=self.way_out(),
                context={"seconds": self.seconds},
            )

    def sync(
        self,
        ends: Ends,
        keys: Keys,
        *,
        dry_run: bool = False,
        held: bool = False,
        harmless: Iterable[str] = (),
    ) -> None:
        """One sync between open ends, and what it proved; `held` while nobody can write, with the
        statements since the last one that changed nothing but comments."""
        done = bring_up_to_date(
            ends,
            self.schema_map,
            keys=keys,
            source_stores=self.source_stores,
            dest_stores=self.dest_stores,
            dry_run=dry_run,
            held=held,
            harmless=harmless,
        )
        self.result = cast(dict[str, Any], done)
        self.proved, self.rows = {}, {}
        tables = self.result["tables"].items()
        self.declared |= {name for name, found in tables if found["how"] in ("copied", "rebuilt")}
        states = state.read_states(ends.destination, self.schema_map.values())
        for prod, parallel in self.schema_map.items():
            known = states[parallel]
            if known is None:
                continue
            self.rows[parallel] = counts = state.row_counts(ends.destination, parallel)
            for table, head in known.heads.items():
                found = self.result["tables"].get(f"{prod}.{table}")
                if found is not None and found["match"]:
                    self.proved[f"{prod}.{table}"] = {
                        "how": found["how"],
                        "at": head.at,
                        "rows": counts.get(table, 0),
                    }

    @property
    def seconds(self) -> float:
        """How long the last sync took."""
        return float(self.result["time_taken"])

    @property
    def behind(self) -> int:
        """Rows that the last sync wrote, or would have."""
        return sum(int(self.result[f"rows_{key}"]) for key in ("inserted", "updated", "deleted"))

    def problems(self) -> list[str]:
        """What keeps the copies from being equal to production."""
        return list(self.result["issues"])

    def refuse(self) -> None:
        """Raises `NotReady` unless the copies are equal to production."""
        if self.result["match"] and not self.problems():
            return
        said = self.problems() or ["the copies are not equal to production"]
        raise NotReady(
            "not ready for the cutover: " + "; ".join(said),
            hint="nothing changed places; dj-migrate sync names every row, and with"
            " on_conflict='production' the copy takes production's",
            context={"missing": said, "conflicts": self.result["conflicts"]},
        )

    def refuse_declared(self) -> None:
        """Raises `NotReady` for tables that what was planned does not know."""
        if made := sorted(self.declared):
            raise NotReady(
                f"{', '.join(made)} was declared meanwhile",
                hint="the same call again sees it",
                context={"tables": made},
            )

    def check(self) -> tuple[bool, list[str]]:
        """The checklist's line: what was proved of each table, when and how."""
        wait = (
            f"writers wait while the last sync runs and the tables change places, at most"
            f" {LIMITS.cutover_wait_seconds:.0f} s for the sync"
        )
        if problems := self.problems():
            return False, problems
        if not self.result["match"]:
            return True, [
                f"the copies are {counted(self.behind, 'row')} behind; looking for them took"
                f" {self.seconds:.1f} s, and the cutover brings them",
                wait,
            ]
        rows = sum(one["rows"] for one in self.proved.values())
        return True, [
            f"{counted(rows, 'row')} {verb(rows, 'is', 'are')} equal; the last sync took"
            f" {self.seconds:.1f} s",
            wait,
            *(
                f"{name}: {counted(one['rows'], 'row')}, equal at {one['at']}, {HOW[one['how']]}"
                for name, one in sorted(self.proved.items())
            ),
        ]

    def dearest(self) -> str:
        """The table that a sync read most of, and why."""
        name, found = max(
            self.result["tables"].items(), key=lambda one: one[1]["rows_read"], default=("", None)
        )
        if not found:
            return "nothing was read"
        why = f" because {found['why']}" if found["why"] else ""
        rows = found["rows_read"]
        return f"{counted(rows, 'row')} of {name} {verb(rows, 'was', 'were')} read{why}"

    def way_out(self) -> str:
        """How a sync becomes shorter."""
        return (
            "nothing changed places; let the log say what changed (REPLICATION SLAVE and"
            " REPLICATION CLIENT for this user, row format), or end the writers, then the same call"
            " again"
        )

    @contextmanager
    def _ends(self, looking: bool = False) -> Iterator[Ends]:
        with self.open(self.throttle, looking=looking) as ends:
            Turn.give(ends.source, self.throttle)
            yield ends

    @contextmanager
    def open(self, throttle: Throttle = FREE, *, looking: bool = False) -> Iterator[Ends]:
        """Sessions that read production and write to the copies."""
        with (
            self.server.session(read_only=True) as source,
            self.server.session(read_only=looking) as copy,
        ):
            if not looking:
                copy.execute("SET SESSION foreign_key_checks = 0")
            ends = Ends(source, copy, True, throttle)
            ends.spell(self.schema_map)
            yield ends
