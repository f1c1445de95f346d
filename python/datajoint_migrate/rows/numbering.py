"""AUTO_INCREMENT goes on where the source would."""

from __future__ import annotations

import re

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.tables import Table


def keep_auto_increment(ends: Ends, source: Table, destination: Table) -> None:
    """Let the destination go on numbering where the source would, even after deleted rows."""
    if not any(column.auto_increment for column in destination.columns):
        return
    rows = ends.source.query(
        "SELECT AUTO_INCREMENT FROM information_schema.TABLES"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        (source.schema, source.name),
    )
    value = rows[0][0] if rows else None
    found = re.search(r"\bAUTO_INCREMENT=(\d+)", source.create)
    value = value or (found[1] if found else None)
    if value:
        name = quote(destination.schema, destination.name)
        ends.destination.execute(f"ALTER TABLE {name} AUTO_INCREMENT = {int(value)}")
