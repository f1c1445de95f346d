"""Words of messages: numbers with their nouns, and differences in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 schema`, `2 schemas`, `1,000 copies`."""
    return f"{number:,} {noun if abs(number) == 1 else plural or noun + 's'}"


def verb(number: int, one: str, many: str) -> str:
    """The verb that fits a number: `is` or `are`."""
    return one if number == 1 else many


def difference(found: Mapping[str, Any], table: str = "") -> str:
    """One of the `discrepancies` of a comparison as a line: the key, then each column's values."""
    kind = str(found.get("kind", ""))
    place = table or str(found.get("table", ""))
    if found.get("key"):
        place += " " + ", ".join(f"{name}={value}" for name, value in found["key"].items())
    if kind == "missing":
        return f"{place}: the row is missing in the copy"
    if kind == "extra":
        return f"{place}: production does not have this row"
    if kind == "differs":
        columns = found.get("columns") or {}
        said = [
            f"{name} is {_cell(ours)} in production, {_cell(theirs)} in the copy"
            for name, (ours, theirs) in columns.items()
        ]
        return f"{place}: " + "; ".join(said)
    if kind in ("missing_table", "extra_table"):
        return f"{place}: {found.get('schema')} has no such table"
    if kind == "missing_column":
        return f"{place}: the copy has no column {found.get('column')}"
    if kind == "key":
        return f"{place}: the copy lacks key columns {', '.join(found.get('columns', ()))}"
    return f"{place}: " + str(found.get("error") or dict(found))


def structural(found: Mapping[str, Any]) -> str:
    """One of the differences in `structure` as a line."""
    what = str(found["what"]).replace("_", " ")
    place = f"{found['table']}: " if found.get("table") else ""
    return (
        f"{place}{what} {found['name']}: {_value(found['prod'])} in production, "
        f"{_value(found['test'])} in the copy"
    )


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(str, value)) + ")"
    return str(value)


def _cell(value: str | None) -> str:
    """A value of a row; an empty text and NULL are told apart."""
    if value is None:
        return "NULL"
    return value.encode("unicode_escape").decode() if not value.isprintable() else value or "''"
