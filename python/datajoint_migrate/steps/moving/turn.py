"""One call at a time works on a destination: a lock of its server, which dies with the call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.errors import DestinationBusy

# The session of a process that was killed a moment ago may still be there.
SECONDS = 5


def take_turn(destination: Session, schemas: Iterable[str]) -> None:
    """Keep other calls off these schemas until the session ends, before anything is written.

    Raises `DestinationBusy` when another call is at work on one of them, and `ServerError` when
    the server takes no writes at all.
    """
    # Refused by a read-only server, unless this user may write there nevertheless.
    destination.execute("START TRANSACTION READ WRITE")
    destination.execute("COMMIT")
    # In one order, so that no two calls wait for each other.
    for schema in sorted(set(schemas)):
        name = _lock(schema)
        if not destination.query("SELECT GET_LOCK(%s, %s)", (name, SECONDS))[0][0]:
            raise _busy(destination, schema, name)


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
