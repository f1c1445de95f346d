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
            state, begun = _after(state, entry["done"]), None
    return [state] if begun is None else [state, _after(state, begun)]


def _after(state: State, entry: dict[str, Any]) -> State:
    new = {table: dict(rows) for table, rows in state.items()}
    key = entry["key"]
    if entry["what"] == "delete":
        for table in TABLES[1:]:
            new[table].pop(key, None)
    elif entry["what"] == "populate":
        new["spectrum"].update(dict.fromkeys(new["recording"], True))
    else:
        # An update names what it changes; the rest stays.
        new[entry["what"]][key] = {**new[entry["what"]].get(key, {}), **entry["row"]}
    return new
