"""`~lineage`: where every key attribute of a 2.x schema was first defined.

2.x joins on attributes of equal lineage. It is computed for all schemas at once, because schemas
may refer to each other in a circle.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from datajoint_migrate.catalog.tables import ForeignKey, Schema, Table

Place = tuple[str, str, str]


@dataclass(frozen=True, order=True)
class Lineage:
    """One row: the attribute of a table, and `schema.table.attribute` where it was defined."""

    schema: str
    table: str
    attribute: str
    lineage: str


def compute(
    schemas: Iterable[Schema], schema_map: Mapping[str, str] | None = None
) -> list[Lineage]:
    """The rows of all given schemas, sorted: primary key and foreign key attributes.

    `schema_map` gives the schemas other names in the rows, for schemas that are to be renamed.
    A reference to a schema that is not given counts as the origin.
    """
    names = schema_map or {}
    schemas = list(schemas)
    parents: dict[Place, list[Place]] = defaultdict(list)
    wanted: list[Place] = []
    for schema in schemas:
        for table in schema.tables.values():
            if not table.hidden:
                wanted += [(schema.name, table.name, name) for name in _attributes(table)]
                for child, parent in _references(table):
                    parents[child].append(parent)
    known: dict[Place, Place] = {}
    rows = []
    for place in wanted:
        schema_name, table_name, attribute = _origin(place, parents, known)
        origin = f"{names.get(schema_name, schema_name)}.{table_name}.{attribute}"
        rows.append(Lineage(names.get(place[0], place[0]), place[1], place[2], origin))
    return sorted(rows)


def rows_of(
    schemas: Iterable[Schema], names: Iterable[str], schema_map: Mapping[str, str] | None = None
) -> list[Lineage]:
    """The lineage rows of the schemas `names`, computed over all of `schemas`.

    With `schema_map` the rows are those of the copies, and `names` are the copies' names.
    """
    wanted = set(names)
    return [row for row in compute(schemas, schema_map) if row.schema in wanted]


def _attributes(table: Table) -> list[str]:
    keyed = set(table.primary_key)
    for key in table.foreign_keys:
        if not key.ref_table.startswith("~"):
            keyed.update(key.columns)
    return [
        column.name
        for column in table.columns
        if column.name in keyed and not column.name.startswith("_")
    ]


def as_declared(table: Table) -> list[ForeignKey]:
    """A table's foreign keys in the order of its definition.

    Both servers number the keys that nobody named, as those of DataJoint, in that order; their
    catalogues sort by name, where 10 comes before 2. Keys with other names were added by hand,
    and so later; of these the server's statement tells.
    """
    place = {
        name: at for at, name in enumerate(re.findall(r"CONSTRAINT `((?:[^`]|``)+)`", table.create))
    }

    def order(key: ForeignKey) -> tuple[int, int]:
        numbered = re.search(r"(?:^|_ibfk_)(\d+)$", key.name)
        if numbered:
            return 0, int(numbered[1])
        return 1, place.get(key.name.replace("`", "``"), 0)

    return sorted(table.foreign_keys, key=order)


def _references(table: Table) -> list[tuple[Place, Place]]:
    return [
        ((table.schema, table.name, child), (key.ref_schema, key.ref_table, parent))
        for key in as_declared(table)
        if not key.ref_table.startswith("~")
        for child, parent in zip(key.columns, key.ref_columns, strict=True)
    ]


def _origin(place: Place, parents: Mapping[Place, list[Place]], known: dict[Place, Place]) -> Place:
    """Follow the last reference of each attribute that leads somewhere new.

    2.x writes the lineage of an attribute anew with every key of a definition that names it.
    """
    path = [place]
    seen = {place}
    while path[-1] not in known:
        onward = [parent for parent in parents.get(path[-1], ()) if parent not in seen]
        if not onward:
            known[path[-1]] = path[-1]
            break
        path.append(onward[-1])
        seen.add(onward[-1])
    origin = known[path[-1]]
    for step in path:
        known[step] = origin
    return origin
