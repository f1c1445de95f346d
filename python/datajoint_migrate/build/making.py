"""A destination that a copy makes before it fills it: half made, it is known as this program's, and
the same call makes the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from datajoint_migrate._core import quote
from datajoint_migrate.build.building import (
    Building,
    build,
    carry_programs,
    check_destination,
    known_collations,
    prove_built,
)
from datajoint_migrate.build.programs import STILL, Both
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.names import MAKING
from datajoint_migrate.catalog.programs import has_programs
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema

CREATE = """CREATE TABLE IF NOT EXISTS {table} (`id` int NOT NULL PRIMARY KEY) ENGINE=InnoDB
COMMENT='this schema is half made: the same call makes the rest'"""


def is_half_made(session: Session, there: Schema | None) -> bool:
    """Whether a schema is not there, or holds nothing, or was begun and not finished."""
    if there is None or MAKING in there.tables:
        return True
    return not there.tables and not has_programs(session, there.name)


def make_whole(
    ends: Ends, buildings: Iterable[Building], schema_map: Mapping[str, str]
) -> tuple[dict[str, Schema], list[str]]:
    """Make the destinations with `~lineage`, views, routines and events: what was made (by source
    name), and sentences about what has no equal in it.

    A mark stands in each from its first table to the last statement, and rows only come afterwards:
    without the mark a schema is whole.
    """
    session = ends.destination
    wanted = list(buildings)
    collations = known_collations(session)
    for building in wanted:
        session.execute(building.create_database(collations))
        session.execute(CREATE.format(table=quote(building.dest, MAKING)))
    for building in wanted:
        build(session, building, check_destination(session, building) - {MAKING})
    made: dict[str, Schema] = {}
    notes: list[str] = []
    both = Both(ends, {one.source.name: one.dest for one in wanted})
    for building in wanted:
        made[building.source.name] = prove_built(session, building, schema_map)
        made[building.source.name].tables.pop(MAKING)
        notes += building.notes + carry_programs(ends, building, schema_map, STILL, both)
    for building in wanted:
        session.execute(f"DROP TABLE IF EXISTS {quote(building.dest, MAKING)}")
    return made, notes
