"""The schema graph: tables as boxes, parents on the left, coloured by what became of them."""

from __future__ import annotations

from collections.abc import Mapping

from datajoint_migrate.console.report.elements import Node, element
from datajoint_migrate.console.report.story import TableStory

WIDTH, HEIGHT = 205, 40
GAP_X, GAP_Y = 60, 14
MARGIN = 8
CHARACTERS = 25
SWEEPS = 4


def graph(tables: Mapping[str, TableStory]) -> Node:
    """The graph as SVG."""
    layers = layout(parents_of(tables))
    places = {
        name: (MARGIN + x * (WIDTH + GAP_X), MARGIN + y * (HEIGHT + GAP_Y))
        for x, layer in enumerate(layers)
        for y, name in enumerate(layer)
    }
    width = 2 * MARGIN + len(layers) * (WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + max(map(len, layers), default=0) * (HEIGHT + GAP_Y) - GAP_Y
    edges = [
        _edge(places[parent], places[name])
        for name, parents in parents_of(tables).items()
        for parent in parents
    ]
    boxes = [_box(tables[name], *place) for name, place in places.items()]
    return element(
        "svg",
        edges,
        boxes,
        class_="graph",
        role="img",
        aria_label="tables and their foreign keys",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )


def parents_of(tables: Mapping[str, TableStory]) -> dict[str, list[str]]:
    """Per table the tables it refers to, of those that are here."""
    return {
        name: [parent for parent in table.about["refers_to"] if parent in tables]
        for name, table in tables.items()
    }


def layout(parents: Mapping[str, list[str]]) -> list[list[str]]:
    """Layers of tables: each stands right of all its parents, as near to them as there is room."""
    ranks = _ranks(parents)
    layers: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for name in sorted(ranks):
        layers[ranks[name]].append(name)
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, above in parents.items():
        for parent in above:
            children[parent].append(name)
    heights: dict[str, float] = {}
    for layer in layers:
        _settle(layer, heights)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        near = parents if forward else children
        for layer in layers if forward else reversed(layers):
            wanted = {
                name: sum(heights[other] for other in near[name]) / len(near[name])
                if near[name]
                else heights[name]
                for name in layer
            }
            layer.sort(key=wanted.__getitem__)
            _settle(layer, heights)
    return layers


def _settle(layer: list[str], heights: dict[str, float]) -> None:
    for index, name in enumerate(layer):
        heights[name] = index / len(layer)


def _ranks(parents: Mapping[str, list[str]]) -> dict[str, int]:
    """The length of the longest way to each table.

    Without recursion, because pipelines may be deeper than Python's stack. Keys may go round in
    circles: a table that is being ranked counts as no parent.
    """
    ranks: dict[str, int] = {}
    for first in parents:
        waiting, begun = [first] if first not in ranks else [], {first}
        while waiting:
            name = waiting[-1]
            missing = next((p for p in parents[name] if p not in ranks and p not in begun), None)
            if missing is not None:
                waiting.append(missing)
                begun.add(missing)
                continue
            waiting.pop()
            ranks[name] = 1 + max((ranks[p] for p in parents[name] if p in ranks), default=-1)
    return ranks


def _edge(parent: tuple[int, int], child: tuple[int, int]) -> Node:
    x1, y1 = parent[0] + WIDTH, parent[1] + HEIGHT // 2
    x2, y2 = child[0], child[1] + HEIGHT // 2
    bend = max((x2 - x1) // 2, 20)
    return element("path", d=f"M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}")


def _box(table: TableStory, x: int, y: int) -> Node:
    schema = table.source.partition(".")[0]
    rows = "" if table.rows is None else f" · {table.rows:,} rows"
    return element(
        "g",
        element("title", f"{table.source} → {table.destination}: {table.state}{rows}"),
        element("rect", x=x, y=y, width=WIDTH, height=HEIGHT, rx=6),
        element("text", _short(table.about["class"]), x=x + 10, y=y + 17, class_="name"),
        element("text", _short(schema + rows), x=x + 10, y=y + 32, class_="small"),
        class_=f"table {table.state}",
    )


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
