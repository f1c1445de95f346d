"""The files of a sample: only those that its rows refer to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.names import SAMPLE_FILES
from datajoint_migrate.catalog.tables import Table, read_schema
from datajoint_migrate.files.pointers import FileJob, Stores, move_files
from datajoint_migrate.rows.closure import Closure
from datajoint_migrate.rows.matching import match_columns
from datajoint_migrate.rows.plan import copy_plan, copy_table

COLUMNS = (
    "`hash` binary(16) NOT NULL, `size` bigint unsigned NOT NULL,"
    " `attachment_name` varchar(255) DEFAULT NULL, `filepath` varchar(1000) DEFAULT NULL,"
    " `contents_hash` binary(16) DEFAULT NULL, `timestamp` timestamp NULL, PRIMARY KEY (`hash`)"
)


def move_referenced(
    ends: Ends,
    closure: Closure,
    destinations: Mapping[str, str],
    jobs: list[FileJob],
    stores: Stores,
    copy_files: bool,
    lanes: int,
    on_event: OnEvent,
) -> dict[str, Any]:
    """`move_files` for the objects of the sample; keys as there.

    The tracking rows of the sample are brought to a hidden table of the destination, which stands
    in for the tracking table while the files are moved: the source cannot hold one.
    """
    total: dict[str, Any] = {"files_copied": 0, "bytes": 0, "errors": []}
    for job in jobs:
        helper = _stand_in(ends, destinations)
        try:
            _fill(ends, closure, job, helper, lanes, on_event)
            there = {"tracking_schema": helper.schema, "tracking_table": helper.name}
            chosen = dataclasses.replace(job, pointer={**job.pointer, **there}, columns=[])
            reading = dataclasses.replace(ends, source=ends.destination)
            moved = move_files(reading, [chosen], stores, copy_files, on_event)
        finally:
            ends.destination.execute(f"DROP TABLE IF EXISTS {quote(helper.schema, helper.name)}")
        for key in total:
            total[key] += moved[key]
    return total


def _stand_in(ends: Ends, destinations: Mapping[str, str]) -> Table:
    schema = min(destinations.values())
    name = quote(schema, SAMPLE_FILES)
    ends.destination.execute(f"DROP TABLE IF EXISTS {name}")
    ends.destination.execute(f"CREATE TABLE {name} ({COLUMNS}) CHARSET utf8mb4")
    return read_schema(ends.destination, schema).tables[SAMPLE_FILES]


def _fill(
    ends: Ends, closure: Closure, job: FileJob, helper: Table, lanes: int, on_event: OnEvent
) -> None:
    where = job.pointer["tracking_schema"], job.pointer["tracking_table"]
    tracking = read_schema(ends.source, where[0]).tables[where[1]]
    pointers = " UNION ".join(
        closure.values(closure.tables[column["schema"], column["table"]], column["column"])
        for column in job.columns
    )
    # The derived table keeps the server from asking the union once for every tracking row.
    condition = f"s.`hash` IN (SELECT * FROM ({pointers}) AS pointed)"
    match = match_columns(tracking, helper, {})
    plan = copy_table(tracking, helper, match, {}, where_clause=condition)
    whole = copy_plan(ends.specs(), [plan], route="river", lanes=lanes)
    _core.copy({**whole, "journal": False, "keep_journal": False}, on_event)
