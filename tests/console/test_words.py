"""What the command line says of itself, and in which words it speaks."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from catalogue import COMMANDS as COMMANDS_PAGE
from catalogue import commands
from conftest import Fresh
from datajoint_migrate import __version__
from datajoint_migrate.console.cli import app
from datajoint_migrate.console.help import COMMANDS
from datajoint_migrate.console.speech import spoken
from datajoint_migrate.files.pointers import collector_note
from datajoint_migrate.words import counted
from program import Program, program, write_stores
from servers import Server
from small import Small, make
from terminal import Terminal, shown


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    ends = ("", "_v20", "_old", "_backup")
    fresh(mysql, *(f"words_{name}{end}" for name in ("lab", "rig") for end in ends))
    return make(mysql, "words", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("by of sync is 'foo'", "--by is 'foo'"),
        ("on_conflict of sync is 'foo'", "--on-conflict is 'foo'"),
        (
            'give dest_stores={"raw": {"protocol": "file", "location": …}}, add',
            "give it under [stores.destination] of the plan, add",
        ),
        (
            "add stores.raw to datajoint.json, or",
            "add stores.raw to datajoint.json (dj-migrate config --execute makes it of 0.14.6's),"
            " or",
        ),
        (
            "say whose you accept, definers=['a@%', 'b@%'] (--definer), or leave all programs out,"
            " programs=False (--no-programs)",
            "say whose you accept, --definer 'a@%', 'b@%', once for each, or leave all programs"
            " out, --no-programs",
        ),
        (
            "values from before, which undo=True takes back",
            "values from before, which --undo takes back",
        ),
        ("say overwrite=True: it is kept", "--overwrite: it is kept"),
        ("add 'x' to schema_map", "add 'x' to [schemas] of the plan"),
        (
            "no backup of x: backups={'x': ...}",
            "no backup of x: dj-migrate backup, or --backup x=…",
        ),
        ("or go on: unseen='leave'", "or go on: --leave-unseen"),
        ("pass copy_files=True, or", "set copy_files = true under [options] of the plan, or"),
        ("rename_schema('a', 'a_2')", "dj-migrate rename a a_2"),
        ("keep it: charset='keep'", 'keep it: charset = "keep" under [options] of the plan'),
        ("start the same call again", "run the same command again"),
    ],
)
def test_hints_are_in_the_words_of_a_command_line(said: str, words: str) -> None:
    assert spoken(said) == words


def test_numbers_have_their_nouns() -> None:
    assert [counted(number, "row") for number in (0, 1, 2, 1000)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,000 rows",
    ]


def test_stores_are_one_or_many() -> None:
    assert "on the store raw: it takes" in collector_note(["raw", "raw"])[0]
    assert "on the stores flat, raw: it takes" in collector_note(["raw", "flat"])[0]
    assert collector_note([]) == []


def test_words_and_names_are_not_folded_and_one_sentence_is_said_of_all(
    small: Small, dj: Program
) -> None:
    # One schema was filled after the other: how long ago is what `status` goes by.
    small.server.rest(small.lab, small.rig)
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("run", "-q").returncode == 0
    code, screen = shown(dj, "status")
    assert code == 0, screen
    row = next(line for line in screen.splitlines() if line.startswith(f"{small.lab} "))
    assert f" {small.lab}_v20 " in row
    assert re.search(r"equal to production at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", screen)
    # The way out is the same for both.
    assert screen.count("next dj-migrate") == 1
    assert re.search(f"^{small.lab}, {small.rig}: next dj-migrate cutover", screen, re.MULTILINE)
    code, screen = shown(dj, "sync")
    assert re.search(rf"^{small.lab}.mouse +(skipped|digest|log) ", screen, re.MULTILINE), screen
    code, screen = shown(dj, "files")
    assert f"{small.lab}: no row refers to a file" in screen


def test_every_command_has_a_phase_an_example_and_explained_arguments() -> None:
    group = typer.main.get_group(app)
    assert set(group.commands) == set(COMMANDS)
    for name, command in group.commands.items():
        assert COMMANDS[name][1].startswith(f"dj-migrate {name}"), name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_the_reference_of_commands_is_what_help_says() -> None:
    said = "run: python tests/catalogue.py"
    assert COMMANDS_PAGE.read_text(encoding="utf-8") == commands(), said


@pytest.mark.parametrize("columns", [80, 120])
def test_help_explains_without_types_of_python(columns: int) -> None:
    for name in ("", *COMMANDS):
        words = [*filter(None, (name, "--help"))]
        done = CliRunner().invoke(app, words, env={"COLUMNS": str(columns), "TERM": "dumb"})
        assert done.exit_code == 0, done.output
        assert not re.search(r"<\w|\[(?:str|int)\]|\bTEXT\b|\bBOOL", done.output), done.output
        assert all(len(line) <= columns for line in done.output.splitlines()), done.output
        if name:
            assert f"{name} [OPTIONS]" in done.output
            assert COMMANDS[name][1] in " ".join(done.output.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_names_options_that_there_are(name: str) -> None:
    command = typer.main.get_group(app).commands[name]
    known = {word for one in command.params for word in (*one.opts, *one.secondary_opts)}
    used = {word for word in COMMANDS[name][1].split() if word.startswith("-")}
    assert used <= known


def test_what_is_asked_of_a_program(dj: Program) -> None:
    assert dj("--version").stdout == f"dj-migrate {__version__}\n"
    short, long = dj("-h"), dj("--help")
    assert (short.returncode, short.stdout) == (0, long.stdout)
    help_of = dj("compare", "-h").stdout
    assert "Example: dj-migrate compare" in help_of
    phases = ("Look", "Move", "Prove", "Keep safe and swap")
    order = [long.stdout.index(f"\n{phase}:\n") for phase in phases]
    assert order == sorted(order)


def test_the_man_page_is_one(dj: Program, tmp_path: Path) -> None:
    done = dj("--man")
    assert done.returncode == 0, done.stderr
    page = tmp_path / "dj-migrate.1"
    page.write_text(done.stdout)
    read = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", str(page)], capture_output=True, text=True
    )
    assert (read.returncode, read.stderr) == (0, "")
    for name in COMMANDS:
        assert f"dj-migrate {name}".replace("-", "\\-") in done.stdout


def test_quiet_verbose_and_a_log(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml", "-q").stdout == ""
    done = dj("run", "-q", "--log-file", "run.log")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = dj.folder / "run.log"
    said = log.read_text()
    assert "run begins: dj-migrate run -q --log-file run.log" in said
    assert "compare done, " in said
    assert "run has ended" in said
    assert log.stat().st_mode & 0o077 == 0
    done = dj("verify", "nowhere", "--log-file", "run.log")
    assert done.returncode == 1
    assert "DJM-1202" in log.read_text()
    done = dj("-v", "verify", f"{small.lab}_v20")
    assert "verify begins" in done.stderr
    assert dj("inspect", "--log-file", "no/such/folder").returncode == 1


def test_a_person_is_asked_for_the_password_and_a_program_is_not(small: Small, dj: Program) -> None:
    password = dj.environment.pop("DJ_PASS")
    terminal = Terminal(dj, "inspect", small.lab)
    terminal.until("password of ")
    terminal.type(password + "\n")
    code, screen = terminal.end()
    assert code == 0, screen
    assert password not in screen.split("(DJ_PASS):")[1].split("\n")[0]
    done = dj("inspect", small.lab)
    assert done.returncode == 1
    assert "DJM-1102" in done.stderr


def test_a_refusal_speaks_of_options(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("run").returncode == 0
    done = dj("cutover")
    assert done.returncode == 2
    assert f"dj-migrate backup, or --backup {small.lab}=…" in done.stdout
    assert "backups=" not in done.stdout
    assert dj("backup", small.lab, f"{small.lab}_backup").returncode == 0
    done = dj("restore", f"{small.lab}_backup", f"{small.lab}_v20")
    assert done.returncode == 1
    assert "--overwrite" in done.stderr
    assert "overwrite=True" not in done.stderr
    assert json.loads(dj("verify", "nowhere", "--json").stdout)["code"] == "DJM-1202"
    assert os.path.exists(dj.folder / "migration.jsonl")
