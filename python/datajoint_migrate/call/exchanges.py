"""Which schemas a cutover has exchanged: after it production's name is the copy's, which is 2.x."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.names import RENAMING
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import InvalidArgument, PermissionMissing, ServerError


def journals(session: Session) -> list[str]:
    """Schemas that hold a journal."""
    return [
        session.spelt(str(row[0]))
        for row in session.query(
            "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_NAME = %s", (RENAMING,)
        )
    ]


def cut_over(session: Session, schema_map: Mapping[str, str]) -> list[str]:
    """Schemas of production that a cutover by this map has exchanged and nothing has undone."""
    exchanged: dict[str, str] = {}
    for schema in journals(session):
        exchanged |= _exchanged(session, schema)
    return [
        prod
        for prod, parallel in schema_map.items()
        if exchanged.get(session.folded(prod)) == session.folded(parallel)
    ]


def refuse_cut_over(ends: Ends, schema_map: Mapping[str, str]) -> None:
    """Raises `InvalidArgument` after a cutover of the map: whatever is copied then is 2.x already,
    and fills the names to which a rollback takes the tables back."""
    for prod in cut_over(ends.source, schema_map) if ends.same_server else ():
        raise InvalidArgument(
            f"{prod} is cut over: it is 2.x by now, and {schema_map[prod]} filled again would be in"
            " the way of a rollback",
            hint="dj-migrate rollback undoes the cutover; a copy of what is 2.x needs another name",
            context={"schema": prod},
        )


def _exchanged(session: Session, schema: str) -> dict[str, str]:
    """The map of a cutover that is done; nothing for another journal, or what is none: whoever
    writes nonsense into a schema of theirs is in nobody's way."""
    try:
        rows = session.query(f"SELECT payload FROM {quote(schema, RENAMING)} WHERE step = -1")
        head: Any = json.loads(rows[0][0])
        if (head["verb"], head["state"]) != ("cutover", "done"):
            return {}
        pairs = head["facts"]["schema_map"].items()
        return {session.folded(str(prod)): session.folded(str(to)) for prod, to in pairs}
    except (ServerError, PermissionMissing, LookupError, TypeError, ValueError, AttributeError):
        return {}
