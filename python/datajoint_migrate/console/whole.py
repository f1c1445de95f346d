"""How long a whole run will take: what it copies is compared afterwards, which takes its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datajoint_migrate.console.meter import Reading

# The engine's verbs that go over all rows, one after the other.
COPY, COMPARE = "copy", "compare"
# Comparing takes this much of the time that copying took: measured from a fifth to all of it.
COMPARING = 0.5
# From here on what is read tells more than what was foretold.
TELLING = 0.1


@dataclass
class Whole:
    """The time that is left of a run, from the readings of its verbs.

    What comes before the copy (files, tables) is not foretold, and what comes after the comparison
    is short.
    """

    seconds_left: float | None = None
    percent: int | None = None
    _copying: Reading | None = None
    # What copying all rows takes, those included that an earlier call has copied.
    _copy_seconds: float | None = None

    def take(self, reading: Reading) -> None:
        """Follow one reading."""
        if reading.verb not in (COPY, COMPARE) or reading.fraction is None:
            return
        if reading.verb == COPY:
            left = self._of_copy(reading, reading.fraction)
        else:
            left = self._of_comparison(reading, reading.fraction)
        if left is None:
            return
        self.seconds_left = left
        whole = reading.seconds + left
        # It has not ended before its last stage has.
        self.percent = min(99, int(100 * reading.seconds / whole)) if whole > 0 else None

    def fields(self) -> dict[str, Any]:
        """What a JSON line says of it."""
        left = self.seconds_left
        return {
            "run_percent": self.percent,
            "run_seconds_left": None if left is None else round(left, 1),
        }

    def _of_copy(self, reading: Reading, fraction: float) -> float | None:
        first = self._copying = self._copying or reading
        gone = fraction - first.fraction_before
        if gone > 0:
            # Its verb is called once for each way that tables take.
            took = reading.seconds - first.seconds + first.verb_seconds
            self._copy_seconds = took / gone
        left = 0.0 if reading.finished else reading.seconds_left
        if left is None or self._copy_seconds is None:
            return None
        return left + COMPARING * self._copy_seconds

    def _of_comparison(self, reading: Reading, fraction: float) -> float | None:
        if reading.finished:
            return 0.0
        if fraction >= TELLING or self._copy_seconds is None:
            return reading.seconds_left
        return COMPARING * self._copy_seconds * (1.0 - fraction)
