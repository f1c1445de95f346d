"""Are the files behind a schema's pointers there, and whole? Read page by page."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.externals import POINTER, TRACKING
from datajoint_migrate.catalog.stores import Store
from datajoint_migrate.catalog.tables import Schema, Table, read_schema
from datajoint_migrate.errors import InvalidArgument, NotFound
from datajoint_migrate.steps.ends import schema_of
from datajoint_migrate.steps.external import folded
from datajoint_migrate.steps.pointers import Stores

Level = Literal["exists", "size", "hash"]
LEVELS: tuple[str, ...] = ("exists", "size", "hash")
PAGE = 5000
MAX_LISTED = 10_000
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Reference:
    """One file that has to be there: candidates for its path, and what is known of it."""

    store: str
    hash: str
    paths: tuple[str, ...]
    size: int | None
    md5: bytes | None = None
    # 0.14.6 counts an attachment's name into its hash; 2.x keeps it inside the object.
    salt: bytes = b""


def verify_external_integrity(
    schema: Any,
    store_name: str | None = None,
    level: Level = "exists",
    *,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    connection: Any = None,
) -> dict[str, Any]:
    """Look for every file that a schema's tracking tables, pointers and JSON columns refer to.

    `level` "size" also compares the files' sizes, "hash" reads every file and compares its MD5
    with the one stored. Stores that are no folders are not looked into, and named. Reads only.

    Returns `total_references`, `valid`, `missing` (dicts with `store`, `hash`, `filepath`,
    `full_path`, `expected_size`, `problem` missing, size or hash; the first 10,000),
    `missing_count`, `stores_checked`, `stores_unchecked` (name → why), `untracked` (pointers
    without a tracking row, by column).
    Raises `NotFound` for a store the schema does not refer to, `StoreMissing` for one that is not
    configured, `InvalidArgument` for another `level`.
    """
    if level not in LEVELS:
        raise InvalidArgument(f"level {level!r} is unknown", hint="use exists, size or hash")
    name, server = schema_of(schema, connection)
    stores = Stores.find(source_stores, dest_stores, store_map)
    result: dict[str, Any] = {
        "total_references": 0,
        "valid": 0,
        "missing": [],
        "missing_count": 0,
        "stores_checked": [],
        "stores_unchecked": {},
        "untracked": {},
    }
    with server.session(read_only=True) as session, ThreadPoolExecutor(4) as pool:
        found = read_schema(session, name)
        tracked, stored = tracked_stores(found), stored_columns(found)
        known = sorted({*tracked, *(store for _, _, store in stored)})
        wanted = known if store_name is None else [_among(store_name, known, name)]
        for store in wanted:
            old = store in tracked
            place = stores.of_source(store) if old else stores.of_destination(store)
            if place.protocol != "file":
                result["stores_unchecked"][store] = f"{place.protocol}: not a folder"
                continue
            result["stores_checked"].append(store)
            if old:
                _untracked(session, found, store, result["untracked"])
                _judge(_tracked(session, found, place), place, level, pool, result)
            for table, column, named in stored:
                if named == store:
                    where = stores.of_destination(store)
                    _judge(_stored(session, table, column, store), where, level, pool, result)
    return result


def tracked_stores(schema: Schema) -> list[str]:
    """The stores that have a tracking table of 0.14.6."""
    return [name.removeprefix(TRACKING) for name in schema.tables if name.startswith(TRACKING)]


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
    tracking = quote(schema.name, TRACKING + store)
    for table in schema.tables.values():
        for column in table.columns:
            pointer = POINTER.match(column.marker or "")
            if table.hidden or not pointer or pointer["store"] != store:
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
    table = schema.tables[TRACKING + store.name]
    columns = ("hash", "size", "attachment_name", "filepath", "contents_hash")
    for rows in pages(session, table, ("hash",), columns):
        page = []
        for digest, size, attachment, filepath, contents in rows:
            hexed = digest.hex()
            base = "/".join(part for part in (schema.name, folded(hexed, store.subfolding)) if part)
            path, md5, salt = f"{base}/{hexed}", digest, b""
            paths: tuple[str, ...] = (path,)
            if attachment is not None:
                paths, salt = (f"{path}.{attachment}",), attachment.encode() + b"\0"
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
    names = [*dict.fromkeys((*key, *columns))]
    at = [names.index(column) for column in columns]
    chosen = ", ".join(quote(name) for name in names)
    order = ", ".join(quote(name) for name in key)
    last: tuple[Any, ...] = ()
    while True:
        conditions = [where] if where else []
        values: list[Any] = []
        if last:
            steps = []
            # (a > x) OR (a = x AND b > y): the range optimiser does not take (a, b) > (x, y).
            for index, name in enumerate(key):
                equal = [f"{quote(earlier)} = %s" for earlier in key[:index]]
                steps.append(" AND ".join([*equal, f"{quote(name)} > %s"]))
                values += last[: index + 1]
            conditions.append("(" + " OR ".join(f"({step})" for step in steps) + ")")
        sql = f"SELECT {chosen} FROM {quote(table.schema, table.name)}"
        sql += f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql += f" ORDER BY {order} LIMIT {PAGE}" if key else ""
        rows = session.query(sql, values)
        yield [tuple(row[index] for index in at) for row in rows]
        if not key or len(rows) < PAGE:
            return
        last = rows[-1][: len(key)]


def _judge(
    references: Iterator[list[Reference]],
    store: Store,
    level: str,
    pool: ThreadPoolExecutor,
    result: dict[str, Any],
) -> None:
    root = Path(store.location)
    for page in references:
        result["total_references"] += len(page)
        for reference, problem in zip(
            page, pool.map(lambda r: _problem(root, r, level), page), strict=True
        ):
            if problem is None:
                result["valid"] += 1
                continue
            result["missing_count"] += 1
            if len(result["missing"]) < MAX_LISTED:
                path = reference.paths[0] if reference.paths else ""
                result["missing"].append(
                    {
                        "store": reference.store,
                        "hash": reference.hash,
                        "filepath": path,
                        "full_path": str(root / path),
                        "expected_size": reference.size,
                        "problem": problem,
                    }
                )


def _problem(root: Path, reference: Reference, level: str) -> str | None:
    for path in reference.paths:
        try:
            size = os.stat(root / path).st_size
        except (OSError, ValueError):
            continue
        if level != "exists" and reference.size is not None and size != reference.size:
            return "size"
        if level == "hash" and reference.md5 and _md5(root / path, reference) != reference.md5:
            return "hash"
        return None
    return "missing"


def _md5(path: Path, reference: Reference) -> bytes:
    digest = hashlib.md5(reference.salt, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                digest.update(data)
    except OSError:
        return b""
    return digest.digest()
