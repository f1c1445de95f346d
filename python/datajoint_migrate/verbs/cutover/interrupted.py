"""An exchange whose call was killed before it had looked who came in between.

MariaDB renames no locked table: its RENAME waits behind the locks, and whoever waits for a later
table may be let in first. What was written so is in production's archive, and its copy lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import read_schemas
from datajoint_migrate.errors import NotReady
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover.changes import Mark, Name, look
from datajoint_migrate.verbs.cutover.moves import MARKS, Journal
from datajoint_migrate.verbs.look.compare import Comparing


def prove_exchange(
    session: Session, journal: Journal, tolerance: float, adapters: Mapping[str, str] | None
) -> None:
    """Raises `NotReady` when a row of production was written last and is not in the new schemas.

    Tables that nobody wrote to, by what was noted under the locks, are not read.
    """
    noted = {(str(row[0]), str(row[1])): row[2:] for row in journal.facts.get(MARKS, ())}
    if not noted:
        return
    archives: dict[str, str] = journal.facts["archives"]
    now = look(session, archives.values())
    doubtful = [
        (schema, table)
        for (schema, table), said in noted.items()
        if schema in archives and not _is_as(said, now.get((archives[schema], table)))
    ]
    if lost := _lost(session, archives, doubtful, tolerance, adapters):
        names = ", ".join(lost)
        raise NotReady(
            f"{names} was written to while a cutover exchanged the tables that was killed then, and"
            " the new schemas lack that",
            hint="call rollback with execute=True: production is whole then; and the cutover again",
            context={"tables": lost},
        )


def _is_as(said: Any, now: Mark | None) -> bool:
    if now is None or now.updated is None:
        return False
    return list(said) == [now.number, now.updated.isoformat()]


def _lost(
    session: Session,
    archives: Mapping[str, str],
    tables: list[Name],
    tolerance: float,
    adapters: Mapping[str, str] | None,
) -> list[str]:
    if not tables:
        return []
    names = sorted({schema for schema, _ in tables})
    server = session.server
    with server.session(read_only=True) as source, server.session(read_only=True) as copy:
        read = read_schemas(source, [archives[name] for name in names])
        old = {name: read[archives[name]] for name in names}
        new = read_schemas(copy, names)
        ends = Ends(source, copy, True)
        wanted = [(old[schema], new[schema], table) for schema, table in tables]
        comparing = Comparing(ends, wanted, tolerance, adapters)
        comparing.run(ends, LIMITS.lanes, None)
    own = {archives[name]: name for name in names}
    return [
        f"{own[archive]}.{table}"
        for (archive, table), found in comparing.results.items()
        # What only the new table has was written to it after the exchange.
        if found["truncated"] or any(one["kind"] != "extra" for one in found["discrepancies"])
    ]
