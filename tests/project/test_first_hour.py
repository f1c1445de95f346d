"""The first hour of a person alone with it: a terminal of 80 columns, screen after screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import create_parallel_schema
from datajoint_migrate.catalog.server import resolve
from program import program, write_stores
from servers import Server
from small import add_trials, make
from terminal import Terminal

pytestmark = pytest.mark.timeout(1200)
TRIALS = 60_000


def test_the_first_hour(mysql: Server, fresh: Fresh, tmp_path: Path) -> None:
    ends = ("", "_v20", "_old", "_backup")
    fresh(mysql, *(f"hour_{name}{end}" for name in ("lab", "rig") for end in ends))
    small = make(mysql, "hour", tmp_path / "store")
    add_trials(small, TRIALS)
    dj = program(mysql, tmp_path / "here")
    write_stores(small, dj.folder / "lab.toml")

    def screen(*words: str, code: int = 0) -> str:
        """What is on the screen at the end; no bar, no traceback, nothing of Python is left."""
        terminal = Terminal(dj, *words)
        ended, text = terminal.end()
        assert ended == code, text
        assert "Traceback" not in text
        assert "░" not in text
        assert "True" not in text
        return text

    seen = screen("inspect", "hour_lab", "hour_rig", "-c", "lab.toml")
    assert all(any(line.startswith(name) for line in seen.splitlines()) for name in small.map)

    seen = screen("plan", "hour_%", "-c", "lab.toml")
    assert "wrote migration.toml: 2 schemas" in seen
    assert "belong together: hour_lab, hour_rig" in seen
    assert "next: dj-migrate doctor" in seen

    seen = screen("doctor")
    assert seen.splitlines()[-1].startswith("ready: dj-migrate run"), seen

    # Interrupted while a row of somebody else holds the copy up, and gone on.
    copy = f"{small.lab}_v20"
    create_parallel_schema(small.lab, copy, external="convert", connection=mysql.url)
    last = f"SELECT * FROM `{small.lab}`.session__trial ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1"
    with resolve(mysql.url).session() as session:
        session.execute("SET SESSION foreign_key_checks = 0")
        session.execute("START TRANSACTION")
        session.execute(f"INSERT INTO `{copy}`.session__trial {last}")
        terminal = Terminal(dj, "run")
        # Files are looked for before, and counted alike.
        bar = terminal.line("copy ", " of ~")
        assert "%" in bar
        assert len(bar) <= 80
        terminal.press_ctrl_c()
        terminal.until("stopping", ever=True)
        ended, seen = terminal.end()
        session.execute("ROLLBACK")
    assert ended == 130, seen
    assert "go on with: dj-migrate run" in " ".join(seen.split())

    seen = " ".join(screen("run").split())
    assert "every value is equal, 2.x can read it" in seen
    assert "next: dj-migrate report" in seen

    assert "Every value is equal" in " ".join(screen("report").split())
    assert "everything is equal" in screen("compare").splitlines()[-1]
    assert "next: dj-migrate cutover" in screen("backup")

    seen = screen("cutover")
    assert "backup of hour_lab: hour_lab_backup" in seen
    assert "nothing was changed; with --execute it is done" in seen
    seen = screen("cutover", "--execute")
    assert "undo: dj-migrate rollback --execute" in " ".join(seen.split())

    mysql.sql(f"INSERT INTO `{small.lab}`.mouse VALUES (900, 'rat', 1, NULL)")
    seen = " ".join(screen("rollback").split())
    assert "1 new row would leave production" in seen
    seen = " ".join(screen("rollback", "--execute").split())
    assert "are back where they were; 1 new row" in seen
    assert small.count(small.lab, "mouse") == 12
