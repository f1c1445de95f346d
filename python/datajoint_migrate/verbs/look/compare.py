"""Do production and its copy hold the same values?"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

from datajoint_migrate import _core
from datajoint_migrate.call.ends import Ends, open_ends
from datajoint_migrate.call.progress import OnEvent, Telling
from datajoint_migrate.call.throttle import Throttle
from datajoint_migrate.catalog.externals import externals_of
from datajoint_migrate.catalog.leftovers import left_by_sync
from datajoint_migrate.catalog.tables import Schema, Table, find_table, read_schema
from datajoint_migrate.errors import InvalidArgument, NotFound, Unconvertible
from datajoint_migrate.files.pointers import tracking_of
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import SchemaComparison, StructureDifference, TableComparison
from datajoint_migrate.rows.matching import pair_up
from datajoint_migrate.rows.plan import compare_plan, compare_table, comparison
from datajoint_migrate.rows.readable import readable
from datajoint_migrate.rows.structure import compare_programs, compare_structure

logger = logging.getLogger("datajoint_migrate")


def compare_query_results(
    prod_schema: str,
    test_schema: str,
    table: str,
    tolerance: float = 1e-6,
    connection: Any = None,
    *,
    dest_connection: Any = None,
    adapters: Mapping[str, str] | None = None,
    lanes: int = LIMITS.lanes,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    on_event: OnEvent = None,
) -> TableComparison:
    """Compare one table of production with its copy, by meaning.

    Rows meet by the whole key, columns by name. A BINARY(16) pointer equals the JSON made from it,
    text is compared as Unicode, numbers by value. Columns only the copy has, such as job metadata,
    are noted. A table the copy lacks is a discrepancy; one that neither side has is not found.

    Examples:
        >>> result = compare_query_results("lab", "lab_v20", "Session.Trial")

    Args:
        prod_schema: Production.
        test_schema: Its copy.
        table: A class name or a table name.
        tolerance: Of floats, absolute or relative.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        dest_connection: Of the destination, where that is another server.
        adapters: {"name": "blob@raw"}: what an adapter stores, where the rows do not tell.
        lanes: Connections that read at once.
        max_bytes_per_second: Read no more of production than this, all connections together.
        max_load: Pause while the server is busier: "Threads_running=25", several with commas.
        pause_file: Pause while this file is there. The snapshot stays open in every pause.
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `match`, `row_count` (of production), `test_row_count`, `discrepancies` (dicts with
    `kind` and, for rows, `key` and `columns`; at most 1000), `truncated`, `notes`, `digest` (the
    sum of the hashes of production's rows, in hexadecimal), `time_taken`.

    Raises `NotFound`, and `InvalidArgument` for a tolerance that is none.
    """
    check_tolerance(tolerance)
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(connection, dest_connection, throttle, looking=True, on_event=on_event) as ends:
        ends.spell({prod_schema: test_schema})
        prod = read_schema(ends.source, prod_schema)
        test = read_schema(ends.destination, test_schema)
        try:
            name = find_table(prod, table).name
        except NotFound:
            name = find_table(test, table).name
        found = compare_tables(
            ends,
            [(prod, test, name)],
            tolerance,
            adapters=adapters,
            lanes=lanes,
            on_event=on_event,
        )
        return cast(TableComparison, found[prod_schema, name])


def compare_schemas(
    prod_schema: str,
    test_schema: str,
    tolerance: float = 1e-6,
    *,
    connection: Any = None,
    dest_connection: Any = None,
    adapters: Mapping[str, str] | None = None,
    lanes: int = LIMITS.lanes,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    on_event: OnEvent = None,
) -> SchemaComparison:
    """Compare all user tables of two schemas, as `compare_query_results` does one, and their DDL.

    Values are compared as by `compare_query_results`, and what is declared beside them. Tables that
    only one side has count as mismatches.

    Examples:
        >>> assert compare_schemas("lab", "lab_v20", connection="mysql://me:secret@db/")["match"]

    Args:
        prod_schema: Production.
        test_schema: Its copy.
        tolerance: Of floats, absolute or relative.
        connection: A DataJoint connection, URL or dict; by default DataJoint's configuration.
        dest_connection: Of the destination, where that is another server.
        adapters: {"name": "blob@raw"}: what an adapter stores, where the rows do not tell.
        lanes: Connections that read at once.
        max_bytes_per_second: Read no more of production than this, all connections together.
        max_load: Pause while the server is busier: "Threads_running=25", several with commas.
        pause_file: Pause while this file is there. The snapshot stays open in every pause.
        on_event: Called about every 100 ms with an `Event`; a `Display` shows it.

    Returns `match` (of all values), `tables` (name → the result of that table), `row_count`,
    `time_taken`, `structure` (differences of columns, keys, indexes, defaults, checks, views,
    triggers, routines and events: dicts with `table`, `what`, `name`, `prod`, `test`) and
    `structure_match`.

    Raises `NotFound`, and `InvalidArgument` for a tolerance that is none.
    """
    check_tolerance(tolerance)
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    with open_ends(connection, dest_connection, throttle, looking=True, on_event=on_event) as ends:
        ends.spell({prod_schema: test_schema})
        prod = read_schema(ends.source, prod_schema)
        test = read_schema(ends.destination, test_schema)
        found = compare_tables(
            ends,
            [(prod, test, name) for name in table_names(prod, test)],
            tolerance,
            adapters=adapters,
            lanes=lanes,
            on_event=on_event,
        )
        tables = {name: result for (_, name), result in found.items()}
        externals = {
            table.name: externals_of(ends.source, prod, table, adapters)
            for table in prod.tables.values()
        }
        structure = compare_structure(prod, test, externals)
        structure += compare_programs(ends.source, ends.destination, prod.name, test.name)
        structure += [
            {"table": None, "what": "hidden table", "name": left, "prod": None, "test": said}
            for (_, left), said in left_by_sync(ends.destination, [test]).items()
        ]
        return {
            "match": all(result["match"] for result in tables.values()),
            "tables": cast(dict[str, TableComparison], tables),
            "row_count": sum(result["row_count"] for result in tables.values()),
            "time_taken": sum(result["time_taken"] for result in tables.values()),
            "structure": cast(list[StructureDifference], structure),
            "structure_match": not structure,
        }


def check_tolerance(tolerance: float) -> None:
    """Raises `InvalidArgument` for a tolerance that is no number of 0 or more."""
    if not tolerance >= 0:
        raise InvalidArgument(f"tolerance is {tolerance!r}", hint="give a number of 0 or more")


def table_names(prod: Schema, test: Schema) -> list[str]:
    """User tables of either schema; 2.x's own job tables are not among them."""
    names = {*prod.tables, *test.tables}
    return sorted(name for name in names if not name.startswith("~"))


def compare_tables(
    ends: Ends,
    wanted: Iterable[tuple[Schema, Schema, str]],
    tolerance: float,
    *,
    adapters: Mapping[str, str] | None = None,
    lanes: int = LIMITS.lanes,
    on_event: OnEvent = None,
    note: bool = False,
) -> dict[tuple[str, str], dict[str, Any]]:
    """Compare tables (production schema, copy, table name) in one run of the engine.

    Keys of the result are production schema and table name. `note` keeps what is equal for a later
    sync, in the hidden table that the copies then have.
    """
    comparing = Comparing(ends, wanted, tolerance, adapters, note)
    comparing.run(ends, lanes, on_event)
    return comparing.results


class Comparing:
    """Pairs of tables to be compared, and what came of it.

    `results`: production schema and table name → result of `compare_query_results`. `since`: none
    of the comparisons began earlier, by the monotonic clock; None before the first.
    """

    def __init__(
        self,
        ends: Ends,
        wanted: Iterable[tuple[Schema, Schema, str]],
        tolerance: float,
        adapters: Mapping[str, str] | None = None,
        note: bool = False,
    ) -> None:
        self.tolerance = tolerance
        self.note = note
        self.results: dict[tuple[str, str], dict[str, Any]] = {}
        self.since: float | None = None
        self._plans: dict[tuple[str, str], dict[str, Any]] = {}
        self._sources: dict[tuple[str, str], Table] = {}
        for prod, test, name in wanted:
            result = self.results[prod.name, name] = _empty()
            missing = [schema.name for schema in (prod, test) if name not in schema.tables]
            if missing:
                kind = "missing_table" if missing[0] == test.name else "extra_table"
                _mismatch(result, {"kind": kind, "schema": missing[0], "table": name})
                continue
            plan = _table_plan(ends, prod, test, name, adapters, result)
            if plan is not None:
                self._plans[prod.name, name] = plan
                self._sources[prod.name, name] = prod.tables[name]
        self._waiting = set(self._plans)
        # What the columns alone tell stays true whatever the rows say.
        self._of_columns = copy.deepcopy(self.results)

    def comparison(self, names: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """The engine's comparison of these tables, for a copy that compares what it copied."""
        plans = [self._plans[name] for name in names if name in self._plans]
        return comparison(plans, tolerance=self.tolerance, note=self.note)

    def take(self, found: Iterable[dict[str, Any]]) -> None:
        """Keep what the engine has found a moment ago."""
        found = list(found)
        # The tables may have been compared one after the other.
        began = time.monotonic() - sum(table["time_taken"] for table in found)
        self.since = min(self.since or began, began)
        for table in found:
            name = table["source_schema"], table["source_table"]
            self.results[name] = copy.deepcopy(self._of_columns[name])
            _take(self.results[name], table, self._sources[name])
            self._waiting.discard(name)

    def run(self, ends: Ends, lanes: int, on_event: OnEvent) -> set[tuple[str, str]]:
        """Compare what nothing was found about yet; returns the tables that differ."""
        waiting = {name: plan for name, plan in self._plans.items() if name in self._waiting}
        if not waiting:
            return set()
        plan = compare_plan(
            ends.specs(),
            list(waiting.values()),
            tolerance=self.tolerance,
            lanes=lanes,
            note=self.note,
        )
        telling = on_event and Telling(
            on_event,
            {".".join(name): table["rows"] for name, table in waiting.items()},
            lanes,
            sizes={".".join(name): table["data_bytes"] for name, table in waiting.items()},
        )
        self.take(_core.compare(plan, telling)["tables"])
        return {name for name in waiting if not self.results[name]["match"]}


def _empty() -> dict[str, Any]:
    return {
        "match": True,
        "row_count": 0,
        "test_row_count": 0,
        "discrepancies": [],
        "truncated": False,
        "notes": [],
        "digest": None,
        "time_taken": 0.0,
    }


def _mismatch(result: dict[str, Any], discrepancy: dict[str, Any]) -> None:
    result["match"] = False
    result["discrepancies"].append(discrepancy)


def _take(result: dict[str, Any], found: dict[str, Any], source: Table) -> None:
    result["match"] = result["match"] and found["match"]
    result["row_count"] = found["row_count"]
    result["test_row_count"] = found["destination_row_count"]
    result["discrepancies"] += [readable(one, source) for one in found["discrepancies"]]
    result["truncated"] = found["truncated"]
    result["digest"] = found["digest"]
    result["time_taken"] = found["time_taken"]


def _table_plan(
    ends: Ends,
    prod: Schema,
    test: Schema,
    name: str,
    adapters: Mapping[str, str] | None,
    result: dict[str, Any],
) -> dict[str, Any] | None:
    source, destination = prod.tables[name], test.tables[name]
    externals = externals_of(ends.source, prod, source, adapters)
    try:
        match = pair_up(source, destination, externals)
    except Unconvertible as error:
        _mismatch(result, {"kind": "type", "table": name, "error": error.message})
        return None
    for column in match.source_only:
        _mismatch(result, {"kind": "missing_column", "table": name, "column": column})
    if match.destination_only:
        result["notes"].append(
            f"{test.name}.{name} has columns that {prod.name} does not have: "
            + ", ".join(match.destination_only)
        )
    paired = {pair.source.name for pair in match.pairs}
    unpaired = [column for column in source.walk_key if column not in paired]
    if unpaired:
        _mismatch(result, {"kind": "key", "table": name, "columns": unpaired})
        return None
    tracking = tracking_of(source, externals)
    return compare_table(source, destination, match, tracking)
