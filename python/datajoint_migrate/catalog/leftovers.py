"""What calls that were interrupted have left in a schema, and which call goes on with it."""

from __future__ import annotations

from collections.abc import Iterable

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
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema

Name = tuple[str, str]


def unfinished(session: Session, schemas: Iterable[Schema]) -> list[str]:
    """A sentence for each table that only an interrupted call has."""
    wanted = list(schemas)
    return [
        *(
            f"{schema.name} holds {left}: a copy was interrupted; run the same call again"
            for schema in wanted
            for left in (JOURNAL, POSTPONED, LAID_ASIDE)
            if left in schema.tables
        ),
        *left_by_sync(session, wanted).values(),
    ]


def left_by_sync(session: Session, schemas: Iterable[Schema]) -> dict[Name, str]:
    """Tables of an exchange that a sync did not end, or that keys still name: a sentence each."""
    again = "a sync was interrupted; call sync again, and it goes on"
    found: dict[Name, str] = {}
    wanted = list(schemas)
    named = old_named_by_keys(session, [one.name for one in wanted if SYNC in one.tables])
    for schema in wanted:
        whose = {
            hidden: f", for {table}"
            for table in schema.tables
            for hidden in (new_name(table), old_name(table))
        }
        for name in schema.tables:
            if name.startswith((NEW, OLD)):
                said = f"{schema.name} holds {name}{whose.get(name, '')}: {again}"
                found[schema.name, name] = said
        for name in sorted(named.get(schema.name, set()) - schema.tables.keys()):
            gone = f"{schema.name}.{name}{whose.get(name, '')}"
            found[schema.name, name] = f"foreign keys refer to {gone}, which is gone: {again}"
    return found


def old_named_by_keys(session: Session, schemas: Iterable[str]) -> dict[str, set[str]]:
    """By schema the tables whose place another took and that keys refer to, there or not."""
    # MySQL reads all keys of the server for the first view; MariaDB does so for both, and shows
    # the second to nobody who may only SELECT.
    view, column = (
        ("KEY_COLUMN_USAGE", "REFERENCED_TABLE_SCHEMA")
        if session.is_mariadb
        else ("REFERENTIAL_CONSTRAINTS", "UNIQUE_CONSTRAINT_SCHEMA")
    )
    found: dict[str, set[str]] = {}
    for schema, table in of_schemas(
        session,
        f"SELECT DISTINCT {column}, REFERENCED_TABLE_NAME FROM information_schema.{view}"
        f" WHERE {{{column}}} AND LEFT(REFERENCED_TABLE_NAME, {len(OLD)}) = '{OLD}'",
        schemas,
        is_owner=False,
    ):
        found.setdefault(schema, set()).add(str(table))
    return found
