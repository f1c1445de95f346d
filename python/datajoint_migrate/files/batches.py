"""A copy of files as batches: small, picklable, and the same whichever machine works on them."""

from __future__ import annotations

import hashlib
import json
import queue
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from datajoint_migrate import _core
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.stores import Store
from datajoint_migrate.limits import LIMITS


class Executor(Protocol):
    """Who runs batches: a `dask.distributed.Client`, or an executor of `concurrent.futures`."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A future of `fn(*args)`."""


@dataclass(frozen=True)
class Batch:
    """Some objects of a copy. What it prints holds neither credentials nor names of files.

    The stores go along as they were configured: one whose spec has no keys finds those of the
    machine that works on it. `objects` are paths, sizes and hashes, as the engine reads them.
    """

    key: str
    count: int
    bytes: int
    source: Store
    destination: Store
    verify: bool
    journal: str
    done: bool = False
    fresh: bool = False
    objects: str = field(default="", repr=False)


def plan_batches(
    source: Store,
    destination: Store,
    *,
    prefix: str = "",
    tracked: Mapping[str, Any] | None = None,
    verify: bool = True,
) -> Iterator[Batch]:
    """The batches of a copy, made while they are taken.

    All objects below `prefix`, or those behind the pointers of `tracked`. `done` are those that an
    interrupted call has finished.
    """
    journal = _journal(source, destination, prefix, tracked, verify)
    plan = {
        "source_store": source.spec(),
        "destination_store": destination.spec(),
        "prefix": prefix,
        "tracked": tracked,
        "journal": journal,
    }
    for made in _core.batches(plan):
        yield Batch(source=source, destination=destination, verify=verify, journal=journal, **made)


def run_batch(*batches: Batch, on_event: OnEvent = None) -> dict[str, Any]:
    """Copy a batch, or some of one copy, on whatever machine this is, and note that they are done.

    The same batch may be run any number of times: what is there already is left alone.
    """
    first = batches[0]
    return _core.copy_batches(
        {
            "source_store": first.source.spec(),
            "destination_store": first.destination.spec(),
            "verify": first.verify,
            "fresh": first.fresh,
            "batches": [{"key": batch.key, "objects": batch.objects} for batch in batches],
            "journal": first.journal,
            "patience_seconds": LIMITS.away_seconds,
        },
        on_event,
    )


def run_batches(
    source: Store,
    destination: Store,
    *,
    prefix: str = "",
    tracked: Mapping[str, Any] | None = None,
    verify: bool = True,
    executor: Executor | None = None,
    on_event: OnEvent = None,
) -> dict[str, Any]:
    """Run all batches of a copy, here or by `executor`; keys as the engine's `stores`.

    The journal goes when the call returns, and stays when it does not.
    """
    total: dict[str, Any] = {
        "files_copied": 0,
        "skipped": 0,
        "bytes": 0,
        "errors": [],
        "error_count": 0,
    }
    batches = plan_batches(source, destination, prefix=prefix, tracked=tracked, verify=verify)
    for done in _results(batches, executor, on_event):
        for key in ("files_copied", "skipped", "bytes", "error_count"):
            total[key] += done.get(key, 0)
        total["errors"] += done.get("errors", [])[: LIMITS.listed_errors - len(total["errors"])]
    _core.forget_batches(
        {
            "destination_store": destination.spec(),
            "journal": _journal(source, destination, prefix, tracked, verify),
        }
    )
    return total


def _results(
    batches: Iterator[Batch], executor: Executor | None, on_event: OnEvent
) -> Iterator[dict[str, Any]]:
    passed = {"rows": 0, "bytes": 0}

    def tell(event: dict[str, Any]) -> None:
        if on_event is not None:
            on_event({**event, **{key: event[key] + passed[key] for key in passed}})

    # Futures of dask and of concurrent.futures have this in common, and no other way to wait.
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting = 0
    together: list[Batch] = []
    for batch in batches:
        if batch.done:
            yield {"skipped": batch.count}
            passed["rows"] += batch.count
            passed["bytes"] += batch.bytes
        elif executor is None:
            together.append(batch)
            if sum(one.count for one in together) >= LIMITS.files_together:
                yield run_batch(*together, on_event=tell)
                passed["rows"] += sum(one.count for one in together)
                passed["bytes"] += sum(one.bytes for one in together)
                together = []
        else:
            executor.submit(run_batch, batch).add_done_callback(finished.put)
            waiting += 1
            if waiting == LIMITS.batches_under_way:
                yield _result(finished.get())
                waiting -= 1
    if together:
        yield run_batch(*together, on_event=tell)
    for _ in range(waiting):
        yield _result(finished.get())


def _result(future: Any) -> dict[str, Any]:
    result: dict[str, Any] = future.result()
    return result


def _journal(
    source: Store,
    destination: Store,
    prefix: str,
    tracked: Mapping[str, Any] | None,
    verify: bool,
) -> str:
    """The name of a copy: the same for the same call, without anything secret in it."""
    told = ("pointer", "where", "only")
    what = {key: tracked[key] for key in told if tracked.get(key)} if tracked else prefix
    said = json.dumps([source.place, destination.place, what, verify], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
