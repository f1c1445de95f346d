"""ALTER TABLE by the cheapest way the server has, and which way that will be, said beforehand."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from datajoint_migrate._core import quote
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.errors import ServerError
from datajoint_migrate.limits import LIMITS

logger = logging.getLogger("datajoint_migrate")

Algorithm = Literal["INSTANT", "INPLACE", "COPY"]
Change = Literal["comment", "add", "exchange"]
ALGORITHMS: tuple[Algorithm, ...] = ("INSTANT", "INPLACE", "COPY")

# The server cannot do it that way: unsupported, wrong combination, too many instant changes.
NOT_THAT_WAY = {1221, 1845, 1846, 1847, 4092, 4158}


def expected(
    session: Session, table: Table, change: Change, columns: Sequence[str] = ()
) -> Algorithm:
    """How the server will change the table: INSTANT, INPLACE (rebuilt, usable meanwhile) or COPY.

    `change` is "comment" (of `columns`), "add" (a JSON column after another) or "exchange" (an
    external column, its key and index go, its JSON successor takes the place).
    """
    made = [column for column in table.columns if column.generated]
    if session.is_mariadb:
        if change == "comment":
            stored = {column.name for column in made if "STORED" in column.extra.upper()}
            return "COPY" if stored & set(columns) else "INSTANT"
        if change == "add":
            return "COPY" if made else "INSTANT"
        return "COPY" if made else "INPLACE"
    if change == "comment":
        return "INSTANT"
    if change == "add":
        plain = session.version >= (8, 0, 29) and "FULLTEXT KEY" not in table.create
        return "INSTANT" if plain and "ROW_FORMAT=COMPRESSED" not in table.create else "INPLACE"
    return "INPLACE"


def statement(table: Table, clauses: Sequence[str], algorithm: Algorithm) -> str:
    """One ALTER TABLE with all the clauses."""
    name = quote(table.schema, table.name)
    return f"ALTER TABLE {name} {', '.join(clauses)}, ALGORITHM={algorithm}"


def alter(
    session: Session, table: Table, clauses: Sequence[str], first: Algorithm = "INSTANT"
) -> Algorithm:
    """Run one ALTER, the cheapest way from `first` on that the server takes; returns which."""
    for algorithm in ALGORITHMS[ALGORITHMS.index(first) :]:
        sql = statement(table, clauses, algorithm)
        seconds = None if algorithm == "INSTANT" else LIMITS.rebuild_lock_seconds
        try:
            patiently(session, sql, seconds)
        except ServerError as error:
            if error.context.get("errno") not in NOT_THAT_WAY or algorithm == "COPY":
                raise
            logger.info("%s: %s", sql, error.message)
        else:
            logger.info("%s", sql)
            return algorithm
    raise AssertionError("COPY returns or raises")
