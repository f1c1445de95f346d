"""Where the pointers of external columns lead on both sides, and the files behind them."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.marks import Mark, Name, is_untouched, marks
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.externals import External, externals_of
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.stores import (
    SOURCE_FOLDING,
    Store,
    dest_stores,
    get_store,
    map_store,
    source_stores,
)
from datajoint_migrate.catalog.tables import Schema, Table
from datajoint_migrate.errors import ExternalMissing, GaveWay, StoreMissing
from datajoint_migrate.files.batches import Executor, run_batches
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.words import counted, verb

logger = logging.getLogger("datajoint_migrate")

# Names with an extension are listed by no release's garbage collector: 2.3.5 does not see the
# columns of custom codecs and 2.0.0 sees no column at all, so both would delete live objects.
OBJECT_SUFFIX = ".blob"


def collector_note(names: Iterable[str]) -> list[str]:
    """What the garbage collectors of 2.x do on stores with migrated objects."""
    stores = sorted(set(names))
    if not stores:
        return []
    listed = f"{verb(len(stores), 'store', 'stores')} {', '.join(stores)}"
    return [
        f"never run the garbage collector (dj.gc) of DataJoint 2.0.0 on the {listed}: it "
        "takes the objects of 0.14.6 for orphans and deletes them. That of 2.3.5 lists none of the "
        "objects that were migrated, so it will not reclaim them either when their rows are gone"
    ]


@dataclass(frozen=True)
class Stores:
    """The stores of both sides and the way from one's names to the other's."""

    source: Mapping[str, Store]
    destination: Mapping[str, Store]
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        source: Mapping[str, Any] | None = None,
        destination: Mapping[str, Any] | None = None,
        store_map: Mapping[str, str] | None = None,
    ) -> Stores:
        """What was given, and DataJoint's own configuration for what was not."""
        return cls(source_stores(source), dest_stores(destination), dict(store_map or {}))

    def renamed(self, name: str) -> str:
        """The 2.x name of a 0.14.6 store."""
        return map_store(name, self.names)

    def of_source(self, name: str) -> Store:
        """The 0.14.6 store; raises `StoreMissing`.

        A store only 2.x has a configuration for is taken to be the same folder, folded as
        0.14.6 folds unless it says otherwise.
        """
        if name in self.source:
            return self.source[name]
        twin = self.destination.get(self.renamed(name))
        if twin is None:
            return get_store(self.source, name, "source")
        folding = twin.subfolding if twin.raw.get("subfolding") is not None else SOURCE_FOLDING
        return dataclasses.replace(twin, name=name, subfolding=folding)

    def of_destination(self, name: str) -> Store:
        """The 2.x store a 0.14.6 store becomes; raises `StoreMissing`."""
        return get_store(self.destination, self.renamed(name), "destination")

    def same_place(self, name: str) -> bool:
        """Whether both sides look for the store's files in one folder, as far as is configured."""
        theirs = self.destination.get(self.renamed(name))
        ours = self.source.get(name)
        if theirs is None or ours is None:
            return True
        return ours.place == theirs.place


def final_name(source: str, dest: str, final_names: Mapping[str, str] | None = None) -> str:
    """The name under which a parallel schema will live on.

    A copy named by the guide's rule (`my_pipeline_v20`) will take its original's name at the
    cutover, and objects written now should already lie where they will then belong.
    """
    if final_names and dest in final_names:
        return final_names[dest]
    return source if dest == f"{source}_v20" else dest


def pointer(
    external: External,
    source_schema: str,
    final_schema: str,
    stores: Stores,
    copy_files: bool,
) -> dict[str, Any]:
    """How the engine turns the pointers of one kind, store and schema into JSON.

    Blobs stay where they are unless `copy_files`; attachments are always written anew, because
    2.x keeps the name inside the object. Raises `StoreMissing`.
    """
    place: dict[str, Any] = {
        "kind": external.kind,
        "store": stores.renamed(external.store),
        "tracking_schema": source_schema,
        "tracking_table": external.tracking_table,
        "source_schema": source_schema,
        "schema": final_schema,
        "layout": "in_place",
        "source_subfolding": list(SOURCE_FOLDING),
        "destination_subfolding": [],
        "hash_prefix": "_hash",
        "suffix": OBJECT_SUFFIX,
    }
    if external.kind == "filepath" and not copy_files:
        return place
    place["source_subfolding"] = list(stores.of_source(external.store).subfolding)
    if external.kind == "attach" or (external.kind == "blob" and copy_files):
        there = stores.of_destination(external.store)
        place["layout"] = "hash"
        place["destination_subfolding"] = list(there.subfolding)
        place["hash_prefix"] = there.hash_prefix
    return place


Pointed = tuple[str, str, str, External, dict[str, Any]]


def external_columns(
    ends: Ends,
    schema: Schema,
    table: Table,
    final_schema: str,
    stores: Stores,
    copy_files: bool,
    adapters: Mapping[str, str] | None = None,
) -> list[Pointed]:
    """The external columns of a source table: schema, table, column, external, pointer."""
    return [
        (
            schema.name,
            table.name,
            name,
            external,
            pointer(external, schema.name, final_schema, stores, copy_files),
        )
        for name, external in externals_of(ends.source, schema, table, adapters).items()
    ]


def prove_tracked(session: Session, columns: Iterable[Pointed]) -> None:
    """Check that every pointer has its tracking row; raises `ExternalMissing`, naming a column.

    The foreign key of 0.14.6 says so, unless somebody switched its checks off.
    """
    for schema, table, column, external, where in columns:
        plan = {
            "source": session.server.spec(),
            "schema": schema,
            "table": table,
            "column": column,
            "tracking_schema": where["tracking_schema"],
            "tracking_table": where["tracking_table"],
            "throttle": session.spared,
        }
        if _is_merged(session, plan) and not _is_lost(plan):
            continue
        # Production may have written between the two halves of a merge: the server has the say.
        tracking = quote(where["tracking_schema"], where["tracking_table"])
        name = quote(column)
        lost = session.query(
            f"SELECT HEX(s.{name}) FROM {quote(schema, table)} s WHERE s.{name} IS NOT NULL"
            f" AND NOT EXISTS (SELECT 1 FROM {tracking} e WHERE e.`hash` = s.{name}) LIMIT 10"
        )
        if lost:
            raise ExternalMissing(
                f"values of {schema}.{table}.{column} have no tracking row in "
                f"{where['tracking_schema']}.{external.tracking_table}, for example "
                f"{lost[0][0].lower()}",
                hint="restore the tracking rows, or delete the rows that refer to them",
                context={"column": f"{schema}.{table}.{column}", "hashes": [r[0] for r in lost]},
            )


def _is_lost(plan: dict[str, Any]) -> bool:
    """Whether a merge finds a pointer without a tracking row; again where it had to give way."""
    for pause in LIMITS.pauses:
        try:
            return bool(_core.lost(plan)["lost"])
        except GaveWay as error:
            logger.warning("%s", error.message)
            time.sleep(pause)
    return bool(_core.lost(plan)["lost"])


def _is_merged(session: Session, plan: Mapping[str, Any]) -> bool:
    """Whether reading all of the tracking table takes less than looking up each pointer in it."""
    estimates = [
        session.query(
            "SELECT TABLE_ROWS FROM information_schema.TABLES"
            " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
            name,
        )
        for name in (
            (plan["schema"], plan["table"]),
            (plan["tracking_schema"], plan["tracking_table"]),
        )
    ]
    pointers, tracked = (int(rows[0][0] or 0) if rows else 0 for rows in estimates)
    return LIMITS.merged_share * pointers >= tracked


@dataclass
class FileJob:
    """The files of one kind in one tracking table, and the columns that refer to them."""

    store: str
    pointer: dict[str, Any]
    columns: list[dict[str, str]]
    # The hashes, in hexadecimal, of the only files that matter; None for all that are referred to.
    only: list[str] | None = None

    def writes(self, stores: Stores, copy_files: bool) -> bool:
        """Whether its files are written anew."""
        return self.pointer["layout"] == "hash" or (
            copy_files and not stores.same_place(self.store)
        )

    def readable(self, stores: Stores) -> list[Store]:
        """The stores in which its files can be looked for where they are."""
        both = stores.source.get(self.store), stores.destination.get(stores.renamed(self.store))
        return [store for store in both if store is not None and store.can_be_read]


def tracking_of(source: Table, externals: Mapping[str, External]) -> dict[str, dict[str, str]]:
    """Per blob column, the tracking table that says what its pointers mean."""
    return {
        column: {"tracking_schema": source.schema, "tracking_table": external.tracking_table}
        for column, external in externals.items()
        if external.kind == "blob"
    }


def file_jobs(
    columns: Iterable[Pointed],
) -> list[FileJob]:
    """Group external columns by tracking table and kind."""
    jobs: dict[tuple[str, str, str], FileJob] = {}
    for schema, table, column, external, where in columns:
        key = (where["tracking_schema"], external.store, external.kind)
        job = jobs.setdefault(key, FileJob(external.store, where, []))
        job.columns.append({"schema": schema, "table": table, "column": column})
    return list(jobs.values())


def check_places(jobs: Iterable[FileJob], stores: Stores, copy_files: bool) -> None:
    """Raise before anything is written when a file could not be reached or written afterwards."""
    for job in jobs:
        kind = job.pointer["kind"]
        if kind == "attach" or copy_files:
            for store in (stores.of_source(job.store), stores.of_destination(job.store)):
                store.spec()
        elif not stores.same_place(job.store):
            raise StoreMissing(
                f"the store {job.store!r} is another place for 2.x "
                f"({stores.of_destination(job.store).location}) than for 0.14.6 "
                f"({stores.of_source(job.store).location}), so files in place would not be found",
                hint="pass copy_files=True, or give the 2.x store the location of the old one, "
                f"{stores.of_source(job.store).location!r}",
                context={"store": job.store},
            )


def missing_files(
    ends: Ends,
    jobs: Iterable[FileJob],
    stores: Stores,
    copy_files: bool,
    on_event: OnEvent = None,
) -> list[dict[str, Any]]:
    """What is wrong with files where they are now, as `errors` of `move_files`; writes nothing.

    Those that are going to be written anew must be readable; of the others it is not asked.
    """
    errors: list[dict[str, Any]] = []
    for job in jobs:
        readable = job.readable(stores)
        if readable:
            plan = {
                "source": ends.source.server.spec(),
                "pointer": job.pointer,
                "store": readable[0].spec(),
                "where": job.columns,
                "only": job.only,
                "opens": job.writes(stores, copy_files),
                "throttle": ends.throttle.spec(),
            }
            found = _core.files(plan, on_event)["errors"]
            errors += [{**error, "store": job.store} for error in found]
    return errors


def move_files(
    ends: Ends,
    jobs: Iterable[FileJob],
    stores: Stores,
    copy_files: bool,
    on_event: OnEvent = None,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Copy, rewrite or (in place) look for the files behind the pointers.

    Returns `files_copied`, `bytes` and `errors` (of `hash`, `path`, `error`, `code`, `store`).
    When nothing has to be written, stores that are not configured, or without credentials, are
    left alone.
    """
    total: dict[str, Any] = {"files_copied": 0, "bytes": 0, "errors": []}
    for job in jobs:
        writes = job.writes(stores, copy_files)
        if writes:
            result = run_batches(
                stores.of_source(job.store),
                stores.of_destination(job.store),
                tracked={
                    "source": ends.source.server.spec(),
                    "pointer": job.pointer,
                    "where": job.columns,
                    "only": job.only,
                    "throttle": ends.throttle.spec(),
                },
                executor=executor,
                on_event=on_event,
            )
        else:
            readable = job.readable(stores)
            if not readable:
                continue
            result = _core.files(
                {
                    "source": ends.source.server.spec(),
                    "pointer": job.pointer,
                    "store": readable[0].spec(),
                    "where": job.columns,
                    "only": job.only,
                    "throttle": ends.throttle.spec(),
                },
                on_event,
            )
        total["files_copied"] += result["files_copied"]
        total["bytes"] += result["bytes"]
        total["errors"] += [{**error, "store": job.store} for error in result["errors"]]
    return total


def move_later(
    ends: Ends,
    jobs: Sequence[FileJob],
    stores: Stores,
    copy_files: bool,
    before: Mapping[Name, Mark],
    on_event: OnEvent = None,
) -> int:
    """Copy (or look for) what production has stored since it was as `before`; how many were copied.

    Files are copied before rows are read: what was stored in between is behind rows of the copy,
    and only now known. Raises `ExternalMissing`.
    """
    if not jobs or is_untouched(before, marks(ends.source, {name for name, _ in before})):
        return 0
    moved = move_files(ends, jobs, stores, copy_files, on_event)
    raise_missing(moved["errors"])
    return int(moved["files_copied"])


def raise_missing(errors: list[dict[str, Any]]) -> None:
    """Raises `ExternalMissing` when files that rows refer to could not be found or copied."""
    if not errors:
        return
    first = errors[0]
    raise ExternalMissing(
        f"{counted(len(errors), 'file')} of external stores {verb(len(errors), 'is', 'are')}"
        " missing or damaged, the first in store "
        f"{first['store']!r}: {first['path']}: {first['error']}",
        code="DJM-1402",
        hint="restore the files, or delete the rows that refer to them; no row was copied",
        context={"errors": errors},
    )
