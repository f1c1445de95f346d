"""One pass over both sides: the tables it looks at, and the files behind rows that it puts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from datajoint_migrate import _core
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.progress import OnEvent, tell
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.errors import GaveWay, Mismatch
from datajoint_migrate.files.batches import Executor
from datajoint_migrate.files.pointers import Stores, file_jobs, move_files, raise_missing
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.move.loading import Loading

logger = logging.getLogger("datajoint_migrate")

OnConflict = Literal["stop", "production"]
Name = tuple[str, str]


@dataclass
class Todo:
    """One table to be looked at.

    `base` says what is known of the copy: "lines" (of the state), "none", or "empty" (made a moment
    ago). `keys`: None is the digest pass over all of production's table; a list of keys, as the
    engine writes bounds ([[{"number": "7"}], …], whole keys or their first columns), is a look at
    those chunks only that may hold one of them. Whoever knows which keys have changed gives them
    here, and nothing else about them.
    """

    loading: Loading
    base: str
    how: str
    trusts_copy: bool = False
    keys: list[list[dict[str, Any]]] | None = None
    # Places in the list of logs that name the keys while the snapshot is held.
    logs: list[int] = field(default_factory=list)
    # Those of them that are the copy's.
    copy_logs: list[int] = field(default_factory=list)
    why: str = ""
    # Keys of other tables that refer to the copy: see `referring`.
    referring: list[dict[str, Any]] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> Name:
        """Schema and table of production."""
        return self.loading.source.schema, self.loading.source.name

    @property
    def copy(self) -> Table:
        """The table in the destination."""
        return self.loading.destination

    @property
    def has_put(self) -> bool:
        """Whether rows of the copy may refer to others than they did."""
        return bool(self.found["inserted"] or self.found["updated"])

    def has_lost(self, columns: Iterable[str]) -> bool:
        """Whether values of these columns, to which rows refer, may be gone from the copy.

        A row that was updated has the key that it had; a table that was built anew is not told from
        the one that it replaces.
        """
        if self.found["deleted"] or self.how != "digest":
            return True
        return bool(self.found["updated"]) and not set(columns) <= set(self.copy.walk_key)

    def plan(self) -> dict[str, Any]:
        """This table's part of the engine's plan."""
        source, copy = self.loading.source, self.loading.destination
        compare = self.loading.proof()
        if compare is None:
            raise Mismatch(
                f"{copy.schema}.{copy.name} does not have all columns of the key of {source}",
                code="DJM-1701",
                hint="migrate into another destination",
            )
        return {
            "copy": self.loading.plan(),
            "compare": compare,
            "base": self.base,
            "trusts_copy": self.trusts_copy,
            "unique": copy.has_rivals,
            "keys": self.keys,
            "logs": self.logs,
            "copy_logs": self.copy_logs,
            "referring": self.referring,
        }


def sync_tables(
    ends: Ends,
    todo: Iterable[Todo],
    *,
    on_conflict: OnConflict,
    dry_run: bool,
    lanes: int = LIMITS.lanes,
    logs: Iterable[dict[str, Any]] = (),
    before: Callable[[list[dict[str, Any]]], object] | None = None,
    held: bool = False,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Look at tables on both sides under one snapshot of production, and put the copy right.

    However the keys to look at were found: rows come from production under the snapshot, so there
    is one way to convert and apply them. `before` is called once, before the first row is written
    and only if one will be, with what the rows point to ({schema, table, column, hashes}; hashes
    None for too many). Each `found` of `todo` becomes the engine's result of that table. Whoever
    says `held` keeps everybody from writing to production.

    Returns the engine's summary. Raises `GaveWay` where production waited for it several times.
    """
    todo = list(todo)
    plan = {
        **ends.specs(),
        "lanes": lanes,
        "chunk_bytes": LIMITS.chunk_bytes,
        "memory_bytes": LIMITS.memory_bytes,
        "on_conflict": on_conflict,
        "dry_run": dry_run,
        "held": held,
        "max_conflicts": LIMITS.listed_conflicts,
        "tables": [one.plan() for one in todo],
        "logs": list(logs),
    }
    if not todo:
        return {"snapshot": "none", "time_taken": 0.0, "tables": []}
    for pause in (*LIMITS.pauses, None):
        try:
            done = _core.sync(plan, before or _nothing, on_event)
            break
        except GaveWay as error:
            if pause is None:
                raise
            tell(on_event, "gave_way", why=error.message)
            logger.warning("%s", error.message)
            time.sleep(pause)
    for one, found in zip(todo, done["tables"], strict=True):
        one.found = found
    return done


def _nothing(_: list[dict[str, Any]]) -> None:
    """For who has nothing to do before rows are written."""


def catch_up(
    ends: Ends,
    loadings: Iterable[Loading],
    stores: Stores,
    copy_files: bool,
    lanes: int,
    on_event: OnEvent,
    executor: Executor | None,
) -> dict[str, Any]:
    """Make a copy whose chunks are of many instants the state of one, and prove it.

    Returns `snapshot`, `files_copied` and `tables` (schema and table of production → what a
    comparison would return).
    """
    todo = [Todo(loading, "none", "digest") for loading in loadings]
    files = 0

    def before(pointed: list[dict[str, Any]]) -> None:
        nonlocal files
        files += copy_pointed(ends, todo, pointed, stores, copy_files, on_event, executor)

    done = sync_tables(
        ends,
        todo,
        on_conflict="production",
        dry_run=False,
        lanes=lanes,
        before=before,
        on_event=on_event,
    )
    tables = {
        one.name: {
            "match": one.found["match"],
            "row_count": one.found["rows"],
            "test_row_count": one.found["rows"],
            "discrepancies": [],
            "truncated": False,
            "notes": [],
            "digest": None,
            "time_taken": done["time_taken"],
        }
        for one in todo
    }
    files += sum(one.found["files_written"] for one in todo)
    return {"snapshot": done["snapshot"], "files_copied": files, "tables": tables}


def copy_pointed(
    ends: Ends,
    todo: Iterable[Todo],
    pointed: Iterable[dict[str, Any]],
    stores: Stores,
    copy_files: bool,
    on_event: OnEvent,
    executor: Executor | None,
) -> int:
    """Copy (or look for) the files behind pointers of rows that are about to be put; how many were
    copied. Raises `ExternalMissing`."""
    wanted = {(one["schema"], one["table"], one["column"]): one["hashes"] for one in pointed}
    columns = [column for one in todo for column in one.loading.pointed() if column[:3] in wanted]
    jobs = file_jobs(columns)
    for job in jobs:
        named = [wanted[one["schema"], one["table"], one["column"]] for one in job.columns]
        if None not in named:
            job.only = sorted({digest for hashes in named for digest in hashes})
    moved = move_files(ends, jobs, stores, copy_files, on_event, executor)
    raise_missing(moved["errors"])
    return int(moved["files_copied"])
