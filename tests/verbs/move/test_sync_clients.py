"""sync between the real clients: what 0.14.6 writes in a week is what 2.3.5 then reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import migrate, sync
from full_pipeline import PROGRAMS, fill, read_with
from servers import Server


@pytest.mark.parametrize("copy_files", [False, True])
def test_a_week_of_work_with_0_14_is_read_by_2x(
    server: Server, fresh: Fresh, tmp_path: Path, copy_files: bool
) -> None:
    names = {f"week_{name}": f"week_{name}_v20" for name in ("lab", "ephys")}
    fresh(server, *names, *names.values())
    root = tmp_path / "filled"
    root.mkdir()
    pipeline = fill(server, "week", root, PROGRAMS.parent / "demo" / "fill.py")
    new = pipeline.stores_elsewhere(tmp_path / "new") if copy_files else pipeline.stores_in_place()
    stores: dict[str, Any] = {
        "source_stores": pipeline.source_stores,
        "dest_stores": new,
        "connection": server.url,
    }
    done = migrate(names, **stores, copy_files=copy_files)
    assert done["match"], done["issues"]
    week = tmp_path / "week"
    week.mkdir()
    later = fill(
        server,
        "week",
        week,
        PROGRAMS.parent / "sync" / "work.py",
        specs=pipeline.source_stores,
    )
    found = sync(names, **stores)
    assert found["match"], (found["issues"], found["conflicts"])
    assert found["tables"]["week_lab.note"]["how"] == "copied"
    assert found["tables"]["week_lab.session__trial"]["how"] == "rebuilt"
    assert found["files_copied"] >= (4 if copy_files else 1)
    assert min(found["rows_inserted"], found["rows_updated"], found["rows_deleted"]) > 0
    after = dataclasses.replace(later, source_stores=pipeline.source_stores)
    reading = read_with("2.3.5", after, server, names, new, tmp_path)
    assert reading.equal, reading.different()
    again = sync(names, **stores)
    assert again["match"]
    assert [again[f"rows_{what}"] for what in ("inserted", "updated", "deleted")] == [0, 0, 0]
    assert again["files_copied"] == 0
