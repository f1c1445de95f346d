"""A journal gone back to its beginning, with no trace of it left."""

from __future__ import annotations

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.errors import MigrationError, ServerError
from datajoint_migrate.steps.actions import create_schema, drop_if_empty, tables_of
from datajoint_migrate.steps.ends import schema_exists
from datajoint_migrate.steps.moves import JOURNAL, Journal, forget, go_back, go_on


def carry_out(session: Session, journal: Journal) -> None:
    """Do what is left of the work; what the server refuses undoes everything, then is raised."""
    try:
        go_on(session, journal)
    except MigrationError as error:
        try:
            finish_undoing(session, journal)
        except MigrationError as second:
            raise ServerError(
                f"{error.message}; undoing it failed too: {second.message}",
                hint=f"the journal is {journal.schema}.{JOURNAL}: remove the cause and call"
                " rollback with that schema",
                context=error.context | {"journal": journal.schema},
            ) from error
        error.message += "; everything is as it was before"
        raise


def finish_undoing(session: Session, journal: Journal) -> tuple[dict[str, int], list[str]]:
    """Go back to the first step, count what is new, and leave no trace of the journal."""
    if journal.verb != "cutover":
        create_schema(session, journal.facts["old"], *journal.facts["charset"])
        go_back(session, journal)
        _leave(session, journal.schema)
        return {}, []
    go_back(session, journal)
    rows, tables = _written(session, journal)
    archives = list(journal.facts["archives"].values())
    # The journal goes last: until then the same call finds it.
    for archive in reversed(archives):
        _leave(session, archive)
    return rows, tables


def _leave(session: Session, schema: str) -> None:
    if schema_exists(session, schema) and not drop_if_empty(session, schema, but=JOURNAL):
        forget(session, schema)


def _written(session: Session, journal: Journal) -> tuple[dict[str, int], list[str]]:
    rows: dict[str, int] = {}
    new = []
    for parallel, counts in journal.facts["rows"].items():
        for table in tables_of(session, parallel):
            if table not in counts:
                new.append(f"{parallel}.{table}")
            if counts.get(table) is None:
                continue
            now = int(session.query(f"SELECT COUNT(*) FROM {quote(parallel, table)}")[0][0])
            if now != counts[table]:
                rows[f"{parallel}.{table}"] = now - counts[table]
    return rows, new
