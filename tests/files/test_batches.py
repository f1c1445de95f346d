"""Copies of files as batches: resumed by their journal, run by several processes, no key told."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import copy_store
from datajoint_migrate.catalog.stores import dest_stores
from datajoint_migrate.files.batches import Batch, plan_batches, run_batch
from folders import files, folder
from s3 import Bucket
from servers import Server
from small import Small, make, tracked_files

JOURNAL = ".datajoint-migrate"


def many(count: int = 3000) -> dict[str, bytes]:
    """Enough small objects for several batches."""
    return {f"d{n % 9}/f{n}": b"%d" % n * 50 for n in range(count)}


def planned(origin: dict[str, Any], target: dict[str, Any]) -> list[Batch]:
    """The batches of a copy."""
    stores = dest_stores({"from": origin, "to": target})
    return list(plan_batches(stores["from"], stores["to"]))


@pytest.mark.parametrize("to_bucket", [True, False])
def test_batches_that_are_done_are_skipped(bucket: Bucket, tmp_path: Path, to_bucket: bool) -> None:
    objects = many()
    origin = folder(tmp_path / "from", objects)
    target = bucket.spec("x") if to_bucket else folder(tmp_path / "to", {})
    root = bucket.folder / "x" if to_bucket else tmp_path / "to"
    first, second, *rest = planned(origin, target)
    assert rest
    assert sum(batch.count for batch in (first, second, *rest)) == len(objects)
    run_batch(first)
    run_batch(second)
    again = planned(origin, target)
    assert [batch.key for batch in again] == [batch.key for batch in (first, second, *rest)]
    assert [batch.done for batch in again] == [True, True, *(False for _ in rest)]
    # Somebody deletes a file of a batch that is done, not its first.
    last = json.loads(second.objects)[-1]["destination"]
    (root / last).unlink()
    # In a folder every file is looked at, in a bucket one of a batch.
    assert [batch.done for batch in planned(origin, target)][:2] == [True, to_bucket]
    done = copy_store(origin, target)
    missing = 0 if to_bucket else 1
    assert done["files_present"] == first.count + second.count - missing
    assert (root / last).exists() == (not to_bucket)
    # The journal went with the call, so the next one looks at everything.
    assert not any(JOURNAL in name for name in files(root))
    assert copy_store(origin, target)["files_copied"] == 1 - missing
    assert {name: data for name, data in files(root).items() if name in objects} == objects


def test_a_journal_beside_files_that_are_gone_or_replaced_is_not_believed(tmp_path: Path) -> None:
    objects = many()
    origin, target = folder(tmp_path / "from", objects), folder(tmp_path / "to", {})
    first, second, *_ = planned(origin, target)
    run_batch(first)
    run_batch(second)
    for name in files(tmp_path / "to"):
        if JOURNAL not in name:
            (tmp_path / "to" / name).unlink()
    assert copy_store(origin, target)["files_copied"] == len(objects)
    assert files(tmp_path / "to") == objects


def test_a_file_more_or_changed_makes_one_other_batch(tmp_path: Path) -> None:
    origin, target = folder(tmp_path / "from", many()), folder(tmp_path / "to", {})
    before = {batch.key for batch in planned(origin, target)}
    folder(tmp_path / "from", {"d4/f4": b"other", "d4/f40000": b"more"})
    after = {batch.key for batch in planned(origin, target)}
    assert 1 <= len(after - before) <= 3
    assert len(after & before) >= len(before) - 2


def test_a_call_with_files_that_fail_notes_only_whole_batches(tmp_path: Path) -> None:
    objects = many()
    origin, target = folder(tmp_path / "from", objects), folder(tmp_path / "to", {})
    first = planned(origin, target)[0]
    path = tmp_path / "from" / json.loads(first.objects)[0]["source"]
    data = path.read_bytes()
    path.write_bytes(data + b"!")
    assert run_batch(first)["error_count"] == 1
    path.write_bytes(data)
    assert not any(JOURNAL in name for name in files(tmp_path / "to"))


def test_a_batch_tells_no_key_and_takes_those_of_the_machine_that_runs_it(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = folder(tmp_path / "from", {"x": b"1"})
    spec = bucket.spec("x")
    (batch,) = planned(origin, spec)
    assert spec["secret_key"] not in repr(batch)
    assert spec["access_key"] not in repr(batch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", spec.pop("access_key"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret := spec.pop("secret_key"))
    (batch,) = planned(origin, spec)
    packed = pickle.dumps(batch)
    assert secret.encode() not in packed
    assert run_batch(pickle.loads(packed))["files_copied"] == 1


def test_no_result_of_production_stays_open_while_batches_wait(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    names = Small(mysql, "bat", tmp_path)
    fresh(mysql, *names.map)
    small = make(mysql, "bat", tmp_path / "store")
    rows = 30_000
    mysql.sql(
        f"SET cte_max_recursion_depth = {rows};"
        f" INSERT INTO {small.rig}.`~external_raw` (hash, size)"
        f" WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        " SELECT UNHEX(LEFT(SHA2(i, 256), 32)), 10 FROM n"
    )
    source, destination, tracked = tracked_files(small, tmp_path / "to")
    batches = plan_batches(source, destination, tracked={**tracked, "where": []})
    count = next(batches).count
    reading = (
        "SELECT 1 FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()"
        " AND INFO LIKE '%external_raw%'"
    )
    end = time.monotonic() + 60
    while mysql.sql(reading):
        assert time.monotonic() < end, "its result is open"
        time.sleep(0.02)
    assert count + sum(batch.count for batch in batches) > rows


def test_processes_copy_what_a_call_gives_them(tmp_path: Path) -> None:
    objects = many()
    origin, target = folder(tmp_path / "from", objects), folder(tmp_path / "to", {})
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        done = copy_store(origin, target, executor=pool)
    assert (done["files_copied"], done["errors"]) == (len(objects), [])
    assert files(tmp_path / "to") == objects


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Any, list[subprocess.Popen[bytes]]]]:
    """A client of a scheduler with two worker processes, and the processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=0, dashboard_address=None, processes=False, protocol="tcp"
    ) as scheduler:
        program = [sys.executable, "-W", "ignore", "-m", "distributed.cli.dask_worker"]
        options = ["--no-nanny", "--no-dashboard", "--nthreads", "1"]
        place = ["--local-directory", str(tmp_path / "workers")]
        workers = [
            subprocess.Popen([*program, scheduler.scheduler_address, *options, *place])
            for _ in range(2)
        ]
        try:
            with distributed.Client(scheduler.scheduler_address) as client:
                client.wait_for_workers(2, timeout=120)
                yield client, workers
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def test_a_worker_that_is_killed_halfway_costs_no_file(
    cluster: tuple[Any, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    client, (doomed, *_) = cluster
    objects = {name: os.urandom(4000) for name in many(12000)}
    origin, target = folder(tmp_path / "from", objects), folder(tmp_path / "to", {})
    pid, sign = doomed.pid, tmp_path / "halfway"

    def held(run: Any, batch: Batch) -> Any:
        """Run a batch; the doomed worker copies half of it, says so, and comes no further."""
        if os.getpid() == pid:
            some = json.loads(batch.objects)
            run(replace(batch, key=f"{batch.key}-half", objects=json.dumps(some[::2])))
            sign.touch()
            time.sleep(600)
        return run(batch)

    class Killing:
        """Hands batches on; once both workers have some, waits for the one to be halfway."""

        count = 0

        def submit(self, fn: Any, /, *args: Any) -> Any:
            future = client.submit(held, fn, *args)
            self.count += 1
            if self.count == 6:
                until = time.monotonic() + 60
                while not sign.exists() and time.monotonic() < until:
                    time.sleep(0.01)
                doomed.kill()
            return future

    done = copy_store(origin, target, executor=Killing())
    assert sign.exists()
    assert doomed.wait() == -signal.SIGKILL
    assert done["errors"] == []
    assert done["files_copied"] + done["files_present"] == len(objects)
    assert files(tmp_path / "to") == objects
