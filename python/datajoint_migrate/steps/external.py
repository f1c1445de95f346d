"""External columns of a parallel schema: BINARY(16) pointers become the JSON that 2.x reads."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.externals import TRACKING, External, external_of
from datajoint_migrate.catalog.stores import tracked_store
from datajoint_migrate.catalog.tables import Column, Schema, Table, find_table, read_schema
from datajoint_migrate.errors import (
    ExternalMissing,
    InvalidArgument,
    Mismatch,
    NotFound,
    Unconvertible,
)
from datajoint_migrate.steps.moving.batches import Executor
from datajoint_migrate.steps.moving.building import origin_of
from datajoint_migrate.steps.moving.ends import Ends, open_ends, read_if_there
from datajoint_migrate.steps.moving.plan import key_index
from datajoint_migrate.steps.moving.pointers import (
    FileJob,
    Stores,
    check_places,
    final_name,
    move_files,
    pointer,
)
from datajoint_migrate.steps.moving.route import OnEvent
from datajoint_migrate.steps.moving.turn import take_turn
from datajoint_migrate.target.ddl import parse
from datajoint_migrate.target.types import convert_column

logger = logging.getLogger("datajoint_migrate")

MAP = "~migrate_pointers"
PREFIX = "_migrate_"


@dataclass(frozen=True)
class Conversion:
    """One column to convert: where it stands, where its pointers come from, what it will be."""

    table: Table
    column: Column
    external: External
    pointer: dict[str, Any]
    definition: str

    @property
    def temporary(self) -> str:
        """The column that is filled first. 2.x hides it, should it ever be seen."""
        return (PREFIX + self.column.name)[:64]

    @property
    def fingerprint(self) -> str:
        """What the temporary column's values were made for; its comment."""
        said = json.dumps([self.pointer, self.definition], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    @property
    def map_table(self) -> str:
        """The table that holds the JSON of every tracking row meanwhile."""
        return MAP


def migrate_external_to_v20(
    schema: str,
    table: str,
    attribute: str,
    source_store: str,
    dest_store: str,
    copy_files: bool = False,
    *,
    source_schema: str | None = None,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    final_schema: str | None = None,
    adapters: Mapping[str, str] | None = None,
    connection: Any = None,
    dest_connection: Any = None,
    executor: Executor | None = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Turn one external column of a parallel schema from BINARY(16) into JSON for 2.x.

    `schema` is the parallel schema, `table` a class or table name, `source_store` the 0.14.6
    store ("raw", or "external-raw"), `dest_store` its 2.x name. With `copy_files=False` blobs and
    filepaths stay where they are and no file is touched; attachments cannot (2.x keeps the name
    inside the object), and the call says so before it writes anything, unless their
    objects are there already. With `copy_files=True` files are copied or rewritten, and verified.
    `source_schema` is the production schema; `create_parallel_schema` has noted it.
    `final_schema` is the name the schema will have after the cutover. `executor` copies the files,
    as in `copy_store`.

    The column changes in one statement at the end, after every row is proved to have its JSON; a
    call that was interrupted is resumed by the same call, and a second call finds nothing to do.

    Returns `rows_migrated`, `files_copied`, `errors` (files that were not found, as dicts); with
    `dry_run` also `sql`, and nothing is written. Raises `NotFound`, `Unconvertible`,
    `StoreMissing`, `ExternalMissing`.
    """
    result: dict[str, Any] = {"rows_migrated": 0, "files_copied": 0, "errors": []}
    with open_ends(connection, dest_connection) as ends:
        if not dry_run:
            take_turn(ends.destination, [schema])
        there = read_schema(ends.destination, schema)
        found = find_table(there, table)
        column = found.column(attribute)
        origin = _origin(ends, there, found, attribute, source_store, source_schema)
        store = tracked_store(origin, source_store)
        stores = Stores.find(source_stores, dest_stores, {store: dest_store})
        external = _external(ends, origin, found, column, store, adapters)
        place = pointer(
            external,
            origin.name,
            final_schema or final_name(origin.name, schema),
            stores,
            copy_files,
        )
        job = FileJob(store, place, [_column_of(origin, found, attribute)])
        if _is_done(column, external, dest_store):
            if not dry_run:
                _clean_up(ends.destination, found)
            return {**result, **({"sql": []} if dry_run else {})}
        conversion = _conversion(found, column, external, place, dest_store)
        if copy_files:
            check_places([job], stores, copy_files)
        statements = _statements(conversion)
        if dry_run:
            return {**result, "sql": statements}
        if copy_files:
            files = move_files(ends, [job], stores, True, on_event, executor)
            result["files_copied"] = files["files_copied"]
            if files["errors"]:
                raise _missing_files(conversion, files["errors"])
        elif external.kind == "attach":
            _insist_on_rewritten(ends, conversion, stores)
        result["rows_migrated"] = _convert(ends, conversion, statements, on_event)
    return result


def _origin(
    ends: Ends,
    there: Schema,
    table: Table,
    attribute: str,
    source_store: str,
    source_schema: str | None,
) -> Schema:
    """The schema whose tracking rows tell what the pointers mean."""
    if source_schema is not None:
        return read_schema(ends.source, source_schema)
    spellings = (source_store, source_store.removeprefix("external-"))
    noted = [origin_of(there, TRACKING + spelling) for spelling in spellings]
    guesses = [*noted, there.name.removesuffix("_v20")]
    for name in guesses:
        if name is None or name == there.name:
            continue
        origin = read_if_there(ends.source, name)
        if origin is not None and table.name in origin.tables:
            return origin
    raise NotFound(
        f"which schema {there.name}.{table.name}.{attribute} was copied from is not noted in "
        f"{there.name}",
        hint="say it: source_schema='my_pipeline'",
        context={"schema": there.name},
    )


def _external(
    ends: Ends,
    origin: Schema,
    table: Table,
    column: Column,
    store: str,
    adapters: Mapping[str, str] | None,
) -> External:
    where = f"{table.schema}.{table.name}.{column.name}"
    source = find_table(origin, table.name)
    external = external_of(ends.source, origin, source, source.column(column.name), adapters)
    if external is None:
        raise Unconvertible(
            f"{where} is no external column: {column.column_type} {column.comment!r}",
            hint="only blob@store, attach@store and filepath@store columns (and adapters over "
            "them) point into a store",
            context={"column": where},
        )
    if external.store != store:
        raise InvalidArgument(
            f"{where} points into the store {external.store!r}, not {store!r}",
            hint=f"pass source_store={external.store!r}",
            context={"column": where, "store": external.store},
        )
    return external


def _column_of(origin: Schema, table: Table, attribute: str) -> dict[str, str]:
    return {"schema": origin.name, "table": table.name, "column": attribute}


def _marker(external: External, dest_store: str) -> str:
    return f"<{external.codec or external.kind}@{dest_store}>"


def _is_done(column: Column, external: External, dest_store: str) -> bool:
    if column.data_type not in ("json", "longtext"):
        return False
    if column.marker == _marker(external, dest_store):
        return True
    raise Unconvertible(
        f"{column.name} is {column.data_type} already, marked :{column.marker}:",
        hint=f"the marker would become :{_marker(external, dest_store)}:; drop the table and "
        "copy it again to convert it anew",
    )


def _conversion(
    table: Table,
    column: Column,
    external: External,
    place: dict[str, Any],
    dest_store: str,
) -> Conversion:
    if column.column_type.lower() != "binary(16)":
        raise Unconvertible(
            f"{table.schema}.{table.name}.{column.name} is {column.column_type}, not a pointer",
            hint="external columns of 0.14.6 are binary(16)",
        )
    if any(column.name in index.columns for index in table.indexes) or (
        column.name in table.primary_key
    ):
        raise Unconvertible(
            f"{table.schema}.{table.name}.{column.name} is part of an index, which JSON cannot be",
            hint="drop the index, or let create_parallel_schema declare the table",
        )
    line = next(line for line in parse(table.create).columns if line.name == column.name)
    new = convert_column(
        column,
        external,
        external_mode="convert",
        store_map={external.store: dest_store},
        text=line,
    )
    return Conversion(table, column, external, place, new.definition)


def _statements(conversion: Conversion) -> list[str]:
    """Everything that is run, in order: add, fill, exchange, clean up."""
    table = quote(conversion.table.schema, conversion.table.name)
    column, temporary = quote(conversion.column.name), quote(conversion.temporary)
    mapping = quote(conversion.table.schema, conversion.map_table)
    # The definition opens with the column's name; the temporary column is the same but nullable.
    final = conversion.definition.replace(quote(conversion.column.name), "", 1).strip()
    return [
        f"ALTER TABLE {table} ADD COLUMN {temporary} JSON NULL "
        f"COMMENT '{conversion.fingerprint}' AFTER {column}",
        f"UPDATE {table} s JOIN {mapping} m ON m.hash = s.{column} SET s.{temporary} = m.js",
        f"ALTER TABLE {table} DROP COLUMN {column}, CHANGE COLUMN {temporary} {column} {final}",
        f"DROP TABLE IF EXISTS {mapping}",
    ]


def _convert(ends: Ends, conversion: Conversion, statements: list[str], on_event: OnEvent) -> int:
    session = ends.destination
    # The engine runs the second one, in chunks.
    add, _, exchange, clean = statements
    table = quote(conversion.table.schema, conversion.table.name)
    comments = {column.name: column.comment for column in conversion.table.columns}
    session.execute(clean)
    left = comments.get(conversion.temporary)
    if left is not None and left != conversion.fingerprint:
        # An interrupted call with other arguments filled it with other values.
        session.execute(f"ALTER TABLE {table} DROP COLUMN {quote(conversion.temporary)}")
    if left != conversion.fingerprint:
        session.execute(add)
    _core.pointers(
        {
            **ends.specs(),
            "pointer": conversion.pointer,
            "map_schema": conversion.table.schema,
            "map_table": conversion.map_table,
            "fill": {
                "schema": conversion.table.schema,
                "table": conversion.table.name,
                "key": list(conversion.table.walk_key),
                "index": key_index(conversion.table),
                "column": conversion.column.name,
                "into": conversion.temporary,
            },
        },
        on_event,
    )
    column, temporary = quote(conversion.column.name), quote(conversion.temporary)
    before, after = session.query(f"SELECT COUNT({column}), COUNT({temporary}) FROM {table}")[0]
    if before != after:
        lost = session.query(
            f"SELECT HEX({column}), COUNT(*) FROM {table} "
            f"WHERE {column} IS NOT NULL AND {temporary} IS NULL GROUP BY 1 LIMIT 5"
        )
        session.execute(clean)
        session.execute(f"ALTER TABLE {table} DROP COLUMN {temporary}")
        where = f"{conversion.table.schema}.{conversion.table.name}.{conversion.column.name}"
        raise ExternalMissing(
            f"{before - after} values of {where} have no tracking row in "
            f"{conversion.pointer['tracking_schema']}.{conversion.pointer['tracking_table']}, "
            f"for example {lost[0][0].lower()}",
            code="DJM-1402",
            hint="restore the tracking rows, or delete the rows that refer to them; the column is "
            "as it was",
            context={"column": where, "hashes": [row[0] for row in lost]},
        )
    session.execute(exchange)
    changed = session.query(f"SELECT COUNT({column}) FROM {table}")[0][0]
    if changed != before:
        raise Mismatch(f"{table}: {before} pointers became {changed}")
    session.execute(clean)
    logger.info("%s: converted %d pointers of %s", table, before, conversion.column.name)
    return int(before)


def _clean_up(session: Session, table: Table) -> None:
    session.execute(f"DROP TABLE IF EXISTS {quote(table.schema, MAP)}")


def _insist_on_rewritten(ends: Ends, conversion: Conversion, stores: Stores) -> None:
    """Attachments without `copy_files`: only where every object has been written already."""
    place = conversion.pointer
    store = stores.of_destination(conversion.external.store)
    column = quote(conversion.column.name)
    rows = ends.destination.query(
        f"SELECT DISTINCT {column} FROM {quote(conversion.table.schema, conversion.table.name)} "
        f"WHERE {column} IS NOT NULL"
    )
    folder = Path(store.location, place["hash_prefix"], place["schema"])
    absent = [
        name
        for name in (base64.b32encode(row[0]).decode().rstrip("=").lower() for row in rows)
        if store.protocol != "file"
        or not (folder / folded(name, store.subfolding) / (name + place["suffix"])).exists()
    ]
    if absent:
        raise Unconvertible(
            f"{conversion.table.schema}.{conversion.table.name}.{conversion.column.name} holds "
            f"attachments: 2.x keeps the name inside the object, so {len(absent)} have to be "
            "written anew",
            code="DJM-1404",
            hint="pass copy_files=True; the 0.14.6 files stay as they are",
            context={"column": conversion.column.name, "objects": absent[:10]},
        )


def folded(name: str, folds: tuple[int, ...]) -> str:
    """The folders of an object: `ab/cd` for a name folded by (2, 2)."""
    folders = []
    for width in folds:
        folders.append(name[:width])
        name = name[width:]
    return "/".join(folders)


def _missing_files(conversion: Conversion, errors: list[dict[str, Any]]) -> ExternalMissing:
    where = f"{conversion.table.schema}.{conversion.table.name}.{conversion.column.name}"
    return ExternalMissing(
        f"{len(errors)} files that {where} refers to are missing or damaged, the first: "
        f"{errors[0]['path']}: {errors[0]['error']}",
        hint="restore the files, or delete the rows that refer to them; the column is as it was",
        context={"errors": errors},
    )
