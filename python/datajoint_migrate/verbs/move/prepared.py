"""What a call of `migrate` decides before it writes anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate.build.building import (
    Building,
    Family,
    is_declared,
    known_collations,
    plan_schema,
    refuse_left,
)
from datajoint_migrate.build.programs import carried_triggers
from datajoint_migrate.call import journal, state
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.names import JOURNAL, LINEAGE, MAKING, POSTPONED, SYNC
from datajoint_migrate.catalog.neighbours import with_neighbours
from datajoint_migrate.catalog.presence import has_rows
from datajoint_migrate.catalog.programs import Program, programs_of
from datajoint_migrate.catalog.tables import (
    Schema,
    Table,
    read_schemas,
    read_those_there,
    user_tables,
)
from datajoint_migrate.catalog.unseen import Unseen, refuse_unseen
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument
from datajoint_migrate.files.pointers import (
    FileJob,
    Stores,
    check_places,
    external_columns,
    file_jobs,
    final_name,
    prove_tracked,
)
from datajoint_migrate.files.promotion import Promotion
from datajoint_migrate.target.charset import Charset
from datajoint_migrate.target.jobs import PREFIX as JOB_TABLES
from datajoint_migrate.target.types import Unsigned
from datajoint_migrate.verbs.look.compare import compare_tables
from datajoint_migrate.verbs.move.loading import Loading
from datajoint_migrate.verbs.move.promoted import chosen, markers
from datajoint_migrate.words import counted

Name = tuple[str, str]


@dataclass
class Job:
    """Everything one call of `migrate` decided before it wrote anything."""

    schema_map: dict[str, str]
    sources: dict[str, Schema]
    buildings: list[Building]
    stores: Stores
    copy_files: bool
    final: dict[str, str]
    adapters: Mapping[str, str] | None
    files: list[FileJob]
    promotions: list[Promotion]
    existing: dict[str, set[str]] = field(default_factory=dict)
    filled: set[Name] = field(default_factory=set)
    # Of an earlier call, on tables that are still to be filled.
    triggers: list[Program] = field(default_factory=list)


def prepare(
    ends: Ends,
    schema_map: dict[str, str],
    stores: Stores,
    copy_files: bool,
    unsigned: Unsigned,
    charset: Charset,
    adapters: Mapping[str, str] | None,
    final_names: Mapping[str, str] | None,
    unseen: Unseen,
    promote: Mapping[str, str] | None,
) -> Job:
    """Read and decide everything. What this raises was raised before anything was written."""
    unknown = sorted(set(final_names or {}) - set(schema_map.values()))
    if unknown:
        raise InvalidArgument(
            f"final_names has {unknown[0]!r}, which is no destination of schema_map",
            hint="give {destination: name after the cutover}",
        )
    sources = read_schemas(ends.source, schema_map)
    refuse_unseen(ends.source, programs_of(ends.source, sources).items(), unseen)
    around = with_neighbours(ends.source, sources.values())
    family = Family(ends.destination, around, schema_map)
    final = {name: final_name(name, dest, final_names) for name, dest in schema_map.items()}
    promotions = chosen(promote or {}, sources, stores, final)
    buildings = [
        plan_schema(
            ends,
            schema,
            family,
            schema_map,
            external="convert",
            unsigned=unsigned,
            adapters=adapters,
            store_map=stores.names,
            charset=charset,
            promoted=markers(promotions),
        )
        for schema in sources.values()
    ]
    columns = [
        column
        for schema in sources.values()
        for table in user_tables(schema)
        for column in external_columns(
            ends, schema, table, final[schema.name], stores, copy_files, adapters
        )
    ]
    prove_tracked(ends.source, columns)
    files = file_jobs(columns)
    check_places(files, stores, copy_files)
    return Job(
        schema_map, sources, buildings, stores, copy_files, final, adapters, files, promotions
    )


def look_at_destination(
    ends: Ends, job: Job, tolerance: float, lanes: int, on_event: OnEvent, note: bool
) -> dict[Name, dict[str, Any]]:
    """What earlier calls of this job left: tables that exist, and tables that are complete.

    Returns the comparisons of the complete ones. Raises `DestinationNotEmpty` for anything that
    this job would not have put there.
    """
    begun = journal.started(ends.destination, job.schema_map.values())
    unfilled: list[tuple[Table, Table]] = []
    to_compare: list[tuple[Schema, Schema, str]] = []
    known = read_those_there(ends.destination, [building.dest for building in job.buildings])
    refuse_left(ends.destination, known.values())
    for building in job.buildings:
        there = known.get(building.dest)
        if there is None:
            continue
        job.existing[building.dest] = set(there.tables)
        for view in sorted(set(there.views) - set(building.source.views)):
            raise _not_ours(building.dest, f"the view {view!r}")
        planned = {declaration.table: declaration for declaration in building.declarations}
        for table in there.tables.values():
            if table.name in (LINEAGE, JOURNAL, POSTPONED, MAKING, SYNC) or table.name.startswith(
                JOB_TABLES
            ):
                continue
            if table.name not in planned:
                raise _not_ours(building.dest, f"{table.name!r}")
            if not is_declared(table, planned[table.name]):
                raise _not_ours(building.dest, f"{table.name!r} with another definition")
            if table.name in building.source.tables and not table.hidden:
                unfilled.append((building.source.tables[table.name], table))
            if not has_rows(ends.destination, table.schema, table.name):
                continue
            if table.hidden:
                raise _not_ours(building.dest, f"rows in {table.name!r}")
            if (table.schema, table.name) not in begun:
                to_compare.append((building.source, there, table.name))
                unfilled.pop()
    job.triggers = carried_triggers(ends, unfilled, job.schema_map)
    if note:
        state.prepare(ends.destination, sorted({there.name for _, there, _ in to_compare}))
    compared = compare_tables(
        ends,
        to_compare,
        tolerance,
        adapters=job.adapters,
        lanes=lanes,
        on_event=on_event,
        note=note,
    )
    for (schema, name), found in compared.items():
        if not found["match"]:
            raise _not_ours(
                job.schema_map[schema], f"rows in {name!r} that are not those of {schema}"
            )
    job.filled = set(compared)
    return compared


def _not_ours(dest: str, what: str) -> DestinationNotEmpty:
    return DestinationNotEmpty(
        f"the destination {dest!r} already holds {what}",
        hint="choose another name for the destination",
        context={"schema": dest},
    )


def loading_of(ends: Ends, job: Job, schema: Schema, source: Table, destination: Table) -> Loading:
    """One table on its way."""
    return Loading(
        ends,
        schema,
        source,
        destination,
        final_schema=job.final[schema.name],
        stores=job.stores,
        copy_files=job.copy_files,
        adapters=job.adapters,
    )


def store_names(job: Job) -> set[str]:
    """The stores of 2.x that the copies will name."""
    return {
        job.stores.renamed(external.store)
        for building in job.buildings
        for columns in building.externals.values()
        for external in columns.values()
    }


def readable(ends: Ends, job: Job) -> dict[str, Any]:
    """The plan for a person, and every statement that makes a table."""
    lines = []
    ddl = []
    collations = known_collations(ends.destination)
    programs = programs_of(ends.source, job.sources)
    for building in job.buildings:
        source = building.source
        tables = user_tables(source)
        rows = sum(table.rows for table in tables)
        state = "" if building.dest not in job.existing else " (begun already)"
        lines.append(
            f"{source.name} -> {building.dest}{state}: {counted(len(tables), 'table')}, "
            f"about {counted(rows, 'row')}"
        )
        lines += [
            f"the {program} comes along, unless `notes` says why not"
            for program in programs[source.name]
        ]
        ddl += [building.create_database(collations)]
        ddl += [declaration.create_sql for declaration in building.declarations]
    for files in job.files:
        where = files.pointer
        what = {
            "in_place": "stay where they are",
            "hash": "are written to " + where["hash_prefix"] + "/" + where["schema"],
        }[where["layout"]]
        columns = ", ".join(f"{c['schema']}.{c['table']}.{c['column']}" for c in files.columns)
        lines.append(f"{where['kind']} objects of store {files.store} {what}: {columns}")
    return {"plan": lines, "ddl": ddl}
