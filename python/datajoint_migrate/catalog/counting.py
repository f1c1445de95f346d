"""Counting rows of production, chunk by chunk: a long table is no long statement."""

from __future__ import annotations

from datajoint_migrate import _core
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Table


def count_rows(
    session: Session, table: Table, conditions: list[str], where_clause: str | None = None
) -> list[int]:
    """For each condition, the rows of a table it is true for; the session's limits are kept."""
    plan = {
        "source": session.server.spec(),
        "throttle": session.spared,
        "schema": table.schema,
        "table": table.name,
        "key": list(table.walk_key),
        "index": "PRIMARY" if table.primary_key else None,
        "where_clause": where_clause,
        "conditions": conditions,
        "rows": table.rows,
        "data_bytes": table.data_bytes,
    }
    return list(_core.proofs(plan)["counts"])
