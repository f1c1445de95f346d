"""What is shown, and how: tables and a progress line for a person, JSON lines for a program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datajoint_migrate.console.meter import Meter, Pace
from datajoint_migrate.console.progress import Display
from datajoint_migrate.console.record import Record, error_fields, line_of, record_of, together
from datajoint_migrate.errors import InvalidArgument, MigrationError


class Output:
    """Results go to standard output, progress and errors to standard error."""

    def __init__(self, command: str, as_json: bool) -> None:
        self.command = command
        self.as_json = as_json
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def call(
        self,
        function: Callable[..., dict[str, Any]],
        *arguments: Any,
        plan: Path | None = None,
        said: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> dict[str, Any]:
        """The result of a function of the package, its progress shown, its notes told.

        With `plan` the call is recorded beside that file, a dry run excepted; `said` is what the
        record tells of the arguments.
        """
        dry = keywords.get("dry_run", False)
        with nullcontext() if plan is None or dry else self._record(plan, said) as kept:
            if "on_event" in signature(function).parameters:
                with self._progress() as shown:
                    keywords["on_event"] = together(shown, kept)
                    result = function(*arguments, **keywords)
            else:
                result = function(*arguments, **keywords)
            if kept is not None:
                kept.result(result)
        if self.as_json:
            self.line("result", result=result)
        if keywords.get("dry_run"):
            for line in result.get("plan", ()):
                self.say(str(line))
        for note in result.get("notes", ()):
            self.say(f"note: {note}")
        return result

    @contextmanager
    def _record(self, plan: Path, said: dict[str, Any] | None) -> Iterator[Record | None]:
        record = Record(record_of(plan), self.command, said)
        try:
            record.open()
        except InvalidArgument as error:
            # A plan may lie where nobody may write; that is no reason not to migrate.
            self.err.print(f"not recorded: {error.message}", style="yellow", markup=False)
            yield None
            return
        with record:
            yield record

    def line(self, event: str, **said: Any) -> None:
        """One JSON line."""
        sys.stdout.write(line_of(self.command, event, **said))
        sys.stdout.flush()

    def say(self, text: str, style: str | None = None) -> None:
        """A sentence for a person; nothing in JSON."""
        if not self.as_json:
            self.out.print(text, style=style, markup=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table for a person; numbers to the right."""
        if self.as_json:
            return
        rows = [tuple(row) for row in rows]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for index, name in enumerate(columns):
            numbers = bool(rows) and all(isinstance(row[index], int) for row in rows)
            table.add_column(name, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
        self.out.print(table)

    def error(self, error: MigrationError) -> None:
        """What went wrong, where, and what to do."""
        if self.as_json:
            self.line("error", **error_fields(error))
            return
        self.err.print(f"{error.message} ({error.code})", style="red", markup=False)
        if error.hint:
            self.err.print(f"→ {error.hint}", markup=False)

    @contextmanager
    def _progress(self) -> Iterator[Callable[[dict[str, Any]], None] | None]:
        """A live display in a terminal, JSON lines, or nothing."""
        if self.as_json:
            yield _Lines(self)
        elif self.err.is_terminal:
            with Display(self.err) as display:
                yield display
        else:
            yield None


class _Lines:
    """Events as JSON lines."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.meter = Meter()
        self.pace = Pace()

    def __call__(self, event: dict[str, Any]) -> None:
        said = {key: value for key, value in event.items() if key != "event"}
        if event["event"] != "progress":
            self.output.line(event["event"], **said)
            return
        reading = self.meter.take(event)
        if self.pace.is_due(reading):
            self.output.line("progress", **said, **reading.fields())
