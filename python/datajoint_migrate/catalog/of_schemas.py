"""One question to the catalogue for many schemas: what it costs does not grow with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from datajoint_migrate.catalog.session import Session

# Schemas that one query of the catalogue is about, and where it says so.
AT_ONCE = 100
CONDITION = re.compile(r"\{([A-Z_]+)\}")


def of_schemas(
    session: Session, sql: str, names: Iterable[str], *, is_owner: bool = True
) -> Iterator[tuple[Any, ...]]:
    """Rows of the catalogue about these schemas, asked for many at once.

    In `sql` a column in braces, `{TABLE_SCHEMA}`, is the condition that it names one of them; the
    first column of the rows is the schema, which is yielded as `names` has it: a server that folds
    names answers in small letters. `is_owner` is false where the column is the schema that a key
    refers to.
    """
    said = {session.folded(name): name for name in names}
    asked = list(said.values())
    # MariaDB looks the owner of a row up by its name alone; any other condition makes it read all
    # schemas, as both servers do anyhow for the parents of keys.
    many = 1 if is_owner and session.is_mariadb else AT_ONCE
    for at in range(0, len(asked), many):
        some = asked[at : at + many]
        marks = f"IN ({', '.join(['%s'] * len(some))})" if many > 1 else "= %s"
        statement, places = CONDITION.subn(rf"\1 {marks}", sql)
        for schema, *row in session.query(statement, some * places):
            # A row of a schema that was not asked for is nobody's.
            if name := said.get(session.folded(str(schema))):
                yield name, *row
