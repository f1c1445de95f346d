"""The sections of the page, each from the story alone; one that has nothing to tell is None."""

from __future__ import annotations

from collections.abc import Iterable

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
from datajoint_migrate.console.report.parts import anchor, chip, fixed, listed, section, table
from datajoint_migrate.console.report.standing import (
    DONE,
    NOT,
    PART,
    afterwards,
    now,
    stages,
)
from datajoint_migrate.console.report.story import Call, Story, TableStory
from datajoint_migrate.words import counted, difference

SHOWN_DIFFERENCES = 20
CHECKED = {
    YES: ("checked", "good"),
    NO: ("not so", "bad"),
    OPEN: ("not yet", "wait"),
    YOURS: ("yours", "calm"),
}
MEANT = {
    "broken off": "killed, or still at work when this page was made",
    "refused": "ended by an error",
    "stopped": "stopped on request; the same command resumes it",
    "different": "came to its end, and found differences or something missing",
    "looked": "only looked; nothing was changed",
    "not ready": "only looked: something is missing",
}
STAGE = {DONE: ("✓", "good"), PART: ("…", "wait"), NOT: ("–", "calm")}


def standing(story: Story) -> Node:
    """What is production, and what is behind the migration."""
    steps = []
    for stage in stages(story):
        mark, colour = STAGE[stage.state]
        steps.append(
            element(
                "li",
                element("b", f"{mark} {stage.name}"),
                element("span", stage.said),
                class_=colour,
            )
        )
    said = afterwards(story)
    return element(
        "div",
        element("p", now(story), class_="now"),
        element("ol", steps, class_="stages"),
        element("p", said, class_="soft") if said else None,
    )


def contents(titles: Iterable[str]) -> Node:
    """Links to the sections that are there."""
    links = [element("li", element("a", title, href=f"#{anchor(title)}")) for title in titles]
    return element("nav", element("ul", links), aria_label="contents")


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
                fixed(call.began[:19].replace("T", " ")),
                element("div", element("code", call.command), _said(call)),
                span(call.seconds),
                chip(call.outcome),
                element(
                    "div",
                    told,
                    f" ({code})" if code else None,
                    element("div", f"→ {hint}", class_="soft") if hint else None,
                ),
            )
        )
    return section("Calls", table(("began (UTC)", "command", "#took", "outcome", ""), rows))


def _said(call: Call) -> str:
    words = [str(value) for value in call.said.values() if isinstance(value, str | int) and value]
    return " " + " ".join(words) if words else ""


def settings(story: Story) -> Node | None:
    """The servers and what the plan asked for, as the last call that decided something had it."""
    plan = story.plan
    rows = [
        (end, element("code", one["address"]), one.get("version", ""), one.get("user", ""))
        for end, one in (plan.get("servers") or {}).items()
    ]
    options = plan.get("options") or {}
    packages = list(dict.fromkeys(call.package for call in story.calls if call.package))
    if not rows and not options and not packages:
        return None
    return section(
        "Servers and options",
        table(("", "server", "version", "user"), rows) if rows else None,
        listed(
            [f"{name} = {value}" for name, value in options.items()]
            + [f"datajoint-migrate {version}" for version in packages]
        ),
    )


def problems(story: Story) -> Node | None:
    run = story.last("run")
    issues = list((run.result or {}).get("issues", [])) if run else []
    for call in story.calls:
        if call.command != "run":
            issues += [str(each) for each in (call.result or {}).get("issues", ())]
    unique = list(dict.fromkeys(map(str, issues)))
    return section("Issues", listed(unique)) if unique else None


def notes(story: Story) -> Node | None:
    said = story.notes()
    return section("Skipped, changed or left behind", listed(said)) if said else None


def differences(story: Story) -> Node | None:
    found = [table for table in story.tables.values() if table.state == "differs"]
    if not found:
        return None
    return section("Differences", [_differences(table) for table in found])


def _differences(story: TableStory) -> list[Node]:
    listed_ones = (story.comparison or {})["discrepancies"]
    more = len(listed_ones) - SHOWN_DIFFERENCES
    said = [difference(one, story.source) for one in listed_ones[:SHOWN_DIFFERENCES]]
    if more > 0 or (story.comparison or {}).get("truncated"):
        said.append(f"and at least {max(more, 1):,} more: dj-migrate compare --table")
    return [element("h3", story.source), element("ul", [element("li", one) for one in said])]


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
        f"{call.command}, {call.began[:16].replace('T', ' ')}: {counted(copied, 'file')} written"
        for call in story.calls
        if (copied := (call.result or {}).get("files_copied"))
    ]
    return section(
        "External files", table(("store", "kind", "files", "columns"), rows), listed(moved)
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
        return section(
            "Speed",
            element("p", "No call ran long enough for a curve (two seconds).", class_="soft"),
        )
    return section(
        "Speed",
        legend(moving),
        [[element("h3", title), chart] for title, chart in charts],
        element("p", "Dashed lines part one call from the next.", class_="soft")
        if len(moving) > 1
        else None,
    )


def checklists(story: Story) -> Node:
    return section(
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
