"""A cutover with sync while a real 0.14.6 client writes: 2.3.5 reads every row it was told of."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import NotReady
from datajoint_migrate.limits import LIMITS
from in_use import mice, over, prepare, tables
from servers import Server

CONNECT = """
import itertools, json, sys, time
import datajoint as dj
for name, value in json.loads(sys.argv[1]).items():
    dj.config["database." + name] = value
"""
# A worker that nobody has told of the cutover; a line for each row that the server has taken.
WORKER = (
    CONNECT
    + """
lab = dj.create_virtual_module("lab", "late_a")
with open(sys.argv[2], "w", buffering=1) as told:
    for number in itertools.count(1000):
        try:
            lab.Mouse.insert1({"mouse_id": number})
        except Exception:
            continue
        told.write(f"{number}\\n")
        time.sleep(0.02)
"""
)
READER = (
    CONNECT
    + """
table = dj.FreeTable(dj.conn(), "`late_a`.`mouse`")
print(json.dumps([int(key["mouse_id"]) for key in table.keys()]))
"""
)


@pytest.mark.timeout(600)
def test_2x_reads_every_row_that_a_0146_client_was_told_is_stored(
    server: Server, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a slow machine none is short, and the last one brings the rest anyway.
    monkeypatch.setattr(LIMITS, "hot_syncs", 1)
    prepare(server, fresh)
    worker, reader, told = (tmp_path / name for name in ("worker.py", "reader.py", "told"))
    worker.write_text(WORKER)
    reader.write_text(READER)
    reach = json.dumps(
        {
            "host": server.host,
            "port": server.port,
            "user": server.user,
            "password": server.password,
            "use_tls": False,
        }
    )
    words = [environments.python("0.14.6"), worker, reach, told]
    at_work = clients.Talking(words, cwd=tmp_path)
    refused: list[str] = []
    try:
        until = time.monotonic() + 60
        while not told.is_file() or len(told.read_text().splitlines()) < 5:
            assert at_work.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        while not tables(server, "late_a_old"):
            before = set(map(int, told.read_text().split()))
            try:
                over(server, end_sessions=True)
            except NotReady as error:
                # Then production is as it was, and every row is there.
                refused.append(error.message)
                assert before <= mice(server, "late_a")
                assert len(refused) < 5, refused
    finally:
        at_work.kill()
        at_work.communicate()
    read = clients.run(
        [environments.python("2.3.5"), reader, reach], cwd=tmp_path, check=True
    ).stdout
    rows = set(map(int, told.read_text().split()))
    assert len(rows) >= 5
    assert rows | {1, 2, 3, 10} <= set(json.loads(read.splitlines()[-1]))
