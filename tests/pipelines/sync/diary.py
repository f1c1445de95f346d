"""What a lab wrote, by its diary: a line before each transaction and one after it. Stdlib only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

State = dict[str, dict[str, Any]]
# The first subject of a lab at work: beyond those that the demonstration has.
FIRST = 1_000_000
TABLES = ("subject", "session", "trials", "recording", "spectrum")


def states(diary: Path) -> list[State]:
    """What there is when the diary ends; two states when its last transaction may have happened."""
    state: State = {table: {} for table in TABLES}
    begun: dict[str, Any] | None = None
    for line in diary.read_text().splitlines():
        entry = json.loads(line)
        if "begun" in entry:
            begun = entry["begun"]
        elif "done" in entry:
            _do(state, entry["done"])
            begun = None
    if begun is None:
        return [state]
    other = {table: dict(rows) for table, rows in state.items()}
    _do(other, begun)
    return [state, other]


def _do(state: State, entry: dict[str, Any]) -> None:
    key = entry["key"]
    if entry["what"] == "delete":
        for table in TABLES[1:]:
            state[table].pop(key, None)
    elif entry["what"] == "populate":
        state["spectrum"].update(dict.fromkeys(state["recording"], True))
    else:
        # An update names what it changes; the rest stays.
        rows = state[entry["what"]]
        rows[key] = {**rows.get(key, {}), **entry["row"]}
