"""The sections about schemas and their tables: the graph, what became of each, types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datajoint_migrate.console.meter import size, span
from datajoint_migrate.console.report.elements import Node, element
from datajoint_migrate.console.report.graph import TIERS, schema_graph, table_graph
from datajoint_migrate.console.report.layers import shared_prefix
from datajoint_migrate.console.report.parts import chip, folded, mono, section, table
from datajoint_migrate.console.report.story import Story, TableStory
from datajoint_migrate.words import counted

# Up to so many tables are one graph, and their lists open; more are told schema by schema.
FEW_TABLES = 24
FEW_SCHEMAS = 24
FEW_ROWS = 40
COLUMNS = ("table", "state", "#rows", "#-moved", "#-copied in", "-digest of all rows")

Grouped = dict[str, list[TableStory]]


def by_schema(story: Story) -> Grouped:
    """The tables of each schema, in the order of the plan."""
    found: Grouped = {name: [] for name in story.schemas}
    for one in story.tables.values():
        found.setdefault(one.schema, []).append(one)
    return {name: tables for name, tables in found.items() if tables}


def graphs(story: Story) -> Node | None:
    """Few tables in one graph; else the schemas, each of which leads to its own."""
    grouped = by_schema(story)
    if not grouped:
        return None
    shown, said = _shortened(story)
    links = _links(story)
    legend = element(
        "p",
        [element("span", tier, class_=f"tier {tier}") for tier in TIERS],
        class_="legend",
    )
    if not _is_large(story):
        drawn = table_graph(story.tables, story.tables, shown, links)
        lead = "Parents are above what refers to them. "
    else:
        drawn = schema_graph(grouped, shown, lambda name: f"#{_name(story, name)}")
        lead = (
            "Each box is a schema, below those it refers to; a reference that a longer way tells "
            "as well is left out. A click opens the schema’s tables. "
        )
    return section(
        "Schema graph", element("p", lead + said, class_="soft"), legend, _zoomed(drawn, "graph")
    )


def tables(story: Story) -> Node | None:
    """What became of each table, schema by schema."""
    if not story.tables:
        return None
    lead = element(
        "p",
        "The digest is the sum of the hashes of production’s rows as they were compared; an equal "
        "table has the same on both sides. What was copied inside the server is counted in bytes "
        "by its statistics.",
        class_="soft",
    )
    large = _is_large(story)
    quiet: list[Node] = []
    found: list[Node] = []
    for name, own in by_schema(story).items():
        is_quiet = all(one.state == "equal" for one in own)
        (quiet if is_quiet else found).append(_schema(story, name, own, large))
    if len(quiet) > FEW_SCHEMAS:
        quiet = [folded(f"{len(quiet):,} schemas of which every table is equal", quiet)]
    # What is not equal comes first.
    return section("Tables", lead, found, quiet)


def _schema(story: Story, name: str, own: list[TableStory], large: bool) -> Node:
    states = dict.fromkeys(one.state for one in own)
    rows = sum(one.rows or 0 for one in own)
    count = f"{counted(len(own), 'table')}, {counted(rows, 'row')}"
    title = [
        element("b", name),
        f" → {story.schemas.get(name, own[0].destination.partition('.')[0])} ",
        element("span", count, class_="soft"),
        " ",
        [chip(state) for state in states],
    ]
    drawn = None
    if large and len(own) > 1:
        shown, _ = _shortened(story)
        mine = {one.source: one for one in own}
        graph = table_graph(mine, story.tables, shown, _links(story))
        drawn = _zoomed(graph, _name(story, name).replace("schema", "graph"))
    return folded(
        title,
        drawn,
        table(
            ("table", "state", "#rows", "#-moved", "#-copied in", "-digest of all rows"),
            map(_row, own),
        ),
        is_open=not large or "differs" in states,
        name=_name(story, name),
    )


def _row(one: TableStory) -> tuple[Any, ...]:
    about = one.about
    return (
        element(
            "div",
            element("b", about["class"]),
            " ",
            element("small", one.source),
            [element("br"), element("small", about["comment"])] if about["comment"] else None,
        ),
        chip(one.state),
        "" if one.rows is None else f"{one.rows:,}",
        size(one.bytes) if one.bytes else "",
        span(one.seconds) if one.bytes else "",
        mono((one.comparison or {}).get("digest") or ""),
    )


def types(story: Story) -> Node | None:
    """Columns whose type or marker changes, and, folded, those that stay."""
    changed: list[tuple[str, Any]] = []
    same: list[tuple[str, Any]] = []
    for one in story.tables.values():
        for column in one.about["columns"]:
            before, after = column["before"], column["after"]
            said = "; ".join(filter(None, [column["comment"], *column["notes"]]))
            place = element(
                "div",
                element("b", f"{one.about['class']}.{column['name']}"),
                element("br"),
                element("small", one.source),
            )
            row = (place, element("code", before), element("code", after), said)
            (same if before == after else changed).append((one.schema, row))
    if not changed and not same:
        return None
    return section(
        "Types",
        _types(changed)
        if changed
        else element("p", "No column changes its type or its marker.", class_="soft"),
        folded(f"{counted(len(same), 'column')} without a change", _types(same)) if same else None,
    )


def _types(rows: list[tuple[str, Any]]) -> list[Node] | Node:
    head = ("column", "0.14", "2.x", "comment")
    if len(rows) <= FEW_ROWS:
        return table(head, [row for _, row in rows])
    grouped: dict[str, list[Any]] = {}
    for schema, row in rows:
        grouped.setdefault(schema, []).append(row)
    found = [
        folded([element("b", schema), f" {counted(len(own), 'column')}"], table(head, own))
        for schema, own in grouped.items()
    ]
    if len(found) <= FEW_SCHEMAS:
        return found
    return folded(f"{counted(len(rows), 'column')} of {counted(len(found), 'schema')}", found)


def _is_large(story: Story) -> bool:
    return len(story.tables) > FEW_TABLES and len(by_schema(story)) > 1


def _shortened(story: Story) -> tuple[Callable[[str], str], str]:
    """Names of schemas without what all begin with, and the sentence that says so."""
    prefix = shared_prefix(by_schema(story))
    said = f"All names of schemas begin with {prefix}." if prefix else ""
    return lambda name: name.removeprefix(prefix), said


def _name(story: Story, schema: str) -> str:
    """The `id` of a schema's tables, which may hold anything in its own name."""
    return f"schema-{list(by_schema(story)).index(schema)}"


def _links(story: Story) -> Callable[[str], str]:
    names = {name: f"#schema-{at}" for at, name in enumerate(by_schema(story))}
    return lambda source: names[story.tables[source].schema]


def _zoomed(drawn: Node, name: str) -> Node:
    """A drawing as wide as the page, or twice as wide, without a script."""
    choices = []
    for word, text in (("fit", "whole"), ("large", "enlarged")):
        choices += [
            element(
                "input",
                type="radio",
                name=f"{name}-zoom",
                id=f"{name}-{word}",
                class_=word,
                checked="" if word == "fit" else None,
            ),
            element("label", text, for_=f"{name}-{word}"),
        ]
    return element("div", choices, element("div", drawn, class_="scroll drawing"), class_="zoom")
