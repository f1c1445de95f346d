"""Foreign keys are proved after a load, because a load checks none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.tables import ForeignKey, Table
from datajoint_migrate.errors import Mismatch

SHOWN = 10


def _orphan_condition(key: ForeignKey) -> str:
    present = " AND ".join(f"c.{quote(name)} IS NOT NULL" for name in key.columns)
    equal = " AND ".join(
        f"p.{quote(theirs)} = c.{quote(mine)}"
        for mine, theirs in zip(key.columns, key.ref_columns, strict=True)
    )
    parent = quote(key.ref_schema, key.ref_table)
    return f"{present} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {equal})"


def find_orphans(session: Session, tables: Iterable[Table]) -> list[dict[str, Any]]:
    """Rows whose foreign key has no parent.

    Each: `table`, its bare `name`, `constraint`, `references`, `keys` (a few).

    A parent table that does not exist counts as one without rows.
    """
    found = []
    for table in tables:
        for key in table.foreign_keys:
            keys = _orphans_of(session, table, key)
            if keys:
                found.append(
                    {
                        "table": f"{table.schema}.{table.name}",
                        "name": table.name,
                        "constraint": key.name,
                        "references": f"{key.ref_schema}.{key.ref_table}",
                        "keys": keys,
                    }
                )
    return found


def _orphans_of(session: Session, table: Table, key: ForeignKey) -> list[dict[str, Any]]:
    parent = session.query(
        "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        (key.ref_schema, key.ref_table),
    )
    if parent:
        condition = _orphan_condition(key)
    else:
        condition = " AND ".join(f"c.{quote(name)} IS NOT NULL" for name in key.columns)
    names = tuple(dict.fromkeys((*table.walk_key, *key.columns)))
    rows = session.query(
        f"SELECT {', '.join('c.' + quote(n) for n in names)} "
        f"FROM {quote(table.schema, table.name)} c WHERE {condition} LIMIT {SHOWN}"
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def prove_keys(session: Session, tables: Iterable[Table], hint: str) -> None:
    """Raises `Mismatch`, with keys of orphans, when a foreign key of `tables` does not hold."""
    orphans = find_orphans(session, tables)
    if not orphans:
        return
    first = orphans[0]
    more = f" (and {len(orphans) - 1} more foreign keys)" if len(orphans) > 1 else ""
    raise Mismatch(
        f"rows of {first['table']} refer to rows that {first['references']} does not have, "
        f"for example {first['keys'][0]}{more}",
        code="DJM-1702",
        hint=hint,
        context={"orphans": orphans},
    )


def empty_parents(session: Session, table: Table) -> list[str]:
    """Parents (other than itself) that hold no row, so that no row with that key can be copied."""
    empty = []
    for key in table.foreign_keys:
        parent = (key.ref_schema, key.ref_table)
        required = all(not table.column(name).nullable for name in key.columns)
        if not required or parent == (table.schema, table.name):
            continue
        if not has_rows(session, *parent):
            empty.append(f"{key.ref_schema}.{key.ref_table}")
    return list(dict.fromkeys(empty))


def has_rows(session: Session, schema: str, table: str) -> bool:
    """Whether the table exists and holds a row."""
    there = session.query(
        "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        (schema, table),
    )
    return bool(there) and bool(session.query(f"SELECT 1 FROM {quote(schema, table)} LIMIT 1"))
