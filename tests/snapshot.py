"""Everything about some schemas as plain data, to prove that nothing differs any more."""

from __future__ import annotations

import re
from typing import Any

from servers import Server


def snapshot(server: Server, *schemas: str) -> dict[str, Any]:
    """Definitions, rows of hidden tables, row counts and programs of those schemas that exist."""
    found: dict[str, Any] = {}
    for schema in schemas:
        there = server.sql(
            "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA"
            f" WHERE SCHEMA_NAME = '{schema}'"
        )
        if not there:
            continue
        found[schema] = {
            "collation": there[0][0],
            "tables": {name: table(server, schema, name) for name in tables(server, schema)},
            "programs": programs(server, schema),
        }
    return found


def tables(server: Server, schema: str) -> list[str]:
    """Names of its base tables."""
    rows = server.sql(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'"
        f" AND TABLE_SCHEMA = '{schema}' ORDER BY 1"
    )
    return [str(row[0]) for row in rows]


def table(server: Server, schema: str, name: str) -> tuple[str, Any]:
    """Definition, and the number of rows; of `~lineage` the rows."""
    create = str(server.sql(f"SHOW CREATE TABLE `{schema}`.`{name}`")[0][1])
    rows = server.sql(f"SELECT COUNT(*) FROM `{schema}`.`{name}`")
    if name == "~lineage":
        rows = server.sql(f"SELECT * FROM `{schema}`.`{name}` ORDER BY 1, 2")
    return re.sub(r" AUTO_INCREMENT=\d+", "", create), rows


def programs(server: Server, schema: str) -> list[Any]:
    """Views, triggers, routines and events, with their texts."""
    found: list[Any] = []
    for (name,) in server.sql(
        f"SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{schema}'"
    ):
        found.append(("view", name, server.sql(f"SHOW CREATE VIEW `{schema}`.`{name}`")[0][1:]))
    for (name,) in server.sql(
        f"SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{schema}'"
    ):
        shown = server.sql(f"SHOW CREATE TRIGGER `{schema}`.`{name}`")[0]
        found.append(("trigger", name, shown[1:6]))
    for name, kind in server.sql(
        "SELECT ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES"
        f" WHERE ROUTINE_SCHEMA = '{schema}'"
    ):
        shown = server.sql(f"SHOW CREATE {kind} `{schema}`.`{name}`")[0]
        found.append((kind, name, shown[1:]))
    for (name,) in server.sql(
        f"SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{schema}'"
    ):
        shown = server.sql(f"SHOW CREATE EVENT `{schema}`.`{name}`")[0]
        found.append(("event", name, shown[1:]))
    return sorted(found, key=str)
