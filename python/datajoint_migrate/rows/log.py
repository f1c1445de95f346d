"""What a server's binary log says: where it ends, and which keys changed since it ended there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate.catalog.server import Server
from datajoint_migrate.catalog.tables import Table

# By which the server itself changes rows of the table that has the key.
ACTS = ("CASCADE", "SET NULL", "SET DEFAULT")


def log_position(server: Server) -> dict[str, Any]:
    """`position`, or None and in `unknown` why there is none: `reason` in one word, `detail`."""
    return _core.log_position({"server": server.spec()})


def read_position(text: str, side: str) -> dict[str, Any] | None:
    """The position of one side in what `written` made of both; None if there is none that can be
    one: whoever may write to the copy may have changed it."""
    try:
        said = json.loads(text)[side]
        kinds = {"file": str, "offset": int, "began": int, "server": str}
        if set(said) == set(kinds) and all(type(said[key]) is kinds[key] for key in kinds):
            return dict(said)
    except (ValueError, TypeError, KeyError):
        pass
    return None


def written(positions: Mapping[str, Any]) -> str:
    """Positions of both sides as a text to be kept."""
    return json.dumps(dict(positions))


def earliest(positions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The position from which reading covers all of them, which are of one server. By time first:
    a log that was begun anew counts its files anew, and then the oldest is refused."""
    return min(
        positions,
        key=lambda one: (one["began"], one["file"].rpartition(".")[2].zfill(12), one["offset"]),
    )


def find_positions(source: Server, copy: Server | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Where the logs of both sides end, None where that is not known, and why; `copy` is None where
    one server has both."""
    positions: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for side, server in (("source", source), ("copy", copy)):
        if server is None:
            positions[side] = positions["source"]
            unknown |= {side: unknown["source"]} if unknown else {}
            continue
        said = log_position(server)
        positions[side] = said["position"]
        if said["unknown"]:
            unknown[side] = said["unknown"]["detail"]
    return positions, unknown


def changed_keys(
    server: Server,
    since: dict[str, Any],
    tables: Iterable[Table],
    *,
    max_keys: int | None = None,
    max_bytes: int | None = None,
    harmless: Iterable[str] = (),
) -> dict[str, Any]:
    """The keys of all rows that changed since that position, a table each.

    `tables` in their order: `schema`, `table`, `keys` (as bounds of chunks are written), `events`,
    `unknown`; `unknown` for all of them; `events` and `bytes` that were read. A key is named where
    its row is gone, too, and where it changed and is as it was. Tables are given as they are
    declared now, those that refer to each other together.
    """
    return _core.changed_keys(
        log_plan(server, since, tables, max_keys=max_keys, max_bytes=max_bytes, harmless=harmless)
    )


def log_plan(
    server: Server,
    since: dict[str, Any],
    tables: Iterable[Table],
    *,
    max_keys: int | None = None,
    max_bytes: int | None = None,
    harmless: Iterable[str] = (),
) -> dict[str, Any]:
    """What the engine has to know to read a log for these tables; statements that are `harmless`,
    word for word, have changed no row and no column's type."""
    wanted = list(tables)
    plan: dict[str, Any] = {
        "server": server.spec(),
        "since": since,
        "tables": [_wanted(table) for table in wanted],
        "cascades": list(_cascades(wanted)),
        "harmless": list(harmless),
    }
    plan |= {"max_keys": max_keys} if max_keys is not None else {}
    plan |= {"max_bytes": max_bytes} if max_bytes is not None else {}
    return plan


def _wanted(table: Table) -> dict[str, Any]:
    return {
        "schema": table.schema,
        "table": table.name,
        "key": list(table.walk_key),
        "columns": [
            {"name": column.name, "type": column.column_type, "charset": column.charset}
            for column in table.columns
        ],
    }


def _cascades(tables: list[Table]) -> Iterable[dict[str, Any]]:
    places = {(table.schema, table.name): index for index, table in enumerate(tables)}
    for child, table in enumerate(tables):
        for key in table.foreign_keys:
            parent = places.get((key.ref_schema, key.ref_table))
            on_update, on_delete = key.on_update in ACTS, key.on_delete in ACTS
            if parent is not None and (on_update or on_delete):
                yield {
                    "parent": parent,
                    "child": child,
                    "columns": list(key.ref_columns),
                    "on_update": on_update,
                    "on_delete": on_delete,
                }
