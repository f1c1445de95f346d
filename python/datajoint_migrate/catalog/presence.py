"""Is there such a schema or table, and has it rows? What a user may not see counts as absent."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import NotFound, ServerError


def schema_exists(session: Session, name: str) -> bool:
    """Whether the server has a schema of that name (and this user may see it)."""
    return bool(
        session.query("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", (name,))
    )


def schemas_there(session: Session, names: Iterable[str]) -> set[str]:
    """Those of the schemas that the server has (and this user may see)."""
    there = of_schemas(
        session,
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE {SCHEMA_NAME}",
        names,
    )
    return {name for (name,) in there}


def idle_roles(session: Session) -> list[str]:
    """Roles that are granted to this user and not active: what they may do, the user may not."""
    # Servers that know no such table know no roles, or do not tell.
    with suppress(ServerError, NotFound):
        rows = session.query(
            "SELECT DISTINCT ROLE_NAME FROM information_schema.APPLICABLE_ROLES WHERE ROLE_NAME NOT"
            " IN (SELECT ROLE_NAME FROM information_schema.ENABLED_ROLES"
            " WHERE ROLE_NAME IS NOT NULL) ORDER BY 1"
        )
        return [str(name) for (name,) in rows]
    return []


def has_table(session: Session, schema: str, table: str) -> bool:
    """Whether there is such a table."""
    return bool(
        session.query(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
            (schema, table),
        )
    )


def tables_there(session: Session, schemas: Iterable[str]) -> set[tuple[str, str]]:
    """Schema and name of every table and view of these schemas."""
    rows = of_schemas(
        session,
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE {TABLE_SCHEMA}",
        schemas,
    )
    return {(schema, str(table)) for schema, table in rows}


def with_table(session: Session, schemas: Iterable[str], table: str) -> list[str]:
    """Those of the schemas that have a table of that name."""
    there = of_schemas(
        session,
        "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE {TABLE_SCHEMA}"
        f" AND TABLE_NAME = '{table}'",
        schemas,
    )
    return [schema for (schema,) in there]


def has_rows(session: Session, schema: str, table: str) -> bool:
    """Whether the table exists and holds a row."""
    return has_table(session, schema, table) and bool(
        session.query(f"SELECT 1 FROM {quote(schema, table)} LIMIT 1")
    )
