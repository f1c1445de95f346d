"""Speed over time: one line a verb, calls one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from datajoint_migrate.console.meter import span
from datajoint_migrate.console.report.elements import Node, element
from datajoint_migrate.console.report.story import Call

WIDTH, HEIGHT = 1030, 170
LEFT, BOTTOM, TOP = 80, 24, 10
# The order is that of the colours in the style sheet.
VERBS = ("copy", "compare", "files", "pointers", "backup", "restore")
Point = tuple[float, float]


def speed_chart(calls: Iterable[Call], key: str, unit: Callable[[float], str]) -> Node | None:
    """How fast `key` grew over time; None when no call ran long enough for a line."""
    lines: list[tuple[str, list[Point]]] = []
    breaks: list[float] = []
    offset = 0.0
    for call in calls:
        samples = [one for one in call.progress if key in one and "seconds" in one]
        if not samples:
            continue
        if offset:
            breaks.append(offset)
        lines += _lines(samples, key, offset)
        offset += float(samples[-1]["seconds"])
    lines = [(verb, points) for verb, points in lines if len(points) > 1]
    if not lines:
        return None
    top = max(value for _, points in lines for _, value in points) or 1.0
    right, floor = WIDTH - 10, HEIGHT - BOTTOM

    def at(point: Point) -> str:
        x = LEFT + point[0] / offset * (right - LEFT)
        y = floor - point[1] / top * (floor - TOP)
        return f"{x:.1f},{y:.1f}"

    return element(
        "svg",
        [
            element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid")
            for y in (TOP, (TOP + floor) // 2, floor)
        ],
        [
            element("text", unit(value), x=LEFT - 8, y=y + 4, class_="right")
            for value, y in ((top, TOP), (top / 2, (TOP + floor) // 2), (0.0, floor))
        ],
        [
            element(
                "line",
                x1=(x := f"{LEFT + moment / offset * (right - LEFT):.1f}"),
                x2=x,
                y1=TOP,
                y2=floor,
                class_="break",
            )
            for moment in breaks
        ],
        [
            element(
                "polyline", points=" ".join(map(at, points)), class_=f"line verb{_colour(verb)}"
            )
            for verb, points in lines
        ],
        element("text", "0", x=LEFT, y=HEIGHT - 6),
        element("text", span(offset), x=right, y=HEIGHT - 6, class_="right"),
        class_="chart",
        role="img",
        aria_label=f"{key} per second, over time",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=WIDTH,
        height=HEIGHT,
    )


def legend(calls: Iterable[Call]) -> Node:
    """Which colour is which verb."""
    verbs = dict.fromkeys(str(one["verb"]) for call in calls for one in call.progress)
    return element(
        "p",
        [element("span", verb, class_=f"key verb{_colour(verb)}") for verb in verbs],
        class_="legend",
    )


def _lines(samples: list[dict[str, Any]], key: str, offset: float) -> list[tuple[str, list[Point]]]:
    lines: list[tuple[str, list[Point]]] = []
    moment, count = 0.0, 0
    for one in samples:
        new = not lines or lines[-1][0] != one["verb"]
        if new:
            lines.append((str(one["verb"]), []))
        if new or one[key] < count:
            count = 0
        seconds = float(one["seconds"])
        if seconds > moment:
            speed = (one[key] - count) / (seconds - moment)
            lines[-1][1].append((offset + seconds, speed))
        moment, count = seconds, one[key]
    return lines


def _colour(verb: str) -> int:
    return VERBS.index(verb) if verb in VERBS else len(VERBS)
