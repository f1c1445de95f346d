"""Kinds of column types: how wide integers are, what texts and blobs hold, how a type is spelt."""

from __future__ import annotations

import re

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.tables import Column

INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
TEXTS = {"tinytext": 255, "text": 65_535, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1}
BLOBS = {"tinyblob": 255, "blob": 65_535, "mediumblob": 2**24 - 1, "longblob": 2**32 - 1}
STRINGS = {"char", "varchar", *TEXTS}
BINARIES = {"binary", "varbinary", *BLOBS}


def bare_type(column: Column) -> str:
    """The column type without MariaDB's integer display widths, in lower case outside quotes."""
    kind = column.column_type
    if column.data_type in ("enum", "set"):
        return kind
    kind = kind.lower()
    if column.data_type in INTEGERS and kind != "tinyint(1)":
        kind = re.sub(r"\(\d+\)", "", kind)
    return kind.replace("year(4)", "year")


def compared_as(column: Column) -> str:
    """SQL of a key's column whose values, written out, compare as the index sorts them.

    Members of an ENUM or SET and bits do so by their numbers only; a float needs all its digits.
    """
    name = quote(column.name)
    if column.data_type in ("enum", "set", "bit"):
        return f"({name} + 0)"
    return f"({name} + 0e0)" if column.data_type in ("float", "double") else name
