"""A live display of a call, in a terminal or a notebook."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from datajoint_migrate.console.meter import Meter, Reading, span

BAR = 24
REFRESH_SECONDS = 0.25


class Display:
    """Two lines: the whole, and the table at hand.

        with Display() as display:
            migrate(schemas, on_event=display)

    They are drawn where they stand in a terminal, and gone at the end; in a notebook's cell, where
    they stay; nowhere else.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._meter = Meter()
        self._lines = _Cell() if console.is_jupyter else _Terminal(console)

    def __enter__(self) -> Display:
        self._lines.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            self._lines.show(self._meter.take(event))


class _Terminal:
    """Bars that are drawn anew in their place."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(bar_width=BAR),
            TextColumn("{task.fields[said]}", markup=False),
            console=console,
            transient=True,
        )
        self._tasks: list[TaskID] = []

    def start(self) -> None:
        self._bars.start()

    def stop(self) -> None:
        self._bars.stop()

    def show(self, seen: Reading) -> None:
        if not self._tasks:
            self._tasks = [self._bars.add_task("", name="", said="") for _ in range(2)]
        whole, table = self._tasks
        self._bars.update(
            whole, completed=seen.done, total=seen.total, name=seen.verb, said=_whole(seen)
        )
        self._bars.update(
            table,
            completed=seen.table_done,
            total=seen.table_total,
            name=seen.table,
            said=_table(seen),
            visible=bool(seen.table),
        )


class _Cell:
    """Text below a notebook's cell; it needs no widgets, and stays as it was at last."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._seen: Reading | None = None
        self._drawn = 0.0

    def start(self) -> None:
        from IPython.display import display

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def stop(self) -> None:
        if self._seen is not None:
            self._draw(self._seen)

    def show(self, seen: Reading) -> None:
        if self._seen is not None and self._seen.verb != seen.verb:
            self._draw(self._seen)
            self.start()
        self._seen = seen
        if time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._drawn = time.monotonic()
            self._draw(seen)

    def _draw(self, seen: Reading) -> None:
        lines = [f"{seen.verb:8} {_bar(seen.done, seen.total)} {_whole(seen)}"]
        if seen.table:
            bar = _bar(seen.table_done, seen.table_total)
            lines.append(f"{'':8} {bar} {' '.join((_table(seen), seen.table)).strip()}")
        self._handle.update({"text/plain": "\n".join(lines)}, raw=True)


def _bar(done: int, total: int | None) -> str:
    full = 0 if not total else BAR * done // total
    return "█" * full + "░" * (BAR - full)


def _table(seen: Reading) -> str:
    return _count(seen.table_done, seen.table_total, seen.unit) if seen.table_total else ""


def _whole(seen: Reading) -> str:
    said = [
        _count(seen.done, seen.total, seen.unit),
        f"{seen.rows_per_second:,.0f} {seen.unit}/s, {seen.bytes_per_second / 1e6:,.1f} MB/s",
    ]
    if seen.seconds_left is not None:
        said.append(f"{span(seen.seconds_left)} left")
    if seen.lanes:
        said.append(f"{seen.lanes} lanes")
    if seen.paused:
        said.append(f"paused: {seen.paused}")
    if seen.retries:
        said.append(f"{seen.retries} tried again")
    return ", ".join(said)


def _count(done: int, total: int | None, unit: str) -> str:
    return f"{done:,} {unit}" if total is None else f"{done:,} of about {total:,} {unit}"
