"""How far a call is, how fast, and how long it will take: measured from its events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Speed is that of the last half minute: tables differ.
WINDOW_SECONDS = 30.0
# The engine tells this often, so a verb has begun no longer before its first event.
TICK_SECONDS = 0.1
# A line is written this often, and in a long call more seldom: some 700 for the first day.
EVERY_SECONDS = 1.0
EVERY_SHARE = 0.01
# The engine's verbs that count files where the others count rows.
OF_FILES = ("files", "stores")


@dataclass(frozen=True)
class Reading:
    """How far one verb is. `done` and `total` include what an interrupted call had done already;
    `total` is the server's estimate, None when there is none. Speeds are this call's."""

    verb: str
    table: str
    done: int
    total: int | None
    table_done: int
    table_total: int | None
    rows_per_second: float
    bytes_per_second: float
    seconds_left: float | None
    seconds: float
    lanes: int | None
    retries: int
    paused: str | None

    @property
    def unit(self) -> str:
        """What is counted."""
        return "files" if self.verb in OF_FILES else "rows"

    def fields(self) -> dict[str, Any]:
        """What a JSON line says beside the event itself."""
        return {
            "done": self.done,
            "total": self.total,
            "rows_per_second": round(self.rows_per_second, 1),
            "bytes_per_second": round(self.bytes_per_second),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
            "seconds": round(self.seconds, 3),
        }


class Meter:
    """Makes readings of progress events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._verb: str | None = None
        self._samples: deque[tuple[float, int, int]] = deque()

    def take(self, event: dict[str, Any]) -> Reading:
        """The reading after this event."""
        now, verb = self._clock(), str(event["verb"])
        rows, size = int(event["rows"]), int(event["bytes"])
        if verb != self._verb or (self._samples and rows < self._samples[-1][1]):
            # Another verb, or the same once more: counted from nothing.
            self._verb = verb
            self._samples = deque([(now - TICK_SECONDS, 0, 0)])
        self._samples.append((now, rows, size))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_SECONDS:
            self._samples.popleft()
        since, rows_then, size_then = self._samples[0]
        seconds = max(now - since, 0.001)
        speed = (rows - rows_then) / seconds
        before = int(event.get("rows_before", 0))
        done = before + rows
        # Statistics may say less than there is.
        total = max(int(event["rows_expected"]), done) if event["rows_expected"] else None
        table_total = event.get("table_rows_expected")
        table_done = int(event.get("table_rows", 0))
        return Reading(
            verb=verb,
            table=str(event["table"]),
            done=done,
            total=total,
            table_done=table_done,
            table_total=max(int(table_total), table_done) if table_total else None,
            rows_per_second=speed,
            bytes_per_second=(size - size_then) / seconds,
            seconds_left=(total - done) / speed if total is not None and speed > 0 else None,
            seconds=now - self._began,
            lanes=event.get("lanes"),
            retries=int(event["retries"]),
            paused=event.get("paused"),
        )


class Pace:
    """Which readings are worth a line: the first of a verb, then one a second or fewer."""

    def __init__(self) -> None:
        self._verb: str | None = None
        self._next = 0.0

    def is_due(self, reading: Reading) -> bool:
        """Whether this one is."""
        if reading.verb == self._verb and reading.seconds < self._next:
            return False
        self._verb = reading.verb
        self._next = reading.seconds + max(EVERY_SECONDS, EVERY_SHARE * reading.seconds)
        return True


def span(seconds: float) -> str:
    """Seconds for a person: `0.8 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.2f} TB"
