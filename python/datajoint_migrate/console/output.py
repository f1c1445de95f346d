"""What is shown, and how: tables and a progress line for a person, JSON lines for a program."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from datajoint_migrate.errors import MigrationError
from datajoint_migrate.steps.moving.route import OnEvent

# Of the JSON lines: raised when a key changes its meaning or goes.
VERSION = 1
REFRESH_SECONDS = 1.0


class Output:
    """Results go to standard output, progress and errors to standard error."""

    def __init__(self, command: str, as_json: bool) -> None:
        self.command = command
        self.as_json = as_json
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def line(self, event: str, **said: Any) -> None:
        """One JSON line."""
        whole = {"version": VERSION, "command": self.command, "event": event, **said}
        sys.stdout.write(json.dumps(whole, default=str, ensure_ascii=False) + "\n")
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

    def result(self, result: dict[str, Any]) -> None:
        """The function's own result, in JSON."""
        if self.as_json:
            self.line("result", result=result)

    def error(self, error: MigrationError) -> None:
        """What went wrong, where, and what to do."""
        if self.as_json:
            self.line(
                "error",
                code=error.code,
                error=type(error).__name__,
                message=error.message,
                hint=error.hint,
                context=error.context,
            )
            return
        self.err.print(f"{error.message} ({error.code})", style="red", markup=False)
        if error.hint:
            self.err.print(f"→ {error.hint}", markup=False)

    @contextmanager
    def progress(self) -> Iterator[OnEvent]:
        """`on_event` for a function: a live line in a terminal, JSON lines, or nothing."""
        if self.as_json:
            yield _Lines(self)
        elif self.err.is_terminal:
            with Progress(
                SpinnerColumn(),
                TextColumn("{task.fields[verb]} {task.fields[table]}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                console=self.err,
                transient=True,
            ) as bars:
                yield _Bars(bars)
        else:
            yield None


class _Lines:
    """Progress as JSON lines, about one a second."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.last = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        if time.monotonic() - self.last >= REFRESH_SECONDS:
            self.last = time.monotonic()
            self.output.line("progress", **{k: v for k, v in event.items() if k != "event"})


class _Bars:
    """One bar a verb: rows done of those the server's statistics promise."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.task: TaskID | None = None
        self.verb = ""
        self.began = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        verb, rows = str(event["verb"]), int(event["rows"])
        if self.task is None or verb != self.verb:
            if self.task is not None:
                self.bars.remove_task(self.task)
            self.verb, self.began = verb, time.monotonic()
            self.task = self.bars.add_task("", verb=verb, table="", speed="")
        seconds = max(time.monotonic() - self.began, 0.001)
        speed = f"{rows / seconds:,.0f} rows/s {event['bytes'] / seconds / 1e6:,.0f} MB/s"
        if event["paused"]:
            speed = f"paused: {event['paused']}"
        if event["retries"]:
            speed += f", {event['retries']} retries"
        # Statistics may say less than there is.
        total = max(int(event["rows_expected"]), rows) or None
        self.bars.update(self.task, completed=rows, total=total, table=event["table"], speed=speed)
