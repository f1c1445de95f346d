"""`~lineage` written: what was computed, and nothing else, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.names import LINEAGE
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.target.lineage import Lineage

Row = tuple[str, str, str]

CREATE = """CREATE TABLE IF NOT EXISTS {table} (
`table_name` VARCHAR(64) NOT NULL COMMENT "table name within the schema",
`attribute_name` VARCHAR(64) NOT NULL COMMENT "attribute name",
`lineage` VARCHAR(255) NOT NULL COMMENT "origin: schema.table.attribute",
PRIMARY KEY (`table_name`, `attribute_name`)
) ENGINE=InnoDB"""


def write_rows(session: Session, names: Iterable[str], rows: Iterable[Lineage]) -> None:
    """Make `~lineage` hold exactly these rows in each of the schemas, in one transaction.

    It needs nothing of the destination but the schemas: those they will refer to may not exist yet.
    """
    chosen = list(names)
    rows = list(rows)
    for name in chosen:
        session.execute(CREATE.format(table=quote(name, LINEAGE)))
    with _transaction(session):
        for name in chosen:
            session.execute(f"DELETE FROM {quote(name, LINEAGE)}")
            _insert(session, name, [_said(row) for row in rows if row.schema == name])


def keep_rows(session: Session, name: str, rows: Iterable[Lineage], tables: Iterable[str]) -> None:
    """Let `~lineage` of one schema say this of these tables, and what it says of all others."""
    session.execute(CREATE.format(table=quote(name, LINEAGE)))
    there: dict[str, set[Row]] = {table: set() for table in tables}
    want: dict[str, set[Row]] = {table: set() for table in there}
    for row in session.query(
        f"SELECT table_name, attribute_name, lineage FROM {quote(name, LINEAGE)}"
    ):
        there.get(str(row[0]), set()).add((str(row[0]), str(row[1]), str(row[2])))
    for one in rows:
        if one.schema == name:
            want.get(one.table, set()).add(_said(one))
    other = [table for table in there if there[table] != want[table]]
    if not other:
        return
    with _transaction(session):
        for start in range(0, len(other), LIMITS.lineage_rows_per_insert):
            part = other[start : start + LIMITS.lineage_rows_per_insert]
            marks = ", ".join(["%s"] * len(part))
            session.execute(
                f"DELETE FROM {quote(name, LINEAGE)} WHERE table_name IN ({marks})", part
            )
        _insert(session, name, sorted(row for table in other for row in want[table]))


def _said(row: Lineage) -> Row:
    return row.table, row.attribute, row.lineage


def _insert(session: Session, name: str, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), LIMITS.lineage_rows_per_insert):
        part = rows[start : start + LIMITS.lineage_rows_per_insert]
        session.execute(
            f"INSERT INTO {quote(name, LINEAGE)} (table_name, attribute_name, lineage) VALUES "
            + ", ".join(["(%s, %s, %s)"] * len(part)),
            [value for row in part for value in row],
        )


@contextmanager
def _transaction(session: Session) -> Iterator[None]:
    session.execute("START TRANSACTION")
    try:
        yield
        session.execute("COMMIT")
    except BaseException:
        session.execute("ROLLBACK")
        raise
