"""A cutover undone from its journal: every name, label and program as it was before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from datajoint_migrate.catalog.connection import Session, resolve
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, NotFound, NotReady
from datajoint_migrate.steps.cutover.actions import Step, come_step, leave_step, tables_of
from datajoint_migrate.steps.cutover.moves import (
    DONE,
    JOURNAL,
    UNDOING,
    Journal,
    all_journals,
    open_journal,
    our_turn,
    rewrite,
)
from datajoint_migrate.steps.cutover.occupants import other_sessions
from datajoint_migrate.steps.cutover.rename import sentences
from datajoint_migrate.steps.cutover.undoing import finish_undoing
from datajoint_migrate.steps.moving.ends import schema_exists


def rollback(
    schema_map: Mapping[str, str] | str, *, connection: Any = None, execute: bool = False
) -> dict[str, Any]:
    """Undo a cutover, or what is left of an interrupted `cutover` or `rename_schema`.

    `schema_map` is that of the cutover, or the name of the schema that holds the journal (a
    result's `journal`). With `execute=True` all tables go back to where they were, in one
    statement; names, `~lineage`, triggers, views, routines and events are as before, the fence and
    the archives are gone, and 0.14.6 finds its files again. What 2.x clients have written
    stays in the parallel schemas: rows are counted, new tables named.

    Returns `executed`, `tables_renamed`, `rows_written` (parallel table → rows more than at the
    cutover, or fewer), `tables_new`, `missing` (sessions in the way), `plan`, `notes`,
    `time_taken`. Raises `NotFound` when there is nothing to undo, `NotReady` when `execute=True`
    and others are at work, `DestinationNotEmpty` when the parallel schemas were filled anew.
    """
    began = time.monotonic()
    with our_turn(resolve(connection), looking=not execute) as session:
        journal = _find(session, schema_map)
        names = _names(journal)
        number = getattr(connection, "connection_id", None)
        own = (number,) if isinstance(number, int) else ()
        missing, notes = other_sessions(session, names, own)
        again = journal.state == DONE and journal.verb == "cutover"
        if again:
            _take_in_the_new(session, journal)
        result = {
            "executed": False,
            "tables_renamed": 0,
            "rows_written": {},
            "tables_new": [],
            "missing": missing,
            "plan": ["undo: " + line for line in reversed(sentences(journal.steps))],
            "notes": notes,
            "time_taken": time.monotonic() - began,
        }
        if not execute:
            return result
        if missing:
            raise NotReady(
                "others are at work: " + "; ".join(missing),
                hint="end these sessions; nothing was changed",
                context={"missing": missing},
            )
        if again:
            journal.state = UNDOING
            journal.position = len(journal.steps)
            rewrite(session, journal)
        rows, tables = finish_undoing(session, journal)
        return result | {
            "executed": True,
            "tables_renamed": sum(
                len(step["pairs"]) for step in journal.steps if step["kind"] == "rename"
            ),
            "rows_written": rows,
            "tables_new": tables,
            "notes": notes + journal.notes,
            "time_taken": time.monotonic() - began,
        }


def _find(session: Session, wanted: Mapping[str, str] | str) -> Journal:
    if isinstance(wanted, str) and (journal := open_journal(session, wanted)):
        return journal
    known = list(all_journals(session))
    found = [one for one in known if not isinstance(wanted, str) and dict(wanted) == _map(one)]
    if len(found) > 1:
        places = [one.schema for one in found]
        raise InvalidArgument(
            f"there are several journals of {wanted!r}: in {', '.join(places)}",
            hint="call rollback with the schema that cutover's result named as `journal`",
        )
    if not found:
        places = [one.schema for one in known]
        raise NotFound(
            f"there is no journal of {wanted!r}, so nothing can be undone",
            hint=f"there are journals in {', '.join(places)}" if places else None,
        )
    return found[0]


def _map(journal: Journal) -> dict[str, str]:
    facts = journal.facts
    return dict(facts.get("schema_map") or {facts["old"]: facts["new"]})


def _names(journal: Journal) -> list[str]:
    return [name for pair in _map(journal).items() for name in pair]


def _take_in_the_new(session: Session, journal: Journal) -> None:
    """Let the steps know what 2.x has made since: tables and programs move along."""
    archives: dict[str, str] = journal.facts["archives"]
    pairs: list[list[str]] = []
    for prod, archive in archives.items():
        pairs += [
            [prod, table, archive] for table in tables_of(session, archive) if table != JOURNAL
        ]
    leaving: list[Step] = []
    coming: list[Step] = []
    back = _map(journal)
    for prod, parallel in back.items():
        if there := tables_of(session, parallel) if schema_exists(session, parallel) else []:
            raise DestinationNotEmpty(
                f"{parallel} was filled anew: it holds {there[0]}",
                hint=f"rename it first: rename_schema('{parallel}', '{parallel}_2')",
            )
        pairs += [[parallel, table, prod] for table in tables_of(session, prod)]
        programs = read_programs(session, prod)
        coming += [come_step(program) for program in programs]
        leaving += [leave_step(program, back) for program in reversed(programs)]
    # The steps are as if all this had been there at the cutover, because they will be undone. What
    # went from production to the archives goes back as the journal has it.
    steps: list[Step] = []
    for step in journal.steps:
        schema = step["program"]["schema"] if "program" in step else None
        if step["kind"] == "rename":
            steps += [*leaving, {**step, "pairs": pairs}]
        elif schema is not None and schema not in archives:
            continue
        else:
            steps.append(step)
    at = next(index for index, step in enumerate(steps) if step["kind"] == "lineage")
    journal.steps = [*steps[:at], *coming, *steps[at:]]
