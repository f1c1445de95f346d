"""Schemas that refer to each other: whoever decides over one has to know those it leads to."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema, read_those_there


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
        names = sorted({name for schema in waiting for name in neighbours(schema)} - found.keys())
        new = read | read_those_there(session, [name for name in names if name not in read])
        waiting = [new[name] for name in names if name in new]
        found |= {schema.name: schema for schema in waiting}
    return list(found.values())


def neighbours(schema: Schema) -> set[str]:
    """Other schemas that this one's foreign keys name."""
    return {
        key.ref_schema
        for table in schema.tables.values()
        for key in table.foreign_keys
        if key.ref_schema != schema.name
    }
