"""External columns of a parallel schema: BINARY(16) pointers become the JSON that 2.x reads."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.build.aside import lay_aside, put_back
from datajoint_migrate.build.building import origin_of
from datajoint_migrate.call.ends import Ends, open_ends, read_if_there
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.externals import TRACKING, External, external_of, tracking_table
from datajoint_migrate.catalog.names import MAP, NAME_CHARACTERS
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.stores import folded, tracked_store
from datajoint_migrate.catalog.tables import Column, Schema, Table, find_table, read_schema
from datajoint_migrate.errors import (
    DestinationNotEmpty,
    ExternalMissing,
    InvalidArgument,
    MigrationError,
    Mismatch,
    NotFound,
    Unconvertible,
)
from datajoint_migrate.files.batches import Executor
from datajoint_migrate.files.pointers import (
    FileJob,
    Stores,
    check_places,
    final_name,
    missing_files,
    move_files,
    pointer,
)
from datajoint_migrate.results import ExternalResult
from datajoint_migrate.rows.plan import key_index
from datajoint_migrate.target.ddl import parse
from datajoint_migrate.target.types import convert_column
from datajoint_migrate.words import counted, verb

logger = logging.getLogger("datajoint_migrate")

PREFIX = "_migrate_"
# How the comment of a temporary column begins: what is called like one need not be ours.
OURS = "datajoint_migrate "


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
        return (PREFIX + self.column.name)[:NAME_CHARACTERS]

    @property
    def fingerprint(self) -> str:
        """What the temporary column's values were made for; its comment."""
        said = json.dumps([self.pointer, self.definition], sort_keys=True)
        return OURS + hashlib.sha256(said.encode()).hexdigest()

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
) -> ExternalResult:
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
    Columns that note the time of a change keep their times, and UPDATE triggers of the table are
    laid aside meanwhile.

    Returns `rows_migrated`, `files_copied`, `errors` (files that were not found, as dicts), and
    `notes` where a trigger is not quite as it was; with
    `dry_run` also `sql`, and nothing is written, but files are looked for. Raises `NotFound`,
    `Unconvertible`, `StoreMissing`, `ExternalMissing`.
    """
    notes: list[str] = []
    result: dict[str, Any] = {
        "rows_migrated": 0,
        "files_copied": 0,
        "errors": [],
    }
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
        if not dry_run:
            # Of a call that was killed; what it had laid aside does not wait for this one's end.
            notes += put_back(ends.destination, schema)
        if _is_done(column, external, dest_store):
            if not dry_run:
                _clean_up(ends.destination, found)
            said = {"notes": notes} if notes else {}
            return cast(ExternalResult, {**result, **said, **({"sql": []} if dry_run else {})})
        conversion = _conversion(found, column, external, place, dest_store)
        _refuse_another(there, conversion)
        if copy_files:
            check_places([job], stores, copy_files)
        statements = _statements(conversion)
        if copy_files:
            # Those of the copy's rows: production may have other rows by now.
            job = dataclasses.replace(job, columns=[], only=_pointers(ends, conversion))
        elif external.kind == "attach":
            _insist_on_rewritten(ends, conversion, stores)
        if dry_run:
            if copy_files and (errors := missing_files(ends, [job], stores, True, on_event)):
                raise _missing_files(conversion, errors)
            return cast(ExternalResult, {**result, "sql": statements})
        if copy_files:
            files = move_files(ends, [job], stores, True, on_event, executor)
            result["files_copied"] = files["files_copied"]
            if files["errors"]:
                raise _missing_files(conversion, files["errors"])
        try:
            result["rows_migrated"] = _convert(ends, conversion, statements, on_event)
        except BaseException:
            # Where that cannot be done now, the same call does it.
            with suppress(MigrationError):
                put_back(ends.destination, schema)
            raise
        notes += put_back(ends.destination, schema)
    return cast(ExternalResult, {**result, "notes": notes} if notes else result)


def _pointers(ends: Ends, conversion: Conversion) -> list[str]:
    """The hashes, in hexadecimal, that the column holds."""
    column, table = quote(conversion.column.name), conversion.table
    rows = ends.destination.query(
        f"SELECT DISTINCT LOWER(HEX({column})) FROM {quote(table.schema, table.name)}"
        f" WHERE {column} IS NOT NULL"
    )
    return sorted(str(row[0]) for row in rows)


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
    noted = [
        origin_of(there, tracking_table(there, spelling) or TRACKING + spelling)
        for spelling in spellings
    ]
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
        hint=f"the marker would become :{_marker(external, dest_store)}:; to convert it anew, copy "
        "the table into another schema",
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
            hint="let create_parallel_schema declare the table: it leaves that index out",
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
    stamps = filling(conversion.table, conversion.column.name, conversion.temporary)["stamps"]
    kept = "".join(f", s.{quote(name)} = s.{quote(name)}" for name in stamps)
    # The definition opens with the column's name; the temporary column is the same but nullable.
    final = conversion.definition.replace(quote(conversion.column.name), "", 1).strip()
    return [
        f"ALTER TABLE {table} ADD COLUMN {temporary} JSON NULL "
        f"COMMENT '{conversion.fingerprint}' AFTER {column}",
        f"UPDATE {table} s JOIN {mapping} m ON m.hash = s.{column} SET s.{temporary} = m.js{kept}",
        f"ALTER TABLE {table} DROP COLUMN {column}, CHANGE COLUMN {temporary} {column} {final}",
        f"DROP TABLE IF EXISTS {mapping}",
    ]


def _refuse_another(there: Schema, conversion: Conversion) -> None:
    """Raise for a column that has the temporary one's name and is not of an interrupted call."""
    names = [column.name for column in conversion.table.columns]
    for at, column in enumerate(conversion.table.columns):
        if column.name.lower() != conversion.temporary.lower():
            continue
        # Without our comment, what else an interrupted call leaves has to be there too.
        beside = names[at - 1] == conversion.column.name and conversion.map_table in there.tables
        ours = re.fullmatch(OURS + "[0-9a-f]{64}", column.comment) or (
            beside and not column.comment
        )
        if column.data_type not in ("json", "longtext") or not column.nullable or not ours:
            raise DestinationNotEmpty(
                f"{conversion.table}.{column.name} is in the way: the JSON of "
                f"{conversion.column.name} is made in a column of that name, and this one is none "
                "that an interrupted call has left",
                hint="rename it for the time of this call",
                context={"table": str(conversion.table), "column": column.name},
            )


def _convert(ends: Ends, conversion: Conversion, statements: list[str], on_event: OnEvent) -> int:
    session = ends.destination
    # The engine runs the second one, in chunks.
    add, _, exchange, clean = statements
    table = quote(conversion.table.schema, conversion.table.name)
    comments = {column.name.lower(): column.comment for column in conversion.table.columns}
    session.execute(clean)
    left = comments.get(conversion.temporary.lower())
    if left is not None and left != conversion.fingerprint:
        # An interrupted call with other arguments filled it with other values.
        patiently(session, f"ALTER TABLE {table} DROP COLUMN {quote(conversion.temporary)}")
    if left != conversion.fingerprint:
        patiently(session, add)
    lay_aside(session, conversion.table)
    filled = filling(conversion.table, conversion.column.name, conversion.temporary)
    _core.pointers(
        {
            **ends.specs(),
            "pointer": conversion.pointer,
            "map_schema": conversion.table.schema,
            "map_table": conversion.map_table,
            # Of an interrupted call some values may be older than their pointers.
            "fill": {**filled, "renew": left == conversion.fingerprint},
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
            f"{counted(before - after, 'value')} of {where} have no tracking row in "
            f"{conversion.pointer['tracking_schema']}.{conversion.pointer['tracking_table']}, "
            f"for example {lost[0][0].lower()}",
            hint="restore the tracking rows, or delete the rows that refer to them; the column is "
            "as it was",
            context={"column": where, "hashes": [row[0] for row in lost]},
        )
    patiently(session, exchange)
    changed = session.query(f"SELECT COUNT({column}) FROM {table}")[0][0]
    if changed != before:
        raise Mismatch(f"{table}: {counted(before, 'pointer')} became {changed:,}")
    session.execute(clean)
    logger.info("%s: converted %d pointers of %s", table, before, conversion.column.name)
    return int(before)


def filling(table: Table, column: str, into: str) -> dict[str, Any]:
    """The engine's plan that gives `into` the JSON of the pointers in `column`, in chunks.

    Columns that note the time of a change do not note this one.
    """
    return {
        "schema": table.schema,
        "table": table.name,
        "key": list(table.walk_key),
        "index": key_index(table),
        "column": column,
        "into": into,
        "stamps": [one.name for one in table.columns if "on update" in one.extra.lower()],
    }


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


def _missing_files(conversion: Conversion, errors: list[dict[str, Any]]) -> ExternalMissing:
    where = f"{conversion.table.schema}.{conversion.table.name}.{conversion.column.name}"
    return ExternalMissing(
        f"{counted(len(errors), 'file')} that {where} refers to"
        f" {verb(len(errors), 'is', 'are')} missing or damaged, the first: "
        f"{errors[0]['path']}: {errors[0]['error']}",
        code="DJM-1402",
        hint="restore the files, or delete the rows that refer to them; the column is as it was",
        context={"errors": errors},
    )
