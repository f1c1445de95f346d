"""What a schema holds to the last bit, read by SQL alone, so no client stands in between.

Columns whose values live in a store are left out: their representation is what migration changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from canon import bits, describe_json

Query = Callable[[str], list[tuple[Any, ...]]]

MARKER = re.compile(r"^:[^:]+:", re.DOTALL)
TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"}
OCTETS = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
SHAPES = {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring"}
NUMBERS = {"float": "float", "double": "float", "bit": "bit", "json": "json"}


def quoted(*names: str) -> str:
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def rows_of(query: Query, schema: str) -> dict[str, Any]:
    """`{table: {"kinds": {column: kind}, "rows": [[cell, ...], ...]}}` of every visible table."""
    outside = set(
        query(
            "SELECT table_name, column_name FROM information_schema.key_column_usage "
            f"WHERE table_schema='{schema}' AND referenced_table_name LIKE '~external%'"
        )
    )
    checked = _json_columns(query, schema)
    kinds: dict[str, dict[str, str]] = {}
    for table, column, data_type in query(
        "SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c "
        "JOIN information_schema.tables t USING (table_schema, table_name) "
        f"WHERE c.table_schema='{schema}' AND t.table_type='BASE TABLE' "
        "AND c.table_name NOT LIKE '~%' ORDER BY c.table_name, c.ordinal_position"
    ):
        if (table, column) not in outside:
            kind = "json" if (table, column) in checked else kind_of(str(data_type).lower())
            kinds.setdefault(table, {})[column] = kind
    return {
        table: {"kinds": columns, "rows": cells(query, schema, table, columns)}
        for table, columns in kinds.items()
    }


def kind_of(data_type: str) -> str:
    """How a column of this type is read: "text", "octets", "shape", "float", "bit" or "plain"."""
    for kind, types in (("text", TEXTS), ("octets", OCTETS), ("shape", SHAPES)):
        if data_type in types:
            return kind
    return NUMBERS.get(data_type, "plain")


def cells(query: Query, schema: str, table: str, kinds: dict[str, str]) -> list[list[Any]]:
    """All rows, each a list of described cells in the order of `kinds`; rows in a fixed order."""
    chosen = ", ".join(_expression(column, kind) for column, kind in kinds.items())
    rows = query(f"SELECT {chosen} FROM {quoted(schema, table)}")
    described = [
        [_cell(value, kind) for value, kind in zip(row, kinds.values(), strict=True)]
        for row in rows
    ]
    return sorted(described, key=json.dumps)


def _json_columns(query: Query, schema: str) -> set[tuple[str, str]]:
    """On MariaDB a json column is a text with a check."""
    if "maria" not in str(query("SELECT version()")[0][0]).lower():
        return set()
    found = query(
        "SELECT table_name, check_clause FROM information_schema.check_constraints "
        f"WHERE constraint_schema='{schema}' AND check_clause LIKE 'json\\_valid(%'"
    )
    return {(table, clause[len("json_valid(`") : -len("`)")]) for table, clause in found}


def _expression(column: str, kind: str) -> str:
    name = quoted(column)
    if kind == "float":
        # A FLOAT as it stands is printed with six digits, as a DOUBLE with all it has.
        return f"{name} * 1e0"
    if kind in ("octets", "shape"):
        return f"HEX({name})"
    if kind == "text":
        return f"HEX(CONVERT({name} USING utf8mb4))"
    if kind == "bit":
        return f"{name} + 0"
    return f"CAST({name} AS CHAR)"


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "float":
        return float(value).hex()
    if kind in ("octets", "shape"):
        return bits(bytes.fromhex(value))
    if kind == "text":
        data = bytes.fromhex(value)
        return data.decode() if len(data) <= 100 else bits(data)
    if kind == "json":
        return describe_json(value)[1]
    return str(value)


def structure_of(query: Query, schema: str, schema_map: dict[str, str]) -> dict[str, Any]:
    """Definitions that must survive, by table: columns, indexes, foreign keys, checks.

    Schema names in foreign keys are given under their new names of `schema_map`. Two structures
    are comparable when they come from servers of the same kind.
    """
    outside = set(
        query(
            "SELECT table_name, column_name FROM information_schema.key_column_usage "
            f"WHERE table_schema='{schema}' AND referenced_table_name LIKE '~external%'"
        )
    )
    tables: dict[str, Any] = {}
    for (table,) in query(
        "SELECT table_name FROM information_schema.tables WHERE table_type='BASE TABLE' "
        f"AND table_schema='{schema}' AND table_name NOT LIKE '~%'"
    ):
        tables[table] = {"columns": {}, "indexes": {}, "foreign_keys": [], "checks": []}
    for table, name, comment, *rest in query(
        "SELECT table_name, column_name, column_comment, column_type, is_nullable, column_default, "
        "extra, character_set_name, collation_name, generation_expression "
        f"FROM information_schema.columns WHERE table_schema='{schema}' "
        "ORDER BY table_name, ordinal_position"
    ):
        if table in tables:
            text = MARKER.sub("", comment)
            # Of a column in a store only what stays is looked at: nullable, and the comment.
            kept = [rest[1]] if (table, name) in outside else [_text(cell) for cell in rest]
            tables[table]["columns"][name] = [text, *kept]
    _indexes(query, schema, tables, outside)
    _foreign_keys(query, schema, tables, schema_map)
    for table, clause in query(
        "SELECT t.table_name, c.check_clause FROM information_schema.check_constraints c JOIN "
        "information_schema.table_constraints t USING (constraint_schema, constraint_name) "
        f"WHERE t.table_schema='{schema}' AND t.constraint_type='CHECK'"
    ):
        # MariaDB writes this one by itself for every json column.
        if table in tables and not clause.startswith("json_valid("):
            tables[table]["checks"] = sorted([*tables[table]["checks"], _text(clause)])
    return tables


def _indexes(
    query: Query, schema: str, tables: dict[str, Any], outside: set[tuple[Any, ...]]
) -> None:
    is_mariadb = "maria" in str(query("SELECT version()")[0][0]).lower()
    extra = "NULL, NULL" if is_mariadb else "expression, is_visible"
    lost = set()
    for table, index, *rest in query(
        "SELECT table_name, index_name, non_unique, column_name, collation, sub_part, index_type, "
        f"{extra} FROM information_schema.statistics WHERE table_schema='{schema}' "
        "ORDER BY table_name, index_name, seq_in_index"
    ):
        if table in tables:
            if (table, rest[1]) in outside:
                lost.add((table, index))
            parts = tables[table]["indexes"].setdefault(index, [])
            parts.append([_text(cell) for cell in rest])
    for table, index in lost:
        del tables[table]["indexes"][index]


def _foreign_keys(
    query: Query, schema: str, tables: dict[str, Any], schema_map: dict[str, str]
) -> None:
    keys: dict[tuple[str, str], list[Any]] = {}
    for table, constraint, column, to_schema, to_table, to_column, update, delete in query(
        "SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_schema, "
        "k.referenced_table_name, k.referenced_column_name, r.update_rule, r.delete_rule "
        "FROM information_schema.key_column_usage k JOIN "
        "information_schema.referential_constraints r ON r.constraint_schema=k.constraint_schema "
        "AND r.constraint_name=k.constraint_name AND r.table_name=k.table_name "
        f"WHERE k.table_schema='{schema}' AND k.referenced_table_name NOT LIKE '~external%' "
        "ORDER BY k.table_name, k.constraint_name, k.ordinal_position"
    ):
        target = [schema_map.get(to_schema, to_schema), to_table, update, delete]
        keys.setdefault((table, constraint), [target]).append([column, to_column])
    for (table, _), key in keys.items():
        if table in tables:
            tables[table]["foreign_keys"] = sorted(
                [*tables[table]["foreign_keys"], key], key=json.dumps
            )


def _text(cell: Any) -> str | None:
    if isinstance(cell, bytes):
        return cell.decode()
    return None if cell is None else str(cell)
