"""Progress: what is measured of a call's events, and how it is shown."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import datajoint_migrate
import environments
from conftest import Fresh
from datajoint_migrate import migrate
from datajoint_migrate.console.meter import Meter, Pace, span
from datajoint_migrate.console.progress import Display
from datajoint_migrate.steps.moving.telling import Telling
from servers import Server
from small import Small, make


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def event(rows: int, expected: int = 1000, **more: Any) -> dict[str, Any]:
    common = {"event": "progress", "verb": "copy", "table": "lab.mouse", "retries": 0}
    return {**common, "rows": rows, "bytes": rows * 10, "rows_expected": expected, **more}


def test_after_a_resume_the_rest_is_timed_by_the_speed_of_this_call() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.take(event(0, rows_before=500))
    clock.now += 1.9
    seen = meter.take(event(100, rows_before=500))
    assert (seen.done, seen.total) == (600, 1000)
    assert seen.rows_per_second == pytest.approx(50)
    assert seen.bytes_per_second == pytest.approx(500)
    assert seen.seconds_left == pytest.approx(8)


def test_speed_is_that_of_the_last_half_minute() -> None:
    clock = Clock()
    meter = Meter(clock)
    rows = 0
    for second in range(120):
        clock.now += 1
        rows += 1000 if second < 60 else 10
        seen = meter.take(event(rows, 100_000))
    assert seen.rows_per_second == pytest.approx(10)
    assert seen.seconds_left == pytest.approx((100_000 - rows) / 10)


def test_another_verb_begins_anew_and_statistics_may_promise_too_little() -> None:
    clock = Clock()
    meter = Meter(clock)
    assert meter.take(event(2000)).total == 2000
    clock.now += 60
    seen = meter.take(event(50, verb="compare"))
    assert (seen.done, seen.rows_per_second) == (50, pytest.approx(500))
    assert meter.take(event(7, 0, verb="files")).total is None
    assert meter.take(event(7, 0, verb="files")).unit == "files"


def test_a_long_call_writes_fewer_lines() -> None:
    clock = Clock()
    meter, pace = Meter(clock), Pace()
    written = 0
    for tenth in range(10 * 3600):
        clock.now += 0.1
        written += pace.is_due(meter.take(event(tenth, 100_000)))
    assert 200 < written < 500
    assert pace.is_due(meter.take(event(1, verb="compare"))), "the first of a verb"


def test_each_table_has_its_share_and_a_comparison_is_told_as_one() -> None:
    told: list[dict[str, Any]] = []
    telling = Telling(told.append, {"lab.a": 100, "lab.b": 50}, 4, {"lab.a": 60})
    for table, rows, expected in (
        ("lab.a", 30, 150),
        ("lab.a", 40, 150),
        ("lab.b", 90, 150),
        ("lab.a", 100, 300),
        ("lab.a", 190, 300),
        ("lab.b", 240, 300),
    ):
        telling(event(rows, expected, table=table))
    seen = [
        (one["verb"], one["table"], one["table_rows"], one["table_rows_expected"], one["rows"])
        for one in told
    ]
    assert seen == [
        ("copy", "lab.a", 90, 100, 30),
        ("copy", "lab.a", 100, 100, 40),
        ("copy", "lab.b", 50, 50, 90),
        # The first event of the comparison still belongs to the copy: it is over now.
        ("copy", "lab.a", 110, 100, 100),
        ("compare", "lab.a", 90, 100, 90),
        ("compare", "lab.b", 50, 50, 140),
    ]
    assert [one["rows_before"] for one in told] == [60, 60, 60, 60, 0, 0]
    assert {one["rows_expected"] for one in told} == {150}
    assert {one["lanes"] for one in told} == {4}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.84, "0.8 s"),
        (12.4, "12 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_spans_are_written_for_people(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_the_display_shows_the_whole_and_the_table_at_hand(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, *(f"progress_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    small: Small = make(mysql, "progress", tmp_path / "store")
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=140, highlight=False)
    events: list[dict[str, Any]] = []
    with Display(console) as display:

        def seen(event: dict[str, Any]) -> None:
            events.append(event)
            display(event)

        migrate(small.map, connection=mysql.url, on_event=seen, **small.stores)
    # What is shown of a verb that takes less than a tick is its end.
    text = terminal.getvalue()
    told = {event["verb"] for event in events if event["event"] == "progress"}
    assert told & {"copy", "compare"}
    assert any(verb in text for verb in told)
    assert any(event["table"] and event["table"] in text for event in events)
    assert "rows/s" in text or "files/s" in text
    assert "4 lanes" in text


NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient

book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
NotebookClient(book, timeout=120).execute()
print(json.dumps(book.cells[0].outputs))
"""


def test_a_notebook_shows_it_below_the_cell_and_keeps_it(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, *(f"book_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    small: Small = make(mysql, "book", tmp_path / "store")
    cell = f"""
from datajoint_migrate import migrate
from datajoint_migrate.console.progress import Display
with Display() as display:
    migrate({small.map!r}, connection={mysql.url!r}, on_event=display, **{small.stores!r})
"""
    done = subprocess.run(
        [str(environments.python("notebook")), "-W", "ignore", "-c", NOTEBOOK, cell],
        env={**os.environ, "PYTHONPATH": str(Path(datajoint_migrate.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = [output["data"]["text/plain"] for output in json.loads(done.stdout)]
    assert shown[0].startswith("files")
    text = "\n".join(shown)
    assert "copy     ████" in text
    assert "rows/s" in text
    assert "4 lanes" in text


def test_the_display_is_drawn_nowhere_else() -> None:
    log = io.StringIO()
    with Display(Console(file=log, force_terminal=False)) as display:
        display(event(10))
    assert "copy" not in log.getvalue()
