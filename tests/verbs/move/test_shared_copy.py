"""migrate(consistency="catch-up"): each chunk is of its own instant, by whichever process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from conftest import Fresh
from datajoint_migrate import compare_schemas, migrate
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows.shares import run_share
from line import Harm, Packet, line
from servers import Server
from small import Small, add_trials, make

TRIALS = 2000


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few hundred rows are many chunks."""
    monkeypatch.setattr(LIMITS, "chunk_bytes", 8192)
    monkeypatch.setattr(LIMITS, "chunks_together", 3)


def made(server: Server, fresh: Fresh, root: Path) -> Small:
    fresh(server, *(f"shr_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    small = make(server, "shr", root / "store")
    add_trials(small, TRIALS)
    return small


def run(small: Small, **options: Any) -> dict[str, Any]:
    given = {"connection": small.server.url, **small.stores, "consistency": "catch-up", **options}
    return migrate(small.map, **given)


def rows(small: Small) -> int:
    tables = [(small.lab, name) for name in ("#species", "mouse", "session", "session__trial")]
    return sum(small.count(*table) for table in [*tables, (small.rig, "_recording")])


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        # Both are there from the beginning: for one that is spawned while others are killed Python
        # waits for ever.
        for begun in [pool.submit(os.getpid) for _ in range(2)]:
            begun.result()
        yield pool


@pytest.mark.parametrize("pool", [processes, lambda: ThreadPoolExecutor(2)])
@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_the_chunks_of_one_copy_are_copied_by_others(
    server: Server, fresh: Fresh, tmp_path: Path, pool: Any
) -> None:
    small = made(server, fresh, tmp_path)
    futures: list[Future[dict[str, Any]]] = []
    shared: list[int] = []
    told: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "shared":
            shared.append(event["rows"])

    with pool() as workers:

        def submit(work: Any, *words: Any) -> Future[dict[str, Any]]:
            future: Future[dict[str, Any]] = workers.submit(work, *words)
            if work is run_share:
                futures.append(future)
                told.append(repr(words))
            return future

        done = run(small, executor=Mock(submit=submit), on_event=hear)
    assert sum(future.result()["rows"] for future in futures) == rows(small)
    assert shared
    assert done["rows_copied"] == rows(small)
    assert done["match"], done["issues"]
    assert done["compatible"], done["issues"]
    assert len(futures) > 4
    assert "password" not in repr(told)


def test_workers_that_are_killed_lose_a_chunk_and_nothing_else(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    small = made(server, fresh, tmp_path)
    commits = 0
    failed: list[str] = []
    pools: list[ProcessPoolExecutor] = []

    def rule(packet: Packet) -> Harm:
        nonlocal commits
        commits += packet.upward and packet.payload[1:] == b"COMMIT"
        if packet.upward and commits == 5:
            commits += 1
            for process in list(pools[0]._processes.values()):
                os.kill(process.pid or 0, signal.SIGKILL)
            return "cut"
        return None

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "worker_failed":
            failed.append(event["why"])

    with processes() as pool, line(server, rule) as through:
        pools.append(pool)
        url = f"{through.url}?ssl-mode=disabled"
        done = run(small, dest_connection=url, executor=pool, on_event=hear)
    assert failed
    assert done["match"], done["issues"]
    assert done["rows_copied"] == rows(small)
    assert all(
        compare_schemas(source, dest, 0, connection=server.url)["match"]
        for source, dest in small.map.items()
    )


@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_what_no_worker_can_do_is_said_by_the_call_itself(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    small = made(server, fresh, tmp_path)

    with ThreadPoolExecutor(1) as files:

        def refuse(work: Any, *words: Any) -> Any:
            if work is run_share:
                raise RuntimeError("no worker is left")
            return files.submit(work, *words)

        done = run(small, executor=Mock(submit=refuse))
    assert done["match"], done["issues"]
    assert done["rows_copied"] == rows(small)
    assert done["compatible"], done["issues"]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_transaction_on_production_is_older_than_a_chunk_before_the_last_pass(
    mysql: Server, mysql_b: Server, fresh: Fresh, tmp_path: Path, workers: int
) -> None:
    small = made(mysql, fresh, tmp_path)
    fresh(mysql_b, *small.map.values())
    journal = f"`{small.lab}_v20`.`~migrate_journal`"
    ages: dict[tuple[str | None, ...], list[int]] = {}
    looks, in_the_end = 0, 0

    def rule(packet: Packet) -> Harm:
        nonlocal looks, in_the_end
        said = packet.payload[1:4000]
        copies = said.startswith(b"INSERT INTO `shr_")
        if not packet.upward or not (copies or (said.startswith(b"SELECT") and b"`shr_" in said)):
            return None
        if not copies and in_the_end:
            return None
        # The server tells anew only when nobody has asked for a tenth of a second.
        time.sleep(0.12)
        ours = mysql.sql(
            "SELECT trx_mysql_thread_id, trx_id, trx_started FROM information_schema.innodb_trx"
        )
        if copies and b"~migrate" not in said:
            looks += 1
            done = mysql_b.sql(f"SELECT COUNT(*) FROM {journal} WHERE done")[0][0]
            for one in ours:
                ages.setdefault(one, []).append(int(done or 0))
        in_the_end += bool(ours) and not copies
        return None

    with line(mysql_b, rule) as through, ThreadPoolExecutor(max(workers, 1)) as pool:
        done = run(
            small,
            dest_connection=f"{through.url}?ssl-mode=disabled",
            executor=pool if workers else None,
            lanes=2,
        )
    assert done["match"], done["issues"]
    assert looks > 5
    assert in_the_end, "the snapshot of the last pass is seen"
    # While a lane is at a chunk, another may end several small ones.
    assert max((max(seen) - min(seen) for seen in ages.values()), default=0) <= 3
