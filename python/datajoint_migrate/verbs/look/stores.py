"""Are the stores that a schema refers to configured, do they let us in, may they be written to?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from datajoint_migrate import _core
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.catalog.buckets import KEYS, NEEDS
from datajoint_migrate.catalog.externals import store_of
from datajoint_migrate.catalog.stores import Store
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.results import StoreConfigurationResult
from datajoint_migrate.verbs.look.integrity import stored_columns, tracked_stores

# Where it is asked whether an object could be written; none ever is.
PROBE = ".datajoint_migrate"


def check_store_configuration(
    schema: Any,
    *,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    connection: Any = None,
) -> StoreConfigurationResult:
    """Check every store that a schema's columns and tracking tables refer to.

    The configuration of 2.x counts, or for a store it lacks that of 0.14.6. Folders and buckets
    are opened and the beginning of their listing is read. Where 2.x will write it is asked whether
    that is allowed: of a folder by its rights, of a bucket by beginning an upload that is given
    up at once, so that no object is ever made.

    Returns `stores_configured`, `stores_missing` (not or not fully configured),
    `stores_unreachable`, `details` (dicts with `store`, `status` configured, missing, incomplete
    or unreachable, `protocol`, `location`, `writable` True, False or None for not known, `error`,
    `note`).
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
        ours = stores.destination.get(stores.renamed(store))
        detail = _checked(store, ours or stores.source.get(store), writes=ours is not None)
        result["details"].append(detail)
        result[lists[detail["status"]]].append(store)
    return cast(StoreConfigurationResult, result)


def _referred(schema: Schema) -> list[str]:
    pointers = {
        store
        for table in schema.tables.values()
        if not table.hidden
        for column in table.columns
        if (store := store_of(table, column)) is not None
    }
    return sorted({*tracked_stores(schema), *pointers, *(s for _, _, s in stored_columns(schema))})


def _checked(name: str, store: Store | None, writes: bool) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "store": name,
        "status": "missing",
        "location": store.location if store else None,
        "protocol": store.protocol if store else None,
        "writable": None,
    }
    if store is None:
        return detail
    error = _fault(store)
    if error:
        return {**detail, "status": "incomplete", "error": error}
    if store.protocol not in KEYS:
        note = f"2.x needs a plugin for {store.protocol}; nothing has been connected to"
        return {**detail, "status": "configured", "note": note}
    write = f"{store.hash_prefix}/{PROBE}" if writes else None
    try:
        probed = _core.probe({"store": store.spec(), "write": write})
    except MigrationError as problem:
        return {**detail, "status": "unreachable", "error": problem.message}
    detail["writable"] = probed["writable"]
    if probed["error"]:
        detail["error"] = probed["error"]
    return {**detail, "status": "configured"}


def _fault(store: Store) -> str | None:
    """What is wrong with the keys of a store's configuration."""
    lacks = [k for k in NEEDS.get(store.protocol, ("location",)) if store.raw.get(k) is None]
    if lacks:
        return f"it lacks {' and '.join(lacks)}"
    if store.protocol not in KEYS:
        return None
    strange = sorted(set(store.raw) - KEYS[store.protocol])
    if strange:
        return f"DataJoint refuses the key {strange[0]!r}"
    if store.protocol == "s3" and bool(store.raw.get("access_key")) != bool(
        store.raw.get("secret_key")
    ):
        return "it has one of access_key and secret_key; 2.x wants both or none"
    return None
