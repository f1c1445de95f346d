"""Copies thrown away: the destinations of a map, and only where nothing else depends on them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends, check_names, open_ends
from datajoint_migrate.call.turn import take_turn_alone
from datajoint_migrate.catalog.names import JOURNAL, LINEAGE, MAKING, RECORD, RENAMING
from datajoint_migrate.catalog.presence import has_table, schema_exists
from datajoint_migrate.errors import NotReady
from datajoint_migrate.results import DiscardResult

# A schema of 2.x has the first; one whose making was interrupted one of the others.
OURS = (LINEAGE, JOURNAL, MAKING)


def discard(
    schema_map: Mapping[str, str],
    *,
    connection: Any = None,
    dest_connection: Any = None,
    execute: bool = False,
) -> DiscardResult:
    """Drop the copies that a migration has made: {"lab": "lab_v20"} drops `lab_v20`.

    Production is not touched. A destination that does not look like a copy of 2.x, that is a
    backup, that a cutover has moved, or that a schema outside the map refers to, is in the way,
    and then nothing is dropped. Files that were written for the copies stay in their stores: 2.x's
    collector finds them.

    Returns `executed`, `schemas` (those that are there: name → `tables` and `rows`, counted),
    `missing` (sentences about what is in the way), `notes`, `time_taken`. Raises `NotReady` when
    `execute=True` and something is in the way, `DestinationBusy` when another call is at work.
    """
    began = time.monotonic()
    with open_ends(connection, dest_connection, looking=not execute) as ends:
        check_names(dict(schema_map), ends.same_server, ends.folds)
        ends.spell(schema_map)
        there = [name for name in schema_map.values() if schema_exists(ends.destination, name)]
        if execute:
            take_turn_alone(ends.destination, there)
        missing = _in_the_way(ends, schema_map, there)
        result: DiscardResult = {
            "executed": False,
            "schemas": {name: _holds(ends, name) for name in there},
            "missing": missing,
            "notes": [],
            "time_taken": time.monotonic() - began,
        }
        if not execute:
            return result
        if missing:
            raise NotReady(
                "the copies cannot be dropped: " + "; ".join(missing),
                hint="nothing was changed",
                context={"missing": missing},
            )
        # The session checks no keys, so the schemas can go in any order.
        for name in there:
            ends.destination.execute(f"DROP DATABASE {quote(name)}")
        return {**result, "executed": True, "time_taken": time.monotonic() - began}


def _in_the_way(ends: Ends, schema_map: Mapping[str, str], there: list[str]) -> list[str]:
    session = ends.destination
    missing = []
    for name in there:
        if has_table(session, name, RECORD):
            missing.append(f"{name} is a backup")
        elif has_table(session, name, RENAMING):
            missing.append(f"{name} holds the journal of a rename or cutover")
        elif not any(has_table(session, name, mark) for mark in OURS):
            missing.append(f"{name} is no copy that a migration has made")
    for prod, parallel in schema_map.items():
        if schema_exists(ends.source, prod) and has_table(ends.source, prod, LINEAGE):
            missing.append(
                f"{prod} is a schema of 2.x already: after a cutover {parallel} is nothing to drop"
            )
    if there:
        marks = ", ".join(["%s"] * len(there))
        missing += [
            f"{child} refers to {parent}"
            for child, parent in session.query(
                "SELECT DISTINCT CONSTRAINT_SCHEMA, UNIQUE_CONSTRAINT_SCHEMA"
                " FROM information_schema.REFERENTIAL_CONSTRAINTS"
                f" WHERE UNIQUE_CONSTRAINT_SCHEMA IN ({marks}) AND CONSTRAINT_SCHEMA NOT IN"
                f" ({marks}) ORDER BY 1, 2",
                [*there, *there],
            )
        ]
    return missing


def _holds(ends: Ends, schema: str) -> dict[str, int]:
    tables = [
        str(row[0])
        for row in ends.destination.query(
            "SELECT TABLE_NAME FROM information_schema.TABLES"
            " WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE' AND LEFT(TABLE_NAME, 1) <> '~'",
            (schema,),
        )
    ]
    rows = sum(
        int(ends.destination.query(f"SELECT COUNT(*) FROM {quote(schema, table)}")[0][0])
        for table in tables
    )
    return {"tables": len(tables), "rows": rows}
