"""What a step tells while it works: the engine's counters, and what only the plan knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict


class Event(TypedDict, total=False):
    """What `on_event` gets, about every 100 ms: `event` says of what kind.

    "progress" has the counters, "plan" what was decided before anything is written, "copied" each
    table's rows, bytes and seconds, "gave_way" why a copy began anew. Other kinds have keys of
    their own besides these.
    """

    event: str
    # What is done now: "copy", "compare", "files", …
    verb: str
    table: str
    rows: int
    rows_expected: int
    # What an interrupted call has done.
    rows_before: int
    table_rows: int
    table_rows_expected: int
    bytes: int
    lanes: int
    retries: int
    # Why nothing is read now; None while something is.
    paused: str | None


# An observer may name its argument `Event`, or a plain dict.
OnEvent = Callable[[Any], None] | None

# What a row costs beside its bytes: small tables of many rows take their time, too.
ROW_BYTES = 100
# What the engine tells for `Telling` alone.
OF_THE_ENGINE = ("tables", "ended", "stage")


def tell(on_event: OnEvent, event: str, **said: Any) -> None:
    """An event that is no progress; it has the keys of progress too, so no observer trips."""
    if on_event is not None:
        counters = {"table": "", "rows": 0, "bytes": 0, "rows_expected": 0, "retries": 0}
        on_event({"event": event, "verb": event, "paused": None, **counters, **said})


def tell_stage(on_event: OnEvent, stage: str, **said: Any) -> None:
    """The part of the work that begins now: declare, files, copy, compare, keys, verify."""
    tell(on_event, "stage", stage=stage, **said)


class Telling:
    """Adds to the engine's progress what the plan knows, and hands it on.

    `rows_before`: rows that an earlier, interrupted call has copied. `table_rows`, `table_bytes`
    and `table_rows_expected`: of the table at hand. `lanes`. `fraction`: how much of the work of
    this verb is done, by rows and bytes of each table, and `fraction_before` what of it an earlier
    call has done. A copy that compares what it has copied tells the second half as the verb
    "compare". The last event of a verb is `finished`.
    """

    def __init__(
        self,
        observer: Callable[[dict[str, Any]], None],
        expected: Mapping[str, int],
        lanes: int,
        before: Mapping[str, int] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.observer = observer
        self.expected = dict(expected)
        self.lanes = lanes
        self._before = dict(before or {})
        sizes = sizes or {}
        self._weights = {
            name: rows * ROW_BYTES + sizes.get(name, 0) for name, rows in self.expected.items()
        }

    def __call__(self, event: dict[str, Any]) -> None:
        for ended in event.get("ended", ()):
            self._pass_on({**event, **ended, "finished": True})
            # What an earlier call had done was part of the copy.
            self._before = {}
        self._pass_on(event)

    def _pass_on(self, event: dict[str, Any]) -> None:
        counted: Mapping[str, Any] = event.get("tables", {})
        finished = bool(event.get("finished"))
        done = {
            name: self._before.get(name, 0) + counted.get(name, {}).get("rows", 0)
            for name in {*self._before, *counted}
        }
        before = sum(self._before.values())
        table = str(event["table"])
        total = sum(self.expected.values())
        self.observer(
            {
                **{key: value for key, value in event.items() if key not in OF_THE_ENGINE},
                "verb": event.get("stage") or event["verb"],
                # Now it is known, and no estimate any more.
                "rows_expected": before + event["rows"]
                if finished
                else min(event["rows_expected"], total),
                "rows_before": before,
                "table_rows": done.get(table, 0),
                "table_bytes": counted.get(table, {}).get("bytes", 0),
                "table_rows_expected": done.get(table, 0)
                if finished
                else self.expected.get(table, 0),
                "fraction": 1.0 if finished else self._fraction(done),
                "fraction_before": self._fraction(self._before),
                "lanes": self.lanes,
            }
        )

    def _fraction(self, done: Mapping[str, int]) -> float:
        whole = sum(self._weights.values())
        if not whole:
            return 0.0
        part = sum(
            self._weights[name] * min(rows / self.expected[name], 1.0)
            for name, rows in done.items()
            if self.expected.get(name)
        )
        # Estimates: the end is told by the end.
        return min(part / whole, 0.999)
