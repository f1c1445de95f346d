"""The time that a run is said to take, all stages together."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate.console.stages import Stages
from program import Program, program, write_stores
from servers import Server
from small import Small, add_trials, make

TRIALS = 40_000
# Of 90 bytes a row: some four seconds for each reading of production.
BYTES_PER_SECOND = 900_000


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"eta_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "eta", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


def event(verb: str, rows: int, total: int, before: int = 0, **more: Any) -> dict[str, Any]:
    """As the engine tells it."""
    return {
        "event": "progress",
        "verb": verb,
        "table": "lab.session",
        "rows": rows,
        "rows_before": before,
        "rows_expected": total,
        "bytes": rows * 100,
        "retries": 0,
        **more,
    }


@pytest.mark.parametrize("comparing", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("before", [0, 700])
def test_what_is_compared_afterwards_is_in_the_time_that_is_left(
    comparing: float, before: int
) -> None:
    # A hundred rows a second, then they are compared; 700 may have been there already.
    now = 0.0
    stages = Stages(lambda: now)
    copying, whole = (1000 - before) / 100, 1000 / 100 * comparing
    told = []
    while now < copying:
        now += 0.1
        done = min(round((now) * 100), 1000 - before)
        stages.take(event("copy", done, 1000, before, finished=now >= copying))
        told.append((now, stages.whole.seconds_left))
    while now < copying + whole:
        now += 0.1
        done = min(round((now - copying) / whole * 1000), 1000)
        stages.take(event("compare", done, 1000, finished=now >= copying + whole))
        told.append((now, stages.whole.seconds_left))
    for at, left in told:
        if at < 0.1 * (copying + whole):
            continue
        truth = copying + whole - at
        assert left is not None
        assert truth / 2 - 0.5 <= left <= 2 * truth + 0.5, (at, left, truth)
    assert stages.whole.percent == 99


def test_a_run_whose_speed_is_steady_ends_when_it_was_said_to(small: Small, dj: Program) -> None:
    add_trials(small, TRIALS)
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    done = dj("run", "--json", "--max-bytes-per-second", str(BYTES_PER_SECOND))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    at = [datetime.fromisoformat(line["time"]).timestamp() for line in lines]
    moved = [
        (moment, line)
        for moment, line in zip(at, lines, strict=True)
        if line["event"] == "progress" and line["verb"] in ("copy", "compare")
    ]
    # Catalogs and keys come after the comparison, and how long they take is not foretold.
    began, ended = moved[0][0], moved[-1][0]
    told = [
        (line["run_seconds_left"], ended - moment, line)
        for moment, line in moved
        if moment - began >= 0.1 * (ended - began) and not line.get("finished")
    ]
    assert {line["verb"] for _, _, line in told} == {"copy", "compare"}
    for left, truth, line in told:
        assert truth / 2 - 1 <= left <= 2 * truth + 1, (left, truth, line)
    percents = [line["run_percent"] for _, _, line in told]
    assert percents[0] >= 5
    assert percents[-1] >= 60
    for percent, (_, truth, line) in zip(percents, told, strict=True):
        # On a busy machine the first line of all may come late.
        assert percent <= 100 * (1 - truth / (ended - began)) + 30, (percent, truth, line)
