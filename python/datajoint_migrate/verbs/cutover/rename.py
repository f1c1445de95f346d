"""A schema under another name: all its tables in one statement, and what else belongs to it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, cast

from datajoint_migrate.call.ends import check_names
from datajoint_migrate.call.turn import take_turn_alone
from datajoint_migrate.catalog.names import RENAMING, SYSTEM
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.errors import DestinationNotEmpty, PermissionMissing
from datajoint_migrate.results import RenameResult
from datajoint_migrate.verbs.cutover.actions import (
    Step,
    come_step,
    create_schema,
    drop_if_empty,
    leaving_around,
    lineage_step,
    rename_step,
    rights_left,
    tables_of,
)
from datajoint_migrate.verbs.cutover.grants import grants_step
from datajoint_migrate.verbs.cutover.moves import (
    UNDOING,
    Journal,
    begin,
    forget,
    open_journal,
    our_turn,
)
from datajoint_migrate.verbs.cutover.rights import missing_for_programs
from datajoint_migrate.verbs.cutover.undoing import carry_out, finish_undoing, prove_opening

VERB = "rename_schema"


def rename_schema(
    old: str, new: str, *, connection: Any = None, dry_run: bool = False
) -> RenameResult:
    """Give a schema another name; the schema `new` is made, and `old` is gone afterwards.

    All tables move in one `RENAME TABLE`, wholly or not at all; foreign keys from and into other
    schemas follow. Triggers, views, routines and events are made anew under the new name, grants
    and the text of every `~lineage` follow. Views and programs of other schemas that name the old
    schema are left alone and reported. Waits 10 seconds for locks, then changes nothing.

    A call that was killed is finished by the same call, or undone by `rollback(new)`: the journal
    is the hidden table `~rename_journal` of `new`, while the work lasts.

    Returns `tables_renamed`, `programs_moved`, `notes`, `time_taken`; with `dry_run` also `plan`,
    and nothing is changed. Raises `NotFound`, `InvalidArgument`, `DestinationNotEmpty`,
    `PermissionMissing`, and `ServerError` when somebody holds a table.
    """
    began = time.monotonic()
    check_names({old: new}, True)
    with our_turn(resolve(connection)) as session:
        check_names({old: new}, True, session.folds)
        if not dry_run:
            take_turn_alone(session, [old, new])
        journal = _unfinished(session, old, new)
        if journal is None:
            schema = read_schema(session, old)
            check_free(session, new)
            journal = _plan(session, schema, new)
            if dry_run:
                return cast(
                    RenameResult, {**_result(journal, began), "plan": sentences(journal.steps)}
                )
            create_schema(session, new, schema.charset, schema.collation)
            begin(session, journal)
        elif dry_run:
            return cast(
                RenameResult,
                {**_result(journal, began), "plan": sentences(journal.steps[journal.position :])},
            )
        prove_opening(session, journal)
        carry_out(session, journal)
        if schema_exists(session, old) and not drop_if_empty(session, old):
            journal.notes.append(f"{old} is not empty, so it stays")
        forget(session, new)
        return cast(RenameResult, _result(journal, began))


def check_free(session: Session, name: str) -> None:
    """Raises `DestinationNotEmpty` unless the schema is not there, or holds nothing."""
    if not schema_exists(session, name):
        return
    found = [table for table in tables_of(session, [name])[name] if table != RENAMING]
    programs = read_programs(session, name)
    if found or programs:
        first = found[0] if found else programs[0].name
        raise DestinationNotEmpty(
            f"the schema {name!r} is there already and holds {first}",
            hint="choose another name",
            context={"schema": name},
        )


def elsewhere(session: Session, names: Iterable[str], but: Iterable[str]) -> list[str]:
    """Views, triggers, routines and events outside `but` that name one of the schemas."""
    there = [str(row[0]) for row in session.query("SHOW DATABASES")]
    own = {*but, *SYSTEM}
    wanted = list(names)
    found = []
    for view, schema, name, kind, text in (
        ("VIEWS", "TABLE_SCHEMA", "TABLE_NAME", "view", "VIEW_DEFINITION"),
        ("TRIGGERS", "TRIGGER_SCHEMA", "TRIGGER_NAME", "trigger", "ACTION_STATEMENT"),
        ("ROUTINES", "ROUTINE_SCHEMA", "ROUTINE_NAME", "routine", "ROUTINE_DEFINITION"),
        ("EVENTS", "EVENT_SCHEMA", "EVENT_NAME", "event", "EVENT_DEFINITION"),
    ):
        for place, program, definition in session.query(
            f"SELECT {schema}, {name}, {text} FROM information_schema.{view}"
        ):
            if place in own or place not in there:
                continue
            named = [one for one in wanted if names_schema(str(definition or ""), one)]
            found += [f"the {kind} {place}.{program} names {one}" for one in named]
    return sorted(set(found))


def names_schema(text: str, schema: str) -> bool:
    """Whether some SQL has the name of a schema in it as a word."""
    return re.search(rf"(?<![\w$]){re.escape(schema)}(?![\w$])", text) is not None


def sentences(steps: Iterable[Step]) -> list[str]:
    """What the steps do, to be read."""
    said = []
    for step in steps:
        kind = step["kind"]
        if kind == "rename":
            said += [f"{a}.{table} -> {b}.{table}" for a, table, b in step["pairs"]]
        elif kind in ("drop_program", "create_program"):
            program = step["program"]
            verb = "drop" if kind == "drop_program" else "make"
            schema = step["map"].get(program["schema"], program["schema"])
            said.append(f"{verb} the {program['kind']} {schema}.{program['name']}")
        elif kind == "lineage":
            said += [f"~lineage: {a} becomes {b}" for a, b in step["names"].items()]
        elif kind == "fence":
            said.append(f"{step['schema']}.{step['table']}: fence at column {step['column']}")
        elif kind == "grants":
            said += [f"grants of {grant['to']} on {step['old']}" for grant in step["grants"]]
        else:
            said.append(f"{step['schema']}: charset {step['after'][0]}")
    return said


def _unfinished(session: Session, old: str, new: str) -> Journal | None:
    journal = open_journal(session, new)
    if journal is None:
        return None
    if journal.verb != VERB or journal.facts["old"] != old:
        raise DestinationNotEmpty(
            f"{new!r} holds the journal of an unfinished {journal.verb}: {journal.facts}",
            hint="finish it with the same call, or undo it with rollback",
        )
    if journal.state == UNDOING:
        prove_opening(session, journal)
        finish_undoing(session, journal)
        return None
    return journal


def _plan(session: Session, schema: Schema, new: str) -> Journal:
    old = schema.name
    programs = read_programs(session, old)
    if problems := missing_for_programs(session, programs):
        raise PermissionMissing("; ".join(problems))
    notes = [f"{line}; it is left as it is" for line in elsewhere(session, [old], [old])]
    stores = [name for name in schema.tables if name.startswith("~external_")]
    if stores:
        notes.append(
            f"0.14.6 looks for blobs and attachments of its stores under the schema's name: it"
            f" finds those of {old} no more until the name is {old} again"
        )
    tables = tables_of(session, [old])[old]
    steps = leaving_around(programs, rename_step([(old, table, new) for table in tables]))
    steps += [come_step(program, {old: new}, program.rights) for program in programs]
    steps.append(lineage_step(session, {old: new}))
    grants, odd = grants_step(session, old, new)
    steps += [grants] if grants else []
    facts = {
        "old": old,
        "new": new,
        "charset": [schema.charset, schema.collation],
        "tables": len(tables),
        "programs": len(programs),
    }
    notes += rights_left(session, programs, {old: new})
    return Journal(new, VERB, facts, steps, notes=[*notes, *odd])


def _result(journal: Journal, began: float) -> dict[str, Any]:
    return {
        "tables_renamed": journal.facts["tables"],
        "programs_moved": journal.facts["programs"],
        "notes": journal.notes,
        "time_taken": time.monotonic() - began,
    }
