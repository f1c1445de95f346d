"""Everything about some schemas as plain data, to prove that nothing differs any more."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Query = Callable[[str], Sequence[tuple[Any, ...]]]


def snapshot(query: Query, *schemas: str) -> dict[str, Any]:
    """Definitions, row counts, lineage and programs of those schemas that exist.

    `query` runs a statement and gives its rows, as `Server.sql` and `Session.query` do.
    """
    found: dict[str, Any] = {}
    for schema in schemas:
        there = query(
            "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA"
            f" WHERE SCHEMA_NAME = '{schema}'"
        )
        if not there:
            continue
        found[schema] = {
            "collation": there[0][0],
            "tables": {name: table(query, schema, name) for name in tables(query, schema)},
            "programs": programs(query, schema),
        }
    return found


def tables(query: Query, schema: str) -> list[str]:
    """Names of its base tables."""
    rows = query(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'"
        f" AND TABLE_SCHEMA = '{schema}' ORDER BY 1"
    )
    return [str(row[0]) for row in rows]


def table(query: Query, schema: str, name: str) -> tuple[str, Any]:
    """Definition, and the number of rows; of `~lineage` the rows."""
    create = str(query(f"SHOW CREATE TABLE `{schema}`.`{name}`")[0][1])
    rows = query(f"SELECT COUNT(*) FROM `{schema}`.`{name}`")
    if name == "~lineage":
        rows = query(f"SELECT * FROM `{schema}`.`{name}` ORDER BY 1, 2")
    return re.sub(r" AUTO_INCREMENT=\d+", "", create), rows


def programs(query: Query, schema: str) -> list[Any]:
    """Views, triggers, routines and events, with their texts."""
    found: list[Any] = []
    for (name,) in query(
        f"SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{schema}'"
    ):
        found.append(("view", name, query(f"SHOW CREATE VIEW `{schema}`.`{name}`")[0][1:]))
    for (name,) in query(
        f"SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{schema}'"
    ):
        shown = query(f"SHOW CREATE TRIGGER `{schema}`.`{name}`")[0]
        found.append(("trigger", name, shown[1:6]))
    for name, kind in query(
        "SELECT ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES"
        f" WHERE ROUTINE_SCHEMA = '{schema}'"
    ):
        shown = query(f"SHOW CREATE {kind} `{schema}`.`{name}`")[0]
        found.append((kind, name, shown[1:]))
    for (name,) in query(
        f"SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{schema}'"
    ):
        shown = query(f"SHOW CREATE EVENT `{schema}`.`{name}`")[0]
        found.append(("event", name, shown[1:]))
    return sorted(found, key=str)
