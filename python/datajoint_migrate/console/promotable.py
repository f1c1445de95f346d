"""What a person reads of columns that can become object storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from datajoint_migrate.words import counted

if TYPE_CHECKING:
    from datajoint_migrate.results import PromotableColumn

# Shapes that a line names.
SHOWN = 3


def lines(columns: Iterable[PromotableColumn]) -> Iterator[str]:
    """A line for each column that has values and can be promoted."""
    for one in columns:
        if not one["rows"] or one["becomes"] is None:
            continue
        sample = "the first " if one["sampled"] else ""
        held = counted(one["bytes"], "byte")
        yield (
            f"{one['table']}.{one['column']}: {sample}{_values(one)}, {held};"
            f" can become {one['becomes']}@store, {counted(one['file_bytes'], 'byte')} of files"
        )


def _values(one: PromotableColumn) -> str:
    if not one["kinds"]:
        return counted(one["rows"], "value")
    if one["becomes"] != "npy":
        return ", ".join(f"{rows:,} × {kind}" for kind, rows in sorted(one["kinds"].items()))
    shapes = ", ".join(
        f"{shape['rows']:,} × {shape['dtype']} {shape['shape']}" for shape in one["shapes"][:SHOWN]
    )
    others = one["rows"] - sum(shape["rows"] for shape in one["shapes"][:SHOWN])
    return f"{counted(one['rows'], 'array')} ({shapes}{f', {others:,} others' if others else ''})"
