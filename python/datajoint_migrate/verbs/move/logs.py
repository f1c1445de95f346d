"""For which tables the binary logs name the keys that changed, and why not for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.tables import Schema, Table
from datajoint_migrate.errors import InvalidArgument, PermissionMissing, ServerError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows import log
from datajoint_migrate.verbs.move.sides import Sides
from datajoint_migrate.verbs.move.todo import Todo

By = Literal["auto", "digest", "log"]


class Logs:
    """Where the logs of both sides end, and what is asked of them."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        # Statements of ours that changed no row and no column's type.
        self.harmless: list[str] = []
        # None where that is not known, and why.
        self.positions: dict[str, dict[str, Any] | None] = {"source": None, "copy": None}
        self.unknown: dict[str, str] = {}
        self.plans: list[dict[str, Any]] = []
        self.files: dict[str, frozenset[str]] = {}

    def find(self, by: By) -> None:
        """Where the logs of both sides end, before anything else is looked at: what is written from
        now on is read once more by the next call."""
        if by == "digest":
            self.unknown["source"] = "by='digest'"
            return
        ends = self.ends
        self.positions, self.unknown = log.find_positions(
            ends.source.server, None if ends.same_server else ends.destination.server
        )
        if by == "log" and self.positions["source"] is None:
            raise InvalidArgument(
                f"by='log': {self.unknown['source']}",
                hint="leave it out, and production is read",
                context={"server": self.ends.source.server.address},
            )

    def choose(self, todo: Iterable[Todo], sides: Sides) -> None:
        """For which tables a log names the keys that changed, and why not for the others."""
        begins: dict[str, list[dict[str, Any]]] = {"source": [], "copy": []}
        chosen: dict[str, list[Todo]] = {"source": [], "copy": []}
        for one in todo:
            if one.how != "digest" or one.base != "lines":
                continue
            source, copy = one.loading.source, one.loading.destination
            known = sides.states[source.schema]
            noted = known.heads[source.name].position if known else ""
            # Nothing tells what was written to a copy that may have been but its own log.
            both = ("source",) if one.trusts_copy else ("source", "copy")
            starts = {side: log.read_position(noted, side) for side in both}
            lacking = next((side for side in both if self.positions[side] is None), None)
            if lacking is not None:
                one.why = self.unknown.get(lacking, self.unknown.get("source", ""))
            elif not all(starts.values()):
                one.why = "no position in the log was noted when both sides were last equal"
            elif any(self._is_of_another(side, start) for side, start in starts.items()):
                one.why = "the position that was noted is one in the log of another server"
            elif gone := self._gone(starts):
                one.why = f"the log of when both sides were equal was purged ({gone})"
            elif not source.walk_key or source.walk_key != copy.walk_key:
                one.why = "the table has no key that both sides share"
            else:
                for side, start in starts.items():
                    assert start is not None
                    begins[side].append(start)
                    chosen[side].append(one)
        tables = {
            "source": _all_tables((one.loading.source for one in todo), sides.sources),
            "copy": _all_tables((one.loading.destination for one in todo), sides.copies),
        }
        sessions = {"source": self.ends.source, "copy": self.ends.destination}
        for side in ("source", "copy"):
            if not chosen[side]:
                continue
            since = log.earliest(begins[side])
            plan = log.log_plan(
                sessions[side].server,
                since,
                tables[side],
                max_keys=LIMITS.log_keys,
                harmless=self.harmless,
            )
            for one in chosen[side]:
                one.logs.append(len(self.plans))
                if side == "copy":
                    one.copy_logs.append(len(self.plans))
            self.plans.append(plan)

    def _gone(self, starts: Mapping[str, dict[str, Any] | None]) -> str | None:
        """A file that reading would begin with and that its server has removed.

        One log is read for all tables, from the earliest of their positions: from this one nobody
        could.
        """
        for side, start in starts.items():
            there = self._files(side)
            if start is not None and there and start["file"] not in there:
                return str(start["file"])
        return None

    def _files(self, side: str) -> frozenset[str]:
        """The files of a side's log; none where that is not told."""
        if self.ends.same_server:
            side = "source"
        if side not in self.files:
            session = self.ends.source if side == "source" else self.ends.destination
            try:
                rows = session.query("SHOW BINARY LOGS")
            except (ServerError, PermissionMissing):
                rows = []
            self.files[side] = frozenset(str(row[0]) for row in rows)
        return self.files[side]

    def _is_of_another(self, side: str, start: dict[str, Any] | None) -> bool:
        now = self.positions[side]
        return start is None or now is None or start["server"] != now["server"]


def _all_tables(first: Iterable[Table], schemas: Mapping[str, Schema]) -> list[Table]:
    """These tables, then all others: what changes in one may cascade into another."""
    chosen = list(first)
    there = {(table.schema, table.name) for table in chosen}
    others = (table for schema in schemas.values() for table in schema.tables.values())
    return chosen + [table for table in others if (table.schema, table.name) not in there]


def position(ends: Ends) -> str | None:
    """Where the log of production's server is, to be asked before a snapshot is opened: what is in
    the log by then is in the snapshot or is read once more."""
    sql = (
        "SELECT @@GLOBAL.gtid_binlog_pos"
        if ends.source.is_mariadb
        else ("SELECT @@GLOBAL.gtid_executed")
    )
    try:
        rows = ends.source.query(sql)
    except ServerError:
        return None
    return str(rows[0][0]).replace("\n", "") or None if rows else None
