"""A parallel schema: the same tables beside production, declared so that 2.x understands them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from datajoint_migrate.build.building import (
    build,
    carry_programs,
    check_destination,
    check_options,
    known_collations,
    plan_schema,
    prove_built,
)
from datajoint_migrate.build.programs import STILL
from datajoint_migrate.call.ends import open_ends, whole_map
from datajoint_migrate.call.exchanges import refuse_cut_over
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.names import JOURNAL
from datajoint_migrate.catalog.neighbours import with_neighbours
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.tables import read_schema
from datajoint_migrate.catalog.unseen import Unseen, refuse_unseen
from datajoint_migrate.results import ParallelSchemaResult
from datajoint_migrate.target.charset import Charset
from datajoint_migrate.target.types import ExternalMode, Unsigned
from datajoint_migrate.verbs.move.copy import copy_all_data


def create_parallel_schema(
    source: str,
    dest: str,
    copy_data: bool = False,
    connection: Any = None,
    *,
    schema_map: Mapping[str, str] | None = None,
    external: ExternalMode = "defer",
    unsigned: Unsigned = "keep",
    charset: Charset = "keep",
    adapters: Mapping[str, str] | None = None,
    store_map: Mapping[str, str] | None = None,
    dest_connection: Any = None,
    unseen: Unseen = "refuse",
    dry_run: bool = False,
) -> ParallelSchemaResult:
    """Make `dest` with the tables of `source`, declared for 2.x; production is only read.

    Hidden tables come along empty, but `~log` makes room for `~lineage`: both schemas have
    equally many tables and joins work. Views, routines and events (disabled) come along, triggers
    with the rows of their tables. An interrupted call is resumed by the same call.

    Examples:
        >>> create_parallel_schema("lab", "lab_v20", connection="mysql://me:secret@db/")

    Args:
        source: The schema as 0.14.6 declared it.
        dest: The schema to make.
        copy_data: Copy all rows, too.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        schema_map: {source: dest} of all schemas that belong together; they need not exist yet.
        external: "defer" keeps BINARY(16) for `migrate_external_to_v20`, "convert" is json.
        unsigned: "widen" turns unsigned columns into the next wider signed type.
        charset: "utf8mb4" makes text of other character sets utf8mb4, once proved to be the same.
        adapters: {"name": "blob@raw"}: what an adapter stores, where the rows do not tell.
        store_map: 0.14.6 store name to 2.x store name; a store that is not in it keeps its name.
        dest_connection: Of the destination, where that is another server.
        unseen: "leave" goes on where this user may not see programs; `notes` names them.
        dry_run: Write nothing, and return the plan.

    Returns `tables_created` (by this call), `data_copied`, `tables` (all names), `notes` (what
    has no equal in the copy); with `copy_data` also `rows_copied`; with `dry_run` also `ddl`.

    Raises `NotFound`, `ForeignKeyLeavesMap`, `DestinationNotEmpty`, `Unconvertible`,
    `PermissionMissing`.
    """
    check_options(external, unsigned, charset)
    with open_ends(connection, dest_connection) as ends:
        names = whole_map(source, dest, dict(schema_map or {}), ends.same_server, ends.folds)
        ends.spell(names)
        refuse_cut_over(ends, {source: dest})
        if not dry_run:
            take_turn(ends.destination, [dest])
        schema = read_schema(ends.source, source)
        refuse_unseen(ends.source, [(source, read_programs(ends.source, source))], unseen)
        building = plan_schema(
            ends,
            schema,
            with_neighbours(ends.source, [schema]),
            names,
            external=external,
            unsigned=unsigned,
            adapters=adapters,
            store_map=store_map,
            charset=charset,
        )
        existing = check_destination(ends.destination, building, filling=copy_data)
        result: dict[str, Any] = {
            "tables_created": 0,
            "data_copied": False,
            "tables": building.tables,
            "notes": building.notes,
        }
        if dry_run:
            collations = known_collations(ends.destination)
            ddl = [declaration.create_sql for declaration in building.declarations]
            return cast(
                ParallelSchemaResult,
                {**result, "ddl": [building.create_database(collations), *ddl]},
            )
        # Rows only come when everything is made.
        if JOURNAL not in existing:
            collations = known_collations(ends.destination)
            ends.destination.execute(building.create_database(collations))
            result["tables_created"] = build(ends.destination, building, existing)
            prove_built(ends.destination, building, names)
            result["notes"] = building.notes + carry_programs(ends, building, names, STILL)
    if copy_data:
        copied = copy_all_data(
            source,
            dest,
            schema_map=schema_map,
            connection=connection,
            dest_connection=dest_connection,
            adapters=adapters,
            store_map=store_map,
        )
        result |= {"data_copied": True, "rows_copied": copied["rows_copied"]}
        result["notes"] += copied["notes"]
    return cast(ParallelSchemaResult, result)
