"""How far a call is, how fast, and how long it will take: measured from its events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Speed is that of the last half minute: tables differ.
WINDOW_SECONDS = 30.0
WINDOW_SHARE = 0.5
# The engine tells this often, so a verb has begun no longer before its first event.
TICK_SECONDS = 0.1
# A line is written this often, and in a long call more seldom: some 700 for the first day.
EVERY_SECONDS = 1.0
EVERY_SHARE = 0.01
# The engine's verbs that count files where the others count rows.
OF_FILES = ("files", "stores", "look", "orphans", "put_back")


@dataclass(frozen=True)
class Reading:
    """How far one verb is. `done` and `total` include what an interrupted call had done already;
    `total` is the server's estimate, None when there is none; `fraction` is by rows and bytes,
    `fraction_before` what this call found done. Speeds are this call's."""

    verb: str
    table: str
    done: int
    total: int | None
    table_done: int
    table_total: int | None
    table_bytes: int
    fraction: float | None
    finished: bool
    bytes: int
    rows_per_second: float
    bytes_per_second: float
    seconds_left: float | None
    seconds: float
    verb_seconds: float
    fraction_before: float
    lanes: int | None
    retries: int
    paused: str | None

    @property
    def percent(self) -> int | None:
        """Of this verb; 100 when it has ended, and not before."""
        return None if self.fraction is None else int(self.fraction * 100)

    @property
    def unit(self) -> str:
        """What is counted."""
        return "files" if self.verb in OF_FILES else "rows"

    def fields(self) -> dict[str, Any]:
        """What a JSON line says beside the event itself."""
        return {
            "done": self.done,
            "total": self.total,
            "percent": self.percent,
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
        self._verb_began = self._began
        self._fraction_before = 0.0
        self._last = 0
        # When, and rows and bytes until then; when, and which fraction.
        self._counts: deque[tuple[float, int, int]] = deque()
        self._fractions: deque[tuple[float, float]] = deque()

    def take(self, event: dict[str, Any]) -> Reading:
        """The reading after this event."""
        now, verb = self._clock(), str(event["verb"])
        rows, size = int(event["rows"]), int(event["bytes"])
        finished = bool(event.get("finished"))
        before = int(event.get("rows_before", 0))
        done = before + rows
        # Statistics may say less than there is.
        total = max(int(event["rows_expected"]), done) if event["rows_expected"] else None
        fraction, first = event.get("fraction"), float(event.get("fraction_before", 0.0))
        if fraction is None and total:
            fraction, first = done / total, before / total
        if finished:
            fraction = 1.0
        if verb != self._verb or rows < self._last:
            # Another verb, or the same once more: counted from nothing.
            self._verb, self._verb_began = verb, now - TICK_SECONDS
            self._counts = deque([(self._verb_began, 0, 0)])
            self._fractions = deque([(self._verb_began, first)])
            self._fraction_before = first
        self._last = rows
        speed, bandwidth = self._speeds(now, rows, size)
        table_total = event.get("table_rows_expected")
        table_done = int(event.get("table_rows", 0))
        return Reading(
            verb=verb,
            table=str(event["table"]),
            done=done,
            total=total,
            table_done=table_done,
            table_total=max(int(table_total), table_done) if table_total else None,
            table_bytes=int(event.get("table_bytes", 0)),
            fraction=fraction,
            finished=finished,
            bytes=size,
            rows_per_second=speed,
            bytes_per_second=bandwidth,
            seconds_left=None if fraction is None else self._left(now, fraction),
            seconds=now - self._began,
            verb_seconds=now - self._verb_began,
            fraction_before=self._fraction_before,
            lanes=event.get("lanes"),
            retries=int(event["retries"]),
            paused=event.get("paused"),
        )

    def _speeds(self, now: float, rows: int, size: int) -> tuple[float, float]:
        counts = self._counts
        counts.append((now, rows, size))
        while len(counts) > 2 and now - counts[1][0] >= WINDOW_SECONDS:
            counts.popleft()
        since, rows_then, size_then = counts[0]
        seconds = max(now - since, 0.001)
        return (rows - rows_then) / seconds, (size - size_then) / seconds

    def _left(self, now: float, fraction: float) -> float | None:
        """Seconds, by the fraction of the last half minute, or of the last half of a longer verb:
        what is left is like what was before, and not like a moment of it."""
        past = self._fractions
        if now - past[-1][0] >= EVERY_SECONDS or len(past) == 1:
            past.append((now, fraction))
        window = max(WINDOW_SECONDS, WINDOW_SHARE * (now - self._verb_began))
        while len(past) > 2 and now - past[1][0] >= window:
            past.popleft()
        since, then = past[0]
        gone = fraction - then
        return (1.0 - fraction) * max(now - since, 0.001) / gone if gone > 0 else None


class Pace:
    """Which readings are worth a line: the first and last of a verb, and one a second or fewer."""

    def __init__(self) -> None:
        self._verb: str | None = None
        self._next = 0.0

    def is_due(self, reading: Reading) -> bool:
        """Whether this one is."""
        if reading.verb == self._verb and reading.seconds < self._next and not reading.finished:
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
