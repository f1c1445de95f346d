"""What the engine's journal tells a caller: which tables of a destination are begun."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.names import JOURNAL
from datajoint_migrate.catalog.presence import has_table, with_table
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Table

# In place of a plan: the rows are on their way out. The engine knows the word, too.
EMPTYING = "emptying"


def is_open(session: Session, schema: str) -> bool:
    """Whether a copy that keeps its journal in this schema was begun and not finished."""
    return has_table(session, schema, JOURNAL)


def open_ones(session: Session, schemas: Iterable[str]) -> list[str]:
    """The schemas that keep a journal."""
    return with_table(session, schemas, JOURNAL)


def started(session: Session, schemas: Iterable[str]) -> set[tuple[str, str]]:
    """Destination tables (schema, name) whose rows a journal accounts for."""
    found: set[tuple[str, str]] = set()
    for schema in open_ones(session, schemas):
        rows = session.query("SELECT DISTINCT table_name FROM " + quote(schema, JOURNAL))
        found |= {(schema, str(row[0])) for row in rows}
    return found


def rows_done(session: Session, schemas: Iterable[str]) -> dict[tuple[str, str], int]:
    """Rows that interrupted copies have put into destination tables (schema, name)."""
    found: dict[tuple[str, str], int] = {}
    for schema in open_ones(session, schemas):
        rows = session.query(
            f"SELECT table_name, SUM(row_count) FROM {quote(schema, JOURNAL)}"
            f" WHERE done GROUP BY table_name HAVING SUM(plan = '{EMPTYING}') = 0"
        )
        found |= {(schema, str(table)): int(count) for table, count in rows}
    return found


def empty(session: Session, schema: str, table: str) -> None:
    """Take a table's rows out, and the table out of the journal.

    Whatever is killed in between: who goes on finds the mark and empties the table once more. Rows
    are never without a journal that accounts for them, and no journal tells of rows that are gone.
    """
    if is_open(session, schema):
        session.execute(
            f"INSERT INTO {quote(schema, JOURNAL)} (table_name, chunk, plan, bounds, done)"
            f" VALUES (%s, 0, '{EMPTYING}', '', 0)"
            " ON DUPLICATE KEY UPDATE plan = VALUES(plan), done = 0, row_count = 0",
            (table,),
        )
    session.execute(f"TRUNCATE TABLE {quote(schema, table)}")
    forget(session, [(schema, table)])


def take_back(session: Session, tables: Iterable[Table]) -> bool:
    """Take out again what a refused call has copied; whether that could be done.

    Where the journal does not account for every row of every table, somebody else's are among
    them, and all stay. Nothing is left to go on with, either way.
    """
    names = [(table.schema, table.name) for table in tables]
    done = rows_done(session, {schema for schema, _ in names})
    ours = all(
        session.query(f"SELECT COUNT(*) FROM {quote(*name)}")[0][0] == done.get(name, 0)
        for name in names
    )
    if ours:
        for name in names:
            empty(session, *name)
    forget(session, names)
    return ours


def forget(session: Session, tables: Iterable[tuple[str, str]]) -> None:
    """Take these tables out of their journals, all at once; journals that are empty then go.

    Others stay: a copy of another table may be waiting to be resumed. It is the last thing a call
    does: what comes after it is not done again when it was killed.
    """
    schemas: dict[str, list[str]] = {}
    for schema, table in tables:
        schemas.setdefault(schema, []).append(table)
    journals = {schema: schemas[schema] for schema in open_ones(session, schemas)}
    session.execute("START TRANSACTION")
    for schema, names in journals.items():
        marks = ", ".join(["%s"] * len(names))
        session.execute(
            f"DELETE FROM {quote(schema, JOURNAL)} WHERE table_name IN ({marks})", names
        )
    session.execute("COMMIT")
    tidy(session, journals)


def tidy(session: Session, schemas: Iterable[str]) -> None:
    """Remove journals that tell of no table any more."""
    for schema in open_ones(session, schemas):
        journal = quote(schema, JOURNAL)
        if not session.query(f"SELECT 1 FROM {journal} LIMIT 1"):
            session.execute(f"DROP TABLE {journal}")
