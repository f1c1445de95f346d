"""Is everything there that a migration will need? Each check is fine, or says how to mend it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate.call.ends import Ends, open_ends
from datajoint_migrate.catalog.externals import externals_of
from datajoint_migrate.catalog.grants import Grants, read_grants
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.settling import defaults
from datajoint_migrate.catalog.stores import Store
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.catalog.unseen import unseen_programs
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.results import SetupCheck, SetupResult
from datajoint_migrate.verbs.look.rehearsal import before_cutover, rehearse
from datajoint_migrate.verbs.look.stores import PROBE

READ = ("SELECT",)
WRITE = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES")
OLDEST = (8, 0)


def check_setup(
    schema_map: Mapping[str, str] | None = None,
    *,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    adapters: Mapping[str, str] | None = None,
    copy_files: bool = False,
    connection: Any = None,
    dest_connection: Any = None,
) -> SetupResult:
    """Look at connections, privileges, servers and stores, before a migration; changes nothing.

    What a run would be refused for is found by what refuses it: keys that leave `schema_map`, types
    without an equal, missing tracking rows and files. What the cutover will ask for is told, too.

    Returns `ok` and `checks`: dicts with `name`, `ok` (False only for what a migration cannot do
    without), `detail` and `hint`, what to do. Raises `ConnectionFailed` when a server cannot be
    reached: nothing else can be looked at then.
    """
    checks: list[SetupCheck] = []
    names = dict(schema_map or {})
    with open_ends(connection, dest_connection, looking=True) as ends:
        source, destination = read_grants(ends.source), read_grants(ends.destination)
        checks.append(
            _check("source", True, f"{ends.source.server.address}, {_server(ends.source)}")
        )
        checks.append(_destination(ends))
        checks.append(_snapshot(ends.source, source, names))
        for schema in names:
            checks.append(_rights(f"read {schema}", source, READ, schema))
            checks.append(_programs(ends.source, schema))
        for schema in names.values():
            checks.append(_rights(f"write {schema}", destination, WRITE, schema))
        checks += _sessions(ends)
        checks += _settings(ends)
        stores = Stores.find(source_stores, dest_stores, store_map)
        checks += _stores(ends, list(names), stores, adapters, copy_files)
        if all(check["ok"] for check in checks):
            checks += rehearse(ends, names, stores, adapters, copy_files)
        checks += before_cutover(ends, names, destination)
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


def _check(name: str, ok: bool, detail: str, hint: str | None = None) -> SetupCheck:
    return {"name": name, "ok": ok, "detail": detail, "hint": hint}


def _server(session: Session) -> str:
    return ("MariaDB " if session.is_mariadb else "MySQL ") + ".".join(map(str, session.version))


def _destination(ends: Ends) -> SetupCheck:
    there = ends.destination
    detail = f"{there.server.address}, {_server(there)}"
    if ends.same_server:
        detail += ", the source's server"
    if there.is_mariadb:
        return _check(
            "destination",
            False,
            detail,
            "2.x cannot insert into store columns on MariaDB: take MySQL 8.0 or newer",
        )
    old = there.version < OLDEST
    return _check("destination", not old, detail, "take MySQL 8.0 or newer" if old else None)


def _snapshot(source: Session, grants: Grants, names: Mapping[str, str]) -> SetupCheck:
    logs = "BINLOG MONITOR" if source.is_mariadb else "REPLICATION CLIENT"
    if names and all(grants.has("LOCK TABLES", name) for name in names):
        return _check("snapshot", True, "all connections can read one instant, by LOCK TABLES")
    if grants.has(logs) and source.query("SELECT @@GLOBAL.log_bin")[0][0]:
        return _check("snapshot", True, "all connections can read one instant, by the binary log")
    return _check(
        "snapshot",
        True,
        "one connection alone can read one instant: slower",
        f"grant LOCK TABLES on the source schemas, or {logs} where the server keeps a binary log "
        "(RELOAD is of no use)",
    )


def _rights(name: str, grants: Grants, privileges: tuple[str, ...], schema: str) -> SetupCheck:
    missing = grants.missing(privileges, schema)
    if not missing:
        return _check(name, True, "all privileges")
    return _check(
        name,
        False,
        f"{', '.join(missing)} not seen on the whole schema",
        f"grant {', '.join(missing)} on `{schema}`.*, or make sure a role has it",
    )


def _programs(session: Session, schema: str) -> SetupCheck:
    name = f"programs of {schema}"
    try:
        unseen = unseen_programs(session, schema, read_programs(session, schema))
    except MigrationError as error:
        return _check(name, False, error.message, error.hint)
    if not unseen:
        return _check(name, True, "all are seen")
    hint = (
        f"grant SHOW VIEW, TRIGGER, EVENT, EXECUTE on `{schema}`.*, or go on without what is not"
        " seen: unseen='leave'"
    )
    return _check(name, False, "; ".join(unseen), hint)


def _sessions(ends: Ends) -> list[SetupCheck]:
    """Whether our sessions can be what they must be: what every call will ask for, asked now."""
    checks = []
    for name, end, read_only in (
        ("source", ends.source, True),
        ("destination", ends.destination, False),
    ):
        try:
            with end.server.session(read_only=read_only) as session:
                apart = defaults(session)
        except MigrationError as error:
            checks.append(_check(f"sessions at the {name}", False, error.message, error.hint))
            continue
        said = ", ".join(f"{one} = {value}" for one, value in apart.items())
        detail = f"set apart from the server's defaults: {said}" if said else "all settings hold"
        checks.append(_check(f"sessions at the {name}", True, detail))
    return checks


def _settings(ends: Ends) -> list[SetupCheck]:
    checks = []
    there = ends.destination
    infile = str(there.query("SELECT @@GLOBAL.local_infile")[0][0]) == "1"
    checks.append(
        _check(
            "loading",
            True,
            "LOAD DATA LOCAL" if infile else "INSERT statements: slower",
            None if infile else "SET GLOBAL local_infile = ON on the destination",
        )
    )
    ours, theirs = (
        int(session.query("SELECT @@GLOBAL.max_allowed_packet")[0][0])
        for session in (ends.source, there)
    )
    checks.append(
        _check(
            "largest row",
            theirs >= ours,
            f"{theirs >> 20} MiB at the destination, {ours >> 20} MiB at the source",
            None if theirs >= ours else f"SET GLOBAL max_allowed_packet = {ours}",
        )
    )
    return checks


def _stores(
    ends: Ends,
    names: list[str],
    stores: Stores,
    adapters: Mapping[str, str] | None,
    copy_files: bool,
) -> list[SetupCheck]:
    uses: dict[str, set[str]] = {}
    checks = []
    ends.source.spell(names)
    for name in names:
        try:
            schema = read_schema(ends.source, name)
            for store, kinds in _kinds(ends, schema, adapters).items():
                uses.setdefault(store, set()).update(kinds)
        except MigrationError as error:
            checks.append(_check(f"schema {name}", False, error.message, error.hint))
    for store, kinds in sorted(uses.items()):
        checks.append(_store(store, stores, writes=copy_files or "attach" in kinds))
    return checks


def _kinds(ends: Ends, schema: Schema, adapters: Mapping[str, str] | None) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table in schema.tables.values():
        for external in externals_of(ends.source, schema, table, adapters).values():
            found.setdefault(external.store, set()).add(external.kind)
    return found


def _store(name: str, stores: Stores, writes: bool) -> SetupCheck:
    try:
        origin, target = stores.of_source(name), stores.of_destination(name)
    except MigrationError as error:
        return _check(f"store {name}", False, error.message, error.hint)
    detail = f"{origin.protocol} {origin.location}"
    if target.location != origin.location:
        detail += f" → {target.protocol} {target.location}"
    for store, write in ((origin, False), (target, writes)):
        if (store is target and not writes) or (fault := _fault(store, write)) is None:
            continue
        return _check(f"store {name}", False, *fault)
    return _check(f"store {name}", True, detail)


def _fault(store: Store, write: bool) -> tuple[str, str | None] | None:
    """What keeps us out of a store, and the way out."""
    if store.protocol == "file":
        if not os.path.isdir(store.location):
            return f"{store.location} is no folder", "mount it, or correct the location"
        if not os.access(store.location, (os.W_OK if write else os.R_OK) | os.X_OK):
            word = "written" if write else "read"
            hint = "run as a user who may, or change the folder's rights"
            return f"{store.location} cannot be {word}", hint
        return None
    try:
        path = f"{store.hash_prefix}/{PROBE}" if write else None
        probed = _core.probe({"store": store.spec(), "write": path})
    except MigrationError as error:
        return error.message, error.hint
    if probed["writable"] is False:
        return probed["error"] or f"{store.location} cannot be written", "let its keys put objects"
    return None
