"""Files that cannot be read or written are named in a line, without a word of Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Fresh
from program import PROGRAM, Program, program, write_stores
from servers import Server
from small import Small, add_trials, make

# Files may become so large, which stands for a disk that is full.
ROOM = 1500


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"unwritable_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "unwritable", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


def cramped(dj: Program, *words: str, room: int = ROOM) -> subprocess.CompletedProcess[str]:
    """The command, where no file grows beyond so many bytes."""
    command = ["prlimit", f"--fsize={room}", sys.executable, "-c", PROGRAM, *words]
    return subprocess.run(
        command, cwd=dj.folder, env=dj.environment, capture_output=True, text=True
    )


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "DJM-" in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_a_file_that_cannot_be_made_is_named(small: Small, dj: Program) -> None:
    for words in (
        ("scan", small.lab, "Mouse", "--to", "/no/such/mice.csv"),
        ("scan", small.lab, "Mouse", "--to", "/no/such/mice.parquet"),
        ("plan", small.lab, "-o", "/no/such/plan.toml"),
    ):
        refused(dj(*words), f"{words[-1]} cannot be written: No such file or directory")
    (dj.folder / "dj_local_conf.json").write_text('{"database.user": "me"}')
    refused(dj("config", "--into", "/proc/no", "--execute"), "/proc/no cannot be written")


def test_a_folder_is_no_plan(dj: Program) -> None:
    (dj.folder / "folder.toml").mkdir()
    for words in (("run",), ("inspect", "-c"), ("status",)):
        refused(dj(*words, "folder.toml"), "folder.toml cannot be read: Is a directory")


def test_half_a_file_is_not_left_where_a_disk_is_full(small: Small, dj: Program) -> None:
    add_trials(small, 300)
    words = ("scan", small.lab, "Session.Trial", "--to", "trials.csv")
    refused(cramped(dj, *words), "trials.csv cannot be written: File too large")
    assert not (dj.folder / "trials.csv").exists()
    refused(cramped(dj, "plan", small.lab, room=20), "migration.toml cannot be written")
    assert not (dj.folder / "migration.toml").exists()
    assert dj(*words).returncode == 0


def test_a_full_disk_is_told_with_the_archive_and_the_same_command_goes_on(
    small: Small, dj: Program
) -> None:
    add_trials(small, 3000)
    words = ("backup", small.lab, "./archive")
    done = cramped(dj, *words)
    refused(done, f"{dj.folder}/archive", "File too large", "make room there, then")
    assert "run the same command again: what is written counts" in done.stderr
    assert dj(*words).returncode == 0
    assert dj("check", "archive").returncode == 0
    shutil.rmtree(dj.folder / "archive")
