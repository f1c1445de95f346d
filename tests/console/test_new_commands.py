"""Commands around a migration with wrong arguments, in a pipe and in narrow terminals."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from program import Program, program, write_stores
from servers import Server
from small import Small, make
from terminal import shown


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"newc_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "newc", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


WRONG: dict[str, tuple[list[str], str, str]] = {
    "a word for how": (["sync", "--by", "clock"], "--by is 'clock'", "auto, digest, log"),
    "a word for conflicts": (
        ["sync", "--on-conflict", "win"],
        "--on-conflict is 'win'",
        "use one of stop, production",
    ),
    "a level": (["files", "--level", "all"], "--level is 'all'", "exists, size, hash"),
    "a subset": (["files", "--subset", "300%"], "the subset '300%'", "1/10, 5% or 500M"),
    "a schema": (["blobs", "newc_lav"], "no schema 'newc_lav'", "did you mean 'newc_lab'"),
    "no schema like it": (["text", "x"], "no schema 'x'", "there are "),
    "a name that is taken": (
        ["rename", "newc_lab", "newc_rig"],
        "newc_rig' is there already",
        "choose another name",
    ),
    "a type of object": (
        ["promote", "newc_lab", "Session.Trial", "data", "gold@raw"],
        "'gold@raw' is no type",
        "give npy@store",
    ),
    "what becomes of others": (
        ["promote", "newc_lab", "Session.Trial", "data", "npy@raw", "--on-other", "drop"],
        "--on-other is 'drop'",
        "use one of stop, report",
    ),
    "a store": (
        ["promote", "newc_lab", "Session.Trial", "data", "npy@raw"],
        "the destination store 'raw' is not configured",
        "give it under [stores.destination] of the plan, add",
    ),
    "jobs before the copy": (["jobs"], "no schema 'newc_lab_v20'", "dj-migrate run makes them"),
    "a sync before the copy": (["sync"], "no copy 'newc_lab_v20'", "dj-migrate run"),
    "a plan that is not there": (["discard", "no.toml"], "no file no.toml", "dj-migrate plan"),
    "a status of nothing": (["status", "no.toml"], "no file no.toml", "dj-migrate plan"),
}


def test_wrong_arguments_are_refused_once_with_the_way_out(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    there = small.schemas_there()
    for case, (words, what, hint) in WRONG.items():
        done = dj(*words)
        assert done.returncode == 1, (case, done.stdout, done.stderr)
        first, *rest = done.stderr.splitlines()
        assert what in first, (case, first)
        # Said once, by the screen and not by a log as well.
        assert first not in rest
        assert sum(what in line for line in rest) == 0, (case, rest)
        (way_out,) = [line for line in rest if line.startswith("→ ")]
        assert hint in way_out, (case, way_out)
        assert "=True" not in done.stderr
    assert small.schemas_there() == there


def test_a_warning_is_told_and_an_error_is_in_the_log(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    (dj.folder / "migration.jsonl").mkdir()
    done = dj("verify", "newc_nowhere", "--log-file", "it.log")
    assert done.stderr.count("DJM-1202") == 1
    assert "DJM-1202" in (dj.folder / "it.log").read_text()
    done = dj("verify")
    assert "not recorded" in done.stderr
    assert done.stderr.count("DJM-1202") == 1


LOOKS = (
    *(("jobs", "--dry-run"), ("files", "--orphans"), ("text",), ("blobs",), ("status",)),
    *(("sync", "--dry-run"), ("rename", "newc_lab", "newc_other", "--dry-run"), ("discard",)),
    ("promote", "newc_lab_v20", "Session.Trial", "data", "npy@raw", "--dry-run", "-c", "lab.toml"),
)


@pytest.mark.parametrize("columns", [80, 120])
def test_what_they_say_fits_a_terminal_and_is_whole_in_a_pipe(
    small: Small, dj: Program, columns: int
) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("run", "-q").returncode == 0
    small.server.sql(f"UPDATE `{small.lab}`.session__trial SET data = REPEAT('x', 60)")
    small.server.sql(f"UPDATE `{small.lab}`.session SET notes = 'MÃ¼ller' WHERE mouse_id = 1")
    # How a table is synced depends on how long it has been quiet, and all is said twice.
    small.server.rest(*small.map, *small.map.values())
    there = small.schemas_there()
    done = dj("sync", "--table", "Nope")
    assert (done.returncode, "no table 'Nope'" in done.stderr) == (1, True), done.stderr
    assert "→ there are " in done.stderr
    for words in LOOKS:
        piped = dj(*words)
        assert "Traceback" not in piped.stderr, piped.stderr
        assert piped.returncode in (0, 2), (words, piped.stderr)
        code, screen = shown(dj, *words, columns=columns)
        assert code == piped.returncode, screen
        assert all(len(line) <= columns for line in screen.splitlines()), screen
        # Lines are broken where the screen ends, and nothing is left out.
        for line in _lines(piped.stdout):
            assert line in "".join(_lines(screen)), (words, line, screen)
        if words[0] == "files":
            assert f"{'files':8} {'█' * 20} 100% 16 files in" in screen
    assert small.schemas_there() == there


def _lines(text: str) -> list[str]:
    """Lines without blanks, which depend on the width, and without what took how long."""
    return ["".join(line.split()) for line in text.splitlines() if " s: " not in line]


def test_of_many_findings_some_are_shown_and_the_rest_is_counted(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    small.server.sql(
        f"INSERT INTO `{small.lab}`.session__trial SELECT mouse_id, session_date, 100 + n.i, 'x'"
        f" FROM `{small.lab}`.session, (SELECT 1 AS i UNION SELECT 2 UNION SELECT 3) n"
    )
    done = dj("blobs")
    assert done.returncode == 2
    assert done.stdout.count("begins with b'x'") == 20
    assert "… and 16 more" in done.stdout
    assert "36 blobs cannot be unpacked" in done.stdout
    assert dj("blobs", "-v").stdout.count("begins with b'x'") == 36
