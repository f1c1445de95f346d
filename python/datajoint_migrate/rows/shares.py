"""The chunks of one copy on other processes and machines: its journal is the queue.

A chunk's rows and its line of the journal are one transaction, on whatever machine. So a worker
that dies loses the chunk it was at and nothing else; what workers leave undone, whoever shared it
out does itself.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.call.journal import rows_done
from datajoint_migrate.call.progress import OnEvent, tell
from datajoint_migrate.catalog.names import JOURNAL
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.limits import LIMITS

logger = logging.getLogger("datajoint_migrate")

Name = tuple[str, str]


class Workers(Protocol):
    """Who runs shares: a `dask.distributed.Client`, or an executor of `concurrent.futures`."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A future of `fn(*args)`."""


@dataclass(frozen=True)
class Share:
    """Some chunks of one table. What it prints holds no credentials."""

    table: str
    chunks: tuple[int, ...]
    plan: dict[str, Any] = field(repr=False)


def run_share(share: Share) -> dict[str, Any]:
    """Copy these chunks on whatever machine this is, and note that they are done; its `rows` and
    `bytes`. It may be run any number of times: what is done already is left alone."""
    done = _core.copy({**share.plan, "part": {"chunks": list(share.chunks)}})
    return {"rows": done["rows_copied"], "bytes": done["bytes"]}


def share_out(
    destination: Session, plan: dict[str, Any], workers: Workers, on_event: OnEvent
) -> dict[Name, int]:
    """Cut the tables of a plan into chunks and let workers copy them, as many at once as the plan
    has lanes; rows that this has put into each destination table.

    Whatever fails is left undone, and said: the plan itself does what is left, and raises what is
    wrong with it.
    """
    schemas = {table["destination_schema"] for table in plan["tables"]}
    before = rows_done(destination, schemas)
    # Futures of dask and of concurrent.futures have this in common, and no other way to wait.
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting, shared = 0, {"rows": 0, "bytes": 0}
    failed: list[str] = []

    def wait(most: int) -> None:
        nonlocal waiting
        while waiting > most and not failed:
            try:
                done = finished.get().result()
            except Exception as error:  # noqa: BLE001 - whatever a worker died of
                failed.append(f"{type(error).__name__}: {error}")
            else:
                for key in shared:
                    shared[key] += done[key]
                tell(on_event, "shared", **shared)
            waiting -= 1

    for share in _shares(destination, plan):
        wait(max(plan["lanes"], 1) - 1)
        if failed:
            break
        try:
            workers.submit(run_share, share).add_done_callback(finished.put)
        except Exception as error:  # noqa: BLE001 - as a pool that is broken
            failed.append(f"{type(error).__name__}: {error}")
            break
        waiting += 1
    wait(0)
    if failed:
        logger.warning("a worker has failed, what is left is copied here: %s", failed[0])
        tell(on_event, "worker_failed", why=failed[0])
    after = rows_done(destination, schemas)
    return {name: rows - before.get(name, 0) for name, rows in after.items()}


def _shares(destination: Session, plan: dict[str, Any]) -> Iterator[Share]:
    throttle = dict(plan["throttle"])
    if throttle["max_bytes_per_second"] is not None:
        # All of them together read no more than one call may.
        most = throttle["max_bytes_per_second"] // max(plan["lanes"], 1)
        throttle["max_bytes_per_second"] = max(most, 1)
    for table in plan["tables"]:
        one = {**plan, "tables": [table], "lanes": 1}
        _core.copy({**one, "part": "cut"})
        schema, name = table["destination_schema"], table["destination_table"]
        left = [
            int(row[0])
            for row in destination.query(
                f"SELECT chunk FROM {quote(schema, JOURNAL)}"
                " WHERE table_name = %s AND NOT done ORDER BY chunk",
                (name,),
            )
        ]
        for first in range(0, len(left), LIMITS.chunks_together):
            chunks = tuple(left[first : first + LIMITS.chunks_together])
            yield Share(f"{schema}.{name}", chunks, {**one, "throttle": throttle})
