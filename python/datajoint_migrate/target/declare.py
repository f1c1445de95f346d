"""The CREATE TABLE of a table's 2.x twin: what must change is changed, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.externals import TRACKING, External
from datajoint_migrate.catalog.names import NAME_CHARACTERS
from datajoint_migrate.catalog.tables import Schema, Table
from datajoint_migrate.errors import ForeignKeyLeavesMap, InvalidArgument, Unconvertible
from datajoint_migrate.target import mariadb
from datajoint_migrate.target.charset import (
    UTF8MB4,
    Charset,
    converts,
    excesses,
    pin_collation,
    to_utf8mb4,
)
from datajoint_migrate.target.ddl import ColumnText, CreateTable, Item, parse
from datajoint_migrate.target.engines import to_innodb
from datajoint_migrate.target.foreign import in_default_place
from datajoint_migrate.target.types import ExternalMode, NewColumn, Unsigned, convert_column


@dataclass(frozen=True)
class Declaration:
    """How to make one table. `notes` say what of the source has no equal in it.

    `charsets` are those its text columns will have, `excesses` what the server would not take.
    """

    schema: str
    table: str
    create_sql: str
    columns: tuple[NewColumn, ...]
    notes: tuple[str, ...]
    foreign_keys: int
    charsets: Mapping[str, str] = field(default_factory=dict)
    excesses: tuple[str, ...] = ()

    def column(self, name: str) -> NewColumn:
        """The column of that name; raises KeyError."""
        return {column.name: column for column in self.columns}[name]


def declare(
    table: Table,
    *,
    dest_schema: str,
    schema_map: Mapping[str, str] | None = None,
    externals: Mapping[str, External] | None = None,
    unsigned: Unsigned = "keep",
    external: ExternalMode = "defer",
    store_map: Mapping[str, str] | None = None,
    dest_is_mariadb: bool = False,
    taken: set[tuple[str, str]] | None = None,
    charset: Charset = "keep",
    promoted: Mapping[str, str] | None = None,
) -> Declaration:
    """The 2.x declaration of a 0.14.6 table; run it with foreign_key_checks=0, in any order.

    `externals` are the columns that point into stores (`externals_of`), `external` whether they
    become JSON now ("convert") or stay BINARY(16) for later ("defer"). `taken` collects the
    constraint names of the destination schema: pass the same set for all its tables, and names
    that would clash there are changed. `charset="utf8mb4"` makes all text utf8mb4. `promoted`:
    markers of blobs whose values become objects, by column. Hidden tables
    come out as they are, without foreign keys.

    Raises `ForeignKeyLeavesMap` for references to schemas outside `schema_map`, `Unconvertible`
    for what the destination cannot hold.
    """
    if len(dest_schema) > NAME_CHARACTERS:
        raise InvalidArgument(
            f"the schema name {dest_schema!r} is longer than {NAME_CHARACTERS} characters"
        )
    if dest_is_mariadb and not table.is_mariadb:
        raise Unconvertible(
            f"{table} is on MySQL and cannot be declared on MariaDB",
            hint="take a MySQL server as the destination: 2.x cannot insert objects on MariaDB",
            context={"table": str(table)},
        )
    notes: list[str] = []
    text = parse(table.create)
    text.head = f"CREATE TABLE {quote(dest_schema, table.name)} "
    if table.is_mariadb and not dest_is_mariadb:
        notes += mariadb.to_mysql(text, str(table))
    notes += to_innodb(text, table)
    notes += in_default_place(text, f"the copy of {table}")
    pin_collation(text, table, to_mysql=table.is_mariadb and not dest_is_mariadb)
    too_long: list[str] = []
    if charset == UTF8MB4:
        to_utf8mb4(text, table)
        too_long = excesses(text, table)
    targets = {**(schema_map or {}), table.schema: dest_schema}
    pointers = {} if table.hidden else dict(externals or {})
    columns = tuple(
        _column(
            table,
            line,
            pointers.get(line.name),
            unsigned,
            external,
            store_map,
            (promoted or {}).get(line.name),
        )
        for line in text.columns
    )
    for column in columns:
        notes += [f"{table}.{note}" for note in column.notes]
    _refuse_expressions(table, text, pointers)
    text.items = _keep_indexes(table, text.items, pointers, notes)
    text.items = _keep_foreign_keys(table, text.items, targets)
    _rename_clashes(table, text.items, set() if taken is None else taken, notes)
    return Declaration(
        schema=dest_schema,
        table=table.name,
        create_sql=text.render([column.definition for column in columns]),
        columns=columns,
        notes=tuple(notes),
        foreign_keys=sum(item.kind == "foreign" for item in text.items),
        charsets={
            column.name: UTF8MB4 if charset == UTF8MB4 and converts(column) else column.charset
            for column in table.columns
            if column.charset
        },
        excesses=tuple(too_long),
    )


def check_map(schemas: Iterable[Schema], schema_map: Mapping[str, str]) -> None:
    """Raise `ForeignKeyLeavesMap`, naming every schema that is missing, unless all keys stay."""
    leaving = [
        (table, key)
        for schema in schemas
        for table in schema.tables.values()
        if not table.hidden
        for key in table.foreign_keys
        if key.ref_schema not in schema_map
    ]
    if not leaving:
        return
    missing = sorted({key.ref_schema for _, key in leaving})
    table, key = leaving[0]
    more = f" (and {len(leaving) - 1} more)" if len(leaving) > 1 else ""
    raise _leaves(f"{table} refers to {key.ref_schema}.{key.ref_table}{more}", missing)


def _leaves(what: str, missing: list[str]) -> ForeignKeyLeavesMap:
    names = ", ".join(repr(name) for name in missing)
    return ForeignKeyLeavesMap(
        f"{what}, outside schema_map: a key into production would block deletes there",
        hint=f"add {names} to schema_map",
        context={"missing": missing},
    )


def _column(
    table: Table,
    line: ColumnText,
    pointer: External | None,
    unsigned: Unsigned,
    external: ExternalMode,
    store_map: Mapping[str, str] | None,
    promoted: str | None,
) -> NewColumn:
    column = table.column(line.name)
    if table.hidden:
        return NewColumn(line.name, line.render(), line.base, column.marker, column.comment)
    return convert_column(
        column,
        pointer,
        unsigned=unsigned,
        external_mode=external,
        store_map=store_map,
        text=line,
        promoted=promoted,
    )


def _refuse_expressions(table: Table, text: CreateTable, pointers: Mapping[str, External]) -> None:
    used = set().union(*(item.mentions for item in text.items if item.kind == "check"))
    for line in text.columns:
        for keyword in ("GENERATED", "AS", "CHECK"):
            if clause := line.find(keyword):
                used |= {token.name for token in clause.tokens if token.kind == "name"}
    if lost := sorted(used & pointers.keys()):
        raise Unconvertible(
            f"an expression of {table} uses the external column {lost[0]!r}, which becomes JSON",
            hint="change the generated column or check so that it does without that column",
            context={"table": str(table), "columns": lost},
        )


def _keep_indexes(
    table: Table, items: list[Item], pointers: Mapping[str, External], notes: list[str]
) -> list[Item]:
    """Without the indexes over external columns: JSON takes none."""
    # The server adds an index of its own for every key to a tracking table: not worth a note.
    implied = {
        name
        for key in table.foreign_keys
        if key.ref_table.startswith(TRACKING)
        for name in (key.name, key.columns[0])
    }
    kept = []
    for item in items:
        lost = sorted(item.mentions & pointers.keys()) if item.kind == "index" else []
        if lost and item.unique:
            notes.append(
                f"{table}: UNIQUE index {item.name!r} over the external column {lost[0]!r} is"
                " dropped; 2.x cannot keep its values apart"
            )
        elif lost and (item.name not in implied or len(item.mentions) > 1):
            notes.append(f"{table}: index {item.name!r} over external {lost[0]!r} is dropped")
        elif not lost:
            kept.append(item)
    return kept


def _keep_foreign_keys(table: Table, items: list[Item], targets: Mapping[str, str]) -> list[Item]:
    kept = []
    missing: dict[str, str] = {}
    for item in items:
        if item.kind == "foreign":
            schema, parent = item.reference
            if table.hidden or parent.startswith(TRACKING):
                continue
            if schema is not None and schema not in targets:
                missing.setdefault(schema, parent)
            elif schema is not None:
                item.repoint(targets[schema])
        kept.append(item)
    if missing:
        schema, parent = next(iter(missing.items()))
        raise _leaves(f"{table} refers to {schema}.{parent}", sorted(missing))
    return kept


def _rename_clashes(
    table: Table, items: list[Item], taken: set[tuple[str, str]], notes: list[str]
) -> None:
    for item in items:
        if item.kind not in ("foreign", "check"):
            continue
        old = item.name
        if (item.kind, old.lower()) in taken:
            item.rename(_free_name(table.name, item.kind, taken))
            notes.append(f"{table}: constraint {old!r} is {item.name!r}, the name was taken")
        taken.add((item.kind, item.name.lower()))


def _free_name(table: str, kind: str, taken: set[tuple[str, str]]) -> str:
    # The server names checks without a name `_chk_N` itself, so that ending is left to it.
    word = {"foreign": "ibfk", "check": "check"}[kind]
    number = 1
    while True:
        ending = f"_{word}_{number}"
        name = table[: NAME_CHARACTERS - len(ending)] + ending
        if (kind, name.lower()) not in taken:
            return name
        number += 1
