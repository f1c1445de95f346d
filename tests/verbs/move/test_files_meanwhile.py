"""What production stores while it is migrated: no row arrives without its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import migrate
from full_pipeline import PROGRAMS, fill, reach
from pipelines.sync import diary
from servers import Server

NAMES = {f"mean_{name}": f"mean_{name}_v20" for name in ("lab", "ephys")}
WORK = PROGRAMS.parent / "sync"


@pytest.mark.parametrize("consistency", ["snapshot", "catch-up"])
@pytest.mark.parametrize("copy_files", [False, True])
def test_what_is_stored_after_the_files_were_copied_is_there_with_its_row(
    server: Server, fresh: Fresh, tmp_path: Path, consistency: Any, copy_files: bool
) -> None:
    fresh(server, *NAMES, *NAMES.values())
    pipeline = fill(server, "mean", tmp_path, PROGRAMS.parent / "demo" / "fill.py")
    new = pipeline.stores_elsewhere(tmp_path / "new") if copy_files else pipeline.stores_in_place()
    specs, written, read = (tmp_path / f"{name}.json" for name in ("2x", "diary", "account"))
    specs.write_text(json.dumps(new))

    def run(version: str, program: str, prefix: str, stores: Path, out: Path, *more: str) -> None:
        words = [str(environments.python(version)), str(WORK / program), *reach(server)]
        words += ["--prefix", prefix, "--stores", str(stores), "--out", str(out), *more]
        done = clients.run(words)
        assert done.returncode == 0, done.stderr[-2000:]

    def on_event(event: dict[str, Any]) -> None:
        ended = event["event"] == "progress" and event.get("finished")
        if ended and event["verb"] == "stores" and not written.exists():
            old = pipeline.root / "stores_014.json"
            run("0.14.6", "endless.py", "mean", old, written, "--days", "2")

    done = migrate(
        NAMES,
        source_stores=pipeline.source_stores,
        dest_stores=new,
        copy_files=copy_files,
        consistency=consistency,
        connection=server.url,
        on_event=on_event,
    )
    assert done["match"], done["issues"]
    (expected,) = diary.states(written)
    assert len(expected["recording"]) == 2
    run("2.3.5", "account.py", "mean", specs, read, "--suffix", "_v20")
    assert json.loads(read.read_text()) == expected
