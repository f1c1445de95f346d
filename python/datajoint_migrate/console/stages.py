"""The stages of a call by name, one after the other, and what is said of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datajoint_migrate.console.meter import Meter, Reading, size, span
from datajoint_migrate.console.whole import COPY, Whole
from datajoint_migrate.words import counted

BAR = 20
NAME = 8
# The engine's verbs, by the stage they are part of.
OF_STAGE = {
    "stores": "files",
    "look": "files",
    "put_back": "files",
    "lost": "keys",
    "check_archive": "check",
    "read_manifest": "read",
    "archive_state": "read",
    "log_position": "log",
    "changed_keys": "log",
}


@dataclass
class Stage:
    """One stage: what it is at, and what those before it of the same name have done."""

    name: str
    began: float
    reading: Reading | None = None
    done: int = 0
    bytes: int = 0
    detail: str = ""

    @property
    def counted(self) -> str:
        """What it has done, when it is over."""
        if self.reading is None:
            return self.detail
        done = self.reading.done + self.done
        said = counted(done, self.reading.unit.removesuffix("s"))
        moved = self.reading.bytes + self.bytes
        return f"{said}, {size(moved)}" if moved else said


class Stages:
    """Follows the events of a call. `ended` are sentences about the stages that are over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.whole = Whole()
        self._meter = Meter(clock)
        self.now: Stage | None = None
        self.ended: list[str] = []

    def take(self, event: dict[str, Any]) -> None:
        """Follow one event."""
        if event["event"] == "stage":
            self._begin(str(event["stage"]))
            if self.now is not None:
                self.now.detail = str(event.get("detail", ""))
        elif event["event"] == "progress":
            reading = self._meter.take(event)
            self.whole.take(reading)
            stage = self._begin(OF_STAGE.get(reading.verb, reading.verb))
            before = stage.reading
            if before is not None and reading.done < before.done:
                # The same again, over other files.
                stage.done += before.done
                stage.bytes += before.bytes
            elif before is not None and reading.bytes < before.bytes:
                stage.bytes += before.bytes
            stage.reading = reading

    def end(self) -> None:
        """The call has come to its end, and so has its last stage."""
        if self.now is not None:
            took = self._clock() - self.now.began
            what = f"{self.now.counted} in" if self.now.counted else "in"
            self.ended.append(f"{self.now.name:{NAME}} {'█' * BAR} 100% {what} {span(took)}")
            self.now = None

    def _begin(self, name: str) -> Stage:
        if self.now is None or self.now.name != name:
            self.end()
            self.now = Stage(name, self._clock())
        return self.now

    def standing(self) -> str:
        """How far the call is, in a few words; empty before its first stage."""
        stage = self.now
        if stage is None:
            return ""
        seen = stage.reading
        if seen is None:
            return stage.name
        percent = "" if seen.percent is None else f" {seen.percent}%"
        return f"{stage.name}{percent}, {_count(seen.done, seen.total, seen.unit)}"

    def sentence(self) -> str:
        """All of it in one line, for a log."""
        stage = self.now
        if stage is None or stage.reading is None:
            return self.standing()
        seen = stage.reading
        said = [self.standing(), _speed(seen)]
        if seen.seconds_left is not None:
            said.append(f"{span(seen.seconds_left)} left")
        if whole := self._whole():
            said.append(whole)
        said += _troubles(seen)
        if seen.table:
            said.append(f"at {seen.table} {_table(seen)}".rstrip())
        return ", ".join(said)

    def lines(self, width: int) -> list[str]:
        """What is going on, drawn: the whole, and the table at hand. No line is wider."""
        stage = self.now
        if stage is None:
            return []
        seen = stage.reading
        head = f"{stage.name:{NAME}} "
        if seen is None:
            return [_cut(head + stage.detail, width)]
        percent = "" if seen.percent is None else f"{seen.percent}%"
        head += f"{_bar(seen.fraction)} {percent:>4} "
        left = "" if seen.seconds_left is None else f", {span(seen.seconds_left)} left"
        counts = (_count(seen.done, seen.total, seen.unit), f"{seen.done:,} {seen.unit}")
        whole = next((one + left for one in counts if len(head + one + left) <= width), counts[1])
        drawn = [_cut(head + whole, width)]
        speed = ", ".join((_speed(seen), *([f"{seen.lanes} lanes"] if seen.lanes else [])))
        said = " ".join(filter(None, (_table(seen), f"({speed})")))
        room = width - len(said) - 3
        if seen.table and room < min(len(seen.table), 24):
            drawn.append(_cut(f"  {_shortened(seen.table, width - 2)}", width))
            drawn.append(_cut(f"  {said}", width))
        else:
            drawn.append(_cut(f"  {_shortened(seen.table, room)} {said}".rstrip(), width))
        more = [*filter(None, (self._whole(),)), *_troubles(seen)]
        return drawn + [_cut(f"  {one}", width) for one in more]

    def _whole(self) -> str:
        """How long all of it will take, while more than this stage is left."""
        stage, left = self.now, self.whole.seconds_left
        if stage is None or stage.name != COPY or left is None:
            return ""
        return f"all of it {self.whole.percent}%, {span(left)} left with comparing"


def _troubles(seen: Reading) -> list[str]:
    said = [f"paused: {seen.paused}"] if seen.paused else []
    return said + ([f"{seen.retries} tried again"] if seen.retries else [])


def _speed(seen: Reading) -> str:
    return f"{seen.rows_per_second:,.0f} {seen.unit}/s, {size(seen.bytes_per_second)}/s"


def _bar(fraction: float | None) -> str:
    full = int(BAR * (fraction or 0.0))
    return "█" * full + "░" * (BAR - full)


def _table(seen: Reading) -> str:
    if not seen.table_total:
        return ""
    said = _count(seen.table_done, seen.table_total, seen.unit)
    return f"{said}, {size(seen.table_bytes)}" if seen.table_bytes else said


def _count(done: int, total: int | None, unit: str) -> str:
    return f"{done:,} {unit}" if total is None else f"{done:,} of ~{total:,} {unit}"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def _shortened(name: str, room: int) -> str:
    """A name whose middle is left out: schemas begin alike, and tables end otherwise."""
    if len(name) <= room or room < 3:
        return name
    end = (room - 1) * 2 // 3
    return name[: room - 1 - end] + "…" + name[-end:]
