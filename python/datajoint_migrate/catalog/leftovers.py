"""What calls that were interrupted have left in a schema, and which call goes on with it."""

from __future__ import annotations

from datajoint_migrate.catalog.names import (
    JOURNAL,
    LAID_ASIDE,
    NEW,
    OLD,
    POSTPONED,
    SYNC,
    new_name,
    old_name,
)
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema


def unfinished(session: Session, schema: Schema) -> list[str]:
    """A sentence for each table that only an interrupted call has."""
    return [
        *(
            f"{schema.name} holds {left}: a copy was interrupted; run the same call again"
            for left in (JOURNAL, POSTPONED, LAID_ASIDE)
            if left in schema.tables
        ),
        *left_by_sync(session, schema).values(),
    ]


def left_by_sync(session: Session, schema: Schema) -> dict[str, str]:
    """Tables of an exchange that a sync did not end, or that keys still name: a sentence each."""
    whose = {
        hidden: f", for {table}"
        for table in schema.tables
        for hidden in (new_name(table), old_name(table))
    }
    again = "a sync was interrupted; call sync again, and it goes on"
    found = {
        name: f"{schema.name} holds {name}{whose.get(name, '')}: {again}"
        for name in schema.tables
        if name.startswith((NEW, OLD))
    }
    if SYNC in schema.tables:
        for name in sorted(old_named_by_keys(session, schema.name) - found.keys()):
            gone = f"{schema.name}.{name}{whose.get(name, '')}"
            found[name] = f"foreign keys refer to {gone}, which is gone: {again}"
    return found


def old_named_by_keys(session: Session, schema: str) -> set[str]:
    """Tables whose place another took and that keys refer to, there or not."""
    # MySQL reads all keys of the server for the first view; MariaDB does so for both, and shows
    # the second to nobody who may only SELECT.
    view, column = (
        ("KEY_COLUMN_USAGE", "REFERENCED_TABLE_SCHEMA")
        if session.is_mariadb
        else ("REFERENTIAL_CONSTRAINTS", "UNIQUE_CONSTRAINT_SCHEMA")
    )
    rows = session.query(
        f"SELECT DISTINCT REFERENCED_TABLE_NAME FROM information_schema.{view}"
        f" WHERE {column} = %s AND LEFT(REFERENCED_TABLE_NAME, %s) = %s",
        (schema, len(OLD), OLD),
    )
    return {str(row[0]) for row in rows}
