"""An hour of a lab that does not stop working: it is followed, cut over, and every row is there."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import NotReady, cutover, migrate, sync
from full_pipeline import PROGRAMS, FullPipeline, fill, reach
from pipelines.sync import diary
from servers import Server

MINUTES = float(os.environ.get("DJM_SOAK_MINUTES", "60"))
BETWEEN_SECONDS = 60.0
NAMES = {f"soak_{name}": f"soak_{name}_v20" for name in ("lab", "ephys")}
WORK = PROGRAMS.parent / "sync"


@pytest.fixture(params=["logged_mysql", "logged_mariadb"])
def logged(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    """A server with its log on, without the schemas."""
    found: Server = request.getfixturevalue(request.param)
    fresh(found, *NAMES, *NAMES.values(), *(f"{name}_old" for name in NAMES))
    return found


@pytest.fixture
def pipeline(logged: Server, tmp_path: Path) -> FullPipeline:
    """The demonstration's pipeline."""
    return fill(logged, "soak", tmp_path, PROGRAMS.parent / "demo" / "fill.py")


def words(version: str, program: str, server: Server, stores: Path, out: Path) -> list[str]:
    """The command line of a client's program."""
    said = [str(environments.python(version)), str(WORK / program), *reach(server)]
    return [*said, "--prefix", "soak", "--stores", str(stores), "--out", str(out)]


@pytest.fixture
def lab(logged: Server, pipeline: FullPipeline, tmp_path: Path) -> Iterator[Path]:
    """The diary of a lab that works until the test ends."""
    written = tmp_path / "diary.jsonl"
    stores = pipeline.root / "stores_014.json"
    work = subprocess.Popen(words("0.14.6", "endless.py", logged, stores, written))
    try:
        while not written.is_file() or written.read_text().count("done") < 5:
            assert work.poll() is None
            time.sleep(0.1)
        yield written
    finally:
        work.kill()
        work.wait()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_lab_that_never_stops_is_followed_and_cut_over_and_every_row_is_there(
    logged: Server, pipeline: FullPipeline, lab: Path, tmp_path: Path
) -> None:
    stores: dict[str, Any] = {
        "source_stores": pipeline.source_stores,
        "dest_stores": pipeline.stores_in_place(),
        "connection": logged.url,
    }
    done = migrate(NAMES, **stores, consistency="catch-up")
    assert done["match"], done["issues"]
    began, written = time.monotonic(), 0
    while time.monotonic() - began < MINUTES * 60:
        time.sleep(min(BETWEEN_SECONDS, MINUTES * 6))
        found = sync(NAMES, **stores)
        assert found["match"], (found["issues"], found["conflicts"])
        written += found["rows_inserted"]
    assert written > 0
    over, refused = None, []
    while over is None:
        try:
            over = cutover(
                NAMES, **stores, sync=True, backups="rename", end_sessions=True, execute=True
            )
        except NotReady as error:
            refused.append(error.message)
            assert len(refused) < 10, refused
    # The lab has met the new tables by then, or a line that was ended.
    time.sleep(3)
    specs, out = tmp_path / "stores_2x.json", tmp_path / "account.json"
    specs.write_text(json.dumps(stores["dest_stores"]))
    done_reading = clients.run(words("2.3.5", "account.py", logged, specs, out))
    assert done_reading.returncode == 0, done_reading.stderr[-2000:]
    found_rows = json.loads(out.read_text())
    expected = diary.states(lab)
    assert len(expected[0]["recording"]) > 10 * MINUTES
    for table in diary.TABLES:
        assert found_rows[table] in [state[table] for state in expected], table
    assert over["window_seconds"] < 10
