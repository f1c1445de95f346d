"""A live display of a call, in a terminal or a notebook."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from datajoint_migrate.console.meter import Meter, Reading, span


class Progress:
    """A live display: a line for the whole, a line for the table at hand.

        with Progress() as progress:
            migrate(schemas, on_event=progress)

    It is drawn where it stands in a terminal, and in a notebook's cell; nowhere else.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._meter = Meter()
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[speed]}", markup=False),
            console=console,
            transient=True,
        )
        self._whole: TaskID | None = None
        self._table: TaskID | None = None

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def refresh(self) -> None:
        """Draw now; it draws itself ten times a second."""
        self._bars.refresh()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] != "progress":
            return
        seen = self._meter.take(event)
        if self._whole is None:
            self._whole = self._bars.add_task("", name="", count="", speed="")
            self._table = self._bars.add_task("", name="", count="", speed="")
        assert self._table is not None
        self._bars.update(
            self._whole,
            completed=seen.done,
            total=seen.total,
            name=seen.verb,
            count=_count(seen.done, seen.total, seen.unit),
            speed=_speed(seen),
        )
        self._bars.update(
            self._table,
            completed=seen.table_done,
            total=seen.table_total,
            name=seen.table,
            count=_count(seen.table_done, seen.table_total, seen.unit) if seen.table_total else "",
            speed="",
            visible=bool(seen.table),
        )


def _count(done: int, total: int | None, unit: str) -> str:
    return f"{done:,} {unit}" if total is None else f"{done:,} of about {total:,} {unit}"


def _speed(seen: Reading) -> str:
    said = [f"{seen.rows_per_second:,.0f} {seen.unit}/s {seen.bytes_per_second / 1e6:,.1f} MB/s"]
    if seen.seconds_left is not None:
        said.append(f"{span(seen.seconds_left)} left")
    if seen.lanes:
        said.append(f"{seen.lanes} lanes")
    if seen.retries:
        said.append(f"{seen.retries} retries")
    return ", ".join(said)
