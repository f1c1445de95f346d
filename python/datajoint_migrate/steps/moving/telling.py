"""What a step tells while it works: the engine's counters, and what only the plan knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

OnEvent = Callable[[dict[str, Any]], None] | None


def tell(on_event: OnEvent, event: str, **said: Any) -> None:
    """An event that is no progress; it has the keys of progress too, so no observer trips."""
    if on_event is not None:
        counters = {"table": "", "rows": 0, "bytes": 0, "rows_expected": 0, "retries": 0}
        on_event({"event": event, "verb": event, **counters, **said})


class Telling:
    """Adds to the engine's progress what the plan knows, and hands it on.

    `rows_before`: rows that an earlier, interrupted call has copied. `table_rows` and
    `table_rows_expected`: of the table at hand, as far as lanes that work on two tables at once
    can be told apart. `lanes`. A copy that compares what it has copied tells the second half as
    the verb "compare".
    """

    def __init__(
        self,
        observer: Callable[[dict[str, Any]], None],
        expected: Mapping[str, int],
        lanes: int,
        before: Mapping[str, int] | None = None,
    ) -> None:
        self.observer = observer
        self.expected = dict(expected)
        self.lanes = lanes
        self._total = sum(self.expected.values())
        self._tables = dict(before or {})
        self._before = sum(self._tables.values())
        self._seen = 0
        # What the copy had counted when its comparison began: rows and bytes.
        self._copied: tuple[int, int] | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        # Only a comparison expects more than the plan does.
        compares = event["rows_expected"] > self._total
        if self._copied is not None:
            rows, size = self._copied
            event = {
                **event,
                "verb": "compare",
                "rows": max(event["rows"] - rows, 0),
                "bytes": max(event["bytes"] - size, 0),
            }
        self._pass_on(event)
        if compares and self._copied is None:
            self._copied = event["rows"], event["bytes"]
            self._before, self._tables, self._seen = 0, {}, 0

    def _pass_on(self, event: dict[str, Any]) -> None:
        table, rows = str(event["table"]), int(event["rows"])
        if table:
            self._tables[table] = max(self._tables.get(table, 0) + rows - self._seen, 0)
            self._seen = rows
        self.observer(
            {
                **event,
                "rows_expected": min(event["rows_expected"], self._total),
                "rows_before": self._before,
                "table_rows": self._tables.get(table, 0),
                "table_rows_expected": self.expected.get(table, 0),
                "lanes": self.lanes,
            }
        )
