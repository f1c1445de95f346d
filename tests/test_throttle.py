"""Production is spared: bytes a second, load, a file that pauses."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    backup_schema,
    compare_schemas,
    copy_all_data,
    create_parallel_schema,
)
from servers import Server

ROWS, WIDTH = 2000, 1000


def make(server: Server, schema: str, fresh: Fresh) -> None:
    """Two million bytes in one table."""
    fresh(server, schema, f"{schema}_v20")
    server.sql(
        f"CREATE DATABASE `{schema}`; SET cte_max_recursion_depth = 10000;"
        f"CREATE TABLE `{schema}`.blob_of (id int NOT NULL, v varbinary({WIDTH}) NOT NULL,"
        f" PRIMARY KEY (id)); INSERT INTO `{schema}`.blob_of WITH RECURSIVE n AS"
        f" (SELECT 1 AS id UNION ALL SELECT id + 1 FROM n WHERE id < {ROWS})"
        f" SELECT id, REPEAT('x', {WIDTH}) FROM n; ANALYZE TABLE `{schema}`.blob_of;"
    )


def call(name: str, server: Server, schema: str, tmp_path: Path, **limits: Any) -> int:
    """Make one of the calls that read a lot; how many rows it read."""
    if name == "archive":
        done = backup_schema(schema, tmp_path / "archive", connection=server.url, **limits)
        return int(done["rows_backed_up"])
    create_parallel_schema(schema, f"{schema}_v20", connection=server.url)
    if name == "compare":
        copy_all_data(schema, f"{schema}_v20", connection=server.url)
        done = compare_schemas(schema, f"{schema}_v20", connection=server.url, **limits)
        assert done["match"]
        return int(done["row_count"])
    done = copy_all_data(
        schema, f"{schema}_v20", connection=server.url, assume_quiet=name == "inside", **limits
    )
    return int(done["rows_copied"])


@pytest.mark.parametrize("name", ["copy", "inside", "archive", "compare"])
def test_no_more_is_read_a_second_than_was_allowed(
    name: str, mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    schema = f"throttle_{name}"
    make(mysql, schema, fresh)
    began = time.monotonic()
    # The rows alone take two seconds at this rate, by whatever way they travel.
    assert call(name, mysql, schema, tmp_path, max_bytes_per_second=ROWS * WIDTH // 2) == ROWS
    assert time.monotonic() - began >= 2 * 0.8


class Watcher:
    """Takes the pause away when it has been seen."""

    def __init__(self, release: Any) -> None:
        self.release = release
        self.reasons: list[str] = []
        self.rows: list[int] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event["paused"]:
            self.reasons.append(event["paused"])
            self.rows.append(event["rows"])
            if len(self.reasons) == 5:
                self.release()


@pytest.mark.parametrize("name", ["copy", "archive", "compare"])
def test_nothing_is_read_while_the_file_is_there(
    name: str, mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    schema = f"pause_{name}"
    make(mysql, schema, fresh)
    file = tmp_path / "pause"
    file.touch()
    watcher = Watcher(file.unlink)
    rows = call(name, mysql, schema, tmp_path, pause_file=file, on_event=watcher)
    assert rows == ROWS
    assert not file.exists()
    assert set(watcher.reasons) == {f"{file} is there"}
    assert set(watcher.rows) == {0}


def test_a_busy_server_is_waited_for(mysql: Server, fresh: Fresh, tmp_path: Path) -> None:
    make(mysql, "busy", fresh)
    words = mysql.program("mysql", "-e", "SELECT SLEEP(600)")
    sleepers = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for _ in range(8)]

    def release() -> None:
        ids = mysql.sql(
            "SELECT id FROM performance_schema.processlist WHERE info LIKE '%SLEEP(600)'"
        )
        mysql.sql("".join(f"KILL {number};" for (number,) in ids if number))

    try:
        busy = "SHOW GLOBAL STATUS LIKE 'Threads_running'"
        while int(mysql.sql(busy)[0][1] or 0) < 8:
            time.sleep(0.05)
        watcher = Watcher(release)
        # Our own connections run, too, but there are no more than four readers and one that asks.
        limit = "Threads_connected=100000, Threads_running:8"
        rows = call("archive", mysql, "busy", tmp_path, max_load=limit, on_event=watcher)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
    assert rows == ROWS
    assert "Threads_running is" in watcher.reasons[0]
    assert watcher.reasons[0].endswith("above 8")


def test_a_paused_call_can_be_stopped_and_goes_on_later(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    make(mysql, "stopped", fresh)
    file = tmp_path / "pause"
    file.touch()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call("archive", mysql, "stopped", tmp_path, pause_file=file, on_event=Watcher(stop))
    file.unlink()
    assert call("archive", mysql, "stopped", tmp_path, pause_file=file) == ROWS


@pytest.mark.parametrize(
    "limits",
    [
        {"max_bytes_per_second": 0},
        {"max_bytes_per_second": "fast"},
        {"max_load": "Threads_running"},
        {"max_load": "Threads_running=many"},
        {"max_load": "Threads_running=nan"},
        {"max_load": "=5"},
        {"max_load": "No_such_variable=5"},
        {"max_load": "Ssl_cipher=5"},
    ],
)
def test_a_limit_that_means_nothing_is_refused(
    limits: dict[str, Any], mysql: Server, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match="max_"):
        backup_schema("mysql", tmp_path / "archive", connection=mysql.url, **limits)
