"""The schema graph: tables as boxes, parents on the left, coloured by what became of them."""

from __future__ import annotations

from collections.abc import Mapping

from datajoint_migrate.console.report.elements import Node, element
from datajoint_migrate.console.report.story import TableStory

WIDTH, HEIGHT = 205, 40
GAP_X, GAP_Y = 70, 14
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
    ranks: dict[str, int] = {}

    def rank(name: str) -> int:
        # Depth first without recursion: pipelines may be deeper than Python's stack, and keys
        # may go round in circles; a table that is being ranked counts as no parent.
        waiting, open_now = [name], {name}
        while waiting:
            one = waiting[-1]
            missing = [p for p in parents[one] if p not in ranks and p not in open_now]
            if missing:
                waiting.append(missing[0])
                open_now.add(missing[0])
                continue
            waiting.pop()
            ranks[one] = 1 + max((ranks[p] for p in parents[one] if p in ranks), default=-1)
        return ranks[name]

    for name in parents:
        if name not in ranks:
            rank(name)
    layers: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for name in sorted(ranks):
        layers[ranks[name]].append(name)
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, above in parents.items():
        for parent in above:
            children[parent].append(name)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        near = parents if forward else children
        for layer in layers if forward else reversed(layers):
            places = {
                name: index / max(len(other), 1)
                for other in layers
                for index, name in enumerate(other)
            }
            here = dict(places)
            layer.sort(
                key=lambda name, here=here, near=near: (  # type: ignore[misc]
                    sum(here[other] for other in near[name]) / len(near[name])
                    if near[name]
                    else here[name]
                )
            )
    return layers


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
