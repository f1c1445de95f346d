"""The fence: one column label a table that no 0.14.6 client gets past and no 2.x client notices.

A label that 0.14.6 does not know (`Unknown attribute type`) stops it from reading the heading, and
so from inserting, updating, populating and declaring children. The label used here is the type the
column has anyway: a 2.x client reads the same type with and without it.
"""

from __future__ import annotations

import re
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.catalog.client import said_by
from datajoint_migrate.catalog.definition import definition
from datajoint_migrate.catalog.kinds import bare_type
from datajoint_migrate.catalog.names import COMMENT_CHARACTERS
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Schema, Table
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.target.ddl import parse
from datajoint_migrate.target.types import fit_comment

# Types both 2.x lines take as they are written, and that neither treats in a way of its own when a
# label names them (as they do uuid, json and binary). The first found is labelled.
PLAIN = (
    "varchar", "char", "float", "double", "decimal", "date", "datetime", "timestamp", "time",
    "int", "smallint", "tinyint", "bigint", "mediumint", "year", "enum",
)  # fmt: skip
LABEL = re.compile(r"[^:<>]+$")
# Hidden tables that only 0.14.6 uses.
ONLY_014 = ("~external_", "~jobs", "~log")


def fence_of(table: Table) -> dict[str, Any] | None:
    """The step that fences one table; None when a label stands there, or none fits."""
    if is_fenced(table) or (table.hidden and not table.name.startswith(ONLY_014)):
        return None
    usable = [column for column in table.columns if _usable(column)]
    if not usable:
        return None
    # Job tables and children are declared from key columns; the label is best kept off them.
    tied = {name for key in table.foreign_keys for name in key.columns} | set(table.primary_key)
    chosen = min(usable, key=lambda column: (column.name in tied, PLAIN.index(column.data_type)))
    comment, _ = fit_comment(_label(chosen), chosen.comment)
    return {
        "kind": "fence",
        "schema": table.schema,
        "table": table.name,
        "column": chosen.name,
        "before": chosen.comment,
        "after": comment,
    }


def is_fenced(table: Table) -> bool:
    """Whether a label of the table already keeps 0.14.6 out."""
    return any(
        # A label that 0.14.6 does not know stops it.
        column.marker is not None and said_by(column.marker) is None
        for column in table.columns
    )


def unfenced(schema: Schema) -> list[str]:
    """Tables no label fits, because no column has a plain type."""
    return [
        table.name
        for table in schema.tables.values()
        if not table.hidden and not is_fenced(table) and fence_of(table) is None
    ]


def put_comment(session: Session, step: dict[str, Any], old: str, new: str) -> None:
    """Change the comment of the step's column from `old` to `new`, if that is what it has.

    The definition is repeated as the server shows it now, so that nothing else changes and no row
    is touched.
    """
    place = (step["schema"], step["table"])
    found = session.query(
        "SELECT COLUMN_COMMENT FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND COLUMN_NAME = %s",
        (*place, step["column"]),
    )
    if not found or found[0][0] != old:
        return
    create = definition(session, *place)
    line = next(line for line in parse(create).columns if line.name == step["column"])
    if new:
        line.set_comment(new)
    else:
        line.drop("COMMENT")
    alter = f"ALTER TABLE {quote(*place)} MODIFY COLUMN {line.render()}"
    session.commented.append(alter)
    patiently(session, alter, LIMITS.rename_lock_seconds)


def _usable(column: Column) -> bool:
    return (
        column.data_type in PLAIN
        and not column.generated
        and not column.comment.startswith(":")
        and LABEL.match(_label(column)) is not None
        and len(column.comment) + len(_label(column)) + 2 <= COMMENT_CHARACTERS
    )


def _label(column: Column) -> str:
    return bare_type(column)
