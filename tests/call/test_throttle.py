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
    _core,
    backup_schema,
    compare_schemas,
    copy_all_data,
    create_parallel_schema,
    cutover,
    migrate,
)
from datajoint_migrate.call.throttle import Throttle, Turn
from datajoint_migrate.catalog.counting import count_rows
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.tables import read_schema
from datajoint_migrate.files.batches import plan_batches
from first_served import first_served
from servers import Server
from small import Small, tracked_files
from small import make as make_small

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

    def sleeping() -> list[str | None]:
        asked = "SELECT id FROM performance_schema.processlist WHERE info LIKE 'SELECT SLEEP(600)'"
        return [number for (number,) in mysql.sql(asked)]

    def release() -> None:
        mysql.sql("".join(f"KILL {number};" for number in sleeping()))

    try:
        # All of them: whoever asks is the ninth.
        while len(sleeping()) < len(sleepers):
            assert all(sleeper.poll() is None for sleeper in sleepers)
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


def test_no_statement_of_a_proof_is_said_while_the_file_is_there(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    make(mysql, "pause_proof", fresh)
    file = tmp_path / "pause"
    file.touch()
    said: list[object] = []
    query = (
        "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type IN"
        " ('Query', 'Execute') AND argument LIKE '%pause_proof%' AND argument NOT LIKE '%general%'"
    )

    def release() -> None:
        said.extend(mysql.sql(query))
        file.unlink()

    mysql.sql(
        "SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON;"
        "TRUNCATE TABLE mysql.general_log"
    )
    try:
        done = migrate(
            {"pause_proof": "pause_proof_v20"},
            charset="utf8mb4",
            connection=mysql.url,
            pause_file=file,
            on_event=Watcher(release),
        )
    finally:
        mysql.sql("SET GLOBAL general_log = OFF; SET GLOBAL log_output = 'FILE'")
    assert done["match"]
    # What this call itself asks of its destination is no statement to production.
    assert not [line for (line,) in said if "pause_proof`" in str(line) or "'pause_proof'" in line]


def test_a_proof_pays_for_what_it_makes_the_server_read(mysql: Server, fresh: Fresh) -> None:
    make(mysql, "pay_proof", fresh)
    with resolve(mysql.url).session(read_only=True) as session:
        table = read_schema(session, "pay_proof").tables["blob_of"]
        conditions = ["LENGTH(v) > 10", "id <= 3", "v IS NULL"]
        assert count_rows(session, table, conditions) == [ROWS, 3, 0]
        assert count_rows(session, table, conditions, "id < 3") == [2, 2, 0]
        Turn.give(session, Throttle(max_bytes_per_second=ROWS * WIDTH // 2))
        began = time.monotonic()
        assert count_rows(session, table, conditions) == [ROWS, 3, 0]
        assert time.monotonic() - began >= 2 * 0.8


def test_pointers_are_looked_up_at_the_rate_that_was_allowed(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    names = Small(mysql, "pay_lost", tmp_path)
    fresh(mysql, *names.map, *names.map.values())
    pipeline = make_small(mysql, "pay_lost", tmp_path)
    plan = {
        "source": resolve(mysql.url).spec(),
        "schema": pipeline.rig,
        "table": "_recording",
        "column": "signal",
        "tracking_schema": pipeline.rig,
        "tracking_table": "~external_raw",
    }
    assert not _core.lost(plan)["lost"]
    began = time.monotonic()
    throttle = Throttle(max_bytes_per_second=200).spec()
    assert not _core.lost({**plan, "throttle": throttle})["lost"]
    assert time.monotonic() - began >= 1


def test_every_question_of_the_engine_to_production_is_held_to_the_limits(
    mysql: Server, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Small(mysql, "pay_all", tmp_path)
    fresh(mysql, *names.map, *names.map.values())
    pipeline = make_small(mysql, "pay_all", tmp_path / "store")
    limits = Throttle(pause_file=tmp_path / "pause").spec()
    asked: dict[str, list[object]] = {}

    def watched(name: str, verb: Any) -> Any:
        def call(plan: Any, *more: Any) -> Any:
            what = plan.get("tracked", plan) if isinstance(plan, dict) else {}
            if "source" in what:
                asked.setdefault(name, []).append(what.get("throttle"))
            return verb(plan, *more)

        return call

    for name in dir(_core):
        verb = getattr(_core, name)
        if callable(verb) and not isinstance(verb, type) and not name.startswith("_"):
            monkeypatch.setattr(_core, name, watched(name, verb))
    stores = {**pipeline.stores, "copy_files": True}
    stores["dest_stores"] = {"raw": {"protocol": "file", "location": str(tmp_path / "to")}}
    (tmp_path / "to").mkdir()
    done = migrate(pipeline.map, connection=mysql.url, pause_file=tmp_path / "pause", **stores)
    assert done["files_copied"] > 0
    assert {"batches", "files", "copy", "lost"} <= set(asked), set(asked)
    free = [name for name, throttles in asked.items() if any(one != limits for one in throttles)]
    assert not free


@pytest.mark.parametrize("verb", ["files", "batches"])
def test_files_are_looked_for_at_the_rate_that_was_allowed(
    verb: str, mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    names = Small(mysql, "pay_files", tmp_path)
    fresh(mysql, *names.map, *names.map.values())
    pipeline = make_small(mysql, "pay_files", tmp_path / "store")
    source, destination, tracked = tracked_files(pipeline, tmp_path / "to")

    def look(**limits: Any) -> float:
        of = {**tracked, "throttle": Throttle(**limits).spec()}
        began = time.monotonic()
        if verb == "files":
            _core.files({**of, "store": source.spec()})
        else:
            assert list(plan_batches(source, destination, tracked=of))
        return time.monotonic() - began

    with first_served(mysql.pid):
        assert look() < 1
    assert look(max_bytes_per_second=100) >= 1


def test_what_a_cutover_reads_is_paid_for_too(mysql: Server, fresh: Fresh, tmp_path: Path) -> None:
    make(mysql, "pay_cut", fresh)
    migrate({"pay_cut": "pay_cut_v20"}, connection=mysql.url)
    backup_schema("pay_cut", tmp_path / "backup", connection=mysql.url)
    began = time.monotonic()
    told = cutover(
        {"pay_cut": "pay_cut_v20"},
        backups={"pay_cut": str(tmp_path / "backup")},
        connection=mysql.url,
        max_bytes_per_second=ROWS * WIDTH // 2,
    )
    # Its rows once for the comparison, once for the backup.
    assert time.monotonic() - began >= 2 * 2 * 0.8
    assert not [line for line in told["missing"] if "differ" in line]
