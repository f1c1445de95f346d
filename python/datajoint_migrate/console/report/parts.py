"""What sections are made of: headings, lists, tables, chips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datajoint_migrate.console.report.elements import Node, element

SHOWN = 20
COLOURS = {
    "equal": "good",
    "done": "good",
    "dry run": "calm",
    "looked": "calm",
    "waiting": "calm",
    "copied": "wait",
    "begun": "wait",
    "stopped": "wait",
    "broken off": "wait",
    "not ready": "wait",
    "differs": "bad",
    "different": "bad",
    "refused": "bad",
}


def section(title: str, *children: Any) -> Node:
    """A section, which the list of contents finds by its `id`."""
    return element("section", element("h2", title), *children, id=anchor(title))


def anchor(title: str) -> str:
    """The `id` of a section with this title."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in title.lower())
    return "-".join(filter(None, plain.split("-")))


def listed(lines: Sequence[str]) -> list[Node] | None:
    """A list; what is beyond the first lines is folded."""
    if not lines:
        return None
    first = element("ul", [element("li", line) for line in lines[:SHOWN]])
    rest = lines[SHOWN:]
    if not rest:
        return [first]
    return [first, folded(f"{len(rest):,} more", element("ul", [element("li", r) for r in rest]))]


def folded(title: Any, *children: Any, is_open: bool = False, name: str | None = None) -> Node:
    """Something that opens by a click, or when a link leads to its `name`."""
    inside = element("div", *children, id=name)
    return element("details", element("summary", title), inside, open="" if is_open else None)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Node:
    """A table. A column whose name begins with `#` has numbers, one with `-` is for wide screens.

    On a narrow screen each row is a block of lines, a column's name before each.
    """
    names = [name.lstrip("#-") for name in head]
    classes = [
        " ".join(
            filter(None, ("number" if "#" in name[:2] else "", "wide" if "-" in name[:2] else ""))
        )
        or None
        for name in head
    ]
    return element(
        "div",
        element(
            "table",
            element(
                "thead",
                element(
                    "tr",
                    [
                        element("th", name, class_=kind)
                        for name, kind in zip(names, classes, strict=True)
                    ],
                ),
            ),
            element(
                "tbody",
                [
                    element(
                        "tr",
                        [
                            element("td", cell, class_=kind, data_label=name or None)
                            for cell, name, kind in zip(row, names, classes, strict=True)
                        ],
                    )
                    for row in rows
                ],
            ),
        ),
        class_="scroll",
    )


def fixed(text: str) -> Node:
    """Text that is never broken."""
    return element("span", text, class_="fixed")


def mono(text: str) -> Node:
    """Digits to be compared by eye."""
    return element("span", text, class_="mono")


def chip(state: str, colour: str = "") -> Node:
    """A word in its colour."""
    return element("span", state, class_=f"chip {colour or COLOURS.get(state, 'calm')}")
