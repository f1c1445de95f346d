"""Foreign keys and checks, from where SELECT shows them.

MariaDB's information_schema has them for those alone who may do more than SELECT, and nobody sees
that rows are left out there. SHOW CREATE TABLE has them for everybody who may read the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME = r"`(?:[^`]|``)*`"
NAMES = rf"\({NAME}(?:,\s*{NAME})*\)"
RULE = r"(?:RESTRICT|CASCADE|SET NULL|NO ACTION|SET DEFAULT)"
FOREIGN = re.compile(
    rf"^\s+CONSTRAINT (?P<name>{NAME}) FOREIGN KEY (?P<columns>{NAMES})"
    rf" REFERENCES (?:(?P<schema>{NAME})\.)?(?P<table>{NAME}) (?P<to>{NAMES})"
    rf"(?: ON DELETE (?P<delete>{RULE}))?(?: ON UPDATE (?P<update>{RULE}))?",
    re.MULTILINE,
)
CHECK = re.compile(rf"^\s+CONSTRAINT (?P<name>{NAME}) CHECK \(", re.MULTILINE)
COLUMN = re.compile(rf"^\s+(?P<name>{NAME}) (?P<rest>.*)$", re.MULTILINE)
QUOTED = re.compile(rf"{NAME}|'(?:[^'\\]|\\.|'')*'", re.DOTALL)


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key, both ends fully named."""

    name: str
    columns: tuple[str, ...]
    ref_schema: str
    ref_table: str
    ref_columns: tuple[str, ...]
    on_update: str
    on_delete: str


def foreign_keys(schema: str, create: str, is_mariadb: bool) -> tuple[ForeignKey, ...]:
    """The foreign keys of a table of `schema` from its SHOW CREATE TABLE, by name."""
    # What each server does not write out.
    unsaid = "RESTRICT" if is_mariadb else "NO ACTION"
    found = [
        ForeignKey(
            name=plain(key["name"]),
            columns=plain_names(key["columns"]),
            ref_schema=plain(key["schema"]) if key["schema"] else schema,
            ref_table=plain(key["table"]),
            ref_columns=plain_names(key["to"]),
            on_update=key["update"] or unsaid,
            on_delete=key["delete"] or unsaid,
        )
        for key in FOREIGN.finditer(create)
    ]
    return tuple(sorted(found, key=lambda key: key.name.lower()))


def checks(create: str) -> tuple[str, ...]:
    """The names of a table's CHECK constraints; MariaDB's on one column has the column's."""
    named = [plain(check["name"]) for check in CHECK.finditer(create)]
    named += [
        plain(column["name"])
        for column in COLUMN.finditer(create)
        if re.search(r"\bCHECK \(", QUOTED.sub("''", column["rest"]))
    ]
    return tuple(sorted(named))


def plain(name: str) -> str:
    return name[1:-1].replace("``", "`")


def plain_names(names: str) -> tuple[str, ...]:
    return tuple(plain(name) for name in re.findall(NAME, names))
