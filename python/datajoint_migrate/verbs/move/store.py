"""Copying whole stores, whatever refers to their files."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.stores import Store
from datajoint_migrate.catalog.stores import dest_stores as read_dest_stores
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.files.batches import Executor, run_batches
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.results import StoreCopyResult

logger = logging.getLogger("datajoint_migrate")


def copy_store(
    source: str | Mapping[str, Any],
    dest: str | Mapping[str, Any],
    *,
    prefix: str = "",
    verify: bool = True,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    dry_run: bool = False,
    on_event: OnEvent = None,
) -> StoreCopyResult:
    """Copy the files of one store to another, folders and buckets in any direction.

    `source` and `dest` are names of configured stores, of 0.14.6 and of 2.x, or specs of stores.
    Every file keeps its path within the store; `prefix` is the folder to copy instead of all.
    Files that are there already with the same size (with `verify`: and the same contents) are
    left alone, so that a call that was interrupted goes on with the same call; another file of the
    same name stays, too, and is one of the `errors`. Nothing is ever deleted. With `verify` what
    was written is read again, or proved by the service's checksum.
    Between buckets of one S3 service the service copies by itself where its checksums prove it.

    The work is cut into batches. `executor` runs them on other processes or machines that see both
    stores: a `dask.distributed.Client`, or an executor of `concurrent.futures`; without it they run
    here. A store whose spec has no keys takes those of the machine that copies.

    Returns `files_copied`, `files_present`, `bytes_copied`, `errors` (at most a thousand dicts of
    `path`, `error`, `code`, of files that could not be copied), `error_count`, `time_taken`; with
    `dry_run` only `source` and `dest`, as URLs, and nothing is opened. Raises `StoreMissing`,
    `StoreFailed`, `ConnectionFailed`, `InvalidArgument`.
    """
    stores = Stores.find(source_stores, dest_stores)
    origin = stores.of_source(source) if isinstance(source, str) else _given("source", source)
    target = stores.of_destination(dest) if isinstance(dest, str) else _given("dest", dest)
    prefix = prefix.strip("/")
    if ".." in prefix.split("/"):
        raise InvalidArgument(
            f"the prefix {prefix!r} leads out of the store",
            hint="give a folder within the store, such as 'my_pipeline'",
        )
    if origin.place == target.place:
        raise InvalidArgument(
            "source and destination are the same place", hint="name two different stores"
        )
    origin.spec(), target.spec()  # what cannot be copied is refused before anything else
    if dry_run:
        return {"source": _url(origin, prefix), "dest": _url(target, prefix)}
    begun = time.monotonic()
    done = run_batches(
        origin, target, prefix=prefix, verify=verify, executor=executor, on_event=on_event
    )
    logger.info("copied %d files from %s", done["files_copied"], _url(origin, prefix))
    return {
        "files_copied": done["files_copied"],
        "files_present": done["skipped"],
        "bytes_copied": done["bytes"],
        "errors": [
            {key: error[key] for key in ("path", "error", "code")} for error in done["errors"]
        ],
        "error_count": done["error_count"],
        "time_taken": time.monotonic() - begun,
    }


def _given(name: str, spec: Mapping[str, Any]) -> Store:
    return read_dest_stores({name: spec})[name]


def _url(store: Store, prefix: str) -> str:
    return f"{store.url}/{prefix}" if prefix else store.url
