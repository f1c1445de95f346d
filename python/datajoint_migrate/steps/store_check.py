"""Are the stores that a schema refers to configured, and can their folders be opened?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from datajoint_migrate.catalog.externals import POINTER
from datajoint_migrate.catalog.stores import Store
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.steps.ends import schema_of
from datajoint_migrate.steps.integrity import stored_columns, tracked_stores
from datajoint_migrate.steps.pointers import Stores

COMMON = {
    "protocol", "location", "subfolding", "partition_pattern", "token_length", "hash_prefix",
    "schema_prefix", "filepath_prefix", "stage",
}  # fmt: skip
S3_NEEDS = ("endpoint", "bucket", "location")
S3 = COMMON | {"endpoint", "bucket", "access_key", "secret_key", "secure", "proxy_server"}


def check_store_configuration(
    schema: Any,
    *,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    connection: Any = None,
) -> dict[str, Any]:
    """Check every store that a schema's columns and tracking tables refer to.

    The configuration of 2.x counts, or for a store it lacks that of 0.14.6. A folder is opened
    and listed; of a bucket only the keys of its configuration are checked, and its detail says so.

    Returns `stores_configured`, `stores_missing` (not or not fully configured),
    `stores_unreachable`, `details` (dicts with `store`, `status` configured, missing, incomplete
    or unreachable, `protocol`, `location`, `error`, `note`).
    """
    name, server = schema_of(schema, connection)
    stores = Stores.find(source_stores, dest_stores, store_map)
    with server.session(read_only=True) as session:
        found = read_schema(session, name)
    result: dict[str, Any] = {
        "stores_configured": [],
        "stores_missing": [],
        "stores_unreachable": [],
        "details": [],
    }
    lists = {
        "configured": "stores_configured",
        "unreachable": "stores_unreachable",
        "missing": "stores_missing",
        "incomplete": "stores_missing",
    }
    for store in _referred(found):
        place = stores.destination.get(stores.renamed(store)) or stores.source.get(store)
        detail = _checked(store, place)
        result["details"].append(detail)
        result[lists[detail["status"]]].append(store)
    return result


def _referred(schema: Schema) -> list[str]:
    pointers = {
        pointer["store"]
        for table in schema.tables.values()
        if not table.hidden
        for column in table.columns
        if (pointer := POINTER.match(column.marker or ""))
    }
    return sorted({*tracked_stores(schema), *pointers, *(s for _, _, s in stored_columns(schema))})


def _checked(name: str, store: Store | None) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "store": name,
        "status": "missing",
        "location": store.location if store else None,
        "protocol": store.protocol if store else None,
    }
    if store is None:
        return detail
    error = _fault(store)
    if error:
        return {**detail, "status": "incomplete", "error": error}
    if store.protocol != "file":
        note = "only the keys of its configuration were checked, nothing has been connected to"
        return {**detail, "status": "configured", "note": note}
    try:
        with os.scandir(store.location) as entries:
            next(entries, None)
    except OSError as problem:
        said = f"the folder {store.location!r} cannot be opened: {problem.strerror}"
        return {**detail, "status": "unreachable", "error": said}
    return {**detail, "status": "configured"}


def _fault(store: Store) -> str | None:
    """What is wrong with the keys of a store's configuration."""
    known = COMMON if store.protocol == "file" else S3
    needed = ("location",) if store.protocol == "file" else S3_NEEDS
    lacks = [key for key in needed if store.raw.get(key) is None]
    if lacks:
        return f"it lacks {' and '.join(lacks)}"
    if store.protocol not in ("file", "s3"):
        return None
    strange = sorted(set(store.raw) - known)
    if strange:
        return f"DataJoint refuses the key {strange[0]!r}"
    if store.protocol == "s3" and bool(store.raw.get("access_key")) != bool(
        store.raw.get("secret_key")
    ):
        return "it has one of access_key and secret_key; 2.x wants both or none"
    return None
