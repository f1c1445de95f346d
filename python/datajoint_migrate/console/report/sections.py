"""The sections of the page, each from the story alone; one that has nothing to tell is None."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from datajoint_migrate.console.meter import size, span
from datajoint_migrate.console.report.chart import legend, speed_chart
from datajoint_migrate.console.report.checklist import (
    NO,
    OPEN,
    YES,
    YOURS,
    Item,
    before_cutover,
    validation,
)
from datajoint_migrate.console.report.elements import Node, element
from datajoint_migrate.console.report.graph import graph
from datajoint_migrate.console.report.story import Call, Story, TableStory

SHOWN_DIFFERENCES = 20
COLOURS = {
    "equal": "good",
    "done": "good",
    "dry run": "calm",
    "waiting": "calm",
    "copied": "wait",
    "begun": "wait",
    "stopped": "wait",
    "broken off": "wait",
    "differs": "bad",
    "different": "bad",
    "refused": "bad",
}
CHECKED = {
    YES: ("checked", "good"),
    NO: ("not so", "bad"),
    OPEN: ("not yet", "wait"),
    YOURS: ("yours", "calm"),
}
MEANT = {
    "broken off": "killed, or still at work when this page was made",
    "refused": "ended by an error",
    "stopped": "stopped on request; the same command goes on",
    "different": "came to its end, and found differences or something missing",
}


def verdict(story: Story) -> tuple[str, str]:
    """One sentence about where the migration stands, and its colour."""
    tables = story.tables.values()
    run = story.last("run")
    differing = sum(table.state == "differs" for table in tables)
    last = story.calls[-1]
    if differing:
        return f"{differing} of {len(tables)} tables differ from production.", "bad"
    if last.outcome == "refused":
        return f"{last.command} ended with an error: {(last.error or {}).get('message')}", "bad"
    if run is None or not story.tables:
        if last.outcome in ("stopped", "broken off"):
            return f"{last.command} is not finished; the same command goes on.", "wait"
        return "Nothing was migrated yet.", "calm"
    if story.runs[-1].outcome in ("stopped", "broken off"):
        return "The last run is not finished; the same command goes on.", "wait"
    if any(table.comparison is None for table in tables):
        return "Not every table is compared.", "wait"
    if not (run.result or {}).get("compatible"):
        return "Every value is equal, and 2.x would meet the issues below.", "bad"
    return "Every value is equal on both sides, and 2.x finds everything it needs.", "good"


def summary(story: Story) -> Node:
    tables = list(story.tables.values())
    runs = story.runs
    files = sum((call.result or {}).get("files_copied", 0) for call in story.calls)
    cards = [
        ("tables", f"{len(tables):,}"),
        ("rows", f"{sum(table.rows or 0 for table in tables):,}"),
        ("moved, about", size(sum(table.bytes for table in tables))),
        ("files written", f"{files:,}"),
        ("equal tables", f"{sum(table.state == 'equal' for table in tables):,}"),
        ("runs", f"{len(runs):,}"),
        ("time of runs", span(sum(call.seconds for call in runs))),
    ]
    return element(
        "div",
        [
            element("div", element("b", number), element("span", name), class_="card")
            for name, number in cards
        ],
        class_="cards",
    )


def calls(story: Story) -> Node:
    rows = []
    for call in story.calls:
        told = (call.error or {}).get("message") or MEANT.get(call.outcome, "")
        hint = (call.error or {}).get("hint")
        code = (call.error or {}).get("code")
        rows.append(
            (
                _fixed(call.began[:19].replace("T", " ")),
                [element("code", call.command), _said(call)],
                _number(span(call.seconds)),
                _chip(call.outcome),
                [
                    told,
                    f" ({code})" if code else None,
                    element("div", f"→ {hint}", class_="soft") if hint else None,
                ],
            )
        )
    return _section("Calls", _table(("began (UTC)", "command", "#took", "outcome", ""), rows))


def _said(call: Call) -> str:
    words = [str(value) for value in call.said.values() if isinstance(value, str | int) and value]
    return " " + " ".join(words) if words else ""


def problems(story: Story) -> Node | None:
    run = story.last("run")
    issues = list((run.result or {}).get("issues", [])) if run else []
    for call in story.calls:
        if call.command != "run":
            issues += [str(each) for each in (call.result or {}).get("issues", ())]
    unique = list(dict.fromkeys(map(str, issues)))
    return _section("Issues", _list(unique)) if unique else None


def notes(story: Story) -> Node | None:
    said = story.notes()
    return _section("Skipped, changed or left behind", _list(said)) if said else None


def tables(story: Story) -> Node | None:
    if not story.tables:
        return None
    rows = [
        (
            [
                element("b", table.about["class"]),
                element("br"),
                element("small", table.source),
                [element("br"), element("small", table.about["comment"])]
                if table.about["comment"]
                else None,
            ],
            element("small", table.destination),
            _chip(table.state),
            _number("" if table.rows is None else f"{table.rows:,}"),
            _number(size(table.bytes) if table.bytes else ""),
            _number(span(table.seconds) if table.bytes else ""),
            element("td", (table.comparison or {}).get("digest") or "", class_="mono"),
        )
        for table in story.tables.values()
    ]
    head = ("table", "copy", "state", "#rows", "#moved", "#copied in", "digest of all rows")
    lead = element(
        "p",
        "The digest is the sum of the hashes of production's rows as they were compared; an equal "
        "table has the same on both sides. Tables are copied at the same time, so their times "
        "overlap. What was copied inside the server is counted in bytes by its statistics.",
        class_="soft",
    )
    return _section("Tables", lead, _table(head, rows))


def differences(story: Story) -> Node | None:
    found = [table for table in story.tables.values() if table.state == "differs"]
    if not found:
        return None
    return _section("Differences", [_differences(table) for table in found])


def _differences(table: TableStory) -> list[Node]:
    listed = (table.comparison or {})["discrepancies"]
    more = len(listed) - SHOWN_DIFFERENCES
    said = [json.dumps(one, ensure_ascii=False, default=str) for one in listed[:SHOWN_DIFFERENCES]]
    if more > 0 or (table.comparison or {}).get("truncated"):
        said.append(f"and at least {max(more, 1):,} more: dj-migrate compare --table")
    return [
        element("h3", table.source),
        element("ul", [element("li", element("code", one)) for one in said]),
    ]


def types(story: Story) -> Node | None:
    changed: list[Any] = []
    same: list[Any] = []
    for table in story.tables.values():
        for column in table.about["columns"]:
            name = f"{table.about['class']}.{column['name']}"
            before, after = column["before"], column["after"]
            said = [column["comment"], *column["notes"]]
            row = (
                [element("b", name), element("br"), element("small", table.source)],
                element("code", before),
                element("code", after),
                "; ".join(filter(None, said)),
            )
            (same if before == after else changed).append(row)
    if not changed and not same:
        return None
    head = ("column", "0.14", "2.x", "comment")
    parts: list[Any] = [
        _table(head, changed)
        if changed
        else element("p", "No column changes its type or its marker.", class_="soft")
    ]
    if same:
        parts.append(
            element(
                "details",
                element("summary", f"{len(same):,} columns that stay as they are"),
                _table(head, same),
            )
        )
    return _section("Types", parts)


def files(story: Story) -> Node | None:
    stores = story.plan.get("stores", [])
    if not stores:
        return None
    rows = [
        (
            element("code", one["store"]),
            one["kind"],
            "written anew, verified by hash"
            if one["written"]
            else "stay where they are" + ("" if one["seen"] else ", not looked at"),
            ", ".join(one["columns"]),
        )
        for one in stores
    ]
    moved = [
        f"{call.command}, {call.began[:16].replace('T', ' ')}: {copied:,} files written"
        for call in story.calls
        if (copied := (call.result or {}).get("files_copied"))
    ]
    return _section(
        "External files", _table(("store", "kind", "files", "columns"), rows), _list(moved)
    )


def speed(story: Story) -> Node | None:
    moving = [call for call in story.calls if call.progress]
    if not moving:
        return None
    charts = [
        (title, chart)
        for title, key, unit in (
            ("rows (or files) per second", "rows", lambda value: f"{value:,.0f}"),
            ("bytes per second", "bytes", size),
        )
        if (chart := speed_chart(moving, key, unit)) is not None
    ]
    if not charts:
        return _section(
            "Speed",
            element("p", "No call ran long enough for a curve (two seconds).", class_="soft"),
        )
    return _section(
        "Speed",
        legend(moving),
        [[element("h3", title), chart] for title, chart in charts],
        element("p", "Dashed lines part one call from the next.", class_="soft")
        if len(moving) > 1
        else None,
    )


def keys(story: Story) -> Node | None:
    if not story.tables:
        return None
    states = dict.fromkeys(table.state for table in story.tables.values())
    return _section(
        "Schema graph",
        element("p", "Parents are left of what refers to them. ", [_chip(s) for s in states]),
        element("div", graph(story.tables), class_="scroll"),
    )


def checklists(story: Story) -> Node:
    return _section(
        "The guide’s checklists",
        element("h3", "Validation (phase 4)"),
        _checks(validation(story)),
        element("h3", "Before the cutover (phase 5)"),
        _checks(before_cutover(story)),
    )


def _checks(items: Iterable[Item]) -> Node:
    return element(
        "ul",
        [
            element(
                "li",
                element("span", CHECKED[item.state][0], class_=f"chip {CHECKED[item.state][1]}"),
                element("div", item.text, element("div", item.by, class_="soft")),
            )
            for item in items
        ],
        class_="checks",
    )


def _section(title: str, *children: Any) -> Node:
    return element("section", element("h2", title), *children)


def _list(lines: Sequence[str]) -> Node | None:
    return element("ul", [element("li", line) for line in lines]) if lines else None


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Node:
    """A column whose name begins with `#` has numbers."""
    return element(
        "div",
        element(
            "table",
            element(
                "thead",
                element(
                    "tr",
                    [
                        element(
                            "th", name.lstrip("#"), class_="number" if name[:1] == "#" else None
                        )
                        for name in head
                    ],
                ),
            ),
            element("tbody", [element("tr", [_cell(cell) for cell in row]) for row in rows]),
        ),
        class_="scroll",
    )


def _cell(cell: Any) -> Node:
    return cell if isinstance(cell, Node) and cell.tag == "td" else element("td", cell)


def _number(text: str) -> Node:
    return element("td", text, class_="number")


def _fixed(text: str) -> Node:
    return element("td", text, class_="fixed")


def _chip(state: str) -> Node:
    return element("span", state, class_=f"chip {COLOURS.get(state, 'calm')}")
