"""`dj-migrate` in a terminal of 80 columns: bars, stages, Ctrl-C."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import create_parallel_schema
from datajoint_migrate.catalog.server import resolve
from first_served import first_served
from program import Program, program, write_stores
from servers import Server
from small import Small, add_trials, make
from terminal import Terminal

TRIALS = 60_000
# What is promised, as at every stage of `test_interrupt.py`.
SECONDS = 5.0
STAGES = ("declare", "files", "copy", "compare", "keys", "verify")


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"tty_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "tty", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


def test_ctrl_c_is_acknowledged_at_once_and_ends_a_statement_that_waits(
    small: Small, dj: Program
) -> None:
    add_trials(small, TRIALS)
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    copy = f"{small.lab}_v20"
    create_parallel_schema(small.lab, copy, external="convert", connection=small.server.url)
    last = f"SELECT * FROM `{small.lab}`.session__trial ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1"
    with resolve(small.server.url).session() as session:
        # Somebody else's row under way in the last chunk: it waits as long as that is.
        session.execute("SET SESSION foreign_key_checks = 0")
        session.execute("START TRANSACTION")
        session.execute(f"INSERT INTO `{copy}`.session__trial {last}")
        terminal = Terminal(dj, "run")
        waits = (
            "SELECT 1 FROM information_schema.PROCESSLIST WHERE COMMAND = 'Query'"
            # The way depends on how long production has been quiet.
            f" AND (INFO LIKE 'INSERT INTO `{copy}`.`session__trial`%SELECT%'"
            f" OR INFO LIKE 'LOAD DATA%`{copy}`.`session__trial`%')"
        )
        while "copy " not in terminal.screen.text or not small.server.sql(waits):
            assert terminal.read(), terminal.screen.text
        # Other tables may be copied beside it; when they are done, it is the one that lasts.
        terminal.until(f"{small.lab}.session__trial")
        bar = terminal.line("copy ", " of ~")
        assert {"█", "░"} & set(bar)
        assert "%" in bar
        with first_served(terminal.process.pid, small.server.pid):
            pressed = time.monotonic()
            terminal.press_ctrl_c()
            terminal.until("stopping", ever=True)
            heard = time.monotonic() - pressed
            code, screen = terminal.end()
            ended = time.monotonic() - pressed
        still = small.server.sql(waits)
        session.execute("ROLLBACK")
    assert code == 130, screen
    assert not still
    # The row was never let go, so neither can be by luck.
    assert heard <= ended < SECONDS, (heard, ended)
    said = " ".join(screen.split())
    assert "interrupted at copy" in said
    assert "what is done stays; go on with: dj-migrate run" in said
    assert "░" not in screen
    assert terminal.screen.folded == 0 or "░" not in screen

    terminal = Terminal(dj, "run")
    code, screen = terminal.end()
    assert code == 0, screen
    for stage in STAGES:
        assert f"{stage:8} {'█' * 20} 100% " in screen, screen
    assert "every value is equal" in " ".join(screen.split())


def test_rows_are_counted_while_the_server_copies_and_at_their_own_table(
    small: Small, dj: Program
) -> None:
    add_trials(small, TRIALS)
    small.server.sql(f"ANALYZE TABLE `{small.lab}`.session__trial")
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    done = dj("run", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        if line["event"] == "progress" and line["verb"] in ("copy", "compare"):
            exact = small.count(*line["table"].split(".")) if line["table"] else 0
            assert line["table_rows"] <= exact, line
            assert line["percent"] is None or 0 <= line["percent"] <= 100
    compared = [line for line in lines if line.get("finished") and line["verb"] == "compare"]
    last = compared[-1]
    assert (last["percent"], last["done"]) == (100, last["total"])
    named = [line["stage"] for line in lines if line["event"] == "stage"]
    assert named == ["files", "declare", "keys", "verify"]
