"""What the engine's journal tells a caller: which tables of a destination are begun."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.steps.moving.plan import JOURNAL


def is_open(session: Session, schema: str) -> bool:
    """Whether a copy that keeps its journal in this schema was begun and not finished."""
    return bool(
        session.query(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
            (schema, JOURNAL),
        )
    )


def started(session: Session, schemas: Iterable[str]) -> set[tuple[str, str]]:
    """Destination tables (schema, name) whose rows a journal accounts for."""
    found: set[tuple[str, str]] = set()
    for schema in schemas:
        if is_open(session, schema):
            rows = session.query("SELECT DISTINCT table_name FROM " + quote(schema, JOURNAL))
            found |= {(schema, str(row[0])) for row in rows}
    return found


def rows_done(session: Session, schemas: Iterable[str]) -> dict[tuple[str, str], int]:
    """Rows that interrupted copies have put into destination tables (schema, name)."""
    found: dict[tuple[str, str], int] = {}
    for schema in schemas:
        if is_open(session, schema):
            rows = session.query(
                f"SELECT table_name, SUM(row_count) FROM {quote(schema, JOURNAL)}"
                " WHERE done GROUP BY table_name"
            )
            found |= {(schema, str(table)): int(count) for table, count in rows}
    return found


def forget(session: Session, tables: Iterable[tuple[str, str]]) -> None:
    """Take these tables out of their journals, and remove journals that are empty then.

    Others stay: a copy of another table may be waiting to be resumed.
    """
    schemas: dict[str, list[str]] = {}
    for schema, table in tables:
        schemas.setdefault(schema, []).append(table)
    for schema, names in schemas.items():
        if not is_open(session, schema):
            continue
        journal = quote(schema, JOURNAL)
        marks = ", ".join(["%s"] * len(names))
        session.execute(f"DELETE FROM {journal} WHERE table_name IN ({marks})", names)
        if not session.query(f"SELECT 1 FROM {journal} LIMIT 1"):
            session.execute(f"DROP TABLE {journal}")
