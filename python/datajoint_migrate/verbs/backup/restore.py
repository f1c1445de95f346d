"""A backup put back: beside its destination first, proved there, and then exchanged for it."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

from datajoint_migrate._core import quote
from datajoint_migrate.build.keyless import refuse_keyless
from datajoint_migrate.call.connections import check_loading
from datajoint_migrate.call.ends import Ends, check_names, open_ends, read_if_there
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.names import PROGRESS
from datajoint_migrate.catalog.presence import has_table
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import ForeignKey, Table
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, Mismatch
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import RestoreResult
from datajoint_migrate.rows.keys import find_orphans
from datajoint_migrate.target.replica import OutwardKey, Replica, replicate
from datajoint_migrate.verbs.backup.archive import is_archive, put_files_back
from datajoint_migrate.verbs.backup.backup import inward_keys, key_name
from datajoint_migrate.verbs.backup.exchange import (
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
from datajoint_migrate.verbs.backup.origin import Origin, load, open_origin
from datajoint_migrate.verbs.backup.replicate import make_database, make_tables
from datajoint_migrate.verbs.backup.trust import choose_programs
from datajoint_migrate.words import counted

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
    programs: bool = True,
    definers: Iterable[str] = (),
    dest_connection: Any = None,
    lanes: int = LIMITS.lanes,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> RestoreResult:
    """Make `dest` what the schema was when `backup` was made, hidden tables included.

    Everything is made in `<dest>_restoring`, every row compared with the backup and every foreign
    key proved there; then one RENAME puts it in place. Foreign keys of other schemas into `dest`
    lead to the restored tables afterwards. Keys into other schemas come back where `dest` is the
    schema the backup was made of; under another name they would block deletes over there, and are
    left out (`notes`). A call that was interrupted is finished by the same call.

    Views, triggers, routines and events run with the rights of their definers, and whoever can
    write to a backup can change what they say. So those of an archive are named in `notes`, and
    what would run as somebody else than you is refused unless its definer is in `definers`, or the
    schema still holds it, to the letter. Of tables only what SHOW CREATE TABLE prints is run.

    Examples:
        >>> restore_schema("lab_backup", "lab_again", connection="mysql://me:secret@db/")

    Args:
        backup: The name of the backup, the path of an archive, or any schema.
        dest: The schema to make.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        overwrite: Replace a schema that is in use, which then becomes a backup itself (`kept`).
        with_files: Put an archive's objects back into their stores, those that are missing.
        source_stores: 0.14.6 store specs by name: where the objects go.
        programs: False leaves views, triggers, routines and events out.
        definers: Accounts (["alice@%"]) whose programs you accept.
        dest_connection: Of the destination, where that is another server.
        lanes: Connections that read at once.
        dry_run: Write nothing, and return the plan.
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `tables_restored`, `rows_restored`, `files_restored`, `kept` (schema name or None),
    `notes`, `time_taken` in seconds; with `dry_run` also `plan`.

    Raises `NotFound` when there is no such backup, `InvalidArgument` for one that is empty or
    unfinished or holds programs of others, `ArchiveFailed` for definitions that no server shows,
    `DestinationNotEmpty`, and `Mismatch` when the backup has been changed or a foreign key would
    not hold; in all cases `dest` is as it was.
    """
    began = time.monotonic()
    with open_ends(connection, dest_connection) as ends:
        # A name with a path in it is never that of a schema, whatever the schema is called.
        source = "an/archive" if is_archive(backup) else backup
        check_names({source: dest}, ends.same_server, ends.folds)
        working = free_name(dest, WORKING)
        if not dry_run:
            take_turn(ends.destination, [dest, working])
            check_loading(ends.destination, lanes)
        origin = open_origin(ends, backup)
        said = choose_programs(ends, origin, programs, definers)
        exchange = _look(ends.destination, origin, dest, working)
        if exchange is None or not _is_renamed(ends.destination, exchange):
            there = read_if_there(ends.destination, dest)
            used = is_used(ends.destination, there)
            if used and not origin.creates:
                raise DestinationNotEmpty(
                    f"the backup {origin.name!r} holds no table, and {dest!r} is in use",
                    hint="choose another name: nothing replaces a schema with an empty one",
                    context={"schema": dest},
                )
            if used and not overwrite:
                raise DestinationNotEmpty(
                    f"the destination {dest!r} is in use",
                    hint="choose another name, or say overwrite=True: the present schema is kept"
                    " under another name",
                    context={"schema": dest},
                )
        if dry_run:
            return cast(RestoreResult, {**_readable(origin, dest, began), "notes": said})
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
        exchange.programs = origin.programs
        exchange.notes += [note for note in said if note not in exchange.notes]
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
        if is_used(session, there) and not has_table(session, working, PROGRESS):
            raise _in_the_way(working, "something else", "restore to another name")
        return None
    if (exchange.backup, exchange.dest) != (origin.name, dest):
        raise _in_the_way(
            working,
            f"an unfinished restore of {exchange.backup} to {exchange.dest}",
            "finish that with the call that began it, or restore to another name",
        )
    return exchange


def _is_renamed(session: Session, exchange: Exchange) -> bool:
    """Whether the one RENAME has happened, which may not have been written down any more."""
    return exchange.state == "swapped" or (
        exchange.state == "swapping" and not restored(session, exchange).tables
    )


def _in_the_way(working: str, what: str, way_out: str) -> DestinationNotEmpty:
    return DestinationNotEmpty(
        f"{working!r}, where the restore is to be prepared, holds {what}",
        hint=way_out,
        context={"schema": working},
    )


def _readable(origin: Origin, dest: str, began: float) -> dict[str, Any]:
    what = f"{counted(len(origin.creates), 'table')}, {counted(int(origin.rows), 'row')}"
    line = f"{origin.name} -> {dest}: {what}"
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
        notes = [note for replica in replicas for note in replica.notes]
        exchange.notes += [note for note in notes if note not in exchange.notes]
        refuse_keyless(
            session, ((f"{exchange.dest}.{one.table}", one.create_sql) for one in replicas)
        )
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
    # Who deleted a parent before the keys were there is found now that none can any more.
    _refuse_orphans(session, origin, exchange, proved, outward=True)


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
            said = (
                f"{exchange.dest}.{table}: rows refer to rows that {orphan['references']} does not"
                f" have, as when it was backed up: {orphan['keys'][:3]}"
            )
            exchange.notes += [said] if said not in exchange.notes else []
            continue
        raise Mismatch(
            f"rows of {origin.name}.{table} refer to rows that {orphan['references']} does not"
            f" have, for example {orphan['keys'][0]}",
            code="DJM-1702",
            hint="restore that schema to the same day first; nothing was changed"
            f" but {exchange.working}, where the same call goes on",
            context={"orphans": [orphan]},
        )
