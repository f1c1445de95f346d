"""`dj-migrate`: the functions of this package as commands, and nothing more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from datajoint_migrate._core import __version__
from datajoint_migrate.console.app import app
from datajoint_migrate.console.group import group_of
from datajoint_migrate.console.help import manual
from datajoint_migrate.console.voice import VOICE, log_to

__all__ = ["app", "main"]

app.info.cls = group_of(app)

# They may stand behind a command, too.
FLAGS = ("-v", "--verbose", "-q", "--quiet")
VALUED = ("--log-file",)


@app.callback()
def options(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every table, and what is done meanwhile.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Errors only; the exit code tells the rest.")
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", help="Append what is done to this file.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    man: Annotated[bool, typer.Option("--man", help="Print the man page.")] = False,
) -> None:
    """What holds for every command."""
    if version:
        print(f"dj-migrate {__version__}")
        raise typer.Exit
    if man:
        group = typer.main.get_group(app)
        print(manual(group, __version__), end="")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit
    VOICE.verbose, VOICE.quiet = verbose, quiet
    log_to(log_file, verbose, quiet)


def main() -> None:
    """The program `dj-migrate`."""
    # A terminal without UTF-8 must not stop a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(args=_first(sys.argv[1:]))


def _first(words: list[str]) -> list[str]:
    """The words with the options of every command before the command."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            return [*front, *rest, word, *waiting]
        if word in FLAGS or word.startswith(tuple(f"{one}=" for one in VALUED)):
            front.append(word)
        elif word in VALUED:
            front += [word, *([value] if (value := next(waiting, None)) is not None else [])]
        else:
            rest.append(word)
    return front + rest
