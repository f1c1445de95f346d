"""How many connections a run takes, and whether its accounts and servers have as many left."""

from __future__ import annotations

import time

from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import ConnectionFailed
from datajoint_migrate.limits import LIMITS


def needed(lanes: int) -> tuple[int, int]:
    """How many connections the engine opens at most, at the source and at the destination.

    A lane has one at the source and two at the destination: one loads, one compares.
    """
    return lanes + LIMITS.connections_at_source, 2 * lanes + LIMITS.connections_at_destination


def check_connections(ends: Ends, lanes: int) -> None:
    """Raises `ConnectionFailed` when a run of so many lanes would be refused connections midway."""
    source, destination = needed(lanes)
    if ends.same_server and ends.source.server.user == ends.destination.server.user:
        _check(ends.source, source + destination, lanes)
        return
    _check(ends.source, source, lanes)
    _check(ends.destination, destination, lanes)


def check_reading(session: Session, lanes: int) -> None:
    """The same for what only reads, as an archive's writer does."""
    _check(session, needed(lanes)[0], lanes)


def check_loading(session: Session, lanes: int) -> None:
    """The same for what only loads, as an archive's reader does."""
    _check(session, needed(lanes)[1], lanes)


def _check(session: Session, more: int, lanes: int) -> None:
    short = _short(session, more, lanes)
    for _ in range(LIMITS.ended_moments):
        if short is None:
            return
        # A session that is just ending still counts.
        time.sleep(LIMITS.ended_moment)
        short = _short(session, more, lanes)
    if short is not None:
        raise short


def _short(session: Session, more: int, lanes: int) -> ConnectionFailed | None:
    """What is to be said if there is no room for so many more connections now."""
    limit, most = map(
        int, session.query("SELECT @@SESSION.max_user_connections, @@GLOBAL.max_connections")[0]
    )
    everybody = int(session.query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")[0][1])
    # Everybody may see the sessions of their own account.
    mine = sum(str(row[1]) == session.server.user for row in session.query("SHOW PROCESSLIST"))
    for allowed, used, name in (
        (limit, mine, "MAX_USER_CONNECTIONS of this account"),
        (most, everybody, "max_connections of the server"),
    ):
        if allowed and used + more > allowed:
            return ConnectionFailed(
                f"with lanes={lanes} this call takes {more} more connections to"
                f" {session.server.address}, where {used} are open: {name} is {allowed}",
                code="DJM-1206",
                hint=f"give fewer lanes, or let an administrator raise it to {used + more}",
                context={"needed": more, "open": used, "limit": allowed},
            )
    return None
