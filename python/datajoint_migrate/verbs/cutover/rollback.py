"""A cutover undone from its journal: every name, label and program as it was before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from datajoint_migrate.call.ends import open_ends
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.turn import take_turn_alone
from datajoint_migrate.catalog.names import RENAMING, SYNC
from datajoint_migrate.catalog.programs import Program, programs_of
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, NotFound, NotReady
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import RollbackResult
from datajoint_migrate.target.programs import rewritten
from datajoint_migrate.verbs.cutover.actions import Step, come_step, leave_step, tables_of
from datajoint_migrate.verbs.cutover.bring_back import BringBack, Given, forget_state
from datajoint_migrate.verbs.cutover.hold import Ready
from datajoint_migrate.verbs.cutover.moves import (
    DOING,
    DONE,
    UNDOING,
    Journal,
    all_journals,
    has_renamed,
    open_journal,
    our_turn,
    rewrite,
)
from datajoint_migrate.verbs.cutover.occupants import other_sessions, session_id
from datajoint_migrate.verbs.cutover.rename import sentences
from datajoint_migrate.verbs.cutover.undoing import finish_undoing, prove_opening, written
from datajoint_migrate.words import verb

BROUGHT = "brought_back"
# What the result says where nothing is brought back.
NOTHING: Mapping[str, Any] = {
    "brought_back": {},
    "files_brought_back": 0,
    "left": [],
    "left_counts": {},
}


def rollback(
    schema_map: Mapping[str, str] | str,
    *,
    bring_back: bool = False,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    store_map: Mapping[str, str] | None = None,
    adapters: Mapping[str, str] | None = None,
    lanes: int = LIMITS.lanes,
    connection: Any = None,
    execute: bool = False,
    on_event: OnEvent = None,
) -> RollbackResult:
    """Undo a cutover, or what is left of an interrupted `cutover` or `rename_schema`.

    `schema_map` is that of the cutover, or the name of the schema that holds the journal (a
    result's `journal`). With `execute=True` all tables go back to where they were, in one
    statement; names, `~lineage`, triggers, views, routines and events are as before, the fence and
    the archives are gone, and 0.14.6 finds its files again. What 2.x clients have written
    stays in the parallel schemas: rows are counted, new tables named.

    With `bring_back=True` rows that 2.x has inserted, changed or deleted since the cutover are in
    production, too: both sides are compared whole, objects go where 0.14.6 looks for them, with
    their rows in `~external_*`, JSON becomes BINARY(16), and all of it is compared again before the
    tables change places. What 0.14.6 has no form for (new tables and columns, and with them
    `<npy@>` and `<object@>`) is named in `left` and stays in the parallel schemas. What cannot be
    brought back for another reason (an object that is gone, a value that does not fit into the old
    column) is in `missing`, before anything is written. Killed anywhere, the same call goes on.

    `source_stores`, `dest_stores`, `store_map` and `adapters` are as in `migrate`, which noted the
    last two in its copies; `lanes` are the connections that read at once.

    Returns `executed`, `tables_renamed`, `rows_written` (parallel table → rows more than at the
    cutover, or fewer; without `execute` those that would leave production), `tables_new`,
    `brought_back` (table of production → `inserted`, `updated`, `deleted`; without `execute` what
    would be), `files_brought_back` (objects), `left` (dicts with `table`, `key`, `column`, `why`;
    at most 100 a table or column), `left_counts` (table or column → rows),
    `missing` (sessions in the way), `plan`, `notes`,
    `time_taken`. Raises `NotFound` when there is nothing to undo, `NotReady` when `execute=True`
    and others are at work, `DestinationNotEmpty` when the parallel schemas were filled anew,
    `InvalidArgument` when `bring_back=True` and an undoing without it was begun.
    """
    began = time.monotonic()
    given = Given(source_stores, dest_stores, store_map, adapters, lanes, on_event)
    with our_turn(resolve(connection), looking=not execute) as session:
        journal = _find(session, schema_map)
        names = _names(journal)
        archives: dict[str, str] = journal.facts.get("archives", {})
        if execute:
            take_turn_alone(session, [*names, *archives.values()])
            prove_opening(session, journal)
        number = getattr(connection, "connection_id", None)
        own = (number,) if isinstance(number, int) else ()
        missing, notes = other_sessions(session, names, own)
        again = journal.state == DONE and journal.verb == "cutover"
        if bring_back and not again:
            _refuse_bringing(session, journal)
        if again:
            _refuse_filled(session, journal)
        result: dict[str, Any] = {
            "executed": False,
            "tables_renamed": 0,
            "rows_written": {},
            "tables_new": [],
            **NOTHING,
            "missing": missing,
            "plan": [],
            "notes": notes,
            "time_taken": 0.0,
        }
        unwritten: Ready | None = None
        # Until the tables go back 2.x may be written to, and then that comes along too.
        brings = bring_back and (again or has_renamed(session, journal))
        if brings and not (execute and missing):
            unwritten = _bring_back(connection, _map(journal), archives, given, execute, result)
        if execute and not missing:
            forget_state(session, archives.values())
        if again:
            _take_in_the_new(session, journal)
        result["plan"] = ["undo: " + line for line in reversed(sentences(journal.steps))]
        result["time_taken"] = time.monotonic() - began
        if not execute:
            if again:
                places = {parallel: prod for prod, parallel in _map(journal).items()}
                result["rows_written"], result["tables_new"] = written(session, journal, places)
            return cast(RollbackResult, result)
        if missing:
            raise NotReady(
                "others are at work: " + "; ".join(missing),
                hint="end these sessions; nothing was changed",
                context={"missing": missing},
            )
        # What a sync remembers of the copies is doubted from then on.
        journal.facts["rolled_back"] = True
        if again:
            journal.state = UNDOING
            journal.position = len(journal.steps)
        if brings:
            journal.facts[BROUGHT] = _together(journal.facts.get(BROUGHT, NOTHING), result)
        if again or brings:
            rewrite(session, journal)

        def ready(other: Session) -> None:
            present, _ = other_sessions(other, names, (session_id(session), *own))
            if present:
                raise NotReady(
                    "others are at work: " + "; ".join(present),
                    hint="end these sessions, then the same call again: it goes on",
                    context={"missing": present},
                )
            if unwritten is not None:
                unwritten(other)

        rows, tables = finish_undoing(session, journal, ready)
        return cast(
            RollbackResult,
            result
            | {
                "executed": True,
                "tables_renamed": sum(
                    len(step["pairs"]) for step in journal.steps if step["kind"] == "rename"
                ),
                "rows_written": rows,
                "tables_new": tables,
                **journal.facts.get(BROUGHT, NOTHING),
                "notes": notes + journal.notes,
                "time_taken": time.monotonic() - began,
            },
        )


def _bring_back(
    connection: Any,
    schema_map: Mapping[str, str],
    archives: Mapping[str, str],
    given: Given,
    execute: bool,
    result: dict[str, Any],
) -> Ready:
    """Look what 2.x has written, do it if nothing is in the way; who looks before the exchange."""
    with open_ends(connection, looking=not execute, on_event=given.on_event) as ends:
        ends.spell(archives)
        bringing = BringBack(ends, archives, given, remembered=schema_map)
        bringing.look(execute=execute)
        if execute and bringing.missing:
            raise NotReady(
                "not everything can be brought back: " + "; ".join(bringing.missing),
                hint="mend that, or call without bring_back; nothing was changed",
                context={"missing": bringing.missing},
            )
        if execute:
            bringing.work()
        result |= bringing.result()
        result["missing"] += bringing.missing
        result["notes"] += bringing.notes
    return bringing.prove_unwritten


def _together(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What was brought back by a call that came this far and did not end, and by this one."""
    brought = {table: dict(rows) for table, rows in before["brought_back"].items()}
    for table, rows in now["brought_back"].items():
        known = brought.setdefault(table, dict.fromkeys(rows, 0))
        brought[table] = {what: known[what] + count for what, count in rows.items()}
    return {
        **{name: now[name] for name in NOTHING},
        "brought_back": brought,
        "files_brought_back": before["files_brought_back"] + now["files_brought_back"],
    }


def _refuse_bringing(session: Session, journal: Journal) -> None:
    """What was begun without it is finished without it."""
    if journal.verb != "cutover":
        raise InvalidArgument(
            f"{journal.schema} was renamed, and nothing is to be brought back",
            hint="call without bring_back",
        )
    if BROUGHT in journal.facts or not has_renamed(session, journal):
        return
    if journal.state == DOING:
        raise NotReady(
            "a cutover was interrupted after the tables had changed places",
            hint="finish it: cutover with execute=True; then the same call again",
        )
    raise InvalidArgument(
        "an undoing without bring_back was begun",
        hint="finish it without bring_back; what 2.x has written stays in the parallel schemas",
    )


def _refuse_filled(session: Session, journal: Journal) -> None:
    filled = {}
    for parallel, tables in tables_of(session, _map(journal).values()).items():
        # What a sync remembers of the copy has stayed there.
        if there := [table for table in tables if table != SYNC]:
            filled[parallel] = there[0]
    if not filled:
        return
    names = ", ".join(f"{parallel} (holds {table})" for parallel, table in filled.items())
    raise DestinationNotEmpty(
        f"{names} {verb(len(filled), 'was', 'were')} filled anew, where tables are to go back to",
        hint="rename first: "
        + "; ".join(f"rename_schema('{parallel}', '{parallel}_2')" for parallel in filled),
        context={"schemas": list(filled)},
    )


def _find(session: Session, wanted: Mapping[str, str] | str) -> Journal:
    if isinstance(wanted, str) and (journal := open_journal(session, wanted)):
        return journal
    known = list(all_journals(session))
    found = [one for one in known if not isinstance(wanted, str) and _same(session, wanted, one)]
    if len(found) > 1:
        places = [one.schema for one in found]
        raise InvalidArgument(
            f"there are several journals of {wanted!r}: in {', '.join(places)}",
            hint="call rollback with the schema that cutover's result named as `journal`",
        )
    if not found:
        places = [one.schema for one in known]
        hint = f"there are journals in {', '.join(places)}" if places else None
        beside = not isinstance(wanted, str) and all(
            tables_of(session, [name for pair in wanted.items() for name in pair]).values()
        )
        if beside:
            hint = (
                "production and its parallel schemas stand where they belong, as before a cutover"
                " or after its rollback: if this call was interrupted before, it had ended"
            )
        named = wanted if isinstance(wanted, str) else ", ".join(map(" -> ".join, wanted.items()))
        raise NotFound(
            f"there is no journal of a cutover of {named}, so nothing can be undone",
            hint=hint,
            context={"undone": beside},
        )
    return found[0]


def _same(session: Session, wanted: Mapping[str, str], journal: Journal) -> bool:
    """Whether a journal is of that map, as the server tells names apart."""
    said = _map(journal)
    if session.folds:
        return {a.lower(): b.lower() for a, b in wanted.items()} == {
            a.lower(): b.lower() for a, b in said.items()
        }
    return dict(wanted) == said


def _map(journal: Journal) -> dict[str, str]:
    facts = journal.facts
    return dict(facts.get("schema_map") or {facts["old"]: facts["new"]})


def _names(journal: Journal) -> list[str]:
    return [name for pair in _map(journal).items() for name in pair]


def _take_in_the_new(session: Session, journal: Journal) -> None:
    """Let the steps know what 2.x has made since: tables and programs move along."""
    archives: dict[str, str] = journal.facts["archives"]
    back = _map(journal)
    tables = tables_of(session, [*archives.values(), *back])
    found = programs_of(session, back)
    pairs = [
        [prod, table, archive]
        for prod, archive in archives.items()
        for table in tables[archive]
        if table != RENAMING
    ]
    leaving: list[Step] = []
    coming: list[Step] = []
    present: dict[tuple[str, str, str], Any] = {}
    for prod, parallel in back.items():
        pairs += [[parallel, table, prod] for table in tables[prod]]
        programs = found[prod]
        present |= {(prod, one.kind, one.name.lower()): one.rights for one in programs}
        coming += [come_step(program) for program in programs]
        leaving += [_left_as(journal, program, back) for program in reversed(programs)]
    # The steps are as if all this had been there at the cutover, because they will be undone. What
    # went from production to the archives goes back as the journal has it.
    steps: list[Step] = []
    for step in journal.steps:
        schema = step["program"]["schema"] if "program" in step else None
        if step["kind"] == "rename":
            steps += [*leaving, {**step, "pairs": pairs}]
        elif schema is not None and schema not in archives:
            continue
        elif step["kind"] == "drop_program":
            steps.append(_with_present_rights(step, present))
        else:
            steps.append(step)
    at = next(index for index, step in enumerate(steps) if step["kind"] == "lineage")
    journal.steps = [*steps[:at], *coming, *steps[at:]]


def _left_as(journal: Journal, program: Program, back: Mapping[str, str]) -> Step:
    """The step that is undone by making a program of 2.x in its parallel schema again: with the
    very text that it had there, unless it has been changed since."""
    final = {parallel: prod for prod, parallel in back.items()}
    for step in journal.steps:
        if step["kind"] != "drop_program" or step["map"]:
            continue
        was = Program(**step["program"])
        if (final.get(was.schema), was.kind, was.name) != (
            program.schema,
            program.kind,
            program.name,
        ):
            continue
        if rewritten(was, final) == program.create and was.definer == program.definer:
            return step
    return leave_step(program, back)


def _with_present_rights(step: Step, present: Mapping[tuple[str, str, str], Any]) -> Step:
    """Whoever was given, or lost, rights on a routine since the cutover keeps, or lacks, them."""
    program = Program(**step["program"])
    rights = present.get((program.schema, program.kind, program.name.lower()))
    if rights is None:
        return step
    return {**step, **leave_step(replace(program, rights=rights), step["map"])}
