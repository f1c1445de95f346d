"""A parallel schema: the same tables beside production, declared so that 2.x understands them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datajoint_migrate.catalog.tables import read_schema
from datajoint_migrate.steps.copying import copy_all_data
from datajoint_migrate.steps.lineage import with_neighbours
from datajoint_migrate.steps.moving.building import (
    build,
    carry_programs,
    check_destination,
    check_options,
    known_collations,
    plan_schema,
    prove_built,
)
from datajoint_migrate.steps.moving.carrying import STILL
from datajoint_migrate.steps.moving.ends import open_ends, whole_map
from datajoint_migrate.steps.moving.turn import take_turn
from datajoint_migrate.target.charset import Charset
from datajoint_migrate.target.types import ExternalMode, Unsigned


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
    dry_run: bool = False,
) -> dict[str, Any]:
    """Make `dest` with the tables of `source`, declared for 2.x; production is only read.

    `schema_map` ({source: dest} of all schemas that belong together) re-points keys into other
    schemas; they need not exist yet. External columns stay BINARY(16) until
    `migrate_external_to_v20` (`external="defer"`), or become json at once ("convert").
    `unsigned="widen"` turns unsigned columns into the next wider signed type. `charset="utf8mb4"`
    makes text of other character sets utf8mb4, with the collation utf8mb4_bin that 2.x
    documents. `adapters` says what an adapter stores where the rows do not tell. `copy_data`
    copies all rows too.

    Hidden tables come along empty, but `~log` makes room for `~lineage`: both schemas have
    equally many tables and joins work. Views, routines and events (disabled) come along, triggers
    with the rows of their tables. An interrupted call is resumed by the same call.

    Returns `tables_created` (by this call), `data_copied`, `tables` (all names), `notes` (what
    has no equal in the copy); with `copy_data` also `rows_copied`; with `dry_run` also `ddl`, and
    nothing is written. Raises `NotFound`, `ForeignKeyLeavesMap`, `DestinationNotEmpty`,
    `Unconvertible`, `PermissionMissing`.
    """
    check_options(external, unsigned, charset)
    with open_ends(connection, dest_connection) as ends:
        names = whole_map(source, dest, dict(schema_map or {}), ends.same_server)
        if not dry_run:
            take_turn(ends.destination, [dest])
        schema = read_schema(ends.source, source)
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
        existing = check_destination(ends.destination, building)
        result: dict[str, Any] = {
            "tables_created": 0,
            "data_copied": False,
            "tables": building.tables,
            "notes": building.notes,
        }
        if dry_run:
            collations = known_collations(ends.destination)
            ddl = [declaration.create_sql for declaration in building.declarations]
            return {**result, "ddl": [building.create_database(collations), *ddl]}
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
    return result
