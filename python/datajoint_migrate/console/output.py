"""What is shown, and how: tables and a progress line for a person, JSON lines for a program."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datajoint_migrate.call.progress import OF_THE_ENGINE
from datajoint_migrate.catalog.secrecy import masked
from datajoint_migrate.console.meter import Meter, Pace
from datajoint_migrate.console.progress import STOPPING, Display
from datajoint_migrate.console.record import (
    Record,
    error_fields,
    line_of,
    record_of,
    together,
)
from datajoint_migrate.console.speech import spoken
from datajoint_migrate.console.stages import Stages
from datajoint_migrate.console.voice import SHOWN, VOICE, logger
from datajoint_migrate.console.whole import Whole
from datajoint_migrate.errors import InvalidArgument, MigrationError

UNFOLDED = 10_000
# Findings of one kind that are shown.
FEW = 20
# Cells that are one word of at most so many letters stay whole.
WORD = 24
# What an error says whose statement is in its context, which a person does not see.
STATEMENT_HINT = "the statement is in the context of this error"
# The event itself, and what the engine tells for the display alone.
UNTOLD = ("event", *OF_THE_ENGINE)


class Output:
    """Results go to standard output, progress and errors to standard error."""

    def __init__(self, command: str, as_json: bool) -> None:
        self.command = command
        self.as_json = as_json
        # How far a call was when it was stopped.
        self.stages = Stages()
        self._display: Display | None = None
        # A terminal would break lines amid a word.
        self.out = Console(highlight=False)
        if not self.out.is_terminal:
            # Whoever reads a pipe reads lines, however long.
            self.out = Console(highlight=False, soft_wrap=True, width=UNFOLDED)
        self.err = Console(stderr=True, highlight=False)
        if not self.err.is_terminal:
            self.err = Console(stderr=True, highlight=False, soft_wrap=True, width=UNFOLDED)

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        plan: Path | None = None,
        said: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> dict[str, Any]:
        """The result of a function of the package, its progress shown, its notes told.

        With `plan` the call is recorded beside that file, a dry run excepted; `said` is what the
        record tells of the arguments.
        """
        logger.info("%s begins: %s", self.command, line_of_words())
        dry = keywords.get("dry_run", False)
        with nullcontext() if plan is None or dry else self._record(plan, said) as kept:
            if "on_event" in signature(function).parameters:
                with self._progress() as shown:
                    keywords["on_event"] = together(shown, kept, self._follow)
                    result: dict[str, Any] = function(*arguments, **keywords)
            else:
                result = function(*arguments, **keywords)
            if kept is not None:
                kept.result(result)
        self._log_stages()
        logger.info("%s has ended", self.command)
        if self.as_json:
            self.line("result", result=result)
        if keywords.get("dry_run"):
            for line in result.get("plan", ()):
                # What is no sentence is told by the command itself.
                if isinstance(line, str):
                    self.say(line)
        for note in result.get("notes", ()):
            self.say(spoken(f"note: {note}"))
            logger.info("note: %s", note)
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
        if not self.as_json and not VOICE.quiet:
            self.out.print(masked(text), style=style, markup=False)

    def some(self, lines: Sequence[str], style: str | None = None, total: int = 0) -> None:
        """The first of many lines, and how many more there are; JSON has all that are named."""
        for line in lines if VOICE.verbose else lines[:FEW]:
            self.say(line, style)
        more = max(total, len(lines)) - (len(lines) if VOICE.verbose else min(FEW, len(lines)))
        if more > 0:
            self.say(f"… and {more:,} more", style)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table for a person; numbers to the right."""
        if self.as_json or VOICE.quiet:
            return
        rows = [tuple(row) for row in rows]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for index, name in enumerate(columns):
            numbers = bool(rows) and all(isinstance(row[index], int) for row in rows)
            words = all(len(str(row[index])) <= WORD and " " not in str(row[index]) for row in rows)
            table.add_column(
                name,
                justify="right" if numbers else "left",
                overflow="fold",
                # What a line is about is never cut: it is copied, and looked for. Nor is a word.
                no_wrap=index == 0 or numbers or (bool(rows) and words),
            )
        for row in rows:
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
        self.out.print(table)

    def _log_stages(self) -> None:
        self.stages.end()
        for line in self.stages.ended:
            logger.info("%s", " ".join(line.replace("█", "").replace("100%", "done,").split()))
        self.stages.ended.clear()

    def error(self, error: MigrationError) -> None:
        """What went wrong, where, and what to do."""
        # A person is shown it below; the log is for afterwards.
        logger.error("%s: %s (%s)", self.command, error.message, error.code, extra=SHOWN)
        if self.as_json:
            self.line("error", **error_fields(error))
            return
        said = f"{spoken(_headline(error))} ({error.code})"
        self.err.print(masked(said), style="red", markup=False)
        for missing in _missing(error):
            self.err.print(masked(spoken(f"✗ {missing}")), style="red", markup=False)
        statement = error.context.get("sql")
        if statement and error.hint == STATEMENT_HINT:
            self.err.print(masked(f"the statement: {statement}"), markup=False)
            return
        if error.hint:
            self.err.print(masked(f"→ {spoken(error.hint)}"), markup=False)

    @contextmanager
    def _progress(self) -> Iterator[Callable[[dict[str, Any]], None] | None]:
        """A live display in a terminal, JSON lines, or a line now and then."""
        if self.as_json:
            yield _Lines(self)
            return
        if VOICE.quiet:
            yield None
            return
        with Display(self.err) as display:
            self._display = display
            try:
                yield display
            finally:
                self._display = None

    def _follow(self, event: dict[str, Any]) -> None:
        self.stages.take(event)

    def stopping(self) -> None:
        """Ctrl-C was heard; said by a signal's handler, so nothing is printed that may be half."""
        if self._display is not None:
            self._display.stopping()
        else:
            os.write(sys.stderr.fileno(), (STOPPING + "\n").encode())


def line_of_words() -> str:
    """The command as it was typed."""
    return masked(shlex.join(["dj-migrate", *sys.argv[1:]]))


def _missing(error: MigrationError) -> list[str]:
    missing = error.context.get("missing")
    return [str(one) for one in missing] if isinstance(missing, list) and len(missing) > 1 else []


def _headline(error: MigrationError) -> str:
    """The message without the list that follows line by line."""
    message = error.message
    for missing in _missing(error):
        message = message.replace(missing, "", 1)
    return message.rstrip(" ;:") if _missing(error) else message


class _Lines:
    """Events as JSON lines."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.meter = Meter()
        self.pace = Pace()
        self.whole = Whole()

    def __call__(self, event: dict[str, Any]) -> None:
        said = {key: value for key, value in event.items() if key not in UNTOLD}
        if event["event"] != "progress":
            told = {key: value for key, value in event.items() if key != "event"}
            self.output.line(event["event"], **told)
            return
        reading = self.meter.take(event)
        self.whole.take(reading)
        if self.pace.is_due(reading):
            self.output.line("progress", **said, **reading.fields(), **self.whole.fields())
