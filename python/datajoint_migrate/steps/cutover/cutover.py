"""Production and its parallel schemas change places, all at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from datajoint_migrate.catalog.connection import Session, resolve
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.errors import InvalidArgument, MigrationError, NotReady
from datajoint_migrate.steps.cutover.actions import (
    Step,
    come_step,
    create_schema,
    leave_step,
    lineage_step,
    rename_step,
    tables_of,
)
from datajoint_migrate.steps.cutover.fence import fence_of, unfenced
from datajoint_migrate.steps.cutover.moves import (
    DOING,
    DONE,
    Journal,
    all_journals,
    begin,
    our_turn,
)
from datajoint_migrate.steps.cutover.preflight import Before, check_again, check_all, missing_of
from datajoint_migrate.steps.cutover.rename import check_free, elsewhere, sentences
from datajoint_migrate.steps.cutover.undoing import carry_out, finish_undoing
from datajoint_migrate.steps.moving.ends import check_names

VERB = "cutover"


def cutover(
    schema_map: Mapping[str, str],
    *,
    suffix: str = "_old",
    archive_map: Mapping[str, str] | None = None,
    backups: Mapping[str, str] | None = None,
    tolerance: float = 1e-6,
    adapters: Mapping[str, str] | None = None,
    connection: Any = None,
    execute: bool = False,
) -> dict[str, Any]:
    """Put parallel schemas in production's place: {"lab": "lab_v20"}; production becomes lab_old.

    The checks of the migration guide run first, in every call. With `execute=True` and nothing
    missing, all tables of all schemas change places in one `RENAME TABLE`; triggers, views,
    routines and events are made anew under their new names, every `~lineage` gets the final names,
    and one column label a table keeps 0.14.6 clients out of the new schemas, which 2.x clients
    do not notice. Grants belong to names, so whoever could use `lab` can use it now.

    `archive_map` names the schemas production goes to, by default its name with `suffix`;
    `backups` says for each production schema where its backup is (`backup_schema`).

    A call that was killed is finished by the same call, or undone by `rollback(schema_map)`. The
    journal is the hidden table `~rename_journal` of the first archive, and stays there: as long as
    it does, `rollback` can undo the cutover.

    Returns `executed`, `tables_renamed`, `checks` (dicts with `name`, `ok`, `detail`), `missing`
    (sentences), `plan`, `journal` (schema it is in), `archives`, `notes`, `time_taken`. Raises
    `NotReady` when `execute=True` and something is missing, `NotFound`, `InvalidArgument`, and
    `ServerError` when the server refuses a step; then everything is as it was.
    """
    began = time.monotonic()
    schemas = dict(schema_map)
    archives = _archives(schemas, suffix, archive_map)
    server = resolve(connection)
    with our_turn(server, looking=not execute) as session:
        journal = _begun(session, schemas, archives, execute)
        if journal is not None:
            if execute and journal.state == DOING:
                carry_out(session, journal)
            return _result(journal, [], began)
        before = Before(
            session, schemas, archives, backups or {}, adapters, tolerance, _own(connection)
        )
        before.read()
        checks = check_all(before)
        checks.append(_archives_free(session, archives))
        plan = _plan(before)
        result = _result(plan, checks, began)
        if not execute:
            return result
        if not missing_of(checks):
            checks = _renewed(checks, check_again(before))
        if missing := missing_of(checks):
            raise NotReady(
                "not ready for the cutover: " + "; ".join(missing),
                hint="nothing was changed; call without execute=True to see all checks",
                context={"missing": missing, "checks": checks},
            )
        for prod, archive in archives.items():
            schema = before.schemas[prod]
            create_schema(session, archive, schema.charset, schema.collation)
        begin(session, plan)
        carry_out(session, plan)
        return _result(plan, checks, began)


def place_steps(
    session: Session, schema_map: Mapping[str, str], archives: Mapping[str, str]
) -> list[Step]:
    """Steps by which programs leave, tables change places, and programs come back."""
    old, new = dict(archives), {parallel: prod for prod, parallel in schema_map.items()}
    leaving = [program for name in (*old, *new) for program in read_programs(session, name)]
    pairs = [
        (name, table, there) for name, there in old.items() for table in tables_of(session, name)
    ]
    pairs += [
        (name, table, there) for name, there in new.items() for table in tables_of(session, name)
    ]
    return [
        *(leave_step(program) for program in reversed(leaving)),
        rename_step(pairs),
        *(come_step(program, old if program.schema in old else new) for program in leaving),
    ]


def _plan(before: Before) -> Journal:
    session = before.session
    steps: list[Step] = []
    notes = before.notes + [
        f"{line}; it reads what has that name"
        for line in elsewhere(session, before.names, before.names)
    ]
    for prod, parallel in before.pairs():
        steps += [step for table in parallel.tables.values() if (step := fence_of(table))]
        notes += [
            f"{parallel.name}.{table} has no column that can carry the fence: 0.14.6 can read and"
            " write it"
            for table in unfenced(parallel)
        ]
        if prod.collation != parallel.collation:
            steps.append(
                {
                    "kind": "charset",
                    "schema": prod.name,
                    "before": [prod.charset, prod.collation],
                    "after": [parallel.charset, parallel.collation],
                }
            )
    steps += place_steps(session, before.schema_map, before.archives)
    final = {parallel: prod for prod, parallel in before.schema_map.items()}
    steps.append(lineage_step(session, final, before.archives))
    facts = {
        "schema_map": before.schema_map,
        "archives": before.archives,
        "rows": {
            parallel.name: {
                table: before.row_counts.get(parallel.name, {}).get(table)
                for table in parallel.tables
            }
            for _, parallel in before.pairs()
        },
        "tables": sum(len(step["pairs"]) for step in steps if step["kind"] == "rename"),
    }
    return Journal(next(iter(before.archives.values())), VERB, facts, steps, notes=notes)


def _archives(
    schema_map: dict[str, str], suffix: str, archive_map: Mapping[str, str] | None
) -> dict[str, str]:
    check_names(schema_map, True)
    chosen = dict(archive_map or {})
    if strange := set(chosen) - set(schema_map):
        raise InvalidArgument(f"archive_map names {sorted(strange)}, which schema_map does not")
    archives = {prod: chosen.get(prod, prod + suffix) for prod in schema_map}
    taken = {*schema_map, *schema_map.values()}
    if len({*archives.values()} | taken) < len(archives) + len(taken):
        raise InvalidArgument(
            f"the archives {sorted(archives.values())} are not all names of their own",
            hint="give another suffix, or archive_map={'lab': 'lab_0146'}",
        )
    return archives


def _begun(
    session: Session, schema_map: dict[str, str], archives: dict[str, str], execute: bool
) -> Journal | None:
    """The journal of the same cutover, begun or done; raises for another one in its way."""
    for journal in all_journals(session):
        if journal.verb != VERB:
            continue
        theirs = journal.facts["schema_map"]
        if not set(theirs) & set(schema_map):
            continue
        if theirs != schema_map or journal.facts["archives"] != archives:
            raise InvalidArgument(
                f"the journal in {journal.schema} is of another cutover: {theirs}",
                hint=f"finish it or undo it first, by cutover or rollback with {theirs}",
            )
        if journal.state in (DOING, DONE):
            return journal
        if execute:
            finish_undoing(session, journal)
            return None
        return journal
    return None


def _archives_free(session: Session, archives: dict[str, str]) -> dict[str, Any]:
    problems = []
    for name in archives.values():
        try:
            check_free(session, name)
        except MigrationError as error:
            problems.append(str(error))
    detail = problems or ["production has a place to go to"]
    return {"name": "archives", "ok": not problems, "detail": detail}


def _renewed(checks: list[dict[str, Any]], again: list[dict[str, Any]]) -> list[dict[str, Any]]:
    newest = {check["name"]: check for check in again}
    return [newest.get(check["name"], check) for check in checks]


def _own(connection: Any) -> tuple[int, ...]:
    """The caller's own DataJoint session, through which nothing can happen meanwhile."""
    number = getattr(connection, "connection_id", None)
    return (number,) if isinstance(number, int) else ()


def _result(journal: Journal, checks: list[dict[str, Any]], began: float) -> dict[str, Any]:
    missing = missing_of(checks)
    if journal.position and journal.state not in (DONE, DOING):
        missing.append("an undoing was interrupted: call rollback with execute=True")
    elif journal.position and journal.state == DOING:
        missing.append("a cutover was interrupted: call again with execute=True, or rollback")
    done = journal.state == DONE
    return {
        "executed": done,
        "tables_renamed": journal.facts["tables"] if done else 0,
        "checks": checks,
        "missing": missing,
        "plan": sentences(journal.steps),
        "journal": journal.schema,
        "archives": journal.facts["archives"],
        "notes": journal.notes,
        "time_taken": time.monotonic() - began,
    }
