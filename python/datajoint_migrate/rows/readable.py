"""A differing row as people read it: its key in the key's order, text as text."""

from __future__ import annotations

import re
from typing import Any

from datajoint_migrate.catalog.tables import Table

# Names of character sets that Python has under another one; its own names are the same elsewhere.
CODECS = {"latin1": "cp1252", "utf8mb3": "utf-8", "utf8mb4": "utf-8", "ucs2": "utf-16-be"}
HEX = re.compile(r"0x((?:[0-9a-f]{2})*)(.*)", re.DOTALL)


def readable(found: dict[str, Any], table: Table) -> dict[str, Any]:
    """The same difference. The engine shows bytes that are not UTF-8 as hexadecimal digits; those
    of a text column are told in the column's own character set."""
    key = found["key"]
    order = [name for name in table.walk_key if name in key]
    return {
        **found,
        "key": {
            name: _text(key[name], name, table) for name in [*order, *sorted({*key} - {*order})]
        },
        "columns": {
            column.name: tuple(
                _text(one, column.name, table) for one in found["columns"][column.name]
            )
            for column in table.columns
            if column.name in found["columns"]
        },
    }


def _text(value: str | None, name: str, table: Table) -> str | None:
    charset = table.column(name).charset
    digits = HEX.fullmatch(value) if value and charset else None
    if not digits or charset is None:
        return value
    said = bytes.fromhex(digits[1])
    if _is_shown_as_text(said):
        # Digits that somebody wrote.
        return value
    try:
        return said.decode(CODECS.get(charset, charset)) + digits[2]
    except (LookupError, UnicodeDecodeError):
        return value


def _is_shown_as_text(said: bytes) -> bool:
    try:
        return all(one.isprintable() or one.isspace() for one in said.decode())
    except UnicodeDecodeError:
        return False
