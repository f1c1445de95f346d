"""When tables were last written, as their server says, and when that may be believed."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.table_ids import place, table_ids
from datajoint_migrate.errors import PermissionMissing, ServerError
from datajoint_migrate.limits import LIMITS

Name = tuple[str, str]
# Of the parts of a table only the youngest tells its time.
IS_PARTED = "LOCATE('partitioned', CREATE_OPTIONS) > 0"
_TIMES = "CAST(CREATE_TIME AS CHAR), CAST(UPDATE_TIME AS CHAR)"
# MariaDB shows the same list of transactions until nobody has asked for it for so long
# (`CACHE_MIN_IDLE_TIME_NS`), and may be asked so often.
_OLD_SECONDS, _LISTS = 0.11, 3
# A local time may be two, an hour or half an hour apart, when clocks are put back.
_FOLD = 1800


@dataclass(frozen=True)
class Mark:
    """When a table was made and last written, as its server says; `settled` if that cannot hide a
    younger write. The engine's `number` of it, where it is told, shows what leaves both times: a
    TRUNCATE on MariaDB, IMPORT TABLESPACE on MySQL."""

    created: str | None
    updated: str | None
    settled: bool = False
    number: int | None = None

    @property
    def said(self) -> list[str] | None:
        """For the state: nothing unless it can be trusted later."""
        return self._told if self.settled else None

    def is_as(self, said: list[str] | None) -> bool:
        """Whether nobody has written since `said`. NULL says nothing: a restart, an eviction and a
        TRUNCATE all leave it."""
        return said is not None and self._told == said

    def over(self, later: Mark) -> list[str] | None:
        """What the state may say from the `later` look on, if nothing but a comment was changed in
        between, which renews the time at which the table was made; else None."""
        same = (self.updated, self.number) == (later.updated, later.number)
        return later._told if same else None

    @property
    def _told(self) -> list[str] | None:
        if self.created is None or self.updated is None:
            return None
        return [f"{self.created} {self.number or ''}".strip(), self.updated]


def marks(session: Session, schemas: Iterable[str], since: float | None = None) -> dict[Name, Mark]:
    """When each table was last written; settled are those that were not for a moment, and where
    something has been read already, not for the seconds `since` it was begun.

    Whoever looks first and reads then sees what had been written by the look. Whoever has read
    already learns nothing on MariaDB: there a write has the time at which its transaction was
    begun, though it is seen from the commit on.
    """
    found: dict[Name, Mark] = {}
    age = int(LIMITS.settled_seconds + (since or 0.0)) + 1
    is_mariadb = session.is_mariadb
    begun = begun_times(session) if is_mariadb and since is None else None
    numbers = table_ids(session)
    for schema, table, created, updated, settled, is_innodb, is_parted in of_schemas(
        session,
        f"SELECT TABLE_SCHEMA, TABLE_NAME, {_TIMES},"
        f" COALESCE(UPDATE_TIME < NOW() - INTERVAL {age} SECOND, FALSE),"
        f" ENGINE = 'InnoDB', {IS_PARTED} FROM information_schema.TABLES WHERE {{TABLE_SCHEMA}}",
        schemas,
    ):
        number = numbers.get(place(schema, str(table)))
        if settled and is_mariadb:
            settled = is_innodb and not is_parted and number is not None
            settled = settled and not may_come_again(begun, updated)
        found[schema, table] = Mark(_text(created), _text(updated), bool(settled), number)
    return found


def begun_times(session: Session) -> frozenset[str] | None:
    """When transactions that may still write were begun, as the session tells times; None if nobody
    tells: it takes PROCESS, and a server with InnoDB.

    MariaDB gives what such a one has written this time, whenever it ends (`trx_t::commit_tables`).
    A transaction that the session has open ends here.
    """
    session.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    # In the server's own time zone, whatever the session has.
    begun = "CONVERT_TZ(trx_started, 'SYSTEM', @@SESSION.time_zone)"
    try:
        for _ in range(_LISTS):
            found = session.query(
                f"SELECT {begun}, TIMESTAMPDIFF(SECOND, {begun}, NOW()), trx_is_read_only,"
                " trx_mysql_thread_id = CONNECTION_ID() FROM information_schema.INNODB_TRX"
            )
            if any(at is None for at, *_ in found):
                return None
            # This one is on the list only if it is a new list.
            if any(own and age % _FOLD <= LIMITS.settled_seconds for _, age, _, own in found):
                return frozenset(
                    str(at + datetime.timedelta(seconds=shift))
                    for at, _, reads, _ in found
                    if not reads
                    for shift in range(-2 * _FOLD, 2 * _FOLD + 1, _FOLD)
                )
            time.sleep(_OLD_SECONDS)
    except (PermissionMissing, ServerError):
        return None
    finally:
        session.execute("COMMIT")
    return None


def may_come_again(begun: frozenset[str] | None, updated: Any, is_parted: Any = False) -> bool:
    """Whether a transaction of those of `begun_times` may leave the time that a table has.

    Under the time of the youngest part of a table each of the others may be written to.
    """
    if begun is None:
        return True
    return any(at <= str(updated) for at in begun) if is_parted else str(updated) in begun


def seen(session: Session, schemas: Iterable[str]) -> dict[Name, Mark]:
    """The marks of tables, for who knows others that they may be like: they are never settled."""
    numbers = table_ids(session)
    return {
        (schema, str(table)): Mark(
            _text(created), _text(updated), number=numbers.get(place(schema, str(table)))
        )
        for schema, table, created, updated in of_schemas(
            session,
            f"SELECT TABLE_SCHEMA, TABLE_NAME, {_TIMES} FROM information_schema.TABLES"
            " WHERE {TABLE_SCHEMA}",
            schemas,
        )
    }


def _text(said: Any) -> str | None:
    return None if said is None else str(said)


def is_untouched(before: Mapping[Name, Mark], now: Mapping[Name, Mark]) -> bool:
    """True if it is proved that nobody has written to a table, nor made or dropped one."""
    return before.keys() == now.keys() and all(
        one.is_as(before[name].said) for name, one in now.items()
    )
