"""Statements that need a table for themselves, without a queue behind them."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import MigrationError, ServerError
from datajoint_migrate.limits import LIMITS

logger = logging.getLogger("datajoint_migrate")

LOCKED = 1205


def patiently(session: Session, sql: str, seconds: float | None = None) -> None:
    """Run a statement that waits for everybody who uses a table, in slices.

    Whoever comes later waits behind one that waits, reader or writer. So it waits a second, lets
    all others pass, and is said again, for `seconds` of waiting in all. Time in which it works, as
    an ALTER that rebuilds a table does before its second wait, does not count.
    """
    rest = LIMITS.lock_seconds if seconds is None else seconds
    before = session.query("SELECT @@SESSION.lock_wait_timeout")[0][0]
    session.execute(f"SET SESSION lock_wait_timeout = {LIMITS.lock_slice_seconds}")
    try:
        while True:
            try:
                session.execute(sql)
            except ServerError as error:
                rest -= LIMITS.lock_slice_seconds + LIMITS.lock_turn_seconds
                if error.context.get("errno") != LOCKED or rest < 0:
                    raise
                logger.info("gives way: %s", sql)
            else:
                return
            time.sleep(LIMITS.lock_turn_seconds)
    finally:
        # The session may be gone, and that is said already.
        with suppress(MigrationError):
            session.execute(f"SET SESSION lock_wait_timeout = {before}")
