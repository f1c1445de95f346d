"""A caller's own condition: held against its table before anything is read by it."""

from __future__ import annotations

import difflib
import re

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import ended
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.errors import InvalidArgument, NotFound, ServerError


def checked_clause(
    session: Session, table: Table, clause: str | None, what: str = "where_clause"
) -> str | None:
    """The condition as it is put into statements, None where there is none.

    Raises `InvalidArgument` when it is no condition on this table, with what the server says.
    """
    if clause is None or not clause.strip():
        return None
    text = ended(clause)
    try:
        session.query(
            f"SELECT 1 FROM {quote(table.schema, table.name)} AS s WHERE ({text}) LIMIT 0"
        )
    except (ServerError, NotFound) as error:
        said = re.sub(r"^the server \S+ refused a statement: ", "", error.message)
        raise InvalidArgument(
            f"{what} {clause!r} is no condition on {table}: {said}",
            hint=_hint(table, said),
            context={"where_clause": clause, "table": str(table)} | error.context,
        ) from error
    return text


def _hint(table: Table, said: str) -> str:
    names = [column.name for column in table.columns]
    found = re.search(r"[Cc]olumn '([^']+)'", said)
    near = difflib.get_close_matches(found[1].split(".")[-1], names, n=1) if found else []
    if near:
        return f"did you mean {near[0]!r}?"
    return f"the columns of {table.name} are " + ", ".join(names)
