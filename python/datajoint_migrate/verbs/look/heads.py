"""What packed values are, by their first bytes: which columns can be promoted, what that saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.catalog.client import is_attach
from datajoint_migrate.catalog.kinds import BLOBS
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Table
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import BlobHeader, PromotableColumn

HEAD = 1024


def unpack_header(blob: bytes, length: int | None = None) -> BlobHeader:
    """Kind, dtype and shape of a packed blob (`mYm`, `dj0`, `ZL123`); its data are not inflated.

    The first 1,024 bytes of a blob are enough; `length` is then how many it has in all.

    Returns `kind` (`array`, `scalar`, `list`, `dict`, `str`, …; `damaged`, `text`, `empty` or
    `no blob` for what DataJoint has not packed, or cannot unpack), `dtype` (of arrays and scalars
    of numbers, as numpy names it) and `shape` (of arrays of every kind, as numpy has it); None
    where there is none. Nothing is raised for a damaged value. Only kind `array` can become
    `npy@store`.
    """
    kind, dtype, shape = _core.unpack_header(bytes(blob), length)
    return {"kind": kind, "dtype": dtype, "shape": shape}


def promotable(session: Session, table: Table) -> list[PromotableColumn]:
    """What a table's columns can become; every value is looked at."""
    columns = _columns(table)
    if not columns:
        return []
    plan = {
        "source": session.server.spec(),
        "throttle": session.spared,
        "schema": table.schema,
        "table": table.name,
        "key": list(table.walk_key),
        "index": "PRIMARY" if table.primary_key else None,
        "columns": [column.name for column in columns],
        "rows": table.rows,
        "data_bytes": table.data_bytes,
    }
    told = _core.heads(plan)["columns"]
    return [
        _column(table, column, found, False) for column, found in zip(columns, told, strict=True)
    ]


def sampled(session: Session, table: Table) -> list[PromotableColumn]:
    """The same by the first rows, as many as are read in a moment."""
    columns = _columns(table)
    if not columns:
        return []
    row_bytes = table.data_bytes // max(table.rows, 1)
    rows = max(1, min(LIMITS.head_rows, LIMITS.head_bytes // max(row_bytes, 1)))
    heads = ", ".join(
        f"LEFT({quote(column.name)}, {HEAD}), LENGTH({quote(column.name)})" for column in columns
    )
    # One more row tells whether these are all.
    found = session.query(f"SELECT {heads} FROM {quote(table.schema, table.name)} LIMIT {rows + 1}")
    taken = found[:rows]
    said = []
    for at, column in enumerate(columns):
        values = [
            None if row[2 * at] is None else (bytes(row[2 * at]), int(row[2 * at + 1]))
            for row in taken
        ]
        told = _core.count_heads(values)
        said.append(_column(table, column, told, len(found) > rows))
    return said


def _columns(table: Table) -> list[Column]:
    """The blobs of a table's values; those of its key cannot be promoted."""
    return [
        column
        for column in table.columns
        if column.data_type in BLOBS
        and column.name not in table.primary_key
        and not column.name.startswith("_")
    ]


def _column(
    table: Table, column: Column, told: Mapping[str, Any], is_sample: bool
) -> PromotableColumn:
    packed = column.marker in (None, "<blob>")
    becomes = None
    if not table.primary_key:
        pass
    elif packed:
        becomes = "npy" if set(told["kinds"]) == {"array"} else "blob"
    elif column.marker == "<attach>" or is_attach(column.marker):
        becomes = "attach"
    elif column.marker == "bytes":
        becomes = "hash"
    return {
        "table": str(table),
        "column": column.name,
        "marker": column.marker,
        "becomes": becomes,
        "rows": told["rows"],
        "nulls": told["nulls"],
        "bytes": told["bytes"],
        "file_bytes": told["npy_bytes"] if becomes == "npy" else told["bytes"],
        "kinds": told["kinds"] if packed else {},
        "dtypes": told["dtypes"] if packed else {},
        "shapes": told["shapes"] if packed else [],
        "other_shapes": told["other_shapes"] if packed else 0,
        "sampled": is_sample,
    }
