"""Where a migration stands, out of what its servers hold: the same for whoever looks."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends, check_names, open_ends
from datajoint_migrate.call.marks import Mark, Name, marks
from datajoint_migrate.call.state import State
from datajoint_migrate.call.state import read_state as state_of_copy
from datajoint_migrate.call.turn import is_taken
from datajoint_migrate.catalog.leftovers import old_named_by_keys
from datajoint_migrate.catalog.names import (
    JOURNAL,
    LAID_ASIDE,
    MAKING,
    NEW,
    OLD,
    POSTPONED,
    RECORD,
)
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import InvalidArgument, MigrationError
from datajoint_migrate.results import SchemaStatus, StatusResult
from datajoint_migrate.verbs.backup.record import read_record
from datajoint_migrate.verbs.cutover.moves import (
    DOING,
    DONE,
    Journal,
    all_journals,
    has_renamed,
    without_triggers,
)
from datajoint_migrate.verbs.move.sync import sync

UNFINISHED = (MAKING, JOURNAL, POSTPONED, LAID_ASIDE)

# State of a schema → what comes next, and why.
NEXT = {
    "missing": ("dj-migrate inspect", "this user sees no such schema in production"),
    "not begun": ("dj-migrate run", "there is no copy yet"),
    "copying": ("dj-migrate run", "the copy is at work, or goes on from where it was"),
    "copied": ("dj-migrate cutover", "shows every check before anything changes places"),
    "cutting over": ("dj-migrate cutover --execute", "finishes it; rollback undoes it"),
    "cut over": (
        "dj-migrate rollback",
        "shows what an undoing would do, while the archive is there",
    ),
    "rolling back": ("dj-migrate rollback --execute", "finishes it"),
}


def status(
    schema_map: Mapping[str, str],
    *,
    connection: Any = None,
    dest_connection: Any = None,
    count: bool = False,
) -> StatusResult:
    """Where each schema of a map stands, and which command comes next.

    Everything is read from the servers, so a colleague at another desk sees the same; nothing is
    changed, and no row of production is read, unless `count` asks for the number of rows that a
    `sync` would write (it reads what may have changed).

    Returns `schemas`, `next` (the command that the furthest behind of them needs) and `time_taken`.
    Each of `schemas` has `source`, `destination`, `state` (missing, not begun, copying, copied,
    cutting over, cut over, rolling back), `at_work` (a call is at it now), `copied` (None or `at`,
    `tables`), `progress` (None or `tables`, `chunks`, `chunks_done`, `rows`, of what is being
    copied), `backups` (`place`, `at`, `rows`, `proved`: those on the two servers, archives
    elsewhere are not known), `cutover` (None or `at`, `archive`, `steps`, `steps_done`), `compared`
    (None or when all of it was last equal to production), `behind` (None where the copy remembers
    nothing of itself; or `tables`, those that may have changed since, and `rows`, None unless
    counted), `rolled_back` (None or when a cutover was undone last), `next` and `why`. Times are
    UTC, as the server keeps them, to the second. Raises `InvalidArgument`.
    """
    began = time.monotonic()
    names = dict(schema_map)
    if not names:
        raise InvalidArgument("schema_map is empty", hint="give {'my_lab': 'my_lab_v20'}")
    with open_ends(connection, dest_connection, looking=True) as ends:
        check_names(names, ends.same_server, ends.folds)
        ends.spell(names)
        look = _Look(ends, names)
        schemas = [_schema(look, source, destination) for source, destination in names.items()]
    if count:
        _count(schemas, connection, dest_connection)
    order = list(NEXT)
    least = min(schemas, key=lambda one: order.index(str(one["state"])))
    return {
        "schemas": schemas,
        "next": least["next"],
        "time_taken": time.monotonic() - began,
    }


class _Look:
    """What both servers are asked once, whatever the number of schemas."""

    def __init__(self, ends: Ends, schema_map: Mapping[str, str]) -> None:
        self.source, self.destination = ends.source, ends.destination
        self.schema_map = schema_map
        self.journals = _cutovers(ends.destination)
        self.backups = _backups(ends.destination)
        if not ends.same_server:
            self.backups = _backups(ends.source) + self.backups
        self.here = _tables(ends.source, schema_map)
        self.there = _tables(ends.destination, [*schema_map, *schema_map.values()])
        self.named = old_named_by_keys(ends.destination, schema_map.values())

    @cached_property
    def marks(self) -> dict[Name, Mark]:
        """When tables of production were last written to."""
        return marks(self.source, self.schema_map)


def _schema(look: _Look, name: str, parallel: str) -> SchemaStatus:
    destination = look.destination
    tables = look.there[parallel]
    journal = next(
        (one for one in look.journals if one.facts["schema_map"].get(name) == parallel), None
    )
    unfinished = [table for table in UNFINISHED if table in tables]
    own = _own(tables)
    state = _state(look, name, journal, own, unfinished)
    copied: dict[str, Any] | None = None
    if state in ("copied", "cutting over"):
        copied = _copied(own)
    elif state == "cut over":
        copied = _copied(_own(look.there[name]))
    known = state_of_copy(destination, parallel) if state == "copied" else None
    behind = _behind(look, name, known) if known else None
    command, why = NEXT[state]
    undone = known.rolled_back if known else None
    if known and undone and (_compared(known) or "") < undone:
        command = "dj-migrate sync"
        why = f"rolled back at {undone}; it compares everything and names what 2.x has written"
    elif behind and behind["tables"]:
        command, why = "dj-migrate sync", "production may have changed since the copy was equal"
    left = {table for table in tables if table.startswith((NEW, OLD))}
    if state == "copied":
        left |= look.named.get(parallel, set())
    if state == "copied" and left:
        command = "dj-migrate sync"
        why = f"a sync was interrupted and goes on: {parallel} has {', '.join(sorted(left))}"
    if journal is not None and (gone := without_triggers(destination, journal)):
        why += f"; until then writers run none of {', '.join(gone)}, which it has dropped"
    return {
        "source": name,
        "destination": parallel,
        "state": state,
        "at_work": is_taken(destination, parallel),
        "copied": copied,
        "progress": _progress(destination, parallel) if JOURNAL in unfinished else None,
        "backups": [said for of, said in look.backups if of == name],
        "cutover": None if journal is None else _cutover(journal, name),
        "compared": _compared(known) if known else None,
        "behind": behind,
        "rolled_back": undone,
        "next": command,
        "why": why,
    }


def _behind(look: _Look, name: str, known: State) -> dict[str, Any]:
    """Tables of which nothing proves that they are as they were when the copy was equal."""
    tables = [
        table
        for table in sorted(_own(look.here[name]))
        if table not in known.heads
        or (name, table) not in look.marks
        or not look.marks[name, table].is_as(known.heads[table].source)
    ]
    return {"tables": tables, "rows": None}


def _compared(known: State) -> str | None:
    """When the last of its tables was proved equal that was proved longest ago."""
    times = [head.at for head in known.heads.values()]
    return min(times) if times and all(times) else None


def _count(schemas: list[SchemaStatus], connection: Any, dest_connection: Any) -> None:
    copied = {one["source"]: one for one in schemas if one["behind"]}
    if not copied:
        return
    done = sync(
        {name: one["destination"] for name, one in copied.items()},
        connection=connection,
        dest_connection=dest_connection,
        dry_run=True,
    )
    for name, one in copied.items():
        counted = [
            (table.partition(".")[2], found["inserted"] + found["updated"] + found["deleted"])
            for table, found in done["tables"].items()
            if table.partition(".")[0] == name
        ]
        behind = [table for table, rows in counted if rows]
        one["behind"] = {"tables": behind, "rows": sum(rows for _, rows in counted)}


def _state(
    look: _Look,
    name: str,
    journal: Journal | None,
    own: Mapping[str, Any],
    unfinished: list[str],
) -> str:
    if journal is not None:
        if journal.state == DONE:
            return "cut over"
        if journal.state != DOING:
            return "rolling back"
        # Before the tables change places it is nothing yet: the same call begins anew.
        if (
            journal.position
            or has_renamed(look.destination, journal)
            or without_triggers(look.destination, journal)
        ):
            return "cutting over"
    if not look.here[name]:
        return "missing"
    if unfinished:
        return "copying"
    return "copied" if own else "not begun"


def _tables(session: Session, schemas: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """By schema its tables and when each was made."""
    found: dict[str, dict[str, str | None]] = {schema: {} for schema in schemas}
    for schema, table, at in of_schemas(
        session,
        "SELECT TABLE_SCHEMA, TABLE_NAME, CREATE_TIME FROM information_schema.TABLES"
        " WHERE {TABLE_SCHEMA} AND TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW')",
        found,
    ):
        found[schema][str(table)] = _time(at)
    return found


def _own(tables: Mapping[str, str | None]) -> dict[str, str | None]:
    """Those that are not DataJoint's or this package's own."""
    return {table: at for table, at in tables.items() if not table.startswith("~")}


def _copied(tables: Mapping[str, str | None]) -> dict[str, Any]:
    times = [at for at in tables.values() if at is not None]
    return {"at": max(times, default=None), "tables": len(tables)}


def _time(at: Any) -> str | None:
    return at.isoformat(sep=" ", timespec="seconds") if isinstance(at, datetime.datetime) else None


def _progress(session: Session, schema: str) -> dict[str, int]:
    tables, chunks, done, rows = session.query(
        "SELECT COUNT(DISTINCT table_name), COUNT(*), COALESCE(SUM(done), 0),"
        f" COALESCE(SUM(row_count), 0) FROM {quote(schema, JOURNAL)}"
    )[0]
    return {
        "tables": int(tables),
        "chunks": int(chunks),
        "chunks_done": int(done),
        "rows": int(rows),
    }


def _cutovers(session: Session) -> list[Journal]:
    return [one for one in all_journals(session) if one.verb == "cutover"]


def _cutover(journal: Journal, name: str) -> dict[str, Any]:
    archive = journal.facts["archives"].get(name)
    at = journal.facts.get("at")
    return {
        "at": at if isinstance(at, str) else None,
        "archive": archive,
        "steps": len(journal.steps),
        "steps_done": len(journal.steps) if journal.state == DONE else journal.position,
    }


def _backups(session: Session) -> list[tuple[str, dict[str, Any]]]:
    """Backups on this server: the schema each is of, and what its record says."""
    found = []
    for schema, at in session.query(
        "SELECT TABLE_SCHEMA, CREATE_TIME FROM information_schema.TABLES WHERE TABLE_NAME = %s",
        (RECORD,),
    ):
        try:
            record = read_record(session, str(schema))
        except MigrationError:
            # Not one of ours, or of another version: whoever names it is told why.
            continue
        if record is None:
            continue
        proved = record.finished and all(kept.digest for kept in record.tables.values())
        said = {
            "place": str(schema),
            "at": _time(at),
            "rows": sum(kept.rows or 0 for kept in record.tables.values()) if proved else None,
            "proved": proved,
        }
        found.append((record.source, said))
    return found
