"""Are the files behind a schema's pointers there, and whole, and is nothing else there?"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.buckets import SCHEMES
from datajoint_migrate.catalog.externals import TRACKING, store_of, stores_tracked
from datajoint_migrate.catalog.kinds import compared_as
from datajoint_migrate.catalog.server import Server
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.stores import Store, folded
from datajoint_migrate.catalog.tables import Schema, Table, read_schema
from datajoint_migrate.errors import InvalidArgument, NotFound
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.files.subset import Subset
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import IntegrityResult

Level = Literal["exists", "size", "hash"]
LEVELS: tuple[str, ...] = ("exists", "size", "hash")
PROTOCOLS = ("file", *SCHEMES)


@dataclass(frozen=True)
class Reference:
    """One file that has to be there: candidates for its path, and what is known of it."""

    store: str
    hash: str
    paths: tuple[str, ...]
    size: int | None
    md5: bytes | None = None
    # 0.14.6 counts an attachment's name into its hash; 2.x keeps it inside the object.
    salt: str = ""

    @property
    def digest(self) -> bytes:
        """By which a subset is chosen; equal on every call."""
        return hashlib.md5("/".join(self.paths[:1]).encode(), usedforsecurity=False).digest()


def verify_external_integrity(
    schema: Any,
    store_name: str | None = None,
    level: Level = "exists",
    *,
    subset: str = "all",
    orphans: bool = False,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    connection: Any = None,
    on_event: OnEvent = None,
) -> IntegrityResult:
    """Look for every file that a schema's tracking tables, pointers and JSON columns refer to.

    `level` "size" also compares the files' sizes, "hash" reads every file and compares its MD5
    with the one stored. Folders and buckets are looked into, page by page; of a store of another
    protocol it is said that it was not. `subset` looks at a part of the files: "2/7" (the second
    of seven), "10%", or about "500M" of them, the same ones on every call. With `orphans` the
    folder that 0.14.6 named after the schema is listed, and what no tracking row knows is told
    (what lies below `_hash/` is the business of 2.x's own collector). Reads only.

    Returns `total_references`, `checked`, `valid`, `missing` (dicts with `store`, `hash`,
    `filepath`, `full_path`, `expected_size`, `problem` missing, size or hash, `error` where one
    was told; the first 10,000), `missing_count`, `bytes_read`, `orphaned` (dicts with `store`,
    `path`, `size`; the first 10,000 of a store), `orphaned_count`, `orphaned_bytes`,
    `stores_checked`, `stores_unchecked` (name → why), `untracked` (pointers without a tracking
    row, by column).
    Raises `NotFound` for a store the schema does not refer to, `StoreMissing` for one that is not
    configured, `StoreFailed` and `ConnectionFailed` for one that does not let us in,
    `InvalidArgument` for another `level` or `subset`.
    """
    if level not in LEVELS:
        raise InvalidArgument(f"level {level!r} is unknown", hint="use exists, size or hash")
    part = Subset.parse(subset)
    name, server = schema_of(schema, connection)
    stores = Stores.find(source_stores, dest_stores, store_map)
    result: dict[str, Any] = {
        "total_references": 0,
        "checked": 0,
        "valid": 0,
        "missing": [],
        "missing_count": 0,
        "bytes_read": 0,
        "orphaned": [],
        "orphaned_count": 0,
        "orphaned_bytes": 0,
        "stores_checked": [],
        "stores_unchecked": {},
        "untracked": {},
    }
    with server.session(read_only=True) as session:
        found = read_schema(session, name)
        tracked, stored = tracked_stores(found), stored_columns(found)
        known = sorted({*tracked, *(store for _, _, store in stored)})
        wanted = known if store_name is None else [_among(store_name, known, name)]
        for store in wanted:
            old = store in tracked
            place = stores.of_source(store) if old else stores.of_destination(store)
            if place.protocol not in PROTOCOLS:
                result["stores_unchecked"][store] = f"{place.protocol}: neither folder nor bucket"
                continue
            result["stores_checked"].append(store)
            if old:
                _untracked(session, found, store, result["untracked"])
                tracking = stores_tracked(found)[store]
                chosen = part.of_bytes(_bytes(session, name, tracking, "`size`"))
                look = Look(place, level, chosen, on_event)
                look.at(_tracked(session, found, place), result)
                if orphans:
                    _orphans(server, name, place, result, on_event)
            for table, column, named in stored:
                if named == store:
                    size = f"JSON_EXTRACT({quote(column)}, '$.size')"
                    chosen = part.of_bytes(_bytes(session, name, table.name, size))
                    look = Look(stores.of_destination(store), level, chosen, on_event)
                    look.at(_stored(session, table, column, store), result)
    return cast(IntegrityResult, result)


def tracked_stores(schema: Schema) -> list[str]:
    """The stores that have a tracking table of 0.14.6."""
    return list(stores_tracked(schema))


def stored_columns(schema: Schema) -> list[tuple[Table, str, str]]:
    """JSON columns that 2.x follows into a store: table, column, store."""
    return [
        (table, column.name, column.marker.strip("<>").split("@")[1])
        for table in schema.tables.values()
        if not table.hidden
        for column in table.columns
        if column.data_type in ("json", "longtext")
        and column.marker
        and column.marker.startswith("<")
        and "@" in column.marker
    ]


def _among(name: str, known: list[str], schema: str) -> str:
    for spelling in (name, name.removeprefix("external-")):
        if spelling in known:
            return spelling
    raise NotFound.among("store", name, known, f" in {schema}")


def _untracked(session: Session, schema: Schema, store: str, found: dict[str, int]) -> None:
    tracking = quote(schema.name, stores_tracked(schema)[store])
    for table in schema.tables.values():
        for column in table.columns:
            if table.hidden or store_of(table, column) != store:
                continue
            if column.data_type != "binary":
                continue
            name = f"s.{quote(column.name)}"
            lost = session.query(
                f"SELECT COUNT(*) FROM {quote(schema.name, table.name)} s WHERE {name} IS NOT NULL"
                f" AND NOT EXISTS (SELECT 1 FROM {tracking} e WHERE e.`hash` = {name})"
            )[0][0]
            if lost:
                found[f"{table}.{column.name}"] = int(lost)


def _tracked(session: Session, schema: Schema, store: Store) -> Iterator[list[Reference]]:
    table = schema.tables[stores_tracked(schema)[store.name]]
    columns = ("hash", "size", "attachment_name", "filepath", "contents_hash")
    for rows in pages(session, table, ("hash",), columns):
        page = []
        for digest, size, attachment, filepath, contents in rows:
            hexed = digest.hex()
            base = "/".join(part for part in (schema.name, folded(hexed, store.subfolding)) if part)
            path, md5, salt = f"{base}/{hexed}", digest, ""
            paths: tuple[str, ...] = (path,)
            if attachment is not None:
                paths, salt = (f"{path}.{attachment}",), f"{attachment}\0"
            elif filepath is not None:
                # A blob that came from 0.11 has a path too, and may have been written anew since.
                paths, md5 = (filepath, path), contents
            page.append(Reference(store.name, hexed, paths, int(size), md5, salt))
        yield page


def _stored(session: Session, table: Table, column: str, store: str) -> Iterator[list[Reference]]:
    hashed = (table.column(column).marker or "").startswith(("<blob@", "<attach@", "<hash@"))
    for rows in pages(session, table, table.walk_key, (column,), f"{quote(column)} IS NOT NULL"):
        page = []
        for (text,) in rows:
            value = json.loads(text)
            if not isinstance(value, dict) or not value.get("path"):
                page.append(Reference(store, "", (), None))
                continue
            if value.get("store") not in (None, store) or value.get("is_dir"):
                continue
            digest = str(value.get("hash") or "")
            md5 = None
            if hashed and len(digest) == 26:
                md5 = base64.b32decode(digest.upper() + "=" * 6)
            page.append(Reference(store, digest, (value["path"],), value.get("size"), md5))
        yield page


def pages(
    session: Session, table: Table, key: tuple[str, ...], columns: tuple[str, ...], where: str = ""
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in pages along the key. A table without one is read in a single page."""
    at = [len(key) + place for place in range(len(columns))]
    walked = [compared_as(table.column(name)) for name in key]
    chosen = ", ".join([*walked, *map(quote, columns)])
    last: tuple[Any, ...] = ()
    while True:
        conditions = [where] if where else []
        values: list[Any] = []
        if last:
            steps = []
            # (a > x) OR (a = x AND b > y): the range optimiser does not take (a, b) > (x, y).
            for index, what in enumerate(walked):
                equal = [f"{earlier} = %s" for earlier in walked[:index]]
                steps.append(" AND ".join([*equal, f"{what} > %s"]))
                values += last[: index + 1]
            conditions.append("(" + " OR ".join(f"({step})" for step in steps) + ")")
        sql = f"SELECT {chosen} FROM {quote(table.schema, table.name)}"
        sql += f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql += f" ORDER BY {', '.join(walked)} LIMIT {LIMITS.pointers_per_page}" if key else ""
        rows = session.query(sql, values)
        yield [tuple(row[index] for index in at) for row in rows]
        if not key or len(rows) < LIMITS.pointers_per_page:
            return
        last = rows[-1][: len(key)]


def _bytes(session: Session, schema: str, table: str, size: str) -> int:
    return int(session.query(f"SELECT COALESCE(SUM({size}), 0) FROM {quote(schema, table)}")[0][0])


@dataclass(frozen=True)
class Look:
    """How the files of one store are looked at."""

    store: Store
    level: str
    subset: Subset
    on_event: OnEvent

    def at(self, references: Iterator[list[Reference]], result: dict[str, Any]) -> None:
        """Look for every reference, a page at a time, and count what was found."""
        spec = self.store.spec()
        for page in references:
            result["total_references"] += len(page)
            chosen = [reference for reference in page if self.subset.has(reference.digest)]
            result["checked"] += len(chosen)
            if not chosen:
                continue
            objects = [_sought(reference) for reference in chosen]
            plan = {"store": spec, "level": self.level, "objects": objects}
            looked = _core.look(plan, self.on_event)
            result["bytes_read"] += looked["bytes_read"]
            result["valid"] += len(chosen) - len(looked["problems"])
            result["missing_count"] += len(looked["problems"])
            for problem in looked["problems"][: LIMITS.listed_files - len(result["missing"])]:
                result["missing"].append(self._told(chosen[problem["index"]], problem))

    def _told(self, reference: Reference, problem: dict[str, Any]) -> dict[str, Any]:
        path = reference.paths[0] if reference.paths else ""
        told = {
            "store": reference.store,
            "hash": reference.hash,
            "filepath": path,
            "full_path": f"{self.store.url}/{path}",
            "expected_size": reference.size,
            "problem": problem["problem"],
        }
        return told | ({"error": problem["error"]} if problem["error"] else {})


def _sought(reference: Reference) -> dict[str, Any]:
    return {
        "paths": list(reference.paths),
        "size": reference.size,
        "md5": reference.md5.hex() if reference.md5 else None,
        "prefix": reference.salt,
    }


def _orphans(
    server: Server, schema: str, store: Store, result: dict[str, Any], on_event: OnEvent
) -> None:
    pointer = {
        "kind": "blob",
        "store": store.name,
        "tracking_schema": schema,
        "tracking_table": TRACKING + store.name,
        "source_schema": schema,
        "schema": schema,
        "layout": "in_place",
        "source_subfolding": list(store.subfolding),
    }
    plan = {"source": server.spec(), "store": store.spec(), "pointer": pointer}
    found = _core.orphans(plan, on_event)
    result["orphaned"] += [{"store": store.name, **orphan} for orphan in found["orphaned"]]
    for key in ("orphaned_count", "orphaned_bytes"):
        result[key] += found[key]
