"""0.14.6 and 2.x on one table at the same time: what 2.x needs, in a part of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.build.aside import refuse_triggers
from datajoint_migrate.call.ends import Ends, open_ends, schema_of
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.externals import external_of
from datajoint_migrate.catalog.names import MAP, NAME_CHARACTERS
from datajoint_migrate.catalog.stores import tracked_store
from datajoint_migrate.catalog.tables import Schema, Table, find_table, read_schema
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, Unconvertible
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.results import GradualResult
from datajoint_migrate.target.ddl import literal, parse
from datajoint_migrate.verbs.inplace.successors import (
    Successor,
    drop_map,
    fill,
    find_successors,
    ready_again,
    ready_files,
)


def populate_v2_columns(
    schema: Any,
    table: str,
    attribute: str,
    v2_attribute: str | None = None,
    source_store: str | None = None,
    dest_store: str | None = None,
    *,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    adapters: Mapping[str, str] | None = None,
    connection: Any = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> GradualResult:
    """Let 2.x read an external column of a table that 0.14.6 clients go on using.

    What was measured with the real clients: a column `signal_v2` marked `:<blob@raw>:` in the
    table itself, as the guide adds it, makes 0.14.6's `FreeTable` and with it every delete that
    reaches the table and every populate from it fail (`AssertionError: Declaration context is not
    set`); fetch and insert go on. So does a hidden column (`_signal_v2`), which 2.x then cannot
    fetch either; without the marker 2.x gets a dict. A part table disturbs neither.

    So `Recording` gets a part `Recording.V2` (a part `Session.Trial` a sister `Session.TrialV2`)
    with its key and the column `v2_attribute`, by default `<attribute>_v2`; rows that 0.14.6
    deletes take their part with them, inside the server. 2.x reads
    `(Recording * Recording.V2).fetch1("signal_v2")`. What 0.14.6 inserts or updates later comes
    with the next call, which does only that; until then its rows have no part. 0.14.6 alone
    writes. `source_store` and `dest_store` are as in `migrate_external_to_v20`, by default the
    column's own store.

    Where the table has the column already, as after the guide's ALTER TABLE, it is filled there,
    and `notes` says what 0.14.6 can no longer do.

    Returns `rows` (new or changed by this call), `files_copied`, `table` (the part), `notes`; with
    `dry_run` also `sql`, and nothing is written.
    Raises `NotFound`, `Unconvertible`, `StoreMissing`, `ExternalMissing`, `DestinationNotEmpty`.
    """
    name, server = schema_of(schema, connection)
    result: dict[str, Any] = {"rows": 0, "files_copied": 0, "table": None, "notes": []}
    with open_ends(server) as ends:
        if not dry_run:
            take_turn(ends.destination, [name])
        found = read_schema(ends.source, name)
        here = find_table(found, table)
        into = v2_attribute or f"{attribute}_v2"
        successor = _successor(
            ends,
            found,
            here,
            attribute,
            source_store,
            dest_store,
            adapters,
            (source_stores, dest_stores),
        )
        stores = Stores.find(source_stores, dest_stores, _renamed(successor, dest_store))
        if any(column.name == into for column in here.columns):
            return cast(
                GradualResult,
                _in_the_table(ends, successor, into, stores, dry_run, on_event, result),
            )
        companion = companion_name(here)
        result["table"] = f"{name}.{companion}"
        made = found.tables.get(companion)
        statements = _statements(successor, companion, made, into)
        if dry_run:
            return cast(GradualResult, {**result, "sql": statements})
        result["files_copied"] = ready_files(ends, [successor], stores, on_event)
        for sql in statements:
            # A key into a table locks that, too, and 0.14.6 is at work there.
            patiently(ends.destination, sql)
        result["rows"] = _populate(ends, successor, companion, into, on_event)
        result["files_copied"] += ready_again(ends, successor, stores, on_event)
    return cast(GradualResult, result)


def companion_name(table: Table) -> str:
    """SQL name of the part that holds a table's 2.x columns."""
    name = f"{table.name}_v2" if table.tier == "part" else f"{table.name}__v2"
    if len(name) > NAME_CHARACTERS:
        raise InvalidArgument(f"{name} is too long for the name of a table")
    return name


def _renamed(successor: Successor, dest_store: str | None) -> dict[str, str]:
    return {successor.external.store: dest_store} if dest_store else {}


def _successor(
    ends: Ends,
    schema: Schema,
    table: Table,
    attribute: str,
    source_store: str | None,
    dest_store: str | None,
    adapters: Mapping[str, str] | None,
    specs: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None],
) -> Successor:
    column = table.column(attribute)
    external = external_of(ends.source, schema, table, column, adapters)
    if external is None or column.data_type != "binary":
        raise Unconvertible(
            f"{table}.{attribute} is no external column: {column.column_type} {column.comment!r}",
            hint="only blob@store, attach@store and filepath@store columns point into a store",
            context={"column": f"{table}.{attribute}"},
        )
    if source_store is not None and tracked_store(schema, source_store) != external.store:
        raise InvalidArgument(
            f"{table}.{attribute} points into the store {external.store!r}, not {source_store!r}",
            hint=f"pass source_store={external.store!r}",
        )
    if not table.primary_key:
        raise Unconvertible(f"{table} has no primary key, so a part cannot refer to its rows")
    stores = Stores.find(*specs, {external.store: dest_store} if dest_store else {})
    kinds = (external.kind,)
    every = find_successors(ends, schema, [table], kinds, stores, adapters)
    return next(successor for successor in every if successor.column.name == attribute)


def _in_the_table(
    ends: Ends,
    successor: Successor,
    into: str,
    stores: Stores,
    dry_run: bool,
    on_event: OnEvent,
    result: dict[str, Any],
) -> dict[str, Any]:
    """The guide's own way: its reader has added the column."""
    column = successor.table.column(into)
    if column.data_type not in ("json", "longtext") or into == successor.column.name:
        raise DestinationNotEmpty(
            f"{successor.table}.{into} is there already: {column.column_type}",
            hint="give another v2_attribute",
        )
    result["table"] = str(successor.table)
    if column.marker is None:
        result["notes"].append(
            f"{into} has no marker: 2.x will return a dict, not the value; its comment would have"
            f" to begin with :{successor.becomes.marker}:"
        )
    else:
        result["notes"].append(
            f"{into} stands in the table itself with a marker: deletes by 0.14.6 clients that"
            " reach it fail, and so does populate; without that column a part is made instead"
        )
    if dry_run:
        return {**result, "sql": []}
    refuse_triggers(ends.source, [successor.table])
    result["files_copied"] = ready_files(ends, [successor], stores, on_event)
    result["rows"] = fill(ends, successor, into, on_event)
    result["files_copied"] += ready_again(ends, successor, stores, on_event)
    drop_map(ends.destination, successor.table.schema)
    return result


def _statements(successor: Successor, companion: str, made: Table | None, into: str) -> list[str]:
    """What makes the part, or adds the column to it; nothing when it is there."""
    table = successor.table
    where = quote(table.schema, companion)
    marker = literal(successor.becomes.comment)
    column = f"{quote(into)} json DEFAULT NULL COMMENT {marker}"
    # The pointer a value was made of, so that an update by 0.14.6 is seen. 2.x hides `_` columns.
    source = f"{quote(_source(into))} binary(16) DEFAULT NULL"
    if made is not None:
        if set(made.primary_key) != set(table.primary_key) or not any(
            (key.ref_schema, key.ref_table) == (table.schema, table.name)
            for key in made.foreign_keys
        ):
            raise DestinationNotEmpty(
                f"{made} is there already and is no part of {table} with its key",
                hint="rename that table",
            )
        there = {column.name: column for column in made.columns}
        if into not in there:
            return [f"ALTER TABLE {where} ADD COLUMN {column}, ADD COLUMN {source}"]
        if _source(into) not in there or there[into].comment != successor.becomes.comment:
            raise DestinationNotEmpty(
                f"{made}.{into} is there already and holds something else",
                hint="give another v2_attribute",
            )
        return []
    lines = {line.name: line for line in parse(table.create).columns}
    key = []
    for name in table.primary_key:
        line = lines[name]
        line.drop("AUTO_INCREMENT", "DEFAULT", "ON", "GENERATED", "AS", "VIRTUAL", "STORED")
        key.append(line.render())
    names = ", ".join(quote(name) for name in table.primary_key)
    parts = [
        *key,
        column,
        source,
        f"PRIMARY KEY ({names})",
        f"FOREIGN KEY ({names}) REFERENCES {quote(table.schema, table.name)} ({names})"
        " ON UPDATE CASCADE ON DELETE CASCADE",
    ]
    charset = f" DEFAULT CHARSET={table.charset} COLLATE={table.collation}" if table.charset else ""
    comment = literal("what 2.x reads of its master while 0.14.6 is in use")
    return [f"CREATE TABLE {where} ({', '.join(parts)}) ENGINE=InnoDB{charset} COMMENT={comment}"]


def _source(into: str) -> str:
    return f"_{into}_of"[:NAME_CHARACTERS]


def _populate(
    ends: Ends, successor: Successor, companion: str, into: str, on_event: OnEvent
) -> int:
    """Rows of the part for rows that have none, or of which the pointer has changed."""
    session, table = ends.destination, successor.table
    same = " AND ".join(f"p.{quote(name)} = s.{quote(name)}" for name in table.primary_key)
    part, of = quote(table.schema, companion), quote(_source(into))
    changed = session.query(
        f"SELECT COUNT(*) FROM {quote(table.schema, table.name)} s LEFT JOIN {part} p ON {same}"
        f" WHERE p.{quote(table.primary_key[0])} IS NULL"
        f" OR NOT (p.{of} <=> s.{quote(successor.column.name)})"
    )[0][0]
    # In chunks: the keys of a statement lock the parents' rows until its end.
    _core.pointers(
        {
            **ends.specs(),
            "pointer": successor.place,
            "map_schema": table.schema,
            "map_table": MAP,
            "fill": {
                "schema": table.schema,
                "table": table.name,
                "key": list(table.primary_key),
                "index": "PRIMARY",
                "column": successor.column.name,
                "into": into,
                "part": {"table": companion, "of": _source(into)},
            },
        },
        on_event,
    )
    drop_map(session, table.schema)
    return int(changed)
