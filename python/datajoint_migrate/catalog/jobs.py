"""`~jobs`: what 0.14.6 remembers of computations that failed, are to be skipped, or are running."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.limits import LIMITS

JOBS = "~jobs"

# In the order of `Job`, with what stands for a column that MATLAB's client or an older one has not,
# or leaves empty.
COLUMNS = {
    "table_name": None, "key_hash": None, "status": None, "key": "NULL", "error_message": "''",
    "error_stack": "NULL", "user": "''", "host": "''", "pid": "0", "connection_id": "0",
    "timestamp": "NULL",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One row of `~jobs`; `key` and `error_stack` as they are packed, `timestamp` in UTC."""

    table: str
    key_hash: str
    status: str
    key: bytes | None
    error_message: str
    error_stack: bytes | None
    user: str
    host: str
    pid: int
    connection_id: int
    timestamp: datetime.datetime | None


def read_jobs(session: Session, schema: str) -> Iterator[list[Job]]:
    """Failed and ignored jobs of a schema that has `~jobs`, page by page, a table at a time."""
    select = f"SELECT {', '.join(_columns(session, schema))} FROM {quote(schema, JOBS)}"
    for table in tables_with_jobs(session, schema):
        last = ""
        while True:
            rows = session.query(
                f"{select} WHERE table_name = %s AND key_hash > %s"
                " AND status IN ('error', 'ignore')"
                f" ORDER BY key_hash LIMIT {LIMITS.jobs_per_page}",
                (table, last),
            )
            if not rows:
                break
            page = [Job(*row) for row in rows]
            yield page
            last = page[-1].key_hash


def _columns(session: Session, schema: str) -> list[str]:
    rows = session.query(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        (schema, JOBS),
    )
    there = {str(row[0]).lower() for row in rows}
    lacks = [name for name, absent in COLUMNS.items() if absent is None and name not in there]
    if lacks:
        raise Unconvertible(
            f"{schema}.{JOBS} has no {' and no '.join(lacks)}: it is no job table of DataJoint",
            hint="rename it, if it is a table of your own",
        )
    return [
        quote(name)
        if absent is None
        else f"COALESCE({quote(name)}, {absent})"
        if name in there
        else absent
        for name, absent in COLUMNS.items()
    ]


def tables_with_jobs(session: Session, schema: str) -> list[str]:
    """Names of the tables that failed and ignored jobs are of."""
    rows = session.query(
        f"SELECT DISTINCT table_name FROM {quote(schema, JOBS)}"
        " WHERE status IN ('error', 'ignore') ORDER BY table_name"
    )
    return [str(row[0]) for row in rows]


def count_reserved(session: Session, schema: str) -> int:
    """How many jobs are reserved: running, or left by a worker that died."""
    sql = f"SELECT COUNT(*) FROM {quote(schema, JOBS)} WHERE status = 'reserved'"
    return int(session.query(sql)[0][0])
