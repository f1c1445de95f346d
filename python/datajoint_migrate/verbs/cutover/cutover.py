"""Production and its parallel schemas change places, all at once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from itertools import chain
from typing import Any, Literal, cast

from datajoint_migrate.call.ends import check_names
from datajoint_migrate.call.throttle import Throttle
from datajoint_migrate.call.turn import take_turn_alone
from datajoint_migrate.catalog.names import NAME_CHARACTERS, SYNC
from datajoint_migrate.catalog.programs import Program, programs_of
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import InvalidArgument, MigrationError, NotReady
from datajoint_migrate.results import CutoverResult
from datajoint_migrate.verbs.cutover.actions import (
    Step,
    coming_steps,
    create_schema,
    leaving_around,
    lineage_step,
    rename_step,
    rights_left,
    tables_of,
)
from datajoint_migrate.verbs.cutover.fence import fence_of, unfenced
from datajoint_migrate.verbs.cutover.following import Following
from datajoint_migrate.verbs.cutover.interrupted import prove_exchange
from datajoint_migrate.verbs.cutover.moves import (
    DOING,
    DONE,
    Journal,
    all_journals,
    begin,
    has_renamed,
    our_turn,
    without_triggers,
)
from datajoint_migrate.verbs.cutover.preflight import (
    RENAME,
    Before,
    check_again,
    check_all,
    missing_of,
)
from datajoint_migrate.verbs.cutover.rename import check_free, elsewhere, sentences
from datajoint_migrate.verbs.cutover.undoing import carry_out, finish_undoing, prove_opening
from datajoint_migrate.verbs.cutover.watch import Watch

VERB = "cutover"


def cutover(
    schema_map: Mapping[str, str],
    *,
    suffix: str = "_old",
    archive_map: Mapping[str, str] | None = None,
    backups: Mapping[str, str] | Literal["rename"] | None = None,
    sync: bool = False,
    tolerance: float = 1e-6,
    adapters: Mapping[str, str] | None = None,
    end_sessions: bool = False,
    source_stores: Mapping[str, Any] | None = None,
    dest_stores: Mapping[str, Any] | None = None,
    max_bytes_per_second: int | None = None,
    max_load: str | None = None,
    pause_file: str | os.PathLike[str] | None = None,
    connection: Any = None,
    execute: bool = False,
) -> CutoverResult:
    """Put parallel schemas in production's place: {"lab": "lab_v20"}; production becomes lab_old.

    The checks of the migration guide run first, in every call. With `execute=True` and nothing
    missing, all tables of all schemas change places in one `RENAME TABLE`; triggers, views,
    routines and events are made anew under their new names, every `~lineage` gets the final names,
    and one column label a table keeps 0.14.6 clients out of the new schemas, which 2.x clients
    do not notice. Grants belong to names, so whoever could use `lab` can use it now. Both schemas
    are on the server of `connection`: names are exchanged within one server only.

    The last look happens while all tables are locked: a row that was written since the comparison
    is compared again, and if it is not in the copy nothing changes places. Sessions that have used
    the schemas, or may have, are named; `end_sessions=True` ends them. Until the tables change
    places production is whole.

    `archive_map` names the schemas production goes to, by default its name with `suffix`;
    `backups` says for each production schema where its backup is (`backup_schema`); "rename" says
    that production under its new name is all the backup there is to be.

    With `sync=True` production may be in use until then: the copies are brought up to date as
    `sync` does, again and again until that is short; then writers wait (readers do not) while the
    last sync runs and all is at rest, for 30 s at most, and the tables change places. Where it
    takes longer writers get production back, and nothing has changed. Rows are not compared once
    more: `proved` says when each table was, and how. A backup may be older then, and is proved to
    be what it was. `source_stores` and `dest_stores` as in `sync`.

    `max_bytes_per_second`, `max_load` and `pause_file` spare production while the checks read it
    (the backup, the comparison), as in `migrate`.

    A call that was killed is finished by the same call, or undone by `rollback(schema_map)`: one
    that was killed before the tables changed places begins anew, with all its checks. The
    journal is the hidden table `~rename_journal` of the first archive, and stays there: as long as
    it does, `rollback` can undo the cutover.

    Returns `executed`, `tables_renamed`, `checks` (dicts with `name`, `ok`, `detail`), `missing`
    (sentences), `plan`, `journal` (schema it is in), `archives`, `notes`, `proved` (with `sync`:
    "lab.table" → `how` as `sync` says it, `at`, `rows`), `window_seconds` (from the first lock
    until the tables had changed places, None before), `time_taken`. Raises `NotReady` when
    `execute=True` and something is missing, `NotFound`, `InvalidArgument`, and `ServerError` when
    the server refuses a step; then everything is as it was.
    """
    began = time.monotonic()
    throttle = Throttle(max_bytes_per_second, max_load, pause_file)
    schemas = dict(schema_map)
    if isinstance(backups, str) and backups != RENAME:
        raise InvalidArgument(
            f"backups is {backups!r}", hint="give {'lab': 'lab_backup'}, or 'rename'"
        )
    archives = _archives(schemas, suffix, archive_map)
    server = resolve(connection)
    with our_turn(server, looking=not execute) as session:
        # An archive called LAB may be lab itself to the server.
        check_names(schemas, True, session.folds)
        for archive in archives.values():
            # One that is too long is named by the checks.
            for name in (*schemas, *schemas.values()) if len(archive) <= NAME_CHARACTERS else ():
                check_names({name: archive}, True, session.folds)
        if execute:
            take_turn_alone(session, [*schemas, *schemas.values(), *archives.values()])
        journal = _begun(session, schemas, archives, execute)
        if journal is not None:
            if execute and journal.state == DOING:
                prove_opening(session, journal)
                prove_exchange(session, journal, tolerance, adapters)
                carry_out(session, journal)
            result = _result(journal, [], began)
            if gone := without_triggers(session, journal):
                result["missing"].append(
                    f"the cutover that was interrupted has dropped {', '.join(gone)}: what is"
                    " written meanwhile runs none of them; call again with execute=True, or"
                    " rollback"
                )
            return cast(CutoverResult, result)
        before = Before(
            session, schemas, archives, backups or {}, adapters, tolerance, _own(connection)
        )
        before.throttle = throttle
        if sync:
            before.following = Following(server, schemas, throttle, source_stores, dest_stores)
            if execute:
                before.following.hot()
        before.read()
        watch = Watch(before, end_sessions)
        checks = check_all(before)
        checks.append(_archives_free(session, archives))
        plan = _plan(before)
        if not execute:
            return cast(CutoverResult, _result(plan, checks, began, before))
        # Nobody is ended for a cutover that does not come, nor before it is time.
        required = [one for one in checks if not end_sessions or one["name"] != "sessions"]
        if not missing_of(required):
            if end_sessions and before.following is None:
                watch.end_sessions()
            checks = _renewed(checks, check_again(before))
        if end_sessions and before.following is not None:
            checks = [_ended_later(one) for one in checks]
        if missing := missing_of(checks):
            raise NotReady(
                "not ready for the cutover: " + "; ".join(missing),
                hint="nothing was changed; call without execute=True to see all checks",
                context={"missing": missing, "checks": checks},
            )
        if before.following is not None:
            # The checks may have taken hours.
            before.following.hot()
            before.following.refuse_declared()
        for prod, archive in archives.items():
            schema = before.schemas[prod]
            create_schema(session, archive, schema.charset, schema.collation)
        begin(session, plan)
        watch.journal = plan
        carry_out(
            session,
            plan,
            watch.ready,
            watch.look_again,
            begins_with=before.following is not None,
            # What comes to a copy that follows stays in it.
            proves=before.names if before.following is None else list(schemas),
            evicts=end_sessions and before.following is not None,
        )
        result = _result(plan, _proved_last(checks, before), began, before)
        return cast(CutoverResult, {**result, "notes": [*result["notes"], *watch.ended]})


def place_steps(
    session: Session,
    schema_map: Mapping[str, str],
    archives: Mapping[str, str],
    leaving: list[Program],
) -> list[Step]:
    """Steps by which programs leave, tables change places, and programs come back."""
    old, new = dict(archives), {parallel: prod for prod, parallel in schema_map.items()}
    tables = tables_of(session, [*old, *new])
    pairs = [(name, table, there) for name, there in old.items() for table in tables[name]]
    # What a sync remembers belongs to neither the pipeline nor production's name: it stays.
    pairs += [
        (name, table, there)
        for name, there in new.items()
        for table in tables[name]
        if table != SYNC
    ]
    return [*leaving_around(leaving, rename_step(pairs)), *coming_steps(leaving, old, new)]


def _plan(before: Before) -> Journal:
    session = before.session
    steps: list[Step] = []
    charsets: list[Step] = []
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
            charsets.append(
                {
                    "kind": "charset",
                    "schema": prod.name,
                    "before": [prod.charset, prod.collation],
                    "after": [parallel.charset, parallel.collation],
                }
            )
    programs = list(chain(*programs_of(session, before.names).values()))
    places = place_steps(session, before.schema_map, before.archives, programs)
    # Programs keep their schema's collation of when they were made: production's are put back, and
    # the new ones made, where it is right.
    at = next(index for index, step in enumerate(places) if step["kind"] == "rename") + 1
    steps += [*places[:at], *charsets, *places[at:]]
    final = {parallel: prod for prod, parallel in before.schema_map.items()}
    notes += rights_left(session, programs, final)
    steps.append(lineage_step(session, final, before.archives))
    facts = {
        "schema_map": before.schema_map,
        "archives": before.archives,
        "at": str(session.query("SELECT CAST(UTC_TIMESTAMP() AS CHAR)")[0][0]),
        "rows": before.counted(),
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
        if journal.state == DONE:
            return journal
        if journal.state == DOING and (not execute or has_renamed(session, journal)):
            return journal
        # Before the tables change places it is begun anew: what was checked then may be otherwise.
        if execute:
            prove_opening(session, journal)
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


def _ended_later(check: dict[str, Any]) -> dict[str, Any]:
    """Sessions in the way are ended when all is locked, and not before."""
    if check["name"] != "sessions" or check["ok"]:
        return check
    unseen = [line for line in check["detail"] if " lacks " in line]
    return check if unseen else {**check, "ok": True}


def _proved_last(checks: list[dict[str, Any]], before: Before) -> list[dict[str, Any]]:
    """The checks with what the very last sync has proved."""
    if before.following is None:
        return checks
    ok, detail = before.following.check()
    return _renewed(checks, [{"name": "comparison", "ok": ok, "detail": detail}])


def _own(connection: Any) -> tuple[int, ...]:
    """The caller's own DataJoint session, through which nothing can happen meanwhile."""
    number = getattr(connection, "connection_id", None)
    return (number,) if isinstance(number, int) else ()


def _result(
    journal: Journal, checks: list[dict[str, Any]], began: float, before: Before | None = None
) -> dict[str, Any]:
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
        "proved": before.following.proved if before and before.following else {},
        "window_seconds": journal.facts.get("window_seconds") if done else None,
        "time_taken": time.monotonic() - began,
    }
