"""Layers of a graph: everything stands below all that it refers to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SWEEPS = 4


def layout(parents: Mapping[str, list[str]]) -> list[list[str]]:
    """Layers of names: each below all its parents, as near to them as there is room."""
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


def shortest(parents: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The same graph without the edges that a longer way tells as well.

    Edges that go round in a circle stay.
    """
    ranks = _ranks(parents)
    kept: dict[str, list[str]] = {}
    for name, above in parents.items():
        direct = set(above)
        seen: set[str] = set()
        waiting = [up for parent in above for up in parents[parent] if ranks[up] < ranks[parent]]
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += [up for up in parents[one] if ranks[up] < ranks[one]]
        kept[name] = sorted(direct - seen)
    return kept


def shared_prefix(names: Iterable[str]) -> str:
    """What all names begin with, up to a `_` or `-`; nothing where a name would be left empty."""
    names = list(names)
    if len(names) < 2:
        return ""
    least, most = min(names), max(names)
    length = next(
        (at for at, letter in enumerate(least) if at >= len(most) or letter != most[at]),
        len(least),
    )
    cut = max(least.rfind(mark, 0, length) for mark in "_-") + 1
    return least[:cut] if all(len(name) > cut for name in names) else ""
