"""One call at a time works on a destination: a lock of its server, which dies with the call."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable

from datajoint_migrate.catalog.presence import schemas_there
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import DestinationBusy
from datajoint_migrate.limits import LIMITS


def take_turn(destination: Session, schemas: Iterable[str]) -> None:
    """Keep other calls off these schemas until the session ends, before anything is written.

    Raises `DestinationBusy` when another call is at work on one of them, and `ServerError` when
    the server takes no writes at all.
    """
    # Refused by a read-only server, unless this user may write there nevertheless.
    destination.execute("START TRANSACTION READ WRITE")
    destination.execute("COMMIT")
    # In one order, so that no two calls wait for each other.
    names = {destination.folded(schema): schema for schema in schemas}
    for folded, schema in sorted(names.items()):
        name = _lock(folded)
        if not destination.query("SELECT GET_LOCK(%s, %s)", (name, LIMITS.turn_seconds))[0][0]:
            raise _busy(destination, schema, name)


def note_reading(source: Session, schemas: Iterable[str]) -> None:
    """Let whoever would rename these schemas know that they are read, until the session ends."""
    # What is not seen now has not gone when it is not seen later.
    for schema in sorted(schemas_there(source, set(schemas))):
        source.reads.append(schema)
        for name in _reading(source.folded(schema)):
            if source.query("SELECT GET_LOCK(%s, 0)", (name,))[0][0]:
                break


def take_turn_alone(session: Session, schemas: Iterable[str]) -> None:
    """As `take_turn`, and nobody copies out of these schemas either: they are about to be renamed.

    Raises `DestinationBusy`.
    """
    wanted = list(schemas)
    take_turn(session, wanted)
    # As above, for a call that has ended the server may still be ending its session.
    until = time.monotonic() + LIMITS.turn_seconds
    for schema in wanted:
        names = _reading(session.folded(schema))
        asked = f"SELECT {', '.join(['IS_USED_LOCK(%s)'] * len(names))}"
        while held := [
            n for n, by in zip(names, session.query(asked, names)[0], strict=True) if by
        ]:
            if time.monotonic() > until:
                raise _busy(session, schema, held[0])
            time.sleep(LIMITS.ended_moment)


def is_taken(session: Session, schema: str) -> bool:
    """Whether a call is at work on that schema now."""
    name = _lock(session.folded(schema))
    return session.query("SELECT IS_USED_LOCK(%s)", (name,))[0][0] is not None


def _reading(schema: str) -> list[str]:
    return [f"{_lock(schema)} {number}" for number in range(LIMITS.readers)]


def _lock(schema: str) -> str:
    # A lock's name has 64 characters at most, as a schema's has, and knows no case.
    return "datajoint_migrate " + hashlib.sha256(schema.encode()).hexdigest()[:40]


def _busy(session: Session, schema: str, lock: str) -> DestinationBusy:
    holder = session.query("SELECT IS_USED_LOCK(%s)", (lock,))[0][0]
    seen = session.query(
        "SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE ID = %s", (holder,)
    )
    # Other users' sessions are shown to those with PROCESS only.
    who = f"{seen[0][0]}@{seen[0][1]}, " if seen else ""
    return DestinationBusy(
        f"another call is at work on {schema!r}: {who}connection {holder}",
        hint="wait until it has ended; if its client is gone and the server has not noticed yet, "
        f"KILL {holder} ends it",
        context={
            "schema": schema,
            "connection_id": holder,
            "user": str(seen[0][0]) if seen else None,
            "host": str(seen[0][1]) if seen else None,
        },
    )
