"""A clock that is set while a call is at work changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import compare_schemas
from server_programs import install_package
from servers import Server
from small import Small, make

# A call whose rows come slowly enough for a clock to be set meanwhile.
PROGRAM = """
import json, sys
from datajoint_migrate import migrate
from datajoint_migrate.console.record import Record
words = json.loads(sys.argv[1])
with Record(sys.argv[2]) as record:
    result = migrate(on_event=record, **words)
    record.result(result)
print(json.dumps([result["match"], result["time_taken"]]))
"""
ROWS = 40_000


@pytest.fixture
def small(mysql: Server, mysql_b: Server, fresh: Fresh, tmp_path: Path) -> Small:
    for server in (mysql, mysql_b):
        fresh(server, *(f"clock_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    small = make(mysql, "clock", tmp_path / "store")
    mysql.sql(
        f"SET cte_max_recursion_depth = {ROWS}; CREATE TABLE {small.lab}.big (n int PRIMARY KEY,"
        f" t char(200)); INSERT INTO {small.lab}.big WITH RECURSIVE r AS (SELECT 1 n UNION ALL"
        f" SELECT n + 1 FROM r WHERE n < {ROWS}) SELECT n, REPEAT(n % 10, 200) FROM r"
    )
    return small


@pytest.mark.parametrize("shift", ["-40d", "+40d"])
def test_a_clock_that_is_set_meanwhile_changes_nothing(
    small: Small, mysql_b: Server, tmp_path: Path, shift: str
) -> None:
    if shutil.which("faketime") is None:
        install_package("faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    words = {
        "schema_map": small.map,
        "connection": small.server.url,
        "dest_connection": mysql_b.url,
        "max_bytes_per_second": 3_000_000,
        **small.stores,
    }
    record = tmp_path / "migration.jsonl"
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        # Of a machine whose clock is set, this one goes on.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    began = time.monotonic()
    call = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(words), str(record)],
        env={**os.environ, **fake},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not (record.exists() and '"progress"' in record.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert call.poll() is None
    clock.write_text(shift)
    out, err = call.communicate(timeout=300)
    assert call.returncode == 0, err
    match, seconds = json.loads(out)
    assert match
    assert 0 < seconds < time.monotonic() - began
    times = [json.loads(line)["time"][:10] for line in record.read_text().splitlines()]
    assert len(set(times)) > 1, "the clock was not set"
    for source, dest in small.map.items():
        ends = {"connection": small.server.url, "dest_connection": mysql_b.url}
        assert compare_schemas(source, dest, **ends)["match"]
