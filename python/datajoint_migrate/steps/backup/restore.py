"""A backup put back: beside its destination first, proved there, and then exchanged for it."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.tables import ForeignKey, Table
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, Mismatch
from datajoint_migrate.steps.backup.archive import is_archive, put_files_back
from datajoint_migrate.steps.backup.backup import inward_keys, key_name
from datajoint_migrate.steps.backup.exchange import (
    PROGRESS,
    Exchange,
    free_name,
    is_used,
    plan_exchange,
    read_exchange,
    restored,
    settle,
    swap,
    write_exchange,
)
from datajoint_migrate.steps.backup.origin import Origin, load, open_origin
from datajoint_migrate.steps.backup.record import has_table
from datajoint_migrate.steps.backup.replicate import make_database, make_tables
from datajoint_migrate.steps.moving.ends import Ends, check_names, open_ends, read_if_there
from datajoint_migrate.steps.moving.keys import find_orphans
from datajoint_migrate.steps.moving.plan import LANES
from datajoint_migrate.steps.moving.route import OnEvent
from datajoint_migrate.steps.moving.turn import take_turn
from datajoint_migrate.target.replica import OutwardKey, Replica, replicate

logger = logging.getLogger("datajoint_migrate")

WORKING = "_restoring"


def restore_schema(
    backup: str,
    dest: str,
    connection: Any = None,
    *,
    overwrite: bool = False,
    with_files: bool = False,
    source_stores: Mapping[str, Any] | None = None,
    dest_connection: Any = None,
    lanes: int = LANES,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Make `dest` what the schema was when `backup` was made, hidden tables included.

    Everything is made in `<dest>_restoring`, every row compared with the backup and every foreign
    key proved there; then one RENAME puts it in place. A destination that holds anything is
    refused unless `overwrite`, and then becomes a backup itself (`kept`), from which it can be
    restored. Foreign keys of other schemas into `dest` lead to the restored tables afterwards.
    Keys into other schemas come back where `dest` is the schema the backup was made of; under
    another name they would block deletes over there, and are left out (`notes`).

    With `with_files` the objects of stores that an archive holds go back to the folders that
    `source_stores` (0.14.6 specs) name, those that are missing; one that is there with other
    contents is an error and stays.

    A call that was interrupted is finished by the same call.

    Returns `tables_restored`, `rows_restored`, `files_restored`, `kept` (schema name or None),
    `notes`, `time_taken` in seconds; with `dry_run` also `plan`, and nothing is written.

    Raises `NotFound` when there is no such backup, `InvalidArgument` for one that is empty or
    unfinished, `DestinationNotEmpty`, and `Mismatch` when the backup has been changed or a foreign
    key would not hold; in all cases `dest` is as it was.
    """
    began = time.monotonic()
    with open_ends(connection, dest_connection) as ends:
        # A name with a path in it is never that of a schema.
        check_names({"archive" if is_archive(backup) else backup: dest}, ends.same_server)
        working = free_name(dest, WORKING)
        if not dry_run:
            take_turn(ends.destination, [dest, working])
        origin = open_origin(ends, backup)
        exchange = _look(ends.destination, origin, dest, working)
        if exchange is None or not _is_renamed(ends.destination, exchange):
            there = read_if_there(ends.destination, dest)
            if is_used(there) and not overwrite:
                raise DestinationNotEmpty(
                    f"the destination {dest!r} is in use",
                    hint="choose another name, or say overwrite=True: the present schema is kept"
                    " under another name",
                    context={"schema": dest},
                )
        if dry_run:
            return _readable(origin, dest, began)
        files = 0
        if with_files:
            files = _files(origin, source_stores, lanes, on_event)
        if exchange is None:
            exchange = Exchange(
                backup=origin.name,
                dest=dest,
                working=working,
                origin=origin.schema,
                charset=origin.charset,
                collation=origin.collation,
                programs=origin.programs,
            )
        _advance(ends, origin, exchange, lanes, on_event)
        notes = exchange.notes + settle(ends.destination, exchange)
    return {
        "tables_restored": exchange.tables,
        "rows_restored": exchange.rows,
        "files_restored": files,
        "kept": exchange.kept,
        "notes": notes,
        "time_taken": time.monotonic() - began,
    }


def _files(
    origin: Origin, source_stores: Mapping[str, Any] | None, lanes: int, on_event: OnEvent
) -> int:
    if origin.archived is None or not origin.archived.stores:
        raise InvalidArgument(
            f"{origin.name} holds no files of stores",
            hint="leave out with_files; an archive holds them that was made with with_files=True",
        )
    return put_files_back(origin.archived, source_stores, lanes=lanes, on_event=on_event)


# -- what there is --------------------------------------------------------------------------------


def _look(session: Session, origin: Origin, dest: str, working: str) -> Exchange | None:
    """The exchange an interrupted call left; raises `DestinationNotEmpty` for another's."""
    exchange = read_exchange(session, working)
    there = read_if_there(session, working)
    if exchange is None:
        if is_used(there) and not has_table(session, working, PROGRESS):
            raise _in_the_way(working, "something else")
        return None
    if (exchange.backup, exchange.dest) != (origin.name, dest):
        raise _in_the_way(working, f"an unfinished restore of {exchange.backup} to {exchange.dest}")
    return exchange


def _is_renamed(session: Session, exchange: Exchange) -> bool:
    """Whether the one RENAME has happened, which may not have been written down any more."""
    return exchange.state == "swapped" or (
        exchange.state == "swapping" and not restored(session, exchange).tables
    )


def _in_the_way(working: str, what: str) -> DestinationNotEmpty:
    return DestinationNotEmpty(
        f"{working!r}, where the restore is to be prepared, holds {what}",
        hint=f"finish that, or drop it: DROP DATABASE {quote(working)}",
        context={"schema": working},
    )


def _readable(origin: Origin, dest: str, began: float) -> dict[str, Any]:
    line = f"{origin.name} -> {dest}: {len(origin.creates)} tables, {origin.rows} rows"
    return {
        "tables_restored": 0,
        "rows_restored": 0,
        "files_restored": 0,
        "kept": None,
        "notes": [],
        "time_taken": time.monotonic() - began,
        "plan": [line],
    }


# -- the restore ----------------------------------------------------------------------------------


def _advance(ends: Ends, origin: Origin, exchange: Exchange, lanes: int, on_event: OnEvent) -> None:
    """From wherever the exchange is to where only the settling remains."""
    session = ends.destination
    if exchange.state == "loading":
        replicas = _replicas(origin, exchange)
        make_database(session, exchange.working, origin.charset, origin.collation)
        write_exchange(session, exchange)
        existing = restored(session, exchange).tables
        make_tables(session, replicas, existing)
        _load(ends, origin, exchange, lanes, on_event)
        _put_keys_back(ends, origin, exchange, replicas)
    if exchange.state != "swapped":
        if not _is_renamed(session, exchange):
            new = restored(session, exchange)
            plan_exchange(session, exchange, new)
            exchange.state = "swapping"
            write_exchange(session, exchange)
            swap(session, exchange, new.tables)
        exchange.state = "swapped"
        write_exchange(session, exchange)


def _replicas(origin: Origin, exchange: Exchange) -> list[Replica]:
    home = {origin.schema, origin.name}
    return [
        replicate(create, table, dest=exchange.working, home=home)
        for table, create in origin.creates.items()
    ]


def _load(ends: Ends, origin: Origin, exchange: Exchange, lanes: int, on_event: OnEvent) -> None:
    there = restored(ends.destination, exchange)
    rows = load(ends, origin, there, lanes=lanes, on_event=on_event)
    exchange.tables, exchange.rows = len(rows), sum(rows.values())


def _put_keys_back(ends: Ends, origin: Origin, exchange: Exchange, replicas: list[Replica]) -> None:
    """Prove all keys, and add those into other schemas as late as can be."""
    session = ends.destination
    there = restored(session, exchange).tables
    inward = [inward_keys(table, exchange.working) for table in there.values()]
    _refuse_orphans(session, origin, exchange, inward, outward=False)
    outward = [key for replica in replicas for key in replica.outward]
    if outward and origin.is_backup and exchange.dest != origin.schema:
        keys = ", ".join(str(key) for key in outward[:10])
        exchange.notes.append(
            f"{exchange.dest} is not {origin.schema}, so its foreign keys into other schemas are"
            f" left out, where they would block deletes: {keys}"
        )
        return
    missing = {
        (key.schema, key.parent)
        for key in outward
        if not has_table(session, key.schema, key.parent)
    }
    exchange.notes += [
        f"{exchange.dest} refers to {'.'.join(name)}, which is not there (yet): restore it too"
        for name in sorted(missing)
    ]
    proved = [
        dataclasses.replace(there[key.table], foreign_keys=(_key(key),))
        for key in outward
        if (key.schema, key.parent) not in missing
    ]
    _refuse_orphans(session, origin, exchange, proved, outward=True)
    for key in outward:
        if key.name not in {each.name for each in there[key.table].foreign_keys}:
            _add(session, exchange, key)


def _key(key: OutwardKey) -> ForeignKey:
    return ForeignKey(
        name=key.name,
        columns=key.columns,
        ref_schema=key.schema,
        ref_table=key.parent,
        ref_columns=key.parent_columns,
        on_update="",
        on_delete="",
    )


def _add(session: Session, exchange: Exchange, key: OutwardKey) -> None:
    session.execute(f"ALTER TABLE {quote(exchange.working, key.table)} ADD {key.definition}")


def _refuse_orphans(
    session: Session, origin: Origin, exchange: Exchange, tables: list[Table], *, outward: bool
) -> None:
    for orphan in find_orphans(session, tables):
        table = orphan["name"]
        # An archive does not say which keys into other schemas held; its own rows it does prove.
        known = origin.archived is None or not outward
        if origin.record is not None:
            known = key_name(table, orphan["constraint"]) in origin.orphans
        if known:
            exchange.notes.append(
                f"{exchange.dest}.{table}: rows refer to rows that {orphan['references']} does not"
                f" have, as when it was backed up: {orphan['keys'][:3]}"
            )
            continue
        raise Mismatch(
            f"rows of {origin.name}.{table} refer to rows that {orphan['references']} does not"
            f" have, for example {orphan['keys'][0]}",
            code="DJM-1702",
            hint="restore that schema to the same day first; nothing was changed"
            f" but {exchange.working}, which can be dropped",
            context={"orphans": [orphan]},
        )
