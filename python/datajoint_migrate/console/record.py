"""The record of a migration: what its commands told and returned, JSON lines in one file.

Each call appends, so the file tells a migration that took several calls, on several days. A call
that was killed leaves what it had told until then.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from datajoint_migrate._core import __version__
from datajoint_migrate.call.progress import OF_THE_ENGINE
from datajoint_migrate.catalog.secrecy import masked, shown
from datajoint_migrate.console.meter import Meter, Pace
from datajoint_migrate.errors import Interrupted, InvalidArgument, MigrationError

logger = logging.getLogger("datajoint_migrate")

# Of the lines: raised when a key changes its meaning or goes.
VERSION = 1


def line_of(command: str, event: str, **said: Any) -> str:
    """One line, as `--json` prints it and a record keeps it."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    whole = {"version": VERSION, "command": command, "event": event, "time": now, **said}
    return json.dumps(shown(whole), default=_text, ensure_ascii=False) + "\n"


def _text(value: object) -> str:
    return masked(str(value))


def error_fields(error: BaseException) -> dict[str, Any]:
    """An error as one line tells it."""
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("interrupted", hint="what is done stays; the same call goes on")
    if isinstance(error, MigrationError):
        return {
            "code": error.code,
            "error": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "context": error.context,
        }
    return {"code": None, "error": type(error).__name__, "message": str(error), "hint": None}


def record_of(plan: Path) -> Path:
    """Where the commands that take a plan file keep their record: beside it."""
    return plan.with_suffix(".jsonl")


Result = TypeVar("Result", bound=Mapping[str, object])


class Record:
    """A `with` block whose call is recorded; it is the `on_event` of that call.

        with Record("migration.jsonl") as record:
            record.result(migrate(schemas, on_event=record))

    The file is appended to. `said` is what was asked, for the reader (`{"schema": "lab"}`). An
    error that leaves the block is recorded, and goes on.

    Raises `InvalidArgument` when the file cannot be written; a disk that fills up later stops the
    recording, not the call.
    """

    def __init__(
        self, path: str | Path, command: str = "run", said: dict[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        self.command = command
        self.said = said or {}
        self._meter = Meter()
        self._pace = Pace()
        self._broken = False

    def open(self) -> None:
        """Make the file ready; raises `InvalidArgument` when it cannot be written."""
        try:
            with open(self.path, "ab+", opener=privately) as file:
                # A call that was killed may have left half a line.
                if file.tell():
                    file.seek(-1, 2)
                    if file.read() != b"\n":
                        file.write(b"\n")
        except OSError as error:
            raise InvalidArgument(
                f"the record {self.path} cannot be written: {error.strerror}",
                hint="name a file in a folder that can be written",
            ) from None

    def __enter__(self) -> Record:
        self.open()
        self._write("begin", package=__version__, said=self.said)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._write("error", **error_fields(error))

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] != "progress":
            self._write(event["event"], **{k: v for k, v in event.items() if k != "event"})
            return
        reading = self._meter.take(event)
        if self._pace.is_due(reading):
            counters = {
                key: value for key, value in event.items() if key not in ("event", *OF_THE_ENGINE)
            }
            self._write("progress", **counters, **reading.fields())

    def result(self, result: Result) -> Result:
        """Keep what the call returned, and return it."""
        self._write("result", result=result)
        return result

    def _write(self, event: str, **said: Any) -> None:
        if self._broken:
            return
        try:
            with open(
                self.path, "a", encoding="utf-8", errors="backslashreplace", opener=privately
            ) as file:
                file.write(line_of(self.command, event, **said))
        except OSError as error:
            self._broken = True
            logger.warning("the record %s ends here: %s", self.path, error)


def privately(path: str, flags: int) -> int:
    """Open a file that is its owner's alone."""
    # A record tells names and keys of rows; and a link would lead it into another file.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)


def together(
    *observers: Callable[[dict[str, Any]], None] | None,
) -> Callable[[dict[str, Any]], None]:
    """One observer for all of those that are there."""
    there = [observer for observer in observers if observer is not None]

    def tell(event: dict[str, Any]) -> None:
        for observer in there:
            observer(event)

    return tell


def archives_of(record: Path) -> dict[str, str]:
    """Where the backups are that a record tells of → their schema; nothing without a record."""
    found: dict[str, str] = {}
    schema = ""
    try:
        lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            said = json.loads(line)
            if said["command"] == "backup" and said["event"] == "begin":
                schema = str(said["said"]["schema"])
            elif said["command"] == "backup" and said["event"] == "result":
                found[str(said["result"]["backup_location"])] = schema
        except (ValueError, KeyError, TypeError):
            continue
    return found
