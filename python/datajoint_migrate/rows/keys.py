"""Foreign keys are proved after a load, because a load checks none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.presence import has_rows, has_table, tables_there
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import ForeignKey, Table
from datajoint_migrate.errors import Mismatch
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.words import counted

Name = tuple[str, str]


def _orphan_condition(key: ForeignKey) -> str:
    present = " AND ".join(f"c.{quote(name)} IS NOT NULL" for name in key.columns)
    equal = " AND ".join(
        f"p.{quote(theirs)} = c.{quote(mine)}"
        for mine, theirs in zip(key.columns, key.ref_columns, strict=True)
    )
    parent = quote(key.ref_schema, key.ref_table)
    return f"{present} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {equal})"


def referring(session: Session, schemas: Iterable[str]) -> dict[Name, list[dict[str, Any]]]:
    """Per table of these schemas the keys that refer to it, of whatever schema: `schema`, `table`,
    `columns`, `references`. As far as this user may see them."""
    found: dict[Name, dict[tuple[str, str, str], dict[str, Any]]] = {}
    for schema, *place, column, parent, theirs in of_schemas(
        session,
        "SELECT REFERENCED_TABLE_SCHEMA, TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME,"
        " REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"
        " WHERE {REFERENCED_TABLE_SCHEMA}"
        " ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
        schemas,
        is_owner=False,
    ):
        child_schema, child, name = map(str, place)
        owner = session.spelt(child_schema)
        key = found.setdefault((schema, str(parent)), {}).setdefault(
            (owner, child, name),
            {"schema": owner, "table": child, "columns": [], "references": []},
        )
        key["columns"].append(str(column))
        key["references"].append(str(theirs))
    return {parent: list(keys.values()) for parent, keys in found.items()}


def find_orphans(session: Session, tables: Iterable[Table]) -> list[dict[str, Any]]:
    """Rows whose foreign key has no parent.

    Each: `table`, its bare `name`, `constraint`, `references`, `keys` (a few).

    A parent table that does not exist counts as one without rows.
    """
    found = []
    tables = list(tables)
    keyed = [key for table in tables for key in table.foreign_keys]
    there = tables_there(session, (key.ref_schema for key in keyed))
    for table in tables:
        for key in table.foreign_keys:
            # A server that folds names may spell this one otherwise.
            parent = (key.ref_schema, key.ref_table)
            is_there = parent in there or has_table(session, *parent)
            keys = _orphans_of(session, table, key, is_there)
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


def _orphans_of(
    session: Session, table: Table, key: ForeignKey, is_there: bool
) -> list[dict[str, Any]]:
    if is_there:
        condition = _orphan_condition(key)
    else:
        condition = " AND ".join(f"c.{quote(name)} IS NOT NULL" for name in key.columns)
    names = tuple(dict.fromkeys((*table.walk_key, *key.columns)))
    rows = session.query(
        f"SELECT {', '.join('c.' + quote(n) for n in names)} "
        f"FROM {quote(table.schema, table.name)} c WHERE {condition} LIMIT {LIMITS.shown_orphans}"
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def prove_keys(session: Session, tables: Iterable[Table], hint: str) -> None:
    """Raises `Mismatch`, with keys of orphans, when a foreign key of `tables` does not hold."""
    orphans = find_orphans(session, tables)
    if not orphans:
        return
    first = orphans[0]
    more = f" (and {counted(len(orphans) - 1, 'more foreign key')})" if len(orphans) > 1 else ""
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
