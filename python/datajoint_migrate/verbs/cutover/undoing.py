"""A journal gone back to its beginning, with no trace of it left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from datajoint_migrate._core import quote
from datajoint_migrate.call.state import doubt
from datajoint_migrate.catalog.names import RENAMING, SYNC
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import MigrationError, NotReady, ServerError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover.actions import (
    Step,
    create_schema,
    drop_if_empty,
    put_back,
    tables_of,
)
from datajoint_migrate.verbs.cutover.changes import Name
from datajoint_migrate.verbs.cutover.hold import DoubtfulError, Ready
from datajoint_migrate.verbs.cutover.moves import Journal, forget, go_back, go_on
from datajoint_migrate.words import verb

# The tablespace is missing; the table does not exist in the engine.
FILE_MISSING = (1812, 1932)


def carry_out(
    session: Session,
    journal: Journal,
    ready: Ready | None = None,
    look_again: Callable[[list[Name]], None] | None = None,
    *,
    begins_with: bool = False,
    proves: Collection[str] = (),
    evicts: bool = False,
) -> None:
    """Do what is left of the work; what the server refuses undoes everything, then is raised.

    `ready` looks while all is locked. Tables that it doubts are given to `look_again`, which
    proves them or raises; with `begins_with` all are, before anything is locked for the exchange.
    `proves` and `evicts` as in `go_on`.
    """
    try:
        _try(session, journal, ready, look_again, begins_with, proves, evicts)
    except MigrationError as error:
        # A last look may have left some to the exchange that did not come.
        session.execute("UNLOCK TABLES")
        said = len(journal.notes)
        try:
            rows, _ = finish_undoing(session, journal)
        except MigrationError as second:
            raise ServerError(
                f"{error.message}; undoing it failed too: {second.message}",
                hint=f"the journal is {journal.schema}.{RENAMING}: remove the cause and call"
                " rollback with that schema",
                context=error.context | {"journal": journal.schema},
            ) from error
        lost = journal.notes[said:] + [
            f"{table} has {count:+,} {verb(abs(count), 'row', 'rows')}: statements that had waited"
            " for the exchange did that"
            for table, count in rows.items()
        ]
        if lost:
            error.message += "; everything is put back, but: " + "; ".join(lost)
            error.context["notes"] = lost
        else:
            error.message += "; everything is as it was before"
        raise


def _try(
    session: Session,
    journal: Journal,
    ready: Ready | None,
    look_again: Callable[[list[Name]], None] | None,
    begins_with: bool,
    proves: Collection[str],
    evicts: bool,
) -> None:
    doubted: list[Name] = []
    last = (lambda: look_again([])) if look_again is not None and begins_with else None
    for looks in range(LIMITS.looks):
        try:
            return go_on(session, journal, ready, last, proves, evicts)
        except DoubtfulError as doubt:
            doubted, last = doubt.tables, None
            if look_again is not None and looks + 1 < LIMITS.looks:
                look_again(doubted)
    names = ", ".join(".".join(table) for table in doubted)
    raise NotReady(
        f"production does not come to rest: {names}",
        hint="end every client of these schemas, then the same call again",
        context={"tables": [".".join(table) for table in doubted]},
    )


def prove_opening(session: Session, journal: Journal) -> None:
    """Raises `ServerError` when the server knows a table and does not find its file.

    MySQL leaves that when it was ended inside the RENAME, of names with `#` or `~`: it finds the
    files at its next start after an orderly end.
    """
    schemas = sorted({name for step in journal.steps for name in _places(step)})
    for schema, tables in tables_of(session, schemas).items():
        for table in tables:
            try:
                session.query(f"SELECT 1 FROM {quote(schema, table)} LIMIT 1")
            except MigrationError as error:
                if error.context.get("errno") not in FILE_MISSING:
                    raise
                raise ServerError(
                    f"the server does not find the file of {schema}.{table}: it was ended inside"
                    " the RENAME and needs one more orderly restart",
                    hint="restart the server in order (systemctl restart, or SHUTDOWN and start),"
                    " then the same call again: it goes on where this one stands",
                    context=error.context | {"schema": schema, "table": table},
                ) from error


def _places(step: Step) -> set[str]:
    pairs = step["pairs"] if step["kind"] == "rename" else ()
    return {name for old, _, new in pairs for name in (old, new)}


def finish_undoing(
    session: Session, journal: Journal, ready: Ready | None = None
) -> tuple[dict[str, int], list[str]]:
    """Go back to the first step, count what is new, and leave no trace of the journal."""
    if journal.verb != "cutover":
        create_schema(session, journal.facts["old"], *journal.facts["charset"])
        go_back(session, journal, ready)
        prove_opening(session, journal)
        journal.notes += put_back(session, journal.steps)
        _leave(session, journal.schema)
        return {}, []
    go_back(session, journal, ready)
    prove_opening(session, journal)
    journal.notes += put_back(session, journal.steps)
    rows, tables = written(session, journal)
    if journal.facts.get("rolled_back"):
        for parallel in journal.facts["schema_map"].values():
            doubt(session, parallel)
    archives = list(journal.facts["archives"].values())
    # The journal goes last: until then the same call finds it.
    for archive in reversed(archives):
        _leave(session, archive)
    return rows, tables


def _leave(session: Session, schema: str) -> None:
    if schema_exists(session, schema) and not drop_if_empty(session, schema, but=RENAMING):
        forget(session, schema)


def written(
    session: Session, journal: Journal, places: Mapping[str, str] | None = None
) -> tuple[dict[str, int], list[str]]:
    """Rows and tables that parallel schemas have more than at the cutover, or fewer.

    `places` says where they stand now, by default where they belong.
    """
    rows: dict[str, int] = {}
    new = []
    stands = {
        parallel: (places or {}).get(parallel, parallel) for parallel in journal.facts["rows"]
    }
    tables = tables_of(session, stands.values())
    for parallel, counts in journal.facts["rows"].items():
        place = stands[parallel]
        for table in tables[place]:
            if table not in counts and table != SYNC:
                new.append(f"{parallel}.{table}")
            if counts.get(table) is None:
                continue
            now = int(session.query(f"SELECT COUNT(*) FROM {quote(place, table)}")[0][0])
            if now != counts[table]:
                rows[f"{parallel}.{table}"] = now - counts[table]
    return rows, new
