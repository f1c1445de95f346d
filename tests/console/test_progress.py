"""Progress: what is measured of a call's events, and how it is shown."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import datajoint_migrate
import environments
from conftest import Fresh
from datajoint_migrate import migrate
from datajoint_migrate.call.progress import Telling
from datajoint_migrate.console.meter import Meter, Pace, span
from datajoint_migrate.console.progress import Display
from datajoint_migrate.console.stages import Stages
from servers import Server
from small import MICE, RECORDINGS, Small, make


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


def of_the_engine(rows: int, table: str, tables: dict[str, int], **more: Any) -> dict[str, Any]:
    counted = {name: {"rows": count, "bytes": count * 10} for name, count in tables.items()}
    return event(rows, 150, table=table, tables=counted, stage=None, ended=[]) | more


def test_each_table_has_its_share_and_a_comparison_is_told_as_one() -> None:
    told: list[dict[str, Any]] = []
    telling = Telling(told.append, {"lab.a": 100, "lab.b": 50}, 4, {"lab.a": 60}, {"lab.b": 15_000})
    telling(of_the_engine(30, "lab.a", {"lab.a": 30}))
    # Two lanes, each at a table of its own: what is told is of the table that is named.
    telling(of_the_engine(60, "lab.a", {"lab.a": 35, "lab.b": 25}))
    ended = of_the_engine(90, "lab.b", {"lab.a": 40, "lab.b": 50})
    telling(of_the_engine(10, "lab.a", {"lab.a": 10}, stage="compare", ended=[ended]))
    telling(
        of_the_engine(150, "lab.b", {"lab.a": 100, "lab.b": 50}, stage="compare", finished=True)
    )
    seen = [
        (one["verb"], one["table"], one["table_rows"], one["table_rows_expected"], one["rows"])
        for one in told
    ]
    assert seen == [
        ("copy", "lab.a", 90, 100, 30),
        ("copy", "lab.a", 95, 100, 60),
        ("copy", "lab.b", 50, 50, 90),
        ("compare", "lab.a", 10, 100, 10),
        ("compare", "lab.b", 50, 50, 150),
    ]
    assert [one["rows_before"] for one in told] == [60, 60, 60, 0, 0]
    assert [bool(one.get("finished")) for one in told] == [False, False, True, False, True]
    # 100 rows of nothing weigh 10,000, and 50 rows of 300 bytes 20,000.
    assert told[0]["fraction"] == pytest.approx(0.3)
    assert told[0]["fraction_before"] == pytest.approx(0.2)
    assert told[1]["fraction"] == pytest.approx(0.95 / 3 + 1 / 3)
    assert told[2]["fraction"] == 1
    assert {one["lanes"] for one in told} == {4}
    assert not any(key in one for one in told for key in ("tables", "ended", "stage"))


def test_what_is_left_is_told_by_bytes_and_not_by_the_last_moment() -> None:
    clock = Clock()
    meter = Meter(clock)
    # Ten minutes of work in all: small rows first, whose number says nothing, and it comes in
    # chunks of eleven seconds.
    for second in range(1, 590):
        clock.now += 1
        rows = min(second * 1000, 60_000) + second
        left = meter.take(event(rows, 61_000, fraction=second // 11 * 11 / 600)).seconds_left
        if second >= 60:
            assert left is not None
            assert 0.5 < left / (600 - second) < 2, (second, left)


def test_no_line_is_wider_than_the_terminal_and_all_of_them_have_a_bar() -> None:
    clock = Clock()
    stages = Stages(clock)
    stages.take(event(0, 1_600_000, fraction=0.0))
    clock.now += 7
    stages.take(
        event(
            690_041,
            1_600_000,
            table="tut_behavior_of_many_animals.__pose__estimation_of_key_points",
            table_rows=400_000,
            table_rows_expected=1_599_000,
            table_bytes=3_000_000,
            fraction=0.43,
            lanes=4,
        )
    )
    for width in (40, 60, 79, 110, 200):
        drawn = stages.lines(width)
        assert all(len(line) <= width for line in drawn), drawn
        assert drawn[0].startswith("copy     ████████░░░░░░░░░░░░  43% ")
    whole, *rest = stages.lines(79)
    assert "690,041 of ~1,600,000 rows, 9.4 s left" in whole
    assert "__pose__estimation_of_key_points" in rest[0]
    assert "400,000 of ~1,599,000 rows, 3.0 MB (" in rest[1]
    assert "4 lanes" in rest[1]
    assert "400,000 of ~1,599,000 rows" in stages.sentence()


def test_stages_that_are_over_are_told_once_with_all_they_did() -> None:
    clock = Clock()
    stages = Stages(clock)
    stages.take({"event": "stage", "stage": "declare", "detail": "3 tables"})
    clock.now += 2
    for files in (1, 40, 2, 3):
        stages.take(event(files, 0, verb="files", finished=files in (40, 3)))
    stages.take(event(5, 5, finished=True))
    assert stages.standing() == "copy 100%, 5 of ~5 rows"
    stages.end()
    assert stages.ended == [
        f"declare  {'█' * 20} 100% 3 tables in 2.0 s",
        f"files    {'█' * 20} 100% 43 files, 430 B in 0.0 s",
        f"copy     {'█' * 20} 100% 5 rows, 50 B in 0.0 s",
    ]


def test_where_there_is_no_terminal_a_line_is_written_now_and_then() -> None:
    log = io.StringIO()
    with Display(Console(file=log, force_terminal=False), every=0.01) as display:
        display(event(10, table_rows=10, table_rows_expected=900))
        while "copy 1%" not in log.getvalue():
            pass
        display(event(1000, finished=True))
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("copy 1%, 10 of ~1,000 rows, ")
    assert lines[0].endswith("at lab.mouse 10 of ~900 rows")
    assert lines[-1].startswith("copy done, 1,000 rows, 10.0 kB in ")


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
    text = terminal.getvalue()
    for stage in ("declare", "files", "copy", "compare", "keys", "verify"):
        assert f"{stage:8} {'█' * 20} 100% " in text
    last = {event["verb"]: event for event in events if event.get("finished")}
    counted = 2 + 3 * MICE + RECORDINGS
    assert last["compare"]["rows"] == counted
    assert last["compare"]["table_rows"] == last["compare"]["table_rows_expected"]


NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient

book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
NotebookClient(book, timeout=120, allow_errors=True).execute()
print(json.dumps(book.cells[0].outputs))
"""


def in_a_notebook(cell: str) -> list[dict[str, Any]]:
    """What a cell has below it."""
    done = subprocess.run(
        [str(environments.python("notebook")), "-W", "ignore", "-c", NOTEBOOK, cell],
        env={**os.environ, "PYTHONPATH": str(Path(datajoint_migrate.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("inspect_schemas(connection={refused!r})", "ConnectionFailed"),
        ("migrate({{'a': 'b'}}, connection={refused!r})", "ConnectionFailed"),
        ("inspect_schemas(['no_such'], connection={known!r})", "NotFound"),
        ("migrate({{'no_such': 'b'}}, connection={known!r})", "NotFound"),
        ("migrate('a', connection={known!r})", "InvalidArgument"),
    ],
)
def test_what_its_reader_can_mend_is_a_few_lines_in_a_notebook(
    mysql: Server, call: str, kind: str
) -> None:
    said = call.format(known=mysql.url, refused=mysql.url.replace("//dj:", "//nobody:"))
    *_, shown = in_a_notebook(f"from datajoint_migrate import *\n{said}")
    assert (shown["output_type"], shown["ename"]) == ("error", kind)
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(shown["traceback"]))
    assert "During handling" not in text
    assert "direct cause" not in text
    assert "mysql/connector" not in text
    # The cell, where its call came in, and what to do.
    assert len(text.splitlines()) < 30, text
    assert "Hint: " in text.splitlines()[-1]


def test_a_notebook_shows_it_below_the_cell_and_keeps_it(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, *(f"book_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    small: Small = make(mysql, "book", tmp_path / "store")
    cell = f"""
from datajoint_migrate import migrate
done = migrate({small.map!r}, connection={mysql.url!r}, **{small.stores!r})
"""
    # One output, and at the end it says what was done.
    (shown,) = [output["data"]["text/plain"] for output in in_a_notebook(cell)]
    names = [line.split()[0] for line in shown.splitlines()]
    assert [name for name in names if name != "files"] == [
        "declare",
        "copy",
        "compare",
        "keys",
        "verify",
    ]
    assert all("100%" in line for line in shown.splitlines())
    assert "copy     ████" in shown


def test_the_display_is_drawn_nowhere_else() -> None:
    log = io.StringIO()
    with Display(Console(file=log, force_terminal=False)) as display:
        display(event(10))
    assert "copy" not in log.getvalue()
