"""`make demo` waits for nothing that it does not use, and says what it waits for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import demo
import environments
import prepare


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is made or fetched, nothing of which is."""
    found: list[str] = []

    def note(kind: str) -> Callable[..., Path]:
        def noted(name: str = "") -> Path:
            found.append(f"{kind} {name}".strip())
            return Path("bin/python")

        return noted

    monkeypatch.setattr(prepare.environments, "python", note("python"))
    monkeypatch.setattr(prepare, "programs", note("server"))
    monkeypatch.setattr(prepare.s3, "program", note("s3"))
    monkeypatch.setattr(prepare, "_build", note("engine"))
    return found


def test_the_demonstration_waits_for_what_it_uses_and_nothing_else(asked: list[str]) -> None:
    assert prepare.main(["demo"]) == 0
    assert set(asked) == {"python dev", "python 0.14.6", "python 2.3.5", "server mysql", "engine"}


def test_the_tests_wait_for_everything(asked: list[str]) -> None:
    assert prepare.main(["all"]) == 0
    assert {f"python {name}" for name in environments.REQUIREMENTS} < set(asked)
    assert {"server mysql", "server mariadb", "s3", "engine"} < set(asked)


def test_a_step_that_takes_time_is_a_line_and_others_are_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, 0.5, 10.0, 167.0))
    monkeypatch.setattr(prepare.time, "monotonic", lambda: next(clock))
    prepare._step("The server: mysql", lambda: None)
    prepare._step("The engine, built from Rust", lambda: None)
    assert capsys.readouterr().out == "The engine, built from Rust: 157 s\n"


def test_the_first_build_says_what_it_is_before_it_begins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CARGO_TARGET_DIR", str(tmp_path / "target"))
    said: list[str] = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        said.append(capsys.readouterr().out)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(prepare.subprocess, "run", run)
    prepare._build()
    (tmp_path / "target" / "debug").mkdir(parents=True)
    prepare._build()
    assert said == ["Building the engine; three minutes the first time, on two cores.\n", ""]


def test_without_rust_the_way_to_it_is_named_and_nothing_is_fetched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(prepare.shutil, "which", lambda _: None)
    assert prepare.main(["demo"]) == 1
    assert "https://rustup.rs" in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize("word", ["--help", "-h", "elsewhere"])
def test_a_word_to_the_demonstration_starts_nothing(word: str) -> None:
    done = subprocess.run(
        [sys.executable, str(demo.__file__), word], capture_output=True, text=True
    )
    assert "python3 tests/demo.py" in done.stdout + done.stderr
    assert "runs on port" not in done.stdout
    assert done.returncode == (0 if word.startswith("-") else 2)
