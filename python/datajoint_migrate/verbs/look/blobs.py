"""Blobs that are none: the head of every blob, looked at inside the server."""

from __future__ import annotations

import re
from typing import Any, cast

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.catalog.client import is_attach
from datajoint_migrate.catalog.kinds import BLOBS
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Table, read_schema
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import DamageResult
from datajoint_migrate.verbs.look.heads import promotable
from datajoint_migrate.verbs.look.text import chosen_tables, key_of

# zlib makes nothing more than about a thousand times smaller.
RATIO = 1040
GOOD = {"mYm", "dj0", "ZL123", "attach"}
# Markers of columns that hold packed objects; any other says that a codec of the user's own, or
# nobody, knows what the bytes are.
PACKED = {None, "<blob>"}

# What other programs begin their bytes with, for the guess at what is in a blob that is none.
MAGIC = (
    (b"\x93NUMPY", "a numpy file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB 5.0", "a MAT file"),
    (b"ZL123\0", "a compressed blob, cut or damaged"),
)
PICKLE = re.compile(rb"\x80[\x02-\x05]")
OBJECT = re.compile(r"(\[|array\(|\(|\{|<[\w.]+ object at|(True|False|None|nan|-?\d[\d.e+-]*)$)")


def check_blobs(
    schema: Any,
    table: str | None = None,
    *,
    connection: Any = None,
    limit: int = LIMITS.listed_values,
) -> DamageResult:
    """Find blobs that DataJoint cannot unpack, by the first bytes of each. Reads only.

    2.0.0 writes `str(array)` through a column without a marker, and every release takes bytes
    that something else has packed. `schema` (0.14.6 or 2.x) is a name or a DataJoint schema
    object, `table` a class or table name. All in-table blobs and attachments are looked at inside
    the server, one scan a table; values in stores are not. In a column whose marker names any
    other codec the formats are counted, but nothing is called damaged.

    Returns `ok` (nothing damaged), `columns` (dicts with `table`, `column`, `marker`, `rows`,
    `nulls`, `formats`: counts by "mYm", "dj0", "ZL123" (compressed), "attach", "npy", "text",
    "empty", "raw"), `damaged` (dicts with `table`, `column`, `key`, `head`: the first bytes,
    `guess`; at most `limit`), `truncated`, and `promotable`: for each column what it can become in
    a store (`becomes`), by the headers of its values: `rows`, `bytes` and `file_bytes`, `kinds`,
    `dtypes`, `shapes`.
    """
    name, server = schema_of(schema, connection)
    result: dict[str, Any] = {
        "ok": True,
        "columns": [],
        "damaged": [],
        "truncated": False,
        "promotable": [],
    }
    with server.session(read_only=True) as session:
        found = read_schema(session, name)
        for one in chosen_tables(found, table):
            _check_table(session, one, result, limit)
            result["promotable"] += promotable(session, one)
    return cast(DamageResult, result)


def _format(column: Column) -> str:
    """SQL that names the format of a value, NULL for NULL."""
    value = quote(column.name)
    length = f"LENGTH({value})"
    size = f"CONV(HEX(REVERSE(SUBSTR({value}, 7, 8))), 16, 10)"
    header = f"HEX(SUBSTR({value}, 15, 2)) IN ('7801', '785E', '789C', '78DA')"
    cases = [
        (f"{value} IS NULL", "NULL"),
        (f"{length} = 0", "'empty'"),
        (f"LEFT({value}, 4) = x'6D596D00' AND {length} > 4", "'mYm'"),
        (f"LEFT({value}, 4) = x'646A3000' AND {length} > 4", "'dj0'"),
        (
            f"LEFT({value}, 6) = x'5A4C31323300' AND {header}"
            f" AND {size} BETWEEN 5 AND {length} * {RATIO}",
            "'ZL123'",
        ),
    ]
    if _is_attach(column):
        name = f"LEFT({value}, LOCATE(x'00', LEFT({value}, {LIMITS.attachment_name_bytes})) - 1)"
        cases.append((f"HEX({name}) REGEXP '^([2-9A-F][0-9A-F])+$'", "'attach'"))
    cases += [
        (f"LEFT({value}, 6) = x'934E554D5059'", "'npy'"),
        (
            f"HEX(LEFT({value}, {LIMITS.blob_head_bytes}))"
            " REGEXP '^(09|0A|0D|[2-6][0-9A-F]|7[0-9A-E])+$'",
            "'text'",
        ),
    ]
    return (
        "CASE " + " ".join(f"WHEN {when} THEN {then}" for when, then in cases) + " ELSE 'raw' END"
    )


def _is_attach(column: Column) -> bool:
    return column.marker == "<attach>" or is_attach(column.marker)


def _good(column: Column) -> set[str]:
    if _is_attach(column):
        return {"attach"}
    if column.marker in PACKED:
        return GOOD - {"attach"}
    return {"mYm", "dj0", "ZL123", "attach", "npy", "text", "empty", "raw"}


def _check_table(session: Session, table: Table, result: dict[str, Any], limit: int) -> None:
    columns = [column for column in table.columns if column.data_type in BLOBS]
    if not columns:
        return
    where = quote(table.schema, table.name)
    formats = ", ".join(f"{_format(column)} AS f{at}" for at, column in enumerate(columns))
    groups = ", ".join(f"f{at}" for at in range(len(columns)))
    # Grouped by all formats at once, each row is read once, whatever the number of columns.
    counted = session.query(
        f"SELECT {groups}, COUNT(*) FROM (SELECT {formats} FROM {where}) heads GROUP BY {groups}"
    )
    for at, column in enumerate(columns):
        found: dict[str | None, int] = {}
        for row in counted:
            found[row[at]] = found.get(row[at], 0) + int(row[-1])
        nulls = found.pop(None, 0)
        result["columns"].append(
            {
                "table": str(table),
                "column": column.name,
                "marker": column.marker,
                "rows": nulls + sum(found.values()),
                "nulls": nulls,
                "formats": {str(name): count for name, count in sorted(found.items())},
            }
        )
        bad = sorted(str(name) for name in found if name not in _good(column))
        if bad:
            result["ok"] = False
            total = sum(found[name] for name in bad)
            result["truncated"] = result["truncated"] or total > limit - len(result["damaged"])
            _list_damaged(session, table, column, bad, result, limit)


def _list_damaged(
    session: Session,
    table: Table,
    column: Column,
    bad: list[str],
    result: dict[str, Any],
    limit: int,
) -> None:
    names = key_of(table)
    keys = ", ".join(map(quote, names))
    wanted = ", ".join(f"'{name}'" for name in bad)
    for row in session.query(
        f"SELECT {keys}, LEFT({quote(column.name)}, {LIMITS.blob_head_bytes})"
        f" FROM {quote(table.schema, table.name)}"
        f" WHERE {_format(column)} IN ({wanted}) ORDER BY {keys}"
        f" LIMIT {limit - len(result['damaged'])}"
    ):
        result["damaged"].append(
            {
                "table": str(table),
                "column": column.name,
                "key": dict(zip(names, row, strict=False)),
                "head": row[-1],
                "guess": guess(row[-1]),
            }
        )


def guess(head: bytes) -> str:
    """What bytes that are no DataJoint blob may be, in a few words."""
    if not head:
        return "empty"
    for magic, what in MAGIC:
        if head.startswith(magic):
            return what
    if head.startswith((b"mYm\0", b"dj0\0")):
        return "a packed object"
    if PICKLE.match(head):
        return "a Python pickle"
    try:
        text = head.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        return "unknown bytes"
    if any(ord(letter) < 32 and letter not in "\t\r\n" for letter in text):
        return "unknown bytes"
    if OBJECT.match(text.strip()):
        return "str(array), or another object's text: its value is lost unless it was short"
    return "text"
