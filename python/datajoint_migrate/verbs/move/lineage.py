"""`~lineage`: where every key attribute comes from, which 2.x needs to join."""

from __future__ import annotations

from typing import Any

from datajoint_migrate.build.lineage import write_rows
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.catalog.neighbours import with_neighbours
from datajoint_migrate.catalog.tables import read_schemas
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.results import LineageResult
from datajoint_migrate.target.lineage import rows_of


def rebuild_lineage(schema: Any, dry_run: bool = True, *, connection: Any = None) -> LineageResult:
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
        session.spell(names)
        chosen = list(read_schemas(session, names).values())
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
