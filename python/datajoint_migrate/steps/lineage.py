"""`~lineage`: where every key attribute comes from, which 2.x needs to join."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.steps.moving.ends import read_if_there, schema_of
from datajoint_migrate.target.lineage import CREATE, LINEAGE, ROWS_PER_INSERT, Lineage, compute


def rebuild_lineage(schema: Any, dry_run: bool = True, *, connection: Any = None) -> dict[str, Any]:
    """Write `~lineage` anew from the foreign keys, for one schema or several at once.

    `schema` is a name, a DataJoint schema object, or a list of either. Schemas that refer to each
    other are no difficulty: origins are followed through every schema they lead to, whether
    it has a `~lineage` of its own or not.

    Returns `tables_analyzed`, `lineage_entries`, `status` ("dry_run" or "rebuilt") and
    `schemas` (name → entries). Raises `NotFound` for an unknown schema.
    """
    given = [schema] if isinstance(schema, str) or hasattr(schema, "database") else list(schema)
    if not given:
        raise InvalidArgument("no schema was given", hint="name one schema or several")
    names = [schema_of(one, connection)[0] for one in given]
    server = schema_of(given[0], connection)[1]
    with server.session(read_only=dry_run) as session:
        chosen = [read_schema(session, name) for name in names]
        rows = rows_of(with_neighbours(session, chosen), names)
        if not dry_run:
            write_rows(session, names, rows)
    counts = {name: sum(row.schema == name for row in rows) for name in names}
    return {
        "tables_analyzed": sum(not table.hidden for one in chosen for table in one.tables.values()),
        "lineage_entries": len(rows),
        "status": "dry_run" if dry_run else "rebuilt",
        "schemas": counts,
    }


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
                schema = read.get(name) or read_if_there(session, name)
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


def rows_of(
    schemas: Iterable[Schema], names: Iterable[str], schema_map: Mapping[str, str] | None = None
) -> list[Lineage]:
    """The lineage rows of the schemas `names`, computed over all of `schemas`.

    With `schema_map` the rows are those of the copies, and `names` are the copies' names.
    """
    wanted = set(names)
    return [row for row in compute(schemas, schema_map) if row.schema in wanted]


def write_rows(session: Session, names: Iterable[str], rows: Iterable[Lineage]) -> None:
    """Make `~lineage` hold exactly these rows in each of the schemas, in one transaction.

    Unlike `target.lineage.write` this needs nothing of the destination but the schemas: those
    they will refer to may not exist yet.
    """
    chosen = list(names)
    rows = list(rows)
    for name in chosen:
        session.execute(CREATE.format(table=quote(name, LINEAGE)))
    session.execute("START TRANSACTION")
    try:
        for name in chosen:
            table = quote(name, LINEAGE)
            session.execute(f"DELETE FROM {table}")
            own = [(row.table, row.attribute, row.lineage) for row in rows if row.schema == name]
            for start in range(0, len(own), ROWS_PER_INSERT):
                part = own[start : start + ROWS_PER_INSERT]
                session.execute(
                    f"INSERT INTO {table} (table_name, attribute_name, lineage) VALUES "
                    + ", ".join(["(%s, %s, %s)"] * len(part)),
                    [value for row in part for value in row],
                )
        session.execute("COMMIT")
    except BaseException:
        session.execute("ROLLBACK")
        raise
