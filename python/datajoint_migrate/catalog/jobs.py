"""`~jobs`: what 0.14.6 remembers of computations that failed, are to be skipped, or are running."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session

JOBS = "~jobs"
# Error stacks can be long, so the rows come in pages.
PAGE = 200

COLUMNS = (
    "table_name", "key_hash", "status", "key", "error_message", "error_stack",
    "user", "host", "pid", "connection_id", "timestamp",
)  # fmt: skip


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
    select = f"SELECT {', '.join(map(quote, COLUMNS))} FROM {quote(schema, JOBS)}"
    for table in tables_with_jobs(session, schema):
        last = ""
        while True:
            rows = session.query(
                f"{select} WHERE table_name = %s AND key_hash > %s"
                f" AND status IN ('error', 'ignore') ORDER BY key_hash LIMIT {PAGE}",
                (table, last),
            )
            if not rows:
                break
            page = [Job(*row) for row in rows]
            yield page
            last = page[-1].key_hash


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
