"""Views, routines, events and triggers of production come along, or a sentence says why not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from datajoint_migrate.catalog.externals import External
from datajoint_migrate.catalog.programs import Kind, Program, read_programs
from datajoint_migrate.catalog.sql import Word, words, words_of
from datajoint_migrate.steps.moving.ends import Ends
from datajoint_migrate.target.programs import create_programs, schemas_named

# Those that may exist while rows are loaded: nothing fires.
STILL: tuple[Kind, ...] = ("view", "function", "procedure", "event")
TRIGGER: tuple[Kind, ...] = ("trigger",)
SYSTEM = {"information_schema", "mysql", "performance_schema", "sys"}

Name = tuple[str, str]


def carry(
    ends: Ends,
    schema: str,
    schema_map: Mapping[str, str],
    kinds: Iterable[Kind],
    *,
    tables: Iterable[str] | None = None,
    externals: Mapping[Name, Mapping[str, External]] | None = None,
) -> list[str]:
    """Make the programs of `schema` that its copy does not have yet; sentences about the others.

    `tables` are those whose triggers are meant, all by default. `externals` (schema and table →
    columns) are columns that are JSON in the copy. An event arrives disabled: beside production it
    would do its work twice. A trigger, routine or event that names a schema outside `schema_map`
    stays behind, because it could write there.
    """
    wanted = set(kinds)
    loaded = None if tables is None else set(tables)
    there = {(one.kind, one.name) for one in read_programs(ends.destination, schema_map[schema])}
    programs = [
        program
        for program in read_programs(ends.source, schema)
        if program.kind in wanted
        and (program.kind, program.name) not in there
        and (program.table is None or loaded is None or program.table in loaded)
    ]
    if not programs:
        return []
    known = {str(row[0]) for row in ends.source.query("SHOW DATABASES")} - SYSTEM
    notes: list[str] = []
    carried = []
    for program in programs:
        outside = sorted(schemas_named(program, known - set(schema_map)))
        if outside and program.kind != "view":
            notes.append(
                f"the {program} is not carried over: it names {', '.join(outside)}, which is not "
                "in schema_map"
            )
            continue
        if outside:
            notes.append(f"the {program} still reads {', '.join(outside)}, not in schema_map")
        if program.kind == "view":
            notes += _changed_columns(program, externals or {})
        if program.kind == "event":
            program, enabled = _disabled(program)
            if enabled:
                notes.append(f"the {program} is carried over disabled; enable it at the cutover")
        carried.append(program)
    return notes + create_programs(ends.destination, carried, schema_map)


def _changed_columns(view: Program, externals: Mapping[Name, Mapping[str, External]]) -> list[str]:
    named = words_of(view.create)
    return [
        f"the {view} may read {schema}.{table}.{column}, which is JSON in the copy"
        for (schema, table), columns in externals.items()
        for column in columns
        if table in named and column in named
    ]


def _disabled(event: Program) -> tuple[Program, bool]:
    """The event with ENABLE turned into DISABLE, and whether that changed it."""
    parts = words(event.create, event.sql_mode or "")
    for at, part in enumerate(parts):
        if part.kind != "word":
            continue
        if part.text.upper() == "DO":
            break
        if part.text.upper() == "ENABLE":
            parts[at] = Word("word", "DISABLE")
            return dataclasses.replace(event, create="".join(one.text for one in parts)), True
    return event, False
