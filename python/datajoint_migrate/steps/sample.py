"""A part of a pipeline that stands on its own: chosen rows with all that they refer to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.catalog.sql import unquoted
from datajoint_migrate.catalog.tables import Schema, Table, find_table, read_schema
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, Mismatch, NotFound
from datajoint_migrate.steps.copying import (
    Loading,
    keep_auto_increment,
    raise_missing,
    refuse_rows,
    triggers_of,
    user_tables,
)
from datajoint_migrate.steps.lineage import with_neighbours
from datajoint_migrate.steps.moving.building import build, carry_programs, plan_schema, prove_built
from datajoint_migrate.steps.moving.carrying import STILL
from datajoint_migrate.steps.moving.closure import WHOLE, Closure, Name, Seed
from datajoint_migrate.steps.moving.ends import (
    Ends,
    check_names,
    open_ends,
    read_if_there,
    whole_map,
)
from datajoint_migrate.steps.moving.journal import forget, started
from datajoint_migrate.steps.moving.keys import has_rows, prove_keys
from datajoint_migrate.steps.moving.matching import prove
from datajoint_migrate.steps.moving.plan import LANES, copy_plan
from datajoint_migrate.steps.moving.pointers import Stores, check_places, file_jobs, final_name
from datajoint_migrate.steps.moving.referenced import move_referenced
from datajoint_migrate.steps.moving.route import OnEvent
from datajoint_migrate.steps.moving.turn import take_turn
from datajoint_migrate.target.declare import check_map


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
    lanes: int = LANES,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Copy chosen rows with every row they refer to, so that all foreign keys hold.

    The schemas are `source` and `dest`, or `schema_map` ({source: dest}), or all of them.
    `restrictions` is {table: where clause, number of rows, or {"where": …, "limit": n}}; a table
    goes by class name or SQL name, with `schema.` before it where two schemas have it. `limit` is
    the number of rows of a table that names none; without restrictions it takes as many of
    every table. The first rows in key order are taken. Parents come along, whatever schema they
    are in, parts with their master and all its parts, and with `children` all rows that refer to
    the chosen ones, and their own. Files: those of the sample only.

    A destination that is not there is made first. On one server the same or another sample can
    be added later: only rows whose key is missing are copied. On two servers the destination
    has to be empty.

    Returns `rows_copied`, `tables` ("source.table" → rows copied), `files_copied`, `notes`,
    `snapshot`, `time_taken`; with `dry_run` also `plan` (table, rows and condition), `tables` are
    then the rows that would be copied, and nothing is written. Raises as `copy_all_data`.
    """
    began = time.monotonic()
    with open_ends(connection, dest_connection) as ends:
        names = _names(source, dest, schema_map, ends.same_server)
        if not dry_run:
            take_turn(ends.destination, names.values())
        sources = {name: read_schema(ends.source, name) for name in names}
        there = {
            name: schema
            for name, to in names.items()
            if (schema := read_if_there(ends.destination, to)) is not None
        }
        _follow(ends, names, sources, there)
        if not dry_run:
            take_turn(ends.destination, names.values())
        check_map(sources.values(), names)
        seeds = _seeds(sources, restrictions, limit)
        sampling = Sampling(names, sources, there, _closure(sources, seeds, children))
        stores = Stores.find(source_stores, dest_stores, store_map)
        _check_clauses(ends, sampling)
        if dry_run:
            planned = _planned(ends, sampling)
            return {**planned, "time_taken": time.monotonic() - began}
        notes = _make(ends, sampling, adapters, stores)
        result = _take(ends, sampling, stores, copy_files, adapters, lanes, on_event)
    return {
        **result,
        "notes": notes + result["notes"],
        "time_taken": time.monotonic() - began,
    }


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
    source: str | None, dest: str | None, schema_map: Mapping[str, str] | None, same_server: bool
) -> dict[str, str]:
    if (source is None) != (dest is None):
        raise InvalidArgument("one of source and dest is missing", hint="give both, or schema_map")
    if source is not None and dest is not None:
        return whole_map(source, dest, dict(schema_map or {}), same_server)
    names = dict(schema_map or {})
    check_names(names, same_server)
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
    check_names(names, ends.same_server)


def _seeds(
    sources: Mapping[str, Schema], restrictions: Mapping[str, Any] | None, limit: int | None
) -> dict[Name, Seed]:
    _check_limit(limit)
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
    if isinstance(wanted, str):
        return Seed(wanted.strip() or None, limit)
    if wanted is None:
        return Seed(None, limit)
    if isinstance(wanted, Mapping) and set(wanted) <= {"where", "limit"}:
        own = wanted.get("limit", limit)
        where = wanted.get("where")
        if where is None or isinstance(where, str):
            _check_limit(own)
            return Seed(where, own)
    if isinstance(wanted, int):
        _check_limit(wanted)
        return Seed(None, wanted)
    raise InvalidArgument(
        f"the restriction of {name!r} is {wanted!r}",
        hint='give a where clause, a number of rows, or {"where": "…", "limit": 10}',
    )


def _check_limit(limit: Any) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise InvalidArgument(f"limit is {limit!r}", hint="give a number of rows, 0 or more")


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
        if seed.where:
            ends.source.query(
                f"SELECT 1 FROM {quote(schema, table)} AS s WHERE ({seed.where}\n) LIMIT 0"
            )


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
    notes = [note for building in buildings for note in building.notes]
    for building in buildings:
        build(ends.destination, building, set())
    for building in buildings:
        made = prove_built(ends.destination, building, sampling.schema_map)
        sampling.there[building.source.name] = made
        notes += carry_programs(ends, building, sampling.schema_map, STILL)
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
    begun = started(ends.destination, {table.schema for table in tables})
    extended = [
        str(table)
        for table in tables
        if (table.schema, table.name) not in begun
        and has_rows(ends.destination, table.schema, table.name)
    ]
    files = move_referenced(
        ends, sampling.closure, sampling.schema_map, jobs, stores, copy_files, lanes, on_event
    )
    raise_missing(files["errors"])
    # Never the short cut inside the server, where each chunk has an instant of its own and what
    # changed meanwhile is copied again: a parent could be missing from what is there by then.
    copied = _core.copy(copy_plan(ends.specs(), plans, route="river", lanes=lanes), on_event)
    for loading in loadings:
        keep_auto_increment(ends, loading.source, loading.destination)
    try:
        _prove(ends, tables, extended)
    finally:
        forget(ends.destination, [(table.schema, table.name) for table in tables])
    origins = {(one.destination.schema, one.destination.name): one.source for one in loadings}
    rows = {
        str(origins[one["destination_schema"], one["destination_table"]]): one["rows_copied"]
        for one in copied["tables"]
    }
    return {
        "rows_copied": copied["rows_copied"],
        "tables": rows,
        "files_copied": files["files_copied"],
        "snapshot": copied["snapshot"],
        "notes": _left(ends, loadings),
    }


def _prove(ends: Ends, tables: list[Table], extended: list[str]) -> None:
    """Every key holds; what the proof refuses is taken back, unless other rows were there."""
    what = "production has rows without their parents: correct them, or choose other rows; "
    if extended:
        what += "this call's rows are still there, because the destination held others before"
    else:
        what += "this call's rows were taken out again"
    try:
        prove_keys(ends.destination, tables, what)
    except Mismatch:
        for table in [] if extended else tables:
            ends.destination.execute(f"TRUNCATE TABLE {quote(table.schema, table.name)}")
        raise


def _refuse_triggers(ends: Ends, tables: Iterable[Table]) -> None:
    for table in tables:
        for trigger in triggers_of(ends.destination, table):
            raise DestinationNotEmpty(
                f"{table} has the trigger {trigger!r}, which loading would fire",
                hint="drop it, and make it again after the copy",
                context={"table": str(table), "trigger": trigger},
            )


def _left(ends: Ends, loadings: Iterable[Loading]) -> list[str]:
    return [
        f"the trigger {trigger} of {loading.source} is not part of a sample"
        for loading in loadings
        for trigger in triggers_of(ends.source, loading.source)
    ]
