"""What all commands share: the program itself, its options, its exit codes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import datajoint_migrate as djm
from datajoint_migrate.catalog.secrecy import masked
from datajoint_migrate.console.settings import Settings, load
from dj_migrate import leave_at_once

if TYPE_CHECKING:
    from datajoint_migrate.console.output import Output

DONE, ERROR, DIFFERENT, INTERRUPTED = 0, 1, 2, 130
# How often Ctrl-C is only acknowledged before it ends the program whatever is under way.
PATIENCE = 2
# The schemas that the plan at hand makes.
COPIES: set[str] = set()

app = typer.Typer(
    name="dj-migrate",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    # What draws boxes takes longer to load than all that is said in them.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Migrates DataJoint 0.14.6 schemas to DataJoint 2.x. Production is only read, until the "
    "cutover.\n\n"
    "The server is that of --connection, of the plan or --config, of DJ_HOST, DJ_PORT, DJ_USER and "
    "DJ_PASS, or of DataJoint's own configuration. Exit codes: 0 done, 1 error, 2 differences or "
    "work left to do, 130 interrupted.",
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
LeaveUnseen = Annotated[
    bool,
    typer.Option("--leave-unseen", help="Go on without programs that this user may not see."),
]
Execute = Annotated[
    bool, typer.Option("--execute", help="Really do it; without, only look and tell.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines instead of tables.")]


@contextmanager
def running(command: str, as_json: bool, *, writes: bool = True) -> Iterator[Output]:
    """The output of one command; the package's errors become a message and an exit code."""
    from datajoint_migrate.console.output import Output

    output = Output(command, as_json)
    heard = _Heard(output)
    try:
        with heard:
            yield output
    except (djm.MigrationError, KeyboardInterrupt, OSError) as error:
        if isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            error = djm.InvalidArgument(f"{where}{error.strerror or error}")
        # Once it is interrupted, what fails on the way out fails because of that.
        if heard.times == 0 and not isinstance(error, djm.Interrupted | KeyboardInterrupt):
            _refused(output, error)
        hint = "nothing was changed"
        if writes:
            again = shlex.join(["dj-migrate", *map(masked, sys.argv[1:])])
            hint = f"what is done stays; go on with: {again}"
        standing = output.stages.standing()
        output.error(
            djm.Interrupted(f"interrupted at {standing}" if standing else "interrupted", hint=hint)
        )
        raise typer.Exit(INTERRUPTED) from None


def _refused(output: Output, error: djm.MigrationError) -> NoReturn:
    if isinstance(error, djm.NotFound) and error.context.get("schema") in COPIES:
        error.hint = "the plan's copies are not there yet: dj-migrate run makes them"
    output.error(error)
    raise typer.Exit(DIFFERENT if isinstance(error, djm.NotReady) else ERROR) from None


class _Heard:
    """Ctrl-C is acknowledged at once; once more changes nothing, a third time ends the program."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.times = 0
        self.former = signal.getsignal(signal.SIGINT)
        # A shell that starts programs in the background has told them to ignore it.
        self.is_heard = self.former in (signal.default_int_handler, leave_at_once)

    def __enter__(self) -> None:
        if self.is_heard:
            signal.signal(signal.SIGINT, self._stop)

    def __exit__(self, *_error: object) -> None:
        if self.is_heard:
            signal.signal(signal.SIGINT, self.former)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.times += 1
        self.output.stopping()
        if self.times == 1:
            raise KeyboardInterrupt
        if self.times > PATIENCE:
            os._exit(INTERRUPTED)


def leave(good: bool) -> None:
    """Exit 2 when something is different, or left to do."""
    if not good:
        raise typer.Exit(DIFFERENT)


def with_schemas(settings: Settings, file: Path) -> Settings:
    if not settings.schemas:
        raise djm.InvalidArgument(
            f"{file} names no schemas", hint="add [schemas] with lines like my_lab = 'my_lab_v20'"
        )
    COPIES.update(settings.schemas.values())
    return settings


def plan_of(config: Path | None, connection: str | None, *schemas: str) -> Path | None:
    """The file a command goes by: that of --config, else the plan of this folder.

    A plan is found by itself where no schema is named, or one that is in it, and no server.
    """
    if config is not None or not PLAN.is_file():
        return config
    if not schemas:
        return PLAN
    known = load(PLAN).schemas
    named = {*known, *known.values()} & set(schemas)
    return PLAN if named and connection is None else None


def planned(file: Path | None, connection: str | None, what: str) -> tuple[Path, Settings]:
    """The plan for a command that was told no schema."""
    if file is None:
        raise djm.InvalidArgument(
            f"neither {what} nor a plan was named, and there is no {PLAN} here",
            hint=f"name {what}, or write a plan with: dj-migrate plan",
        )
    return file, with_schemas(load(file, connection), file)


def meant(
    config: Path | None, connection: str | None, schema: str | None
) -> tuple[Path | None, Settings, list[str]]:
    """The file, its settings, and the schemas that are meant: one, or all of the plan."""
    file = plan_of(config, connection, *filter(None, (schema,)))
    if schema is not None:
        return file, load(file, connection), [schema]
    file, settings = planned(file, connection, "a schema")
    return file, settings, list(settings.schemas)


def style_of(check: Mapping[str, Any]) -> str | None:
    return None if check["ok"] else "red"
