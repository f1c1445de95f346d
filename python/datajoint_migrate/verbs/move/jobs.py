"""`~jobs` of 0.14.6 into the job tables of 2.x: what failed there is not computed again here."""

from __future__ import annotations

import datetime
import logging
import math
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends, check_names, open_ends
from datajoint_migrate.call.exchanges import refuse_cut_over
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.client import is_uuid
from datajoint_migrate.catalog.jobs import JOBS, Job, count_reserved, read_jobs
from datajoint_migrate.catalog.names import NAME_CHARACTERS
from datajoint_migrate.catalog.packed import unpack_key
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Schema, Table, find_table, read_schemas
from datajoint_migrate.errors import InvalidArgument, NotFound, ServerError, Unconvertible
from datajoint_migrate.results import JobsResult
from datajoint_migrate.target.jobs import (
    CONNECTION_MAX,
    PID_MAX,
    PRIORITY,
    declare_jobs,
    job_key,
    job_table,
)

logger = logging.getLogger("datajoint_migrate")

# What the server says of a value that does not fit its column: out of range, wrong, too long.
DOES_NOT_FIT = {1264, 1265, 1292, 1366, 1367, 1406, 1411, 1525}

# The session thinks in UTC, but 2.x compares these columns with the clock of its own sessions.
LOCAL_TIME = (
    "COALESCE(CONVERT_TZ(%s, '+00:00', @@GLOBAL.time_zone), CONVERT_TZ(UTC_TIMESTAMP(3),"
    " '+00:00', @@GLOBAL.time_zone), UTC_TIMESTAMP(3))"
)


@dataclass
class Queue:
    """One job table of the destination: whose it is, and what came of the jobs for it."""

    table: Table
    key: tuple[str, ...]
    exists: bool
    carried: Counter[str] = field(default_factory=Counter)
    already_there: int = 0

    @property
    def name(self) -> str:
        """Its SQL name."""
        return job_table(self.table.name)


@dataclass
class Carrying:
    """What one call of `carry_jobs` did so far."""

    ends: Ends
    dry_run: bool
    queues: dict[tuple[str, str], Queue] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables_created: int = 0
    reserved: int = 0


def carry_jobs(
    schema_map: Mapping[str, str],
    *,
    connection: Any = None,
    dest_connection: Any = None,
    dry_run: bool = False,
) -> JobsResult:
    """Carry failed and ignored jobs of 0.14.6 into the job tables of DataJoint 2.x.

    `schema_map` is {source: migrated}. 2.x then skips those keys in `populate(reserve_jobs=True)`
    and shows them, with message and stack, in `Table.jobs.errors` and `Table.jobs.ignored`. Job
    tables that are not there yet are made as 2.x makes them. Jobs that 2.x itself has recorded
    stay; pending ones take over what 0.14.6 knew. Reservations are left behind. Called again, it
    adds what is missing.

    Returns `jobs_carried` and of these `errors_carried` and `ignores_carried` (by this call),
    `already_there`, `reserved_dropped`, `tables_created`, `refused` (a list of `schema`, `table`,
    `key_hash`, `key`, `reason`: jobs that have no equal in 2.x), `notes` (sentences) and
    `time_taken` in seconds; with `dry_run` nothing is written. Raises `NotFound`,
    `InvalidArgument`, `PermissionMissing`, `ConnectionFailed`.
    """
    began = time.monotonic()
    with open_ends(connection, dest_connection) as ends:
        check_names(dict(schema_map), ends.same_server, ends.folds)
        refuse_cut_over(ends, schema_map)
        if not dry_run:
            take_turn(ends.destination, schema_map.values())
        sources = read_schemas(ends.source, schema_map)
        copies = read_schemas(ends.destination, schema_map.values())
        # A value that does not fit must be refused, not cut to size.
        ends.destination.execute(
            "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES')"
        )
        carrying = Carrying(ends, dry_run)
        for name, source in sources.items():
            if JOBS in source.tables:
                _carry_schema(carrying, source, copies[schema_map[name]])
            else:
                carrying.notes.append(f"{source.name} has no {JOBS}: there is nothing to carry")
        if not dry_run:
            for queue in carrying.queues.values():
                carrying.notes += _left_alone(ends.destination, queue)
    queues = list(carrying.queues.values())
    errors = sum(queue.carried["error"] for queue in queues)
    ignores = sum(queue.carried["ignore"] for queue in queues)
    logger.info("carried %d failed and %d ignored jobs", errors, ignores)
    return {
        "jobs_carried": errors + ignores,
        "errors_carried": errors,
        "ignores_carried": ignores,
        "already_there": sum(queue.already_there for queue in queues),
        "reserved_dropped": carrying.reserved,
        "tables_created": carrying.tables_created,
        "refused": carrying.refused,
        "notes": carrying.notes + _summary(carrying.refused),
        "time_taken": time.monotonic() - began,
    }


def _carry_schema(carrying: Carrying, source: Schema, dest: Schema) -> None:
    carrying.reserved += count_reserved(carrying.ends.source, source.name)
    for page in read_jobs(carrying.ends.source, source.name):
        found = _queue(carrying, dest, page[0].table)
        if isinstance(found, str):
            carrying.refused += [_refusal(source, job, None, found) for job in page]
            continue
        ready = []
        for job in page:
            key: dict[str, Any] | None = None
            try:
                key = unpack_key(job.key or b"")
                ready.append((job, key, _bind(carrying.ends.source, found, key)))
            except Unconvertible as error:
                carrying.refused.append(_refusal(source, job, key, error.message))
        _write(carrying, source, found, ready)


def _queue(carrying: Carrying, dest: Schema, name: str) -> Queue | str:
    """The job table for a table, made when it is missing; or why there can be none."""
    if name not in dest.tables:
        found = _by_class(dest, name)
        if found is None:
            return f"{dest.name} has no table {name!r}"
        name = found
    if queue := carrying.queues.get((dest.name, name)):
        return queue
    table = dest.tables[name]
    if table.tier not in ("imported", "computed"):
        return f"{name!r} is not a table that populate fills"
    twins = [
        other.name
        for other in dest.tables.values()
        if other.tier in ("imported", "computed") and job_table(other.name) == job_table(name)
    ]
    if len(twins) > 1:
        return f"2.x has one job table, {job_table(name)!r}, for {' and '.join(map(repr, twins))}"
    if len(job_table(name)) > NAME_CHARACTERS:
        return f"2.x has no job table for {name!r}: its name would be too long"
    key = tuple(job_key(table))
    if not key:
        return f"2.x has no job table for {name!r}: no foreign key is part of its primary key"
    adapted = [column for column in key if (table.column(column).marker or "").startswith("<")]
    if adapted:
        return (
            f"the key attribute {adapted[0]!r} is adapted by code, which only its codec can store: "
            "use Table.jobs.ignore(key) of 2.x"
        )
    there = dest.tables.get(job_table(name))
    if there is not None and set(there.primary_key) != set(key):
        return f"{there} has the key {', '.join(there.primary_key)}, not {', '.join(key)}"
    queue = Queue(table, key, there is not None)
    carrying.queues[dest.name, name] = queue
    return queue


def _by_class(dest: Schema, name: str) -> str | None:
    """The table of a name as MATLAB's client writes it: `package.Sorting`, `+package/Sorting`."""
    for spelling in (name, re.split(r"[./]", name)[-1]):
        with suppress(NotFound, InvalidArgument):
            return find_table(dest, spelling).name
    return None


# -- one job -----------------------------------------------------------------------------------


def _bind(source: Session, queue: Queue, key: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Placeholder and value of each attribute; raises `Unconvertible` for another key."""
    if set(key) != set(queue.key):
        raise Unconvertible(
            f"its key is of {', '.join(sorted(key))}; jobs of {queue.table.name!r} in 2.x are told "
            f"apart by {', '.join(queue.key)}"
        )
    return [_bind_value(source, queue.table.column(name), key[name]) for name in queue.key]


def _bind_value(source: Session, column: Column, value: Any) -> tuple[str, Any]:
    if is_uuid(column.marker) and isinstance(value, str):
        try:
            value = uuid.UUID(value)
        except ValueError:
            raise Unconvertible(f"{column.name}: {value!r} is no UUID") from None
    if isinstance(value, uuid.UUID):
        return "UNHEX(%s)", value.hex
    if isinstance(value, bytes):
        return "UNHEX(%s)", value.hex()
    if isinstance(value, bool):
        return "%s", int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise Unconvertible(f"{column.name}: {value} is no value of a key")
    if isinstance(value, datetime.datetime) and column.data_type == "timestamp":
        # 0.14.6 saw it in the time zone of its server.
        return "%s", _in_utc(source, column, value)
    if isinstance(value, int | float | str | Decimal | datetime.date | datetime.time):
        return "%s", value
    raise Unconvertible(f"{column.name}: a {type(value).__name__} is no value of a key")


def _in_utc(source: Session, column: Column, value: datetime.datetime) -> Any:
    sql = "SELECT CONVERT_TZ(%s, @@GLOBAL.time_zone, '+00:00')"
    found = source.query(sql, (value,))[0][0]
    if found is None:
        raise Unconvertible(f"{column.name}: the server cannot tell {value} in UTC")
    return found


def _write(
    carrying: Carrying,
    source: Schema,
    queue: Queue,
    ready: Iterable[tuple[Job, dict[str, Any], list[tuple[str, Any]]]],
) -> None:
    """Put jobs into their table, a page in one transaction."""
    ready = list(ready)
    if carrying.dry_run:
        carrying.tables_created += bool(ready) and not queue.exists
        queue.exists = queue.exists or bool(ready)
        queue.carried.update(job.status for job, _, _ in ready)
        return
    session = carrying.ends.destination
    if ready and not queue.exists:
        session.execute(declare_jobs(queue.table))
        queue.exists = True
        carrying.tables_created += 1
    session.execute("START TRANSACTION")
    try:
        for job, key, bound in ready:
            try:
                taken = _insert(session, queue, job, bound)
            except ServerError as error:
                if error.context.get("errno") not in DOES_NOT_FIT:
                    raise
                carrying.refused.append(_refusal(source, job, key, error.message))
                continue
            if taken:
                queue.carried[job.status] += 1
            else:
                queue.already_there += 1
        session.execute("COMMIT")
    except BaseException:
        session.execute("ROLLBACK")
        raise


def _insert(session: Session, queue: Queue, job: Job, bound: list[tuple[str, Any]]) -> bool:
    """Whether the job is there by this call; one that 2.x is past waiting for stays as it is."""
    when, failed = job.timestamp, job.status == "error"
    stack = job.error_stack.hex() if job.error_stack is not None else None
    fields: list[tuple[str, str, list[Any]]] = [
        ("priority", "%s", [PRIORITY]),
        ("created_time", LOCAL_TIME, [when]),
        ("scheduled_time", LOCAL_TIME, [when]),
        ("completed_time", LOCAL_TIME if failed else "NULL", [when] if failed else []),
        ("error_message", "%s", [job.error_message]),
        ("error_stack", "UNHEX(%s)", [stack]),
        ("user", "%s", [job.user]),
        ("host", "%s", [job.host]),
        ("pid", "%s", [min(job.pid, PID_MAX)]),
        ("connection_id", "%s", [min(job.connection_id, CONNECTION_MAX)]),
        # Last, because the update of the others looks at it.
        ("status", "%s", [job.status]),
    ]
    names = [*queue.key, *(name for name, _, _ in fields)]
    places = [*(place for place, _ in bound), *(place for _, place, _ in fields)]
    values = [*(value for _, value in bound), *(item for _, _, some in fields for item in some)]
    changes = (
        f"{quote(name)} = IF(`status` = 'pending', VALUES({quote(name)}), {quote(name)})"
        for name, _, _ in fields
    )
    changed = session.execute(
        f"INSERT INTO {quote(queue.table.schema, queue.name)} ({', '.join(map(quote, names))})"
        f" VALUES ({', '.join(places)}) ON DUPLICATE KEY UPDATE {', '.join(changes)}",
        values,
    )
    return changed > 0


# -- what is said ------------------------------------------------------------------------------


def _refusal(source: Schema, job: Job, key: Mapping[str, Any] | None, why: str) -> dict[str, Any]:
    place = {"schema": source.name, "table": job.table, "key_hash": job.key_hash}
    return {**place, "key": dict(key) if key is not None else None, "reason": why}


def _summary(refused: Iterable[Mapping[str, Any]]) -> list[str]:
    found = Counter((one["schema"], one["table"], one["reason"]) for one in refused)
    return [
        f"{count} job{'' if count == 1 else 's'} of {schema}.{table} cannot be carried: {reason}"
        for (schema, table, reason), count in found.items()
    ]


def _left_alone(session: Session, queue: Queue) -> list[str]:
    """Says how many failed and ignored jobs no longer have a row in a parent table."""
    if not queue.exists:
        return []
    parents = [
        key for key in queue.table.foreign_keys if set(key.columns) <= set(queue.table.primary_key)
    ]
    gone = [
        f"NOT EXISTS (SELECT 1 FROM {quote(key.ref_schema, key.ref_table)} p WHERE "
        + " AND ".join(
            f"p.{quote(theirs)} = j.{quote(ours)}"
            for ours, theirs in zip(key.columns, key.ref_columns, strict=True)
        )
        + ")"
        for key in parents
    ]
    sql = (
        f"SELECT COUNT(*) FROM {quote(queue.table.schema, queue.name)} j"
        f" WHERE j.`status` IN ('error', 'ignore') AND ({' OR '.join(gone)})"
    )
    count = int(session.query(sql)[0][0])
    if not count:
        return []
    return [
        f"{count} failed or ignored job{'' if count == 1 else 's'} of {queue.table} "
        "are for keys that its parent tables do not hold (any more)"
    ]
