"""`~lineage`: where every key attribute of a 2.x schema was first defined.

2.x joins on attributes of equal lineage. It is computed for all schemas at once, because schemas
may refer to each other in a circle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.tables import Schema, Table, read_schema

LINEAGE = "~lineage"
ROWS_PER_INSERT = 500

CREATE = """CREATE TABLE IF NOT EXISTS {table} (
`table_name` VARCHAR(64) NOT NULL COMMENT "table name within the schema",
`attribute_name` VARCHAR(64) NOT NULL COMMENT "attribute name",
`lineage` VARCHAR(255) NOT NULL COMMENT "origin: schema.table.attribute",
PRIMARY KEY (`table_name`, `attribute_name`)
) ENGINE=InnoDB"""

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


def write(
    session: Session, schemas: Sequence[str | Schema], *, dry_run: bool = False
) -> list[Lineage]:
    """Make or refresh `~lineage` of all given schemas, in one transaction; returns the rows.

    Schemas they refer to are read, but only those given are written. With `dry_run` nothing is.
    """
    read = {
        schema.name: schema
        for schema in (
            item if isinstance(item, Schema) else read_schema(session, item) for item in schemas
        )
    }
    targets = list(read)
    _read_parents(session, read)
    rows = [row for row in compute(read.values()) if row.schema in targets]
    if dry_run:
        return rows
    for name in targets:
        session.execute(CREATE.format(table=quote(name, LINEAGE)))
    session.execute("START TRANSACTION")
    try:
        for name in targets:
            session.execute(f"DELETE FROM {quote(name, LINEAGE)}")
            _insert(session, name, [row for row in rows if row.schema == name])
        session.execute("COMMIT")
    except BaseException:
        session.execute("ROLLBACK")
        raise
    return rows


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


def _references(table: Table) -> list[tuple[Place, Place]]:
    return [
        ((table.schema, table.name, child), (key.ref_schema, key.ref_table, parent))
        for key in table.foreign_keys
        if not key.ref_table.startswith("~")
        for child, parent in zip(key.columns, key.ref_columns, strict=True)
    ]


def _origin(place: Place, parents: Mapping[Place, list[Place]], known: dict[Place, Place]) -> Place:
    """Follow the first reference of each attribute that leads somewhere new."""
    path = [place]
    seen = {place}
    while path[-1] not in known:
        onward = [parent for parent in parents.get(path[-1], ()) if parent not in seen]
        if not onward:
            known[path[-1]] = path[-1]
            break
        path.append(onward[0])
        seen.add(onward[0])
    origin = known[path[-1]]
    for step in path:
        known[step] = origin
    return origin


def _read_parents(session: Session, read: dict[str, Schema]) -> None:
    """Add the schemas that those in `read` refer to, and theirs in turn."""
    waiting = list(read.values())
    while waiting:
        for table in waiting.pop().tables.values():
            for key in table.foreign_keys:
                if key.ref_schema not in read:
                    read[key.ref_schema] = read_schema(session, key.ref_schema)
                    waiting.append(read[key.ref_schema])


def _insert(session: Session, schema: str, rows: Sequence[Lineage]) -> None:
    for start in range(0, len(rows), ROWS_PER_INSERT):
        part = rows[start : start + ROWS_PER_INSERT]
        session.execute(
            f"INSERT INTO {quote(schema, LINEAGE)} (`table_name`, `attribute_name`, `lineage`)"
            f" VALUES {', '.join(['(%s, %s, %s)'] * len(part))}",
            [value for row in part for value in (row.table, row.attribute, row.lineage)],
        )
