"""External columns in the schema itself: `<column>_v2` beside the old one, then in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from datajoint_migrate._core import quote
from datajoint_migrate.build.altering import Algorithm, Change, alter, expected, statement
from datajoint_migrate.build.aside import refuse_triggers
from datajoint_migrate.call.ends import Ends, open_ends, schema_of
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.names import MAP
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import read_schema
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, Mismatch, Unconvertible
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.results import InPlaceResult
from datajoint_migrate.target.ddl import literal
from datajoint_migrate.verbs.inplace.successors import (
    Successor,
    drop_map,
    fill,
    find_successors,
    ready_again,
    ready_files,
    tracking_keys,
    unlike,
)
from datajoint_migrate.words import counted, verb


class _Unsaid(int):
    """True, but told from the True somebody wrote: `finalize=True` alone is meant in earnest."""

    def __repr__(self) -> str:
        return "True"


UNSAID: Any = _Unsaid(1)


def migrate_external(
    schema: Any,
    dry_run: bool = UNSAID,
    finalize: bool = False,
    *,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    adapters: Mapping[str, str] | None = None,
    connection: Any = None,
    on_event: OnEvent = None,
) -> InPlaceResult:
    """Turn the `blob@store` and `attach@store` columns of a schema into JSON, in place.

    1. `dry_run=False` adds `<column>_v2` behind each and fills it with what 2.x needs to find the
       object: path, hash, size, store. Blobs stay where they are, attachments are written anew
       (2.x keeps their name inside), their old files stay.
    2. Look at the `_v2` columns with 2.x.
    3. `finalize=True` fills up what was inserted or updated since, proves every row, and then, one
       statement a column, drops the old column with its key and index to the tracking table
       and puts the new one in its place: position, NOT NULL, comment.

    By default a call only plans; `finalize=True` by itself is carried out, as upstream's
    documentation has it, `finalize=True, dry_run=True` plans it. A call that was killed is done by
    calling again. 0.14.6 clients must be gone: measured, a table with a `:<blob@raw>:` column
    makes their cascading deletes and populate fail (AssertionError). For both
    clients at the same time there is `populate_v2_columns`.

    Returns `columns_found`, `columns_migrated`, `rows_migrated`, `files_copied`, `details` (dicts
    with `table`, `column`, `store`, `type`, `action`, `status` dry_run, migrated,
    already_migrated or finalized, `rows`, `algorithm`, `sql`). `algorithm` is how the server
    changes the table, COPY where it will copy it; a dry run says it beforehand.
    Raises `ExternalMissing`, `StoreMissing`, `Unconvertible`, `DestinationNotEmpty` (a `_v2`
    column that is not ours) before any table is changed.
    """
    kinds = ("blob", "attach")
    stores = Stores.find(source_stores, dest_stores, store_map)
    return cast(
        InPlaceResult,
        _migrate(schema, dry_run, finalize, kinds, stores, adapters, connection, on_event),
    )


def migrate_filepath(
    schema: Any,
    dry_run: bool = UNSAID,
    finalize: bool = False,
    *,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    adapters: Mapping[str, str] | None = None,
    connection: Any = None,
    on_event: OnEvent = None,
) -> InPlaceResult:
    """Turn the `filepath@store` columns of a schema into JSON, in place.

    As `migrate_external`, in everything; no file is touched.
    """
    stores = Stores.find(source_stores, dest_stores, store_map)
    kinds = ("filepath",)
    return cast(
        InPlaceResult,
        _migrate(schema, dry_run, finalize, kinds, stores, adapters, connection, on_event),
    )


def _migrate(
    schema: Any,
    dry_run: bool,
    finalize: bool,
    kinds: tuple[str, ...],
    stores: Stores,
    adapters: Mapping[str, str] | None,
    connection: Any,
    on_event: OnEvent,
) -> dict[str, Any]:
    preview = bool(dry_run) and not (finalize and dry_run is UNSAID)
    name, server = schema_of(schema, connection)
    result: dict[str, Any] = {
        "columns_found": 0,
        "columns_migrated": 0,
        "rows_migrated": 0,
        "files_copied": 0,
        "details": [],
    }
    with open_ends(server) as ends:
        if not preview:
            take_turn(ends.destination, [name])
        found = read_schema(ends.source, name)
        successors = find_successors(ends, found, found.tables.values(), kinds, stores, adapters)
        result["columns_found"] = len(successors)
        for successor in successors:
            _check(successor, finalize)
        if successors and not preview:
            refuse_triggers(ends.source, (s.table for s in successors))
            result["files_copied"] = ready_files(ends, successors, stores, on_event)
        for successor in successors:
            _one(ends, successor, stores, finalize, preview, on_event, result)
        if not preview:
            drop_map(ends.destination, name)
    return result


def _check(successor: Successor, finalize: bool) -> None:
    """What would be refused in the middle is refused at the beginning."""
    there = successor.there
    if there is None:
        if finalize:
            raise InvalidArgument(
                f"{successor} has no {successor.name} to put in its place",
                hint="call with dry_run=False first, and look at the new columns with 2.x",
            )
    elif there.data_type not in ("json", "longtext") or there.comment != successor.becomes.comment:
        raise DestinationNotEmpty(
            f"{successor.table}.{successor.name} is there already and holds something else:"
            f" {there.column_type} {there.comment!r}",
            hint="rename that column",
        )
    column = successor.column.name
    if column in successor.table.primary_key or any(
        index.unique and column in index.columns for index in successor.table.indexes
    ):
        raise Unconvertible(
            f"{successor} is part of a unique key, which JSON cannot be",
            hint="make that key one without the column first, if rows may be told apart so",
        )


def _one(
    ends: Ends,
    successor: Successor,
    stores: Stores,
    finalize: bool,
    preview: bool,
    on_event: OnEvent,
    result: dict[str, Any],
) -> None:
    session, table = ends.destination, successor.table
    detail: dict[str, Any] = {
        "table": str(table),
        "column": successor.column.name,
        "store": successor.external.store,
        "type": successor.external.kind,
        "action": "finalize" if finalize else "migrate",
        "status": "dry_run",
        "rows": 0,
    }
    result["details"].append(detail)
    change: Change = "exchange" if finalize else "add"
    clauses = _exchange(successor) if finalize else _addition(successor)
    # What cannot be seen beforehand (a server's limits of instant changes) shows in the result.
    algorithm = expected(session, table, change)
    added = successor.there is not None
    if preview:
        column = quote(successor.column.name)
        sql = f"SELECT COUNT({column}) FROM {quote(table.schema, table.name)}"
        detail["rows"] = int(session.query(sql)[0][0])
        if added and not finalize:
            detail["status"] = "already_migrated"
        else:
            detail |= {"algorithm": algorithm, "sql": statement(table, clauses, algorithm)}
        return
    if not added:
        detail["algorithm"] = alter(session, table, clauses)
    detail["rows"] = fill(ends, successor, successor.name, on_event)
    result["rows_migrated"] += detail["rows"]
    result["files_copied"] += ready_again(ends, successor, stores, on_event)
    detail["status"] = "already_migrated" if added and not detail["rows"] else "migrated"
    if finalize:
        detail["algorithm"] = _finalize(session, successor, clauses)
        detail["status"] = "finalized"
    result["columns_migrated"] += detail["status"] != "already_migrated"


def _addition(successor: Successor) -> list[str]:
    new, old = quote(successor.name), quote(successor.column.name)
    comment = literal(successor.becomes.comment)
    return [f"ADD COLUMN {new} JSON NULL COMMENT {comment} AFTER {old}"]


def _exchange(successor: Successor) -> list[str]:
    column = successor.column.name
    keys = [f"DROP FOREIGN KEY {quote(name)}" for name in tracking_keys(successor)]
    indexes = [
        f"DROP INDEX {quote(index.name)}"
        for index in successor.table.indexes
        if column in index.columns
    ]
    # The definition begins with the column's own name.
    change = f"CHANGE COLUMN {quote(successor.name)} {successor.becomes.definition}"
    return [*keys, *indexes, f"DROP COLUMN {quote(column)}", change]


def _finalize(session: Session, successor: Successor, clauses: list[str]) -> Algorithm:
    """Prove that every row has its JSON and exchange the columns, with nobody writing between."""
    # The server refuses to make NULL of what must not be, and so need not copy to look for it.
    session.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")
    table = quote(successor.table.schema, successor.table.name)
    mapping = quote(successor.table.schema, MAP)
    patiently(session, f"LOCK TABLES {table} WRITE, {table} AS s WRITE, {mapping} AS m READ")
    try:
        if wrong := unlike(session, successor, successor.name):
            raise Mismatch(
                f"{counted(wrong, 'row')} of {successor} {verb(wrong, 'does', 'do')} not have the "
                "JSON of their pointer",
                hint="somebody writes to the table: stop the 0.14.6 clients and call again",
            )
        return alter(session, successor.table, clauses)
    finally:
        session.execute("UNLOCK TABLES")
