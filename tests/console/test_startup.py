"""What `dj-migrate` loads before it has to: a look at its help needs no client of a server."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping

import pytest

import datajoint_migrate
from datajoint_migrate.console.app import app
from datajoint_migrate.console.group import HOME as HOME_OF
from datajoint_migrate.console.group import HOMES, name_of
from datajoint_migrate.console.help import COMMANDS
from places import ROOT
from program import PROGRAM

# Of all of them nothing is needed before a command is under way.
HEAVY = {"mysql", "numpy", "pyarrow", "datajoint", "libcst", "concurrent", "multiprocessing"}
# Draws boxes and judges values; each takes longer to load than Typer and all commands.
HEAVY |= {"rich", "pydantic", "pydantic_core"}
TELL = """
import atexit, sys
known = lambda: [name for name, module in sys.modules.items() if module]
atexit.register(lambda: print(*known(), file=sys.stderr))
"""
HOME = "datajoint_migrate.console."


def loaded(
    program: str, words: Iterable[str] = (), environment: Mapping[str, str] = {}
) -> tuple[str, set[str], set[str]]:
    """What a program prints; the packages and the modules of commands that it has at its end."""
    done = subprocess.run(
        [sys.executable, "-c", TELL + program, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    names = done.stderr.split()
    homes = {name.removeprefix(HOME) for name in names} & set(HOMES)
    return done.stdout, {name.split(".")[0] for name in names}, homes


@pytest.mark.parametrize(
    "words", [("--version",), ("--man",), ("--help",), *((name, "--help") for name in COMMANDS)]
)
def test_what_needs_no_server_loads_no_client_of_one(words: tuple[str, ...]) -> None:
    _, packages, homes = loaded(PROGRAM, words)
    assert packages & HEAVY == set()
    if words[0] in HOME_OF:
        # Of all commands the one that is asked for.
        assert homes == {HOME_OF[words[0]]}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("typed", "known", "homes"),
    [
        ("dj-migrate ro", "rollback", {"secure"}),
        ("dj-migrate run --max-l", "--max-load", {"move"}),
    ],
)
def test_a_shell_that_asks_at_each_tab_waits_for_little(
    shell: str, typed: str, known: str, homes: set[str]
) -> None:
    said, packages, there = loaded(
        PROGRAM,
        environment={
            "_DJ_MIGRATE_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(typed.count(" ")),
            "_TYPER_COMPLETE_ARGS": typed,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    )
    assert known in said
    assert packages & HEAVY == set()
    assert there == homes


def test_the_package_alone_loads_nothing_of_it() -> None:
    _, packages, _ = loaded("import datajoint_migrate")
    assert packages & (HEAVY | {"typer"}) == set()


def test_every_command_is_in_the_module_that_is_said_to_have_it() -> None:
    registered = {
        name_of(one): str(one.callback.__module__).removeprefix(HOME)
        for home in HOMES
        if importlib.import_module(HOME + home)
        for one in app.registered_commands
        if one.callback is not None
    }
    assert registered == HOME_OF
    assert set(HOME_OF) == set(COMMANDS)


def test_every_public_name_is_the_one_that_a_type_checker_knows() -> None:
    tree = ast.parse((ROOT / "python/datajoint_migrate/__init__.py").read_text())
    known = {
        name.name: one.module
        for node in tree.body
        if isinstance(node, ast.If)
        for one in node.body
        if isinstance(one, ast.ImportFrom)
        for name in one.names
    }
    assert (
        set(known) | {"__version__"}
        == set(datajoint_migrate.__all__)
        <= set(dir(datajoint_migrate))
    )
    for name, module in known.items():
        # Another test may have loaded the modules anew.
        found, there = (
            getattr(place, name) for place in (datajoint_migrate, importlib.import_module(module))
        )
        assert (found.__module__, found.__qualname__) == (there.__module__, there.__qualname__)
        assert found.__module__.startswith(module), name
    assert "Nothing" not in dir(datajoint_migrate)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = datajoint_migrate.Nothing


def test_every_command_is_known_without_a_client() -> None:
    said = "from datajoint_migrate.console.cli import app\nimport typer\n"
    said += "print(*typer.main.get_group(app).commands)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(COMMANDS)
