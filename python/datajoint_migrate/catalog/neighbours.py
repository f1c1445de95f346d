"""Schemas that refer to each other: whoever decides over one has to know those it leads to."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.errors import NotFound


def with_neighbours(
    session: Session, schemas: Iterable[Schema], known: Iterable[Schema] = ()
) -> list[Schema]:
    """The schemas and all others that their foreign keys lead to, directly or not.

    `known` are schemas that are read already, should a key lead to them.
    """
    found = {schema.name: schema for schema in schemas}
    read = {schema.name: schema for schema in known}
    waiting = list(found.values())
    while waiting:
        for name in sorted(neighbours(waiting.pop())):
            if name not in found:
                schema = read.get(name) or _if_there(session, name)
                if schema is not None:
                    found[name] = schema
                    waiting.append(schema)
    return list(found.values())


def neighbours(schema: Schema) -> set[str]:
    """Other schemas that this one's foreign keys name."""
    return {
        key.ref_schema
        for table in schema.tables.values()
        for key in table.foreign_keys
        if key.ref_schema != schema.name
    }


def _if_there(session: Session, name: str) -> Schema | None:
    try:
        return read_schema(session, name)
    except NotFound:
        return None
