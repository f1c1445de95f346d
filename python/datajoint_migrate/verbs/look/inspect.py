"""What is on a server: schemas, what stands in the way of migrating them, who uses them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from datajoint_migrate.build.building import Family, plan_schema
from datajoint_migrate.call.ends import Ends, open_ends
from datajoint_migrate.catalog.externals import TRACKING, externals_of
from datajoint_migrate.catalog.names import LINEAGE, RECORD, SYSTEM
from datajoint_migrate.catalog.neighbours import neighbours, with_neighbours
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.stores import source_stores as find_stores
from datajoint_migrate.catalog.tables import Schema, read_schemas
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.results import InspectResult
from datajoint_migrate.verbs.look.heads import sampled

# By the names that `restore_schema` and the guide give: all else of them is as in production.
ASIDE = re.compile(r"(.+)_(before_restore(?:_\d+)?|restore_test)$")


def inspect_schemas(
    schemas: Iterable[str] | None = None,
    *,
    source_stores: Mapping[str, Any] | None = None,
    adapters: Mapping[str, str] | None = None,
    connection: Any = None,
) -> InspectResult:
    """What 0.14.6 schemas hold, and what a migration of them would meet; nothing is changed.

    Without `schemas` all of the server that look like DataJoint's. Rows and bytes are the server's
    estimates.

    Returns `server` (address, version), `schemas` (a dict each: `name`, `kind` — "0.14", "2.x",
    "backup" or "other" —, `tables`, `rows`, `bytes`, `charset`, `stores` (store → kinds),
    `refers_to`, `clients` (sessions that use it now), `obstacles` and `notes`, sentences,
    `promotable`: columns of blobs and what they can become in a store, by the first rows), and
    `groups`: lists of schemas that refer to each other and belong in one call of `migrate`,
    parents first.

    Raises `NotFound` for an unknown schema.
    """
    with open_ends(connection, looking=True) as ends:
        return looked_at(ends, schemas, source_stores, adapters)[0]


def looked_at(
    ends: Ends,
    schemas: Iterable[str] | None,
    source_stores: Mapping[str, Any] | None,
    adapters: Mapping[str, str] | None,
) -> tuple[InspectResult, dict[str, Schema]]:
    """As `inspect_schemas`, of a server that is open; and the schemas as they were read."""
    session = ends.source
    names = list(schemas) if schemas is not None else _candidates(session)
    session.spell(names)
    read = read_schemas(session, names)
    clients = _clients(session)
    stores = find_stores(source_stores)
    family = with_neighbours(session, read.values())
    everything = {schema.name: f"{schema.name}_v20"[:64] for schema in family}
    together = Family(ends.destination, family, everything)
    described = []
    for name, schema in read.items():
        found = _described(session, schema, clients.get(name, []), adapters)
        if found["kind"] == "0.14":
            try:
                building = plan_schema(
                    ends,
                    schema,
                    together,
                    everything,
                    external="convert",
                    unsigned="keep",
                    adapters=adapters,
                )
                found["notes"] = building.notes
            except MigrationError as error:
                found["obstacles"].append(str(error))
            found["obstacles"] += [
                f"the store {store!r} is not configured"
                for store in found["stores"]
                if store not in stores
            ]
            found["obstacles"] += [
                f"keys lead to {other!r}: migrate both in one call"
                for other in found["refers_to"]
                if other not in read
            ]
        if aside := ASIDE.match(name):
            found["notes"].append(
                f"named as what {aside[1]} was before a restore"
                if aside[2] != "restore_test"
                else f"named as a restore of {aside[1]} that was a test"
            )
        described.append(found)
    result: InspectResult = {
        "server": {"address": session.server.address, "version": _version(session)},
        "schemas": described,
        "groups": _groups({one["name"]: one for one in described if one["kind"] == "0.14"}),
    }
    return result, read


def schemas_of_old(connection: Any = None) -> tuple[list[str], list[str]]:
    """The schemas of 0.14 that are on a server, by their hidden tables alone.

    Beside them those that are named as what a restore has put aside or tried.
    """
    with resolve(connection).session(read_only=True) as session:
        hidden: dict[str, set[str]] = {}
        for schema, table in session.query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"
            " WHERE LEFT(TABLE_NAME, 1) = '~' ORDER BY 1"
        ):
            hidden.setdefault(str(schema), set()).add(str(table))
    old = [name for name, tables in hidden.items() if _kind(tables) == "0.14"]
    aside = [name for name in old if (of := ASIDE.match(name)) and of[1] in hidden]
    return [name for name in old if name not in aside], aside


def _candidates(session: Session) -> list[str]:
    rows = session.query(
        "SELECT DISTINCT TABLE_SCHEMA FROM information_schema.TABLES"
        " WHERE LEFT(TABLE_NAME, 1) = '~' ORDER BY 1"
    )
    return [str(row[0]) for row in rows if row[0] not in SYSTEM]


def _clients(session: Session) -> dict[str, list[str]]:
    """Per schema the other sessions that have it as their default.

    Without the privilege PROCESS the server shows those of the same user only.
    """
    own = int(session.query("SELECT CONNECTION_ID()")[0][0])
    found: dict[str, list[str]] = {}
    for number, user, host, schema, command, seconds in session.query(
        "SELECT ID, USER, HOST, DB, COMMAND, TIME FROM information_schema.PROCESSLIST"
    ):
        if schema and int(number) != own:
            said = f"{user}@{host} ({command}, {seconds} s)"
            found.setdefault(session.spelt(schema), []).append(said)
    return found


def _described(
    session: Session, schema: Schema, clients: list[str], adapters: Mapping[str, str] | None
) -> dict[str, Any]:
    tables = [table for table in schema.tables.values() if not table.hidden]
    stores: dict[str, set[str]] = {}
    obstacles = []
    for table in tables:
        try:
            for external in externals_of(session, schema, table, adapters).values():
                stores.setdefault(external.store, set()).add(external.kind)
        except MigrationError as error:
            obstacles.append(str(error))
    return {
        "name": schema.name,
        "kind": _kind(schema.tables),
        "tables": len(tables),
        "rows": sum(table.rows for table in tables),
        "bytes": sum(table.data_bytes for table in tables),
        "charset": schema.charset,
        "stores": {name: sorted(kinds) for name, kinds in sorted(stores.items())},
        "refers_to": sorted(neighbours(schema)),
        "clients": clients,
        "obstacles": obstacles,
        "notes": [],
        "promotable": [one for table in tables for one in sampled(session, table)],
    }


def _kind(tables: Collection[str]) -> str:
    if RECORD in tables:
        return "backup"
    if LINEAGE in tables:
        return "2.x"
    old = any(name in ("~log", "~jobs") or name.startswith(TRACKING) for name in tables)
    return "0.14" if old else "other"


def _version(session: Session) -> str:
    return str(session.query("SELECT VERSION()")[0][0])


def _groups(schemas: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """Schemas connected by keys in either direction, each group with parents before children."""
    near: dict[str, set[str]] = {name: set() for name in schemas}
    for name, schema in schemas.items():
        for other in schema["refers_to"]:
            if other in near:
                near[name].add(other)
                near[other].add(name)
    groups: list[list[str]] = []
    seen: set[str] = set()
    for name in sorted(schemas):
        if name in seen:
            continue
        group, waiting = set(), [name]
        while waiting:
            one = waiting.pop()
            if one not in group:
                group.add(one)
                waiting += near[one]
        seen |= group
        groups.append(_parents_first(group, schemas))
    return groups


def _parents_first(group: set[str], schemas: Mapping[str, dict[str, Any]]) -> list[str]:
    ordered: list[str] = []
    rest = sorted(group)
    while rest:
        free = [
            name
            for name in rest
            if not any(other in rest and other != name for other in schemas[name]["refers_to"])
        ]
        # Schemas that refer to each other have no order, and need none.
        taken = free or rest[:1]
        ordered += taken
        rest = [name for name in rest if name not in taken]
    return ordered
