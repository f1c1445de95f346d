"""What DataJoint 0.14.6 fetches from the pipeline, and what SQL finds there, as plain JSON."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import datajoint as dj
import exact
from canon import describe, describe_file, describe_json

JSON_COLUMNS = {("limits", "t_json"), ("link", "body")}


def fetched(modules: Iterable[ModuleType]) -> dict[str, Any]:
    """`{"schema.table": {"key": [...], "rows": [{column: description}]}}` of every class."""
    tables: dict[str, Any] = {}
    for module in modules:
        for table in vars(module).values():
            if _is_table(table) and table.__module__ == module.__name__:
                parts = [part for part in vars(table).values() if _is_table(part)]
                for each in (table, *parts):
                    tables[f"{each.database}.{each.table_name}"] = {
                        "key": list(each.primary_key),
                        "rows": _rows(each),
                    }
    return tables


def complete(
    connection: Any, schemas: tuple[str, ...], tables: dict[str, Any], version: str, prefix: str
) -> dict[str, Any]:
    """The whole dump: `tables` as fetched, with what SQL finds over the driver's `connection`."""

    def query(sql: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    query("SET SESSION time_zone='+00:00'")
    return {
        "prefix": prefix,
        "schemas": list(schemas),
        "server": version,
        "client": dj.__version__,
        "fetched": tables,
        "exact": {schema: exact.rows_of(query, schema) for schema in schemas},
        "structure": {schema: exact.structure_of(query, schema, {}) for schema in schemas},
    }


def _is_table(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, dj.user_tables.UserTable)


def _rows(table: Any) -> list[dict[str, Any]]:
    # One at a time: a value that cannot be read must not hide the others.
    alone = [
        name
        for name, a in table.heading.attributes.items()
        if a.is_attachment or a.is_filepath or a.is_blob or a.adapter
    ]
    plain = [name for name in table.heading.names if name not in alone]
    key = table.primary_key
    return [
        {
            name: _value(table, {part: row[part] for part in key}, name)
            if name in alone
            else _described(table, name, row[name])
            for name in table.heading.names
        }
        for row in table.proj(*plain).fetch(as_dict=True)
    ]


def _value(table: Any, key: dict[str, Any], name: str) -> list[Any]:
    # A fresh folder: in a used one an attachment may come out under another name.
    folder = tempfile.mkdtemp()
    try:
        [row] = (table & key).proj(name).fetch(as_dict=True, download_path=folder)
        return _described(table, name, row[name])
    except Exception as error:  # noqa: BLE001  (what 0.14.6 cannot read is part of the dump)
        return ["unreadable", f"{type(error).__name__}: {error}"]
    finally:
        shutil.rmtree(folder)


def _described(table: Any, name: str, value: Any) -> list[Any]:
    attribute = table.heading[name]
    if (table.table_name, name) in JSON_COLUMNS:
        return describe_json(value)
    if value is None or attribute.adapter:
        return describe(value)
    if attribute.is_attachment:
        return describe_file(value, Path(value).name)
    if attribute.is_filepath:
        stage = Path(dj.config["stores"][attribute.store]["stage"])
        return describe_file(value, Path(value).relative_to(stage).as_posix())
    return describe(value)
