"""A copy brought up to date: what production has changed since, and nothing else."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from datajoint_migrate._core import quote
from datajoint_migrate.build.building import carry_programs
from datajoint_migrate.build.creating import drop_program
from datajoint_migrate.build.lineage import keep_rows
from datajoint_migrate.build.programs import (
    STILL,
    TRIGGER,
    Both,
    carried_triggers,
    outdated_programs,
)
from datajoint_migrate.call import state
from datajoint_migrate.call.connections import check_connections
from datajoint_migrate.call.ends import Ends, check_names, open_ends
from datajoint_migrate.call.exchanges import refuse_cut_over
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.throttle import Throttle
from datajoint_migrate.call.turn import note_reading, take_turn
from datajoint_migrate.catalog.programs import Program
from datajoint_migrate.catalog.tables import read_schemas, user_tables
from datajoint_migrate.files.batches import Executor
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import SyncResult
from datajoint_migrate.rows import log
from datajoint_migrate.rows.keys import find_orphans, referring
from datajoint_migrate.rows.numbering import keep_auto_increment
from datajoint_migrate.verbs.move.beside import settle
from datajoint_migrate.verbs.move.cases import Cases
from datajoint_migrate.verbs.move.logs import By, Logs, position
from datajoint_migrate.verbs.move.making import make, take_places
from datajoint_migrate.verbs.move.sides import Sides
from datajoint_migrate.verbs.move.todo import OnConflict, Todo, copy_pointed, sync_tables
from datajoint_migrate.words import counted, verb

Keys = Literal["all", "changed", "none"]


def sync(
    schema_map: Mapping[str, str],
    *,
    by: By = "auto",
    on_conflict: OnConflict = "stop",
    drop: bool = False,
    final: bool = False,
    tables: Iterable[str] | None = None,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    lanes: int = LIMITS.lanes,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    connection: Any = None,
    dest_connection: Any = None,
    dry_run: bool = False,
    executor: Executor | None = None,
    on_event: OnEvent = None,
) -> SyncResult:
    """Bring copies that `migrate` made up to date: rows, tables, files and programs.

    Production is read once, under one snapshot, and needs SELECT alone; nobody waits for it. The
    copy is read where blocks of rows differ from what was noted when both were last equal. Options
    of the copy (charset, unsigned, stores' names, files) are those of `migrate`, which noted them.

    A row that somebody has added, changed or deleted in the copy is a conflict, and so is one that
    production has deleted and rows refer to that stay, whatever `on_conflict` says. A copy without
    notes (of an older release) is compared whole, and every difference is a conflict: nobody knows
    whose it is. New tables are declared and filled; one whose declaration has changed is built
    beside its copy and takes its place in one step, unless somebody wrote to the copy. Killed
    anywhere, the same call goes on.

    Examples:
        >>> result = sync({"lab": "lab_v20"}, connection="mysql://me:secret@db/")
        >>> assert result["match"], result["issues"]

    Args:
        schema_map: {source: destination}, as `migrate` was given it.
        by: "auto" asks the binary logs which keys have changed, and reads only what lies around
            them (needs REPLICATION SLAVE and REPLICATION CLIENT or BINLOG MONITOR); `why` says why
            a table was read whole. "log" insists on a log; "digest" reads what may have changed.
        on_conflict: "stop" leaves such a table alone; with "production" it gets production's rows.
        drop: Drop tables of the copy that production has dropped; else they stay.
        final: Prove every foreign key of the copies, not only those of tables that have changed.
        tables: Only these: "lab.session", "session" or "Session".
        source_stores: 0.14.6 store specs by name, by default those of its own configuration.
        dest_stores: 2.x store specs by name, by default those of its own configuration.
        lanes: Connections that read at once.
        max_bytes_per_second: Read no more of production than this, all connections together.
        max_load: Pause while the server is busier: "Threads_running=25", several with commas.
        pause_file: Pause while this file is there. The snapshot stays open in every pause.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        dest_connection: Of the destination, where that is another server.
        dry_run: Look and count, and write nothing.
        executor: Copies the files (a dask client, a pool of threads), as in `copy_store`.
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `schemas`, `tables` ("source.table" → `how` (skipped, digest, log, copied, rebuilt),
    `why` not by log, `rows`, `rows_read`, `copy_rows_read`, `inserted`, `updated`, `deleted`,
    `conflicts`, `match`),
    `rows_inserted`, `rows_updated`, `rows_deleted`, `files_copied`, `tables_created`,
    `tables_rebuilt`, `tables_gone`, `conflicts` (`table`, `key`, `kind`, `columns`; kinds as the
    copy differs from production: missing, extra, differs), `match` (every table is equal),
    `issues` and `notes` (sentences), `snapshot`, `position` (of the server's log, where it tells),
    `time_taken`.

    Raises `InvalidArgument`, `NotFound`, `ForeignKeyLeavesMap`, `Mismatch`, `Unconvertible`,
    `StoreMissing`, `ExternalMissing`, `PermissionMissing`, `ConnectionFailed`, `GaveWay`.
    """
    began = time.monotonic()
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(
        connection, dest_connection, throttle, looking=dry_run, on_event=on_event
    ) as ends:
        check_names(dict(schema_map), ends.same_server, ends.folds)
        ends.spell(schema_map)
        refuse_cut_over(ends, schema_map)
        if not dry_run:
            take_turn(ends.destination, schema_map.values())
            check_connections(ends, lanes)
            note_reading(ends.source, schema_map)
        result = bring_up_to_date(
            ends,
            schema_map,
            by=by,
            on_conflict=on_conflict,
            drop=drop,
            keys="all" if final else "changed",
            tables=tables,
            source_stores=source_stores,
            dest_stores=dest_stores,
            lanes=lanes,
            dry_run=dry_run,
            executor=executor,
            on_event=on_event,
        )
    return {**result, "time_taken": time.monotonic() - began}


def bring_up_to_date(
    ends: Ends,
    schema_map: Mapping[str, str],
    *,
    by: By = "auto",
    on_conflict: OnConflict = "stop",
    drop: bool = False,
    keys: Keys = "changed",
    tables: Iterable[str] | None = None,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    lanes: int = LIMITS.lanes,
    dry_run: bool = False,
    held: bool = False,
    harmless: Iterable[str] = (),
    executor: Executor | None = None,
    on_event: OnEvent = None,
) -> SyncResult:
    """`sync` between ends that are open, for whoever has taken their turn already.

    Whoever says `held` keeps everybody from writing to production. Statements that are `harmless`
    have changed nothing but comments: a log that has them still says which rows changed.

    `keys` are the foreign keys that are proved: all, those of tables that have changed, or none
    (where production's own hold, and both sides are equal, those of the copy do).
    """
    began = time.monotonic()
    run = Run(Sides(ends, dict(schema_map)), on_conflict, dry_run, lanes, on_event)
    run.logs.harmless = list(harmless)
    run.logs.find(by)
    if not dry_run:
        run.sides.settled = settle(ends.destination, schema_map.values())
    run.sides.read(source_stores, dest_stores)
    run.cases.decide(tables, drop)
    make(run.sides, run.cases, dry_run)
    run.logs.choose(run.cases.todo, run.sides)
    run.apply(executor, held)
    if not dry_run:
        take_places(run.sides, run.cases)
    run.finish(keys)
    return cast(SyncResult, {**run.result, "time_taken": time.monotonic() - began})


class Run:
    """One call of `sync`: what it decided before it wrote anything, and what came of it."""

    def __init__(
        self,
        sides: Sides,
        on_conflict: OnConflict,
        dry_run: bool,
        lanes: int,
        on_event: OnEvent,
    ) -> None:
        self.sides, self.ends = sides, sides.ends
        self.cases, self.logs = Cases(sides), Logs(sides.ends)
        self.on_conflict: OnConflict = on_conflict
        self.dry_run, self.lanes, self.on_event = dry_run, lanes, on_event
        self.triggers: list[Program] = []
        self.result: dict[str, Any] = {
            "schemas": dict(sides.schema_map),
            "tables": {},
            "rows_inserted": 0,
            "rows_updated": 0,
            "rows_deleted": 0,
            "files_copied": 0,
            "tables_created": 0,
            "tables_rebuilt": 0,
            "tables_gone": [],
            "conflicts": [],
            "match": False,
            "issues": [],
            "notes": [],
            "snapshot": "none",
            "position": None,
            "time_taken": 0.0,
        }

    def apply(self, executor: Executor | None, held: bool) -> None:
        """One pass over production; then what differs."""
        pairs = [(one.loading.source, one.loading.destination) for one in self.cases.todo]
        if not self.dry_run:
            self.triggers = carried_triggers(self.ends, pairs, self.sides.schema_map)
        self.result["position"] = position(self.ends)
        self._find_referring()

        def before(pointed: list[dict[str, Any]]) -> None:
            self._copy_files(pointed, executor)
            for trigger in self.triggers:
                drop_program(self.ends.destination, trigger)

        done = sync_tables(
            self.ends,
            self.cases.todo,
            on_conflict=self.on_conflict,
            dry_run=self.dry_run,
            lanes=self.lanes,
            logs=self.logs.plans,
            before=before,
            held=held,
            on_event=self.on_event,
        )
        self.result["snapshot"] = done["snapshot"]

    def _find_referring(self) -> None:
        """Which rows of the copies may refer to what production has deleted."""
        keys = referring(self.ends.destination, self.sides.schema_map.values())
        # These hold what production holds, or will.
        safe = {
            (self.sides.schema_map[table.schema], table.name)
            for table in (*self.cases.skipped, *self.cases.rebuilt)
        }
        for one in self.cases.todo:
            copy = one.loading.destination
            one.referring = [
                key
                for key in keys.get((copy.schema, copy.name), [])
                if (key["schema"], key["table"]) not in safe
            ]

    def _copy_files(self, pointed: list[dict[str, Any]], executor: Executor | None) -> None:
        for name, stores in self.sides.stores.items():
            own = [one for one in self.cases.todo if one.loading.source.schema == name]
            self.result["files_copied"] += copy_pointed(
                self.ends,
                own,
                pointed,
                stores,
                self.sides.options[name]["copy_files"],
                self.on_event,
                executor,
            )

    def finish(self, keys: Keys) -> None:
        """What came of it; numbering, programs, notes for the next call, and the proof of keys."""
        result, cases = self.result, self.cases
        result["tables_created"], result["tables_rebuilt"] = len(cases.new), len(cases.rebuilt)
        result["tables_gone"] = cases.gone
        result["notes"] += self.sides.notes + cases.notes
        for table in cases.skipped:
            result["tables"][str(table)] = _told("skipped", match=True)
        for place, why in cases.blocked.items():
            result["tables"][".".join(place)] = _told("rebuilt", match=False)
            result["issues"].append(why)
        if self.dry_run:
            for how, tables in (("copied", cases.new), ("rebuilt", cases.rebuilt)):
                for table in tables:
                    rows = self.ends.source.query(
                        f"SELECT COUNT(*) FROM {quote(table.schema, table.name)}"
                    )
                    count = int(rows[0][0])
                    result["tables"][str(table)] = _told(how, rows=count, inserted=count)
                    result["rows_inserted"] += count
        for one in cases.todo:
            self._take(one)
        result["match"] = (
            not cases.blocked
            and all(table["match"] for table in result["tables"].values())
            and not result["issues"]
        )
        if self.dry_run:
            return
        self._lineage()
        self._programs()
        self._note()
        if keys == "none":
            return
        todo = {(one.copy.schema, one.copy.name): one for one in cases.todo}
        for copy in read_schemas(self.ends.destination, self.sides.schema_map.values()).values():
            for table in user_tables(copy):
                own = todo.get((table.schema, table.name))
                lacks = (own is not None and own.has_put) or any(
                    (parent := todo.get((key.ref_schema, key.ref_table))) is not None
                    and parent.has_lost(key.ref_columns)
                    for key in table.foreign_keys
                )
                if keys == "all" or lacks:
                    result["issues"] += [
                        f"{orphan['table']}: rows refer to rows that {orphan['references']} does "
                        f"not have: {orphan['keys'][:3]}"
                        for orphan in find_orphans(self.ends.destination, [table])
                    ]

    def _take(self, one: Todo) -> None:
        result, found = self.result, one.found
        result["files_copied"] += found["files_written"]
        name = ".".join(one.name)
        conflicts = [{"table": name, **conflict} for conflict in found["conflicts"]]
        result["conflicts"] += conflicts
        if referred := found["referred"]:
            result["issues"].append(
                f"{name}: production has deleted rows that rows of {', '.join(referred)} refer to,"
                f" which stay, the first: {conflicts[0]['key']}; the table is left alone until"
                " those rows are gone from there"
            )
        elif conflicts and self.on_conflict == "stop":
            more = "more than " if found["truncated"] else ""
            result["issues"].append(
                f"{name}: {more}{counted(len(conflicts), 'row')} of the copy "
                f"{verb(len(conflicts), 'is', 'are')} not what was left there, the "
                f"first: {conflicts[0]['kind']} {conflicts[0]['key']}; the table is left alone"
            )
        if unknown := found["unknown"]:
            one.why = f"{unknown['reason']}: {unknown['detail']}"
        result["tables"][name] = {
            "how": "log" if found["by"] == "log" else one.how,
            "why": one.why,
            **{key: found[key] for key in _COUNTS},
            "conflicts": len(conflicts),
            "match": found["match"],
        }
        for key in ("inserted", "updated", "deleted"):
            result[f"rows_{key}"] += found[key]

    def _lineage(self) -> None:
        """Of every table that has its present form, whatever an earlier call left undone."""
        for name, building in self.sides.buildings.items():
            blocked = {table for schema, table in self.cases.blocked if schema == name}
            keep_rows(
                self.ends.destination,
                building.dest,
                building.lineage,
                [table for table in building.tables if table not in blocked],
            )

    def _programs(self) -> None:
        """Numbering, views, routines, events and triggers, as production has them now."""
        for one in self.cases.todo:
            keep_auto_increment(self.ends, one.loading.source, one.loading.destination)
        both = Both(self.ends, self.sides.schema_map)
        for building in self.sides.buildings.values():
            for program in outdated_programs(both, building.source.name, self.sides.schema_map):
                drop_program(self.ends.destination, program)
                both.theirs[building.dest].remove(program)
            self.result["notes"] += carry_programs(
                self.ends, building, self.sides.schema_map, STILL + TRIGGER, both
            )

    def _note(self) -> None:
        """What the next call may believe."""
        now, position = state.now(), log.written(self.logs.positions)
        if self.logs.positions["source"] is not None:
            # Else the next call would read the log from when somebody wrote to them last.
            for name, known in self.sides.states.items():
                skipped = [one.name for one in self.cases.skipped if one.schema == name]
                if known is None or not skipped:
                    continue
                heads = {
                    one: dataclasses.replace(known.heads[one], position=position) for one in skipped
                }
                state.write_heads(self.ends.destination, self.sides.schema_map[name], heads)
        for one in self.cases.todo:
            if not one.found["match"]:
                continue
            source, copy = one.loading.source, one.loading.destination
            known = self.sides.states[source.schema]
            head = known.heads.get(source.name) if known else None
            quiet = not (one.found["inserted"] or one.found["updated"] or one.found["deleted"])
            mark = self.cases.written.get(one.name)
            copied = self.cases.copied.get((copy.schema, copy.name))
            state.write_head(
                self.ends.destination,
                copy.schema,
                copy.name,
                dataclasses.replace(
                    head or state.Head(""),
                    definition=state.definition(source),
                    base="lines",
                    source=mark.said if mark else None,
                    # Looked at before it was read. What this call wrote to somebody else may have
                    # written to meanwhile, and nobody could tell.
                    copy=copied.said if quiet and copied else None,
                    at=now,
                    position=position,
                    compare=one.loading.proof(),
                ),
            )


_COUNTS = ("rows", "rows_read", "copy_rows_read", "inserted", "updated", "deleted")


def _told(how: str, *, match: bool = False, **said: int) -> dict[str, Any]:
    counts = dict.fromkeys(_COUNTS, 0)
    return {"how": how, "why": "", **counts, **said, "conflicts": 0, "match": match}
