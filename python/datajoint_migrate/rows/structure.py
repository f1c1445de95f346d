"""Do two schemas have the same columns, keys, indexes, defaults, checks and programs?

What a parallel schema changes on purpose (markers, pointers that became JSON and the keys and
indexes over them, blobs that became objects of a store, wider integers, another character set) is
no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from datajoint_migrate.catalog.externals import TRACKING, External
from datajoint_migrate.catalog.kinds import BLOBS, INTEGERS, bare_type
from datajoint_migrate.catalog.programs import lacking, read_programs
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import text_of
from datajoint_migrate.catalog.tables import Column, ForeignKey, Index, Schema, Table
from datajoint_migrate.target.ddl import parse

Difference = dict[str, Any]

POINTERS = ("json", "longtext", "binary")
JSON = ("json", "longtext")
IN_STORE = re.compile(r"<\w+@[\w-]+>")


def compare_structure(
    prod: Schema, test: Schema, externals: Mapping[str, Mapping[str, External]]
) -> list[Difference]:
    """Differences of all tables both sides have: `table`, `what`, `name`, `prod`, `test`.

    `externals` are production's external columns by table. What only the copy has is no loss and
    no difference, but for a unique key, which may refuse rows.
    """
    found: list[Difference] = []
    for name, table in prod.tables.items():
        if table.hidden or name not in test.tables:
            continue
        pointers = set(externals.get(name, {}))
        for what, of, ours, theirs in _differences(table, test.tables[name], pointers):
            found.append({"table": name, "what": what, "name": of, "prod": ours, "test": theirs})
    return found


def compare_programs(
    source: Session, destination: Session, prod: str, test: str
) -> list[Difference]:
    """Views, triggers, routines and events that the copy does not have."""
    return [
        {"table": one.table, "what": one.kind, "name": one.name, "prod": one.name, "test": None}
        for one in lacking(read_programs(source, prod), read_programs(destination, test))
    ]


Found = tuple[str, str, Any, Any]


def _differences(prod: Table, test: Table, pointers: set[str]) -> Iterator[Found]:
    there = {column.name: column for column in test.columns}
    for column in prod.columns:
        copy = there.get(column.name)
        if copy is None:
            yield "column", column.name, column.column_type, None
            continue
        if column.name not in pointers:
            yield from _column(prod, column, test, copy)
        elif copy.data_type not in POINTERS:
            yield "type", column.name, column.column_type, copy.column_type
        if column.nullable != copy.nullable:
            yield "nullable", column.name, column.nullable, copy.nullable
    if prod.primary_key != test.primary_key:
        yield "primary_key", "PRIMARY", prod.primary_key, test.primary_key
    yield from _indexes(prod, test, pointers)
    yield from _foreign_keys(prod, test)
    ours, theirs = _checks(prod), _checks(test)
    if len(ours) > len(theirs):
        yield "check", ", ".join(prod.checks), ours, theirs


def _column(prod: Table, column: Column, test: Table, copy: Column) -> Iterator[Found]:
    if not _same_type(column, copy):
        yield "type", column.name, column.column_type, copy.column_type
    for what, ours, theirs in (
        ("default", _default(column, prod.is_mariadb), _default(copy, test.is_mariadb)),
        ("on_update", _on_update(column), _on_update(copy)),
        ("auto_increment", column.auto_increment, copy.auto_increment),
        ("generated", column.generated, copy.generated),
        ("invisible", column.invisible, copy.invisible),
    ):
        if ours != theirs:
            yield what, column.name, ours, theirs


def _same_type(column: Column, copy: Column) -> bool:
    ours, theirs = bare_type(column), bare_type(copy)
    if ours == theirs:
        return True
    if column.data_type == "longtext" and copy.data_type == "json":
        return True  # MariaDB's name for it
    if column.data_type in BLOBS and copy.data_type in JSON:
        return IN_STORE.fullmatch(copy.marker or "") is not None
    mine, wider = INTEGERS.get(column.data_type), INTEGERS.get(copy.data_type)
    if mine is None or wider is None:
        return False
    if "unsigned" in ours and "unsigned" not in theirs:
        # BIGINT UNSIGNED has no wider type: its values were proved to fit.
        return wider > mine or mine == wider == 64
    return wider >= mine and ("unsigned" in ours) == ("unsigned" in theirs)


def _default(column: Column, is_mariadb: bool) -> str | None:
    value = column.default
    if value is None or (is_mariadb and value == "NULL"):
        return None
    if is_mariadb and value[:1] == "'":
        return value[1:-1].replace("''", "'").replace("\\'", "'")
    now = re.fullmatch(r"(?i)(?:current_timestamp|now)(?:\((\d*)\))?", value)
    if now:
        return f"CURRENT_TIMESTAMP({now[1] or 0})"
    if column.data_type in ("float", "double", "decimal"):
        return value.rstrip("0").rstrip(".") if "." in value else value
    return value


def _on_update(column: Column) -> str | None:
    found = re.search(r"(?i)on update \w+(?:\((\d*)\))?", column.extra)
    return f"CURRENT_TIMESTAMP({found[1] or 0})" if found else None


def _indexes(prod: Table, test: Table, pointers: set[str]) -> Iterator[Found]:
    ours, theirs = _shapes(prod), _shapes(test)
    for shape, name in ours.items():
        columns, unique, _ = shape
        if shape in theirs or pointers & set(columns):
            continue
        # An index that a foreign key brought along is not needed beside a longer one.
        if not unique and any(other[0][: len(columns)] == columns for other in theirs):
            continue
        yield ("unique" if unique else "index"), name, columns, None
    for shape, name in theirs.items():
        if shape[1] and shape not in ours:
            yield "unique", name, None, shape[0]


def _shapes(table: Table) -> dict[tuple[tuple[str, ...], bool, tuple[str, ...]], str]:
    shapes = {_shape(index): index.name for index in table.indexes}
    if table.primary_key:
        shapes[table.primary_key, True, ()] = "PRIMARY"
    return shapes


def _shape(index: Index) -> tuple[tuple[str, ...], bool, tuple[str, ...]]:
    return tuple(column or "(expression)" for column in index.columns), index.unique, index.prefixes


def _foreign_keys(prod: Table, test: Table) -> Iterator[Found]:
    theirs = {_key(key): key for key in test.foreign_keys}
    for key in prod.foreign_keys:
        if key.ref_table.startswith(TRACKING):
            continue
        copy = theirs.get(_key(key))
        if copy is None:
            yield "foreign_key", key.name, _readable(key), None
        elif (key.ref_schema == prod.schema) != (copy.ref_schema == test.schema):
            yield "foreign_key", key.name, _readable(key), _readable(copy)


def _key(key: ForeignKey) -> tuple[Any, ...]:
    same = {"NO ACTION": "RESTRICT"}
    rules = tuple(same.get(rule, rule) for rule in (key.on_update, key.on_delete))
    return key.columns, key.ref_table, key.ref_columns, rules


def _readable(key: ForeignKey) -> str:
    return (
        f"({', '.join(key.columns)}) references {key.ref_schema}.{key.ref_table} "
        f"({', '.join(key.ref_columns)})"
    )


def _checks(table: Table) -> list[str]:
    """The expressions of its checks; MariaDB's for json columns are part of the type."""
    created = parse(table.create)
    texts = [text_of(item.parts) for item in created.items if item.kind == "check"]
    for column in created.columns:
        clause = column.find("CHECK")
        if clause is not None and "json_valid" not in clause.text.lower():
            texts.append(clause.text.strip())
    return texts
