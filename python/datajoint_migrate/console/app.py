"""What all commands share: the program itself, its options, its exit codes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.output import Output
from datajoint_migrate.console.settings import Settings

DONE, ERROR, DIFFERENT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="dj-migrate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Moves DataJoint 0.14.6 schemas to DataJoint 2.x. Production is only read.\n\n"
    "The server is that of --connection, of --config, or of DataJoint's own configuration, or "
    "DJ_HOST, DJ_USER and DJ_PASS. Exit codes: 0 done, 1 error, 2 differences or work left to do, "
    "130 interrupted.",
)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file: connections, stores, options.")
]
Plan = Annotated[Path, typer.Argument(help="A plan file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")]
PLAN = Path("migration.toml")
Url = Annotated[
    str | None, typer.Option("--connection", help="mysql://user@host:3306/, password in DJ_PASS.")
]
Rate = Annotated[
    int | None, typer.Option("--max-bytes-per-second", help="Read no faster from production.")
]
Load = Annotated[
    str | None, typer.Option("--max-load", help="Pause above it: Threads_running=25, …")
]
PauseFile = Annotated[
    Path | None, typer.Option("--pause-file", help="Pause while this file is there.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines instead of tables.")]


@contextmanager
def running(command: str, as_json: bool, *, writes: bool = True) -> Iterator[Output]:
    """The output of one command; the package's errors become a message and an exit code."""
    output = Output(command, as_json)
    try:
        yield output
    except (djm.Interrupted, KeyboardInterrupt):
        hint = "nothing was changed"
        if writes:
            again = shlex.join(["dj-migrate", *sys.argv[1:]])
            hint = f"what is done stays; go on with: {again}"
        output.error(djm.Interrupted("interrupted", hint=hint))
        raise typer.Exit(INTERRUPTED) from None
    except djm.MigrationError as error:
        output.error(error)
        raise typer.Exit(ERROR) from None


def leave(good: bool) -> None:
    """Exit 2 when something is different, or left to do."""
    if not good:
        raise typer.Exit(DIFFERENT)


def with_schemas(settings: Settings, file: Path) -> Settings:
    if not settings.schemas:
        raise djm.InvalidArgument(
            f"{file} names no schemas", hint="add [schemas] with lines like my_lab = 'my_lab_v20'"
        )
    return settings


def style_of(check: dict[str, Any]) -> str | None:
    return None if check["ok"] else "red"
