"""The CREATE TABLE of an exact copy: the server's own text under another schema's name."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.sql import Token, text_of, tokens
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.target.ddl import Item, parse
from datajoint_migrate.target.foreign import in_default_place


@dataclass(frozen=True)
class OutwardKey:
    """A foreign key into another schema: its name, columns and parent, and its line of DDL."""

    table: str
    name: str
    columns: tuple[str, ...]
    schema: str
    parent: str
    parent_columns: tuple[str, ...]
    definition: str

    def __str__(self) -> str:
        return f"{self.table} -> {self.schema}.{self.parent}"


@dataclass(frozen=True)
class Replica:
    """How to make the copy of one table; run with foreign_key_checks=0, in any order."""

    table: str
    create_sql: str
    outward: tuple[OutwardKey, ...]
    notes: tuple[str, ...] = ()


def replicate(
    create: str, table: str, *, dest: str, home: Container[str], keep_outward: bool = False
) -> Replica:
    """The copy of a table in schema `dest`, from its SHOW CREATE TABLE.

    It is made in the default place, wherever the files of the original are (`notes`).

    Keys to schemas in `home` (the names under which the copied schema is known) lead to the copy.
    Keys into other schemas are listed in `outward`, and left out of the statement unless
    `keep_outward`: a copy that holds one blocks deletes over there.
    """
    text = parse(create)
    text.head = f"CREATE TABLE {quote(dest, table)} "
    if any(token.word == "VERSIONING" for token in text.options):
        raise Unconvertible(
            f"the table {table!r} is system-versioned: its history cannot be copied",
            hint="copy the table's files with the server's own tools",
        )
    notes = in_default_place(text, f"the table {table!r}")
    outward = []
    items = []
    for item in text.items:
        if item.kind == "foreign":
            schema, parent = item.reference
            if schema is not None and schema in home:
                item.repoint(dest)
            elif schema is not None:
                outward.append(_outward(table, item, schema, parent))
                if not keep_outward:
                    continue
        items.append(item)
    text.items = items
    return Replica(table, text.render(), tuple(outward), tuple(notes))


def _outward(table: str, item: Item, schema: str, parent: str) -> OutwardKey:
    ends: tuple[list[str], list[str]] = ([], [])
    depth = far = 0
    for token in item.parts:
        depth += (token.text == "(") - (token.text == ")")
        far = far or int(token.word == "REFERENCES")
        if depth and token.kind == "name":
            ends[far].append(token.name)
    mine, theirs = tuple(ends[0]), tuple(ends[1])
    return OutwardKey(table, item.name, mine, schema, parent, theirs, text_of(item.parts))


def comparable(create: str) -> str:
    """A definition without what rows alone change: where AUTO_INCREMENT stands."""
    parts = tokens(create)
    at = _counter_at(parts)
    return create if at is None else text_of(parts[:at] + parts[at + 4 :])


def auto_increment(create: str) -> int | None:
    """Where AUTO_INCREMENT stands, if the definition says so."""
    parts = tokens(create)
    at = _counter_at(parts)
    return None if at is None else int(parts[at + 2].text)


def _counter_at(parts: Sequence[Token]) -> int | None:
    for index in range(len(parts) - 3):
        if parts[index].word == "AUTO_INCREMENT" and parts[index + 1].text == "=":
            return index
    return None
