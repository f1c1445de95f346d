"""SHOW CREATE TABLE, as the server would read it again.

MariaDB 10.11.14 prints the names of a foreign key as they are, where its other releases double the
back ticks in them: a name with a back tick then ends in its middle.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.constraints import COLUMN, FOREIGN, NAME, RULE, plain, plain_names
from datajoint_migrate.catalog.session import Session

KEY = re.compile(
    r"^  CONSTRAINT `(?P<name>.*)` FOREIGN KEY \(`(?P<columns>.*)`\)"
    rf" REFERENCES (?P<table>(?:{NAME}\.)?{NAME}) \(`(?P<to>.*)`\)"
    rf"(?P<rest>(?: ON DELETE {RULE})?(?: ON UPDATE {RULE})?,?)$",
    re.MULTILINE,
)


def definition(session: Session, schema: str, table: str) -> str:
    """What SHOW CREATE TABLE says of a table. Raises `ServerError`, for one that is not there."""
    create = str(session.query(f"SHOW CREATE TABLE {quote(schema, table)}")[0][1])
    return readable(create) if session.is_mariadb else create


def readable(create: str) -> str:
    """`create` with the back ticks doubled in the names of its foreign keys."""
    columns = {plain(column["name"]).lower() for column in COLUMN.finditer(create)}
    return KEY.sub(_doubled(columns), create)


def _doubled(known: set[str]) -> Callable[[re.Match[str]], str]:
    """What a key's line is to be. The names of the table's own columns tell how it was printed."""

    def line(found: re.Match[str]) -> str:
        read = FOREIGN.match(found[0])
        if read and _all_of(plain_names(read["columns"]), known):
            return found[0]
        columns, to = (found[group].split("`, `") for group in ("columns", "to"))
        if not _all_of(columns, known) or len(columns) != len(to):
            return found[0]
        name, here, there = (
            ", ".join(quote(one) for one in names) for names in ([found["name"]], columns, to)
        )
        key = f"  CONSTRAINT {name} FOREIGN KEY ({here})"
        return f"{key} REFERENCES {found['table']} ({there}){found['rest']}"

    return line


def _all_of(names: tuple[str, ...] | list[str], known: set[str]) -> bool:
    return all(name.lower() in known for name in names)
