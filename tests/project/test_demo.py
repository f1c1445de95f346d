"""The demonstration says what is true, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import demo

PROGRAM = str(Path(demo.__file__).resolve())


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: the path of a server's socket has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        yield Path(folder)


def _processes_of(folder: Path) -> list[str]:
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if str(folder) in words:
            found.append(words)
    return found


def test_every_value_is_the_same_and_nothing_is_left(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, PROGRAM], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same") == 8
    assert "SOMETHING ELSE" not in done.stdout
    readme = (Path(PROGRAM).parent.parent / "README.md").read_text()
    [shown] = [text for text in readme.split("```") if text.startswith("text\ntable ")]
    assert shown.removeprefix("text\n") in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert _processes_of(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        [sys.executable, PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert running.stdout is not None
    assert b"private MySQL" in running.stdout.readline()
    time.sleep(1)
    running.send_signal(number)
    running.communicate(timeout=300)
    assert running.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert _processes_of(tmp_path) == []


def test_a_changed_value_is_shown_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    migrate = demo._migrate
    kept = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def migrate_and_spoil(*arguments):  # type: ignore[no-untyped-def]
        result = migrate(*arguments)
        arguments[0].sql("UPDATE demo_lab_v20.subject SET weight = weight * 1.0000001 LIMIT 1")
        return result

    monkeypatch.setattr(demo, "_migrate", migrate_and_spoil)
    try:
        assert demo.main() == 1
    finally:
        signal.signal(signal.SIGTERM, kept)
    said = capsys.readouterr().out
    [line] = [line for line in said.splitlines() if line.startswith("demo_lab.subject ")]
    assert line.endswith("SOMETHING ELSE")
    assert "demo_lab.subject" in said.split("SOMETHING ELSE")[1]
    assert list(tmp_path.iterdir()) == []
