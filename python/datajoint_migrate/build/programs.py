"""Views, routines, events and triggers of production come along, or a sentence says why not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from datajoint_migrate.build.creating import create_programs
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.externals import External
from datajoint_migrate.catalog.grants import read_grants
from datajoint_migrate.catalog.names import SYSTEM
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.programs import Kind, Program, lacking, programs_of, read_programs
from datajoint_migrate.catalog.sql import Token, tokens, words_of
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.catalog.unseen import hidden_kinds
from datajoint_migrate.errors import DestinationNotEmpty
from datajoint_migrate.target.programs import rewritten, schemas_named, without_definer

# Those that may exist while rows are loaded: nothing fires.
STILL: tuple[Kind, ...] = ("view", "function", "procedure", "event")
TRIGGER: tuple[Kind, ...] = ("trigger",)
KINDS: dict[str, set[Kind]] = {
    "triggers": {"trigger"},
    "events": {"event"},
    "functions and procedures": {"function", "procedure"},
}

Name = tuple[str, str]


class Both:
    """The programs of schemas and of their copies, read once for all of them."""

    def __init__(self, ends: Ends, schema_map: Mapping[str, str]) -> None:
        self.ours = programs_of(ends.source, schema_map)
        self.theirs = programs_of(ends.destination, schema_map.values())
        self.grants = read_grants(ends.source)


def carry(
    ends: Ends,
    schema: str,
    schema_map: Mapping[str, str],
    kinds: Iterable[Kind],
    *,
    both: Both | None = None,
    tables: Iterable[str] | None = None,
    externals: Mapping[Name, Mapping[str, External]] | None = None,
) -> list[str]:
    """Make the programs of `schema` that its copy does not have yet; sentences about the others.

    A call for several schemas reads `both` sides for them all. `tables` are those whose triggers
    are meant, all by default. `externals` (schema and table → columns) are columns that are JSON in
    the copy. An event arrives disabled: beside production it would do its work twice. A trigger,
    routine or event that names a schema outside `schema_map` stays behind, because it could write
    there.
    """
    wanted = set(kinds)
    loaded = None if tables is None else set(tables)
    both = both or Both(ends, {schema: schema_map[schema]})
    programs = [
        program
        for program in lacking(both.ours[schema], both.theirs[schema_map[schema]])
        if program.kind in wanted
        and (program.table is None or loaded is None or program.table in loaded)
    ]
    notes = [
        f"{kind} of {schema}, if there are any, stay behind: {ends.source.server.user} cannot see"
        f" them without {privilege}"
        for kind, privilege in hidden_kinds(ends.source, schema, both.grants).items()
        if wanted & KINDS[kind]
    ]
    if not programs:
        return notes
    known = {str(row[0]) for row in ends.source.query("SHOW DATABASES")} - SYSTEM
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
    notes += _rights_left(ends, carried)
    return notes + create_programs(ends.destination, carried, schema_map)


def _rights_left(ends: Ends, programs: Iterable[Program]) -> list[str]:
    """Who may call a routine of production may not call its copy, whose name is another."""
    notes, unseen = [], 0
    for program in programs:
        unseen += program.rights is None
        if program.rights:
            who = ", ".join(
                f"'{user}'@'{host}' ({', '.join(said)})" for user, host, said in program.rights
            )
            notes.append(
                f"rights on the {program} belong to its name, as the cutover keeps them, and are"
                f" not given on the copy: {who}"
            )
    if unseen:
        notes.append(
            f"rights of others on {unseen} routines are not seen: {ends.source.server.user} may"
            " not read mysql.procs_priv"
        )
    return notes


def carried_triggers(
    ends: Ends, pairs: Iterable[tuple[Table, Table]], schema_map: Mapping[str, str] | None
) -> list[Program]:
    """Triggers that destinations have from an earlier call, to be dropped before a load fires them.

    `pairs` are tables and their copies. They are made again after the load. Raises
    `DestinationNotEmpty` for a trigger that is not production's own.
    """
    found: list[Program] = []
    pairs = list(pairs)
    names = dict(schema_map or {}) | {source.schema: copy.schema for source, copy in pairs}
    fired: dict[str, set[str]] = {}
    for schema, table in of_schemas(
        ends.destination,
        "SELECT TRIGGER_SCHEMA, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS"
        " WHERE {TRIGGER_SCHEMA}",
        {copy.schema for _, copy in pairs},
    ):
        fired.setdefault(schema, set()).add(str(table))
    for here, there in {(source.schema, copy.schema) for source, copy in pairs}:
        tables = {copy.name for _, copy in pairs if copy.schema == there}
        if not tables & fired.get(there, set()):
            continue
        programs = read_programs(ends.destination, there)
        made = [one for one in programs if one.kind == "trigger" and one.table in tables]
        ours = {
            one.name: without_definer(rewritten(one, names), one.sql_mode or "")
            for one in read_programs(ends.source, here)
            if one.kind == "trigger" and one.create
        }
        for trigger in made:
            if ours.get(trigger.name) != without_definer(trigger.create, trigger.sql_mode or ""):
                raise DestinationNotEmpty(
                    f"{there}.{trigger.table} has the trigger {trigger.name!r}, which loading "
                    "would fire",
                    hint="copy into a destination without triggers: those of the source come along",
                    context={"table": f"{there}.{trigger.table}", "trigger": trigger.name},
                )
        found += made
    return found


def outdated_programs(both: Both, schema: str, schema_map: Mapping[str, str]) -> list[Program]:
    """Programs of a copy that production has in another way now: to be dropped and carried again.

    What production does not have is somebody else's, or is gone: it stays.
    """
    ours = {}
    for program in both.ours[schema]:
        if program.create:
            one = _disabled(program)[0] if program.kind == "event" else program
            text = without_definer(rewritten(one, schema_map), one.sql_mode or "")
            ours[program.kind, program.name] = text
    found = []
    for program in both.theirs[schema_map[schema]]:
        wanted = ours.get((program.kind, program.name))
        there = without_definer(program.create, program.sql_mode or "")
        if wanted is not None and program.create and wanted != there:
            found.append(program)
    return found


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
    parts = tokens(event.create, event.sql_mode or "")
    for at, part in enumerate(parts):
        if part.kind != "word":
            continue
        if part.text.upper() == "DO":
            break
        if part.text.upper() == "ENABLE":
            parts[at] = Token("word", "DISABLE")
            return dataclasses.replace(event, create="".join(one.text for one in parts)), True
    return event, False
