"""The graphs: schemas, and the tables of one of them; parents above what refers to them.

All are as wide as the page and grow downwards, so that hundreds of schemas can be read without
scrolling sideways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from datajoint_migrate.console.report.elements import Node, element
from datajoint_migrate.console.report.layers import layout, shortest
from datajoint_migrate.console.report.story import TableStory
from datajoint_migrate.words import counted

PAGE = 1032
COLUMNS = 5
WIDTH, HEIGHT = 190, 42
GAP_X, GAP_Y, GAP_LAYER = 16, 10, 38
MARGIN = 4
CHARACTERS = 24
BAR = 4
# More boxes than these have so many lines that only faint ones can be told apart.
MANY = 60
TIERS = ("manual", "lookup", "imported", "computed", "part")


@dataclass(frozen=True)
class Box:
    """What stands in a box: two lines, where a click leads, and the share of each tier below."""

    title: str
    name: str
    line: str
    kind: str
    leads_to: str | None = None
    tiers: tuple[tuple[str, int], ...] = ()


def table_graph(
    tables: Mapping[str, TableStory],
    around: Mapping[str, TableStory],
    shown: Callable[[str], str],
    leads_to: Callable[[str], str],
) -> Node:
    """The graph of some tables, with those of `around` that they refer to as boxes of dashes.

    `shown` shortens the name of a schema.
    """
    parents = {
        name: [parent for parent in table.about["refers_to"] if parent in around]
        for name, table in tables.items()
    }
    outside = {parent for above in parents.values() for parent in above} - set(tables)
    boxes = {
        name: _table_box(around[name], name in outside, shown, leads_to)
        for name in (*tables, *sorted(outside))
    }
    return _drawing(
        {**parents, **{name: [] for name in outside}}, boxes, "tables and their foreign keys"
    )


def schema_graph(
    schemas: Mapping[str, list[TableStory]],
    shown: Callable[[str], str],
    leads_to: Callable[[str], str],
) -> Node:
    """The graph of schemas. An edge that a longer way tells as well is left out."""
    owner = {table.source: name for name, tables in schemas.items() for table in tables}
    parents = {
        name: sorted(
            {
                owner[parent]
                for table in tables
                for parent in table.about["refers_to"]
                if owner.get(parent, name) != name
            }
        )
        for name, tables in schemas.items()
    }
    boxes = {
        name: _schema_box(name, tables, shown, leads_to(name)) for name, tables in schemas.items()
    }
    return _drawing(shortest(parents), boxes, "schemas and the foreign keys between them")


def _table_box(
    table: TableStory,
    is_outside: bool,
    shown: Callable[[str], str],
    leads_to: Callable[[str], str],
) -> Box:
    rows = "" if table.rows is None or is_outside else f" · {counted(table.rows, 'row')}"
    differs = "differs: " if table.state == "differs" else ""
    kind = "outside" if is_outside else f"{table.about['tier']} {table.state}"
    return Box(
        f"{table.source} → {table.destination} ({table.about['tier']}): {table.state}{rows}",
        str(table.about["class"]),
        differs + shown(table.schema) + rows,
        kind,
        leads_to(table.source),
    )


def _schema_box(
    name: str, tables: list[TableStory], shown: Callable[[str], str], leads_to: str
) -> Box:
    rows = sum(table.rows or 0 for table in tables)
    differing = sum(table.state == "differs" for table in tables)
    line = f"{counted(len(tables), 'table')} · {counted(rows, 'row')}"
    found = {tier: sum(table.about["tier"] == tier for table in tables) for tier in TIERS}
    return Box(
        f"{name}: {line}"
        + "".join(f", {count} {tier}" for tier, count in found.items() if count)
        + (f"; {differing} differ" if differing else ""),
        shown(name),
        f"{differing} of {len(tables)} differ" if differing else line,
        "schema" + (" differs" if differing else ""),
        leads_to,
        tuple((tier, count) for tier, count in found.items() if count),
    )


def _drawing(parents: Mapping[str, list[str]], boxes: Mapping[str, Box], label: str) -> Node:
    places, height = _places(layout(parents))
    edges = [
        _edge(places[parent], places[name]) for name, above in parents.items() for parent in above
    ]
    return element(
        "svg",
        edges,
        [_drawn(boxes[name], *place) for name, place in places.items()],
        class_="graph many" if len(boxes) > MANY else "graph",
        role="img",
        aria_label=label,
        viewBox=f"0 0 {PAGE} {height}",
    )


def _places(layers: Iterable[list[str]]) -> tuple[dict[str, tuple[int, int]], int]:
    """Where each box stands, and the height of it all. A long layer takes several rows."""
    places: dict[str, tuple[int, int]] = {}
    y = MARGIN
    for layer in layers:
        for at in range(0, len(layer), COLUMNS):
            row = layer[at : at + COLUMNS]
            x = (PAGE - len(row) * (WIDTH + GAP_X) + GAP_X) // 2
            for name in row:
                places[name] = (x, y)
                x += WIDTH + GAP_X
            y += HEIGHT + GAP_Y
        y += GAP_LAYER - GAP_Y
    return places, max(y - GAP_LAYER + MARGIN, MARGIN)


def _edge(parent: tuple[int, int], child: tuple[int, int]) -> Node:
    x1, y1 = parent[0] + WIDTH // 2, parent[1] + HEIGHT
    x2, y2 = child[0] + WIDTH // 2, child[1]
    bend = max((y2 - y1) // 2, GAP_LAYER // 2)
    return element("path", d=f"M{x1},{y1} C{x1},{y1 + bend} {x2},{y2 - bend} {x2},{y2}")


def _drawn(box: Box, x: int, y: int) -> Node:
    parts = [
        element("title", box.title),
        element("rect", x=x, y=y, width=WIDTH, height=HEIGHT, rx=6),
        element("text", _short(box.name), x=x + 10, y=y + 17, class_="name"),
        element("text", _short(box.line), x=x + 10, y=y + 32, class_="small"),
        _bar(box.tiers, x + 10, y + HEIGHT - BAR - 1) if box.tiers else None,
    ]
    drawn = element("g", parts, class_=f"box {box.kind}")
    return element("a", drawn, href=box.leads_to) if box.leads_to else drawn


def _bar(tiers: tuple[tuple[str, int], ...], x: int, y: int) -> list[Node]:
    """The tiers of a schema's tables, each as wide as its share."""
    whole = sum(count for _, count in tiers)
    drawn, at = [], float(x)
    for tier, count in tiers:
        width = (WIDTH - 20) * count / whole
        drawn.append(
            element(
                "rect",
                x=f"{at:.1f}",
                y=y,
                width=f"{width:.1f}",
                height=BAR,
                class_=f"share {tier}",
            )
        )
        at += width
    return drawn


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
