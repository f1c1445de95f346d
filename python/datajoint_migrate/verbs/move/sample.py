"""A part of a pipeline that stands on its own: chosen rows with all that they refer to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.build.building import plan_schema
from datajoint_migrate.build.making import is_half_made, make_whole
from datajoint_migrate.call.border import check
from datajoint_migrate.call.connections import check_connections
from datajoint_migrate.call.ends import Ends, check_names, open_ends, read_if_there, whole_map
from datajoint_migrate.call.exchanges import refuse_cut_over
from datajoint_migrate.call.journal import forget, take_back
from datajoint_migrate.call.marks import is_untouched, marks
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.turn import note_reading, take_turn
from datajoint_migrate.catalog.neighbours import with_neighbours
from datajoint_migrate.catalog.programs import triggers_of
from datajoint_migrate.catalog.sql import unquoted
from datajoint_migrate.catalog.tables import (
    Schema,
    Table,
    find_table,
    read_schema,
    read_schemas,
    read_those_there,
    user_tables,
)
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, Mismatch, NotFound
from datajoint_migrate.files.pointers import (
    Stores,
    check_places,
    file_jobs,
    final_name,
    raise_missing,
)
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import SampleResult
from datajoint_migrate.rows.clause import checked_clause
from datajoint_migrate.rows.closure import WHOLE, Closure, Name, Seed
from datajoint_migrate.rows.keys import prove_keys
from datajoint_migrate.rows.matching import prove
from datajoint_migrate.rows.numbering import keep_auto_increment
from datajoint_migrate.rows.plan import copy_plan
from datajoint_migrate.target.declare import check_map
from datajoint_migrate.verbs.move.loading import Loading, refuse_rows
from datajoint_migrate.verbs.move.referenced import move_referenced


@dataclass
class Sampling:
    """What a sample takes and where it goes; `there` are the destinations that exist."""

    schema_map: dict[str, str]
    sources: dict[str, Schema]
    there: dict[str, Schema]
    closure: Closure


def copy_sample(
    source: str | None = None,
    dest: str | None = None,
    restrictions: Mapping[str, Any] | None = None,
    *,
    schema_map: Mapping[str, str] | None = None,
    children: bool = False,
    limit: int | None = None,
    connection: Any = None,
    dest_connection: Any = None,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    copy_files: bool = False,
    adapters: Mapping[str, str] | None = None,
    lanes: int = LIMITS.lanes,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> SampleResult:
    """Copy chosen rows with every row they refer to, so that all foreign keys hold.

    Parents come along, whatever schema they are in, and parts with their master and all its parts;
    of the files those of the sample only. A destination that is not there is made first. On one
    server the same or another sample can be added later: only rows whose key is missing are copied.
    On two servers the destination has to be empty.

    Examples:
        >>> copy_sample("lab", "lab_part", {"Session": {"where": "rig = 2", "limit": 10}})

    Args:
        source: The schema that is read.
        dest: The schema that gets the rows.
        restrictions: {table: where clause, number of rows, or {"where": …, "limit": n}}.
        schema_map: {source: dest}, for more than one schema.
        children: Bring also all rows that refer to the chosen ones.
        limit: Rows of a table that names no number, or of every table; the first in key order.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        dest_connection: Of the destination, where that is another server.
        source_stores: 0.14.6 store specs by name, by default those of its own configuration.
        dest_stores: 2.x store specs by name, by default those of its own configuration.
        store_map: 0.14.6 store name to 2.x store name; a store that is not in it keeps its name.
        copy_files: Copy the files; else they stay where they are, but for attachments.
        adapters: {"name": "blob@raw"}: what an adapter stores, where the rows do not tell.
        lanes: Connections that read at once.
        dry_run: Write nothing, and return the plan.
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `rows_copied`, `tables` ("source.table" → rows copied), `files_copied`, `notes`,
    `snapshot`, `time_taken`; with `dry_run` also `plan` (table, rows and condition), and `tables`
    are the rows that would be copied.

    Raises as `copy_all_data`.
    """
    began = time.monotonic()
    with open_ends(connection, dest_connection) as ends:
        names = _names(source, dest, schema_map, ends.same_server, ends.folds)
        ends.spell(names)
        refuse_cut_over(ends, names)
        if not dry_run:
            take_turn(ends.destination, names.values())
            check_connections(ends, lanes)
        sources = read_schemas(ends.source, names)
        copies = read_those_there(ends.destination, names.values())
        there = {
            name: copies[to]
            for name, to in names.items()
            if to in copies and not is_half_made(ends.destination, copies[to])
        }
        _follow(ends, names, sources, there)
        if not dry_run:
            take_turn(ends.destination, names.values())
            note_reading(ends.source, names)
        check_map(sources.values(), names)
        seeds = _seeds(sources, restrictions, limit)
        sampling = Sampling(names, sources, there, _closure(sources, seeds, children))
        stores = Stores.find(source_stores, dest_stores, store_map)
        _check_clauses(ends, sampling)
        if dry_run:
            planned = _planned(ends, sampling)
            return cast(SampleResult, {**planned, "time_taken": time.monotonic() - began})
        notes = _make(ends, sampling, adapters, stores)
        result = _take(ends, sampling, stores, copy_files, adapters, lanes, on_event)
    return cast(
        SampleResult,
        {
            **result,
            "notes": notes + result["notes"],
            "time_taken": time.monotonic() - began,
        },
    )


def copy_closed_table(
    ends: Ends,
    source: Schema,
    dest: Schema,
    table: Table,
    seed: Seed,
    *,
    stores: Stores,
    copy_files: bool,
    adapters: Mapping[str, str] | None,
    lanes: int,
    dry_run: bool,
    on_event: OnEvent,
) -> dict[str, Any]:
    """`copy_table_data` with `closure=True`: into schemas that are there, wherever keys lead."""
    names = {source.name: dest.name}
    sources, there = {source.name: source}, {source.name: dest}
    _follow(ends, names, sources, there)
    if not dry_run:
        take_turn(ends.destination, names.values())
    check_map(sources.values(), names)
    chosen = _closure(sources, {(source.name, table.name): seed}, False)
    sampling = Sampling(names, sources, there, chosen)
    _check_clauses(ends, sampling)
    if dry_run:
        return _planned(ends, sampling)
    return _take(ends, sampling, stores, copy_files, adapters, lanes, on_event)


# -- what is asked for -------------------------------------------------------------------------


def _names(
    source: str | None,
    dest: str | None,
    schema_map: Mapping[str, str] | None,
    same_server: bool,
    folds: bool,
) -> dict[str, str]:
    if (source is None) != (dest is None):
        raise InvalidArgument("one of source and dest is missing", hint="give both, or schema_map")
    if source is not None and dest is not None:
        return whole_map(source, dest, dict(schema_map or {}), same_server, folds)
    names = dict(schema_map or {})
    check_names(names, same_server, folds)
    return names


def _follow(
    ends: Ends, names: dict[str, str], sources: dict[str, Schema], there: dict[str, Schema]
) -> None:
    """Add the schemas that keys of existing destinations lead to: the copy says where they are."""
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in there:
            continue
        for table in user_tables(sources[name]):
            copied = there[name].tables.get(table.name)
            for key in table.foreign_keys:
                if key.ref_schema in names or copied is None:
                    continue
                for theirs in copied.foreign_keys:
                    if (theirs.columns, theirs.ref_table) == (key.columns, key.ref_table):
                        schema = read_if_there(ends.destination, theirs.ref_schema)
                        if schema is None or theirs.ref_schema in names.values():
                            continue
                        names[key.ref_schema] = theirs.ref_schema
                        sources[key.ref_schema] = read_schema(ends.source, key.ref_schema)
                        there[key.ref_schema] = schema
                        waiting.append(key.ref_schema)
    check_names(names, ends.same_server, ends.folds)


def _seeds(
    sources: Mapping[str, Schema], restrictions: Mapping[str, Any] | None, limit: int | None
) -> dict[Name, Seed]:
    if not restrictions:
        if limit is None:
            raise InvalidArgument(
                "nothing says which rows to take",
                hint='give restrictions={"Session": "session_date > \'2024-01-01\'"}, or a limit; '
                "copy_all_data copies everything",
            )
        return {
            (schema.name, table.name): Seed(None, limit)
            for schema in sources.values()
            for table in user_tables(schema)
        }
    seeds: dict[Name, Seed] = {}
    for name, wanted in restrictions.items():
        table = _find(sources, name)
        if (table.schema, table.name) in seeds:
            raise InvalidArgument(
                f"restrictions name {table} twice", hint="say it once, with AND or OR"
            )
        seeds[table.schema, table.name] = _seed(name, wanted, limit)
    return seeds


def _seed(name: str, wanted: Any, limit: int | None) -> Seed:
    seed = None
    if isinstance(wanted, str):
        seed = Seed(wanted.strip() or None, limit)
    elif wanted is None:
        seed = Seed(None, limit)
    elif isinstance(wanted, Mapping) and set(wanted) <= {"where", "limit"}:
        own = wanted.get("limit", limit)
        where = wanted.get("where")
        if where is None or isinstance(where, str):
            check(own, int | None, f"the limit of the restriction of {name}", "limit")
            seed = Seed((where or "").strip() or None, own)
    elif isinstance(wanted, int):
        check(wanted, int, f"the restriction of {name}", "limit")
        seed = Seed(None, wanted)
    if seed is not None and (seed.where is not None or seed.limit is not None):
        return seed
    raise InvalidArgument(
        f"the restriction of {name!r} is {wanted!r}",
        hint='give a where clause (for all rows "TRUE"), a number of rows, or {"where": "…", '
        '"limit": 10}',
    )


def _find(sources: Mapping[str, Schema], name: str) -> Table:
    parts = unquoted(name)
    for schema in sources.values():
        if parts[:-1] == [schema.name]:
            return _usable(find_table(schema, parts[-1]))
        if name.startswith(schema.name + "."):
            return _usable(find_table(schema, name.removeprefix(schema.name + ".")))
    found = []
    missing: NotFound | None = None
    for schema in sources.values():
        try:
            found.append(find_table(schema, name))
        except NotFound as error:
            missing = missing or error
    if len(found) > 1:
        raise InvalidArgument(
            f"several schemas have the table {name!r}",
            hint="write one of " + ", ".join(repr(str(table)) for table in found),
        )
    if not found:
        raise missing or NotFound(f"no table {name!r}")
    return _usable(found[0])


def _usable(table: Table) -> Table:
    if table.hidden:
        raise InvalidArgument(f"{table} is a hidden table", hint="choose rows of a user's table")
    return table


def _closure(sources: Mapping[str, Schema], seeds: Mapping[Name, Seed], children: bool) -> Closure:
    tables = {
        (schema.name, table.name): table
        for schema in sources.values()
        for table in user_tables(schema)
    }
    return Closure(tables, seeds, children=children)


def _check_clauses(ends: Ends, sampling: Sampling) -> None:
    """What the server does not understand, or cannot do, shows before anything is written."""
    ends.source.execute(WHOLE)
    for chosen in sampling.closure.chosen:
        sampling.closure.condition(chosen)
    for (schema, table), seed in sampling.closure.seeds.items():
        chosen = sampling.sources[schema].tables[table]
        checked_clause(ends.source, chosen, seed.where, "the condition")


# -- what is done ------------------------------------------------------------------------------


def _condition(ends: Ends, sampling: Sampling, table: Table) -> tuple[str | None, int | None]:
    """The rows of a table that are in the sample and, on one server, not there yet."""
    where, limit = sampling.closure.condition(table)
    copied = sampling.there.get(table.schema)
    if not ends.same_server or copied is None or not table.walk_key:
        return where, limit
    target = find_table(copied, table.name)
    same = " AND ".join(f"d.{quote(name)} = s.{quote(name)}" for name in table.walk_key)
    new = f"NOT EXISTS (SELECT 1 FROM {quote(target.schema, target.name)} AS d WHERE {same})"
    if limit is None:
        return (f"{where} AND {new}" if where else new), None
    # The first rows of the source, not the first that are missing.
    return f"{sampling.closure.within(table)} AND {new}", None


def _planned(ends: Ends, sampling: Sampling) -> dict[str, Any]:
    plan = []
    for table in sampling.closure.chosen:
        where, limit = _condition(ends, sampling, table)
        rows = f"SELECT 1 FROM {quote(table.schema, table.name)} AS s"
        rows += f" WHERE {where}" if where else ""
        rows += f" LIMIT {limit}" if limit is not None else ""
        count = int(ends.source.query(f"SELECT COUNT(*) FROM ({rows}) AS counted")[0][0])
        plan.append({"table": str(table), "rows": count, "where": where, "limit": limit})
    return {
        "rows_copied": 0,
        "tables": {one["table"]: one["rows"] for one in plan},
        "files_copied": 0,
        "snapshot": "none",
        "notes": [],
        "plan": plan,
    }


def _make(
    ends: Ends, sampling: Sampling, adapters: Mapping[str, str] | None, stores: Stores
) -> list[str]:
    """Make the destinations that are not there; what has no equal in them, as sentences."""
    missing = [schema for name, schema in sampling.sources.items() if name not in sampling.there]
    if not missing:
        return []
    family = with_neighbours(ends.source, sampling.sources.values())
    buildings = [
        plan_schema(
            ends,
            schema,
            family,
            sampling.schema_map,
            external="convert",
            unsigned="keep",
            adapters=adapters,
            store_map=stores.names,
        )
        for schema in missing
    ]
    made, notes = make_whole(ends, buildings, sampling.schema_map)
    sampling.there |= made
    return notes


def _take(
    ends: Ends,
    sampling: Sampling,
    stores: Stores,
    copy_files: bool,
    adapters: Mapping[str, str] | None,
    lanes: int,
    on_event: OnEvent,
) -> dict[str, Any]:
    """The referenced files, then the rows, all of one instant, then the proof of every key."""
    loadings = [
        Loading(
            ends,
            sampling.sources[table.schema],
            table,
            find_table(sampling.there[table.schema], table.name),
            final_schema=final_name(table.schema, sampling.schema_map[table.schema]),
            stores=stores,
            copy_files=copy_files,
            adapters=adapters,
        )
        for table in sampling.closure.chosen
    ]
    tables = [loading.destination for loading in loadings]
    # What is there already can be told from what is missing on one server, by the key.
    refuse_rows(ends, [t for t in tables if not ends.same_server or not t.walk_key])
    _refuse_triggers(ends, tables)
    plans = []
    for loading in loadings:
        prove(ends.source, loading.source, loading.match)
        plans.append(loading.plan(*_condition(ends, sampling, loading.source)))
    jobs = file_jobs(column for loading in loadings for column in loading.pointed())
    check_places(jobs, stores, copy_files)
    before = marks(ends.source, sampling.sources)

    def move() -> int:
        moved = move_referenced(
            ends, sampling.closure, sampling.schema_map, jobs, stores, copy_files, lanes, on_event
        )
        raise_missing(moved["errors"])
        return int(moved["files_copied"])

    files = move()
    # Never the short cut inside the server, where each chunk has an instant of its own and what
    # changed meanwhile is copied again: a parent could be missing from what is there by then.
    copied = _core.copy(copy_plan(ends.specs(), plans, route="river", lanes=lanes), on_event)
    # A row may have been given another value since its files were copied.
    if jobs and not is_untouched(before, marks(ends.source, sampling.sources)):
        files += move()
    for loading in loadings:
        keep_auto_increment(ends, loading.source, loading.destination)
    _prove(ends, tables)
    forget(ends.destination, [(table.schema, table.name) for table in tables])
    origins = {(one.destination.schema, one.destination.name): one.source for one in loadings}
    files_written = sum(one["files_written"] for one in copied["tables"])
    rows = {
        str(origins[one["destination_schema"], one["destination_table"]]): one["rows_copied"]
        for one in copied["tables"]
    }
    return {
        "rows_copied": copied["rows_copied"],
        "tables": rows,
        "files_copied": files + files_written,
        "snapshot": copied["snapshot"],
        "notes": _left(ends, loadings),
    }


def _prove(ends: Ends, tables: list[Table]) -> None:
    """Every key holds; what the proof refuses is taken back, unless other rows were there."""
    what = "production has rows without their parents: correct them, or choose other rows; "
    try:
        prove_keys(ends.destination, tables, what + "this call's rows were taken out again")
    except Mismatch as refused:
        if not take_back(ends.destination, tables):
            refused.hint = (
                what + "this call's rows are still there, because the destination held others "
                "before"
            )
        raise


def _refuse_triggers(ends: Ends, tables: Iterable[Table]) -> None:
    for table in tables:
        for trigger in triggers_of(ends.destination, table.schema, table.name):
            raise DestinationNotEmpty(
                f"{table} has the trigger {trigger!r}, which loading would fire",
                hint="copy into a destination without triggers",
                context={"table": str(table), "trigger": trigger},
            )


def _left(ends: Ends, loadings: Iterable[Loading]) -> list[str]:
    return [
        f"the trigger {trigger} of {loading.source} is not part of a sample"
        for loading in loadings
        for trigger in triggers_of(ends.source, loading.source.schema, loading.source.name)
    ]
