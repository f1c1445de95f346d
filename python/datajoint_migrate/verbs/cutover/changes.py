"""Was a table written to between two looks? What the server tells, and no more than that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from datajoint_migrate.call.marks import IS_PARTED, begun_times, may_come_again
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.table_ids import place, table_ids

Name = tuple[str, str]

# The server keeps whole seconds: a change in the second of the look leaves the same time.
REST = timedelta(seconds=2)


@dataclass(frozen=True)
class Mark:
    """What a table looked like: its number in the engine (a TRUNCATE gives a new one), when it was
    written to last, whether it had been at rest for long enough that a later change shows, and
    whether an `open` transaction may leave the same time with what it has written."""

    number: int | None
    updated: datetime | None
    rested: bool
    open: bool = False

    def proves(self, later: Mark) -> bool:
        """Whether nobody wrote to the table until the `later` look.

        A time that is missing is no answer: a restart, a full cache and a TRUNCATE all remove it.
        """
        return self.is_like(later) and self.updated is not None and not self.may_hide

    @property
    def may_hide(self) -> bool:
        """Whether a change after this look may leave the table as it looks."""
        return self.updated is not None and (self.open or not self.rested)

    def is_like(self, later: Mark) -> bool:
        """Whether nothing tells of a change: enough within moments, not over hours."""
        return (self.number, self.updated) == (later.number, later.updated)


def look(session: Session, schemas: Iterable[str], *, first: bool = False) -> dict[Name, Mark]:
    """The mark of every table of the schemas, for the `first` of two looks or for the second.

    At the first MariaDB is asked who has a transaction open, wherever it has been so far: there a
    write has the time at which its transaction was begun.
    """
    begun = begun_times(session) if session.is_mariadb and first else frozenset()
    # Without PROCESS other sessions are not seen either, and a cutover is refused for that.
    numbers = table_ids(session)
    rows = of_schemas(
        session,
        f"SELECT TABLE_SCHEMA, TABLE_NAME, UPDATE_TIME, NOW(), {IS_PARTED}"
        " FROM information_schema.TABLES"
        " WHERE {TABLE_SCHEMA} AND TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW')",
        schemas,
    )
    return {
        (schema, str(table)): Mark(
            numbers.get(place(schema, str(table))),
            updated,
            updated is not None and now - updated >= REST,
            may_come_again(begun, updated, is_parted),
        )
        for schema, table, updated, now, is_parted in rows
    }
