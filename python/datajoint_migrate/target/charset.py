"""Text columns as utf8mb4, and the limits of the server that four bytes a character run into.

The sources of 2.x name no character set: they issue a bare CREATE DATABASE and leave the rest to
the server. What DataJoint 2 documents is utf8mb4 with case-sensitive comparison, `utf8mb4_bin`,
set for the database and never for a column; so that is what a converted schema gets.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

from datajoint_migrate.catalog.sql import Token, text_of, tokens
from datajoint_migrate.catalog.tables import Column, Table
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.target.ddl import Clause, ColumnText, CreateTable, Item
from datajoint_migrate.target.mariadb import mysql_collation

Charset = Literal["keep", "utf8mb4"]

UTF8MB4 = "utf8mb4"
COLLATION = "utf8mb4_bin"

KEY_BYTES = 3072
# Row formats from before DYNAMIC keep a shorter prefix of each column in an index.
OLD_FORMATS = {"COMPACT": 767, "REDUNDANT": 767}
ROW_BYTES = 65_535
# Half a page of InnoDB; of a long text or blob only so much has to be in it.
PAGE_BYTES = 8126
INLINE = {"COMPACT": 788, "REDUNDANT": 788}
INLINE_DYNAMIC = 40
VARCHAR_CHARACTERS = 16_383
FIXED = {
    "tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8, "float": 4, "double": 8,
    "year": 1, "date": 3, "json": 12, "tinyblob": 9, "blob": 10, "mediumblob": 11, "longblob": 12,
    "tinytext": 9, "text": 10, "mediumtext": 11, "longtext": 12,
}  # fmt: skip
WITH_FRACTION = {"time": 3, "datetime": 5, "timestamp": 4}


def converts(column: Column) -> bool:
    """Whether a column holds text in a character set other than utf8mb4."""
    return column.charset not in (None, "", UTF8MB4, "binary")


def to_utf8mb4(text: CreateTable, table: Table) -> None:
    """Declare the text columns of other character sets as utf8mb4, in place.

    Columns that are utf8mb4 already keep their collation. Raises `Unconvertible` for expressions
    that name a collation of another character set.
    """
    whole = table.charset not in (None, UTF8MB4)
    for line in text.columns:
        if not converts(table.column(line.name)):
            continue
        line.drop("CHARACTER", "COLLATE")
        if not whole:
            line.clauses[:0] = _clauses(UTF8MB4, COLLATION)
    if whole:
        _set_default(text, UTF8MB4, COLLATION)
    _refuse_collations(text, table)


def pin_collation(text: CreateTable, table: Table, *, to_mysql: bool) -> None:
    """Write out the collations of utf8mb4 that the source's server leaves unsaid, in place.

    utf8mb4 is the one character set whose default collation differs between servers.
    """
    if table.collation and table.charset == UTF8MB4:
        _set_default(text, UTF8MB4, _here(table.collation, to_mysql), keep=True)
    for line in text.columns:
        column = table.column(line.name)
        said = line.find("CHARACTER")
        if said and column.charset == UTF8MB4 and column.collation and not line.find("COLLATE"):
            at = line.clauses.index(said) + 1
            line.clauses[at:at] = _clauses(None, _here(column.collation, to_mysql))


def _here(collation: str, to_mysql: bool) -> str:
    return mysql_collation(collation) if to_mysql else collation


def _clauses(charset: str | None, collation: str) -> list[Clause]:
    said = [Clause("CHARACTER", f" CHARACTER SET {charset}")] if charset else []
    return [*said, Clause("COLLATE", f" COLLATE {collation}")]


def _set_default(text: CreateTable, charset: str, collation: str, *, keep: bool = False) -> None:
    """Set the table's own default; with `keep` a collation that is written stays."""
    options = text.options
    at = text.option_at("CHARSET")
    if at is None:
        return
    options[at] = Token("word", charset)
    collate = text.option_at("COLLATE")
    if collate is None:
        options[at + 1 : at + 1] = tokens(f" COLLATE={collation}")
    elif not keep:
        options[collate] = Token("word", collation)


def _refuse_collations(text: CreateTable, table: Table) -> None:
    for where, parts in _expressions(text):
        words = [token for token in parts if token.kind in ("word", "name", "string")]
        for token, following in pairwise(words):
            name = following.text.strip("`'\"").lower()
            if token.word == "COLLATE" and not name.startswith((UTF8MB4, "binary")):
                raise Unconvertible(
                    f"{table}: {where} compares by {name}, which utf8mb4 does not have",
                    hint="keep the character set: charset='keep'",
                    context={"table": str(table)},
                )


def _expressions(text: CreateTable) -> list[tuple[str, list[Token]]]:
    found = []
    for line in text.columns:
        for keyword in ("GENERATED", "AS", "CHECK", "DEFAULT"):
            if clause := line.find(keyword):
                found.append((f"column {line.name!r}", clause.tokens))
    for item in text.items:
        if item.kind in ("check", "index"):
            found.append((f"{item.kind} {item.name!r}", item.parts))
    return found


# -- limits ------------------------------------------------------------------------------------


def excesses(text: CreateTable, table: Table) -> list[str]:
    """What of a table declared as utf8mb4 is over the server's limits: sentences, one a place.

    Looks only at what the conversion makes longer; a server that is not strict would cut an index
    or turn a VARCHAR into TEXT without a word.
    """
    changed = {column.name for column in table.columns if converts(column)}
    found = []
    lines = {line.name: line for line in text.columns}
    for line in text.columns:
        length = _length(line.base)
        if line.name in changed and line.type_name == "varchar" and length > VARCHAR_CHARACTERS:
            found.append(
                f"{table}.{line.name} is varchar({length}); as utf8mb4 a varchar has at most "
                f"{VARCHAR_CHARACTERS} characters"
            )
    for item in text.items:
        if item.kind in ("primary", "index") and item.mentions & changed:
            found += _long_index(text, table, item, lines)
    nullable = sum(table.column(name).nullable for name in lines)
    row = sum(_bytes(line, table) for line in text.columns) + (nullable + 7) // 8
    if changed and not found and row > ROW_BYTES:
        found.append(
            f"{table}: its columns take up to {row} bytes a row as utf8mb4; the limit is "
            f"{ROW_BYTES}, texts and blobs not counted"
        )
    page = _page_bytes(text, table, nullable)
    if changed and not found and page >= PAGE_BYTES:
        found.append(
            f"{table}: what its columns keep in the page of a row takes up to {page} bytes as "
            f"utf8mb4; the limit is {PAGE_BYTES}: it has too many columns"
        )
    return found


def _long_index(
    text: CreateTable, table: Table, item: Item, lines: dict[str, ColumnText]
) -> list[str]:
    if text_of(item.parts[:1]).upper() in ("FULLTEXT", "SPATIAL"):
        return []
    row_format = _row_format(text)
    column_limit = OLD_FORMATS.get(row_format, KEY_BYTES)
    name = "the primary key" if item.kind == "primary" else f"index {item.name!r}"
    total = 0
    for column, prefix in _parts(item):
        line = lines[column]
        size = prefix * 4 if prefix and _is_text(line) else prefix or _key_bytes(line, table)
        total += size
        if size > column_limit:
            return [
                f"{name} of {table} has {size} bytes of {column!r} as utf8mb4; the limit "
                f"is {column_limit}{f' with ROW_FORMAT={row_format}' if row_format else ''}"
            ]
    if total > KEY_BYTES:
        return [f"{name} of {table} is {total} bytes long as utf8mb4; the limit is {KEY_BYTES}"]
    return []


def _row_format(text: CreateTable) -> str:
    at = text.option_at("ROW_FORMAT")
    return text.options[at].text.upper() if at is not None else ""


def _page_bytes(text: CreateTable, table: Table, nullable: int) -> int:
    """Bytes of the longest row in its page: header, hidden columns, and what stays inline."""
    inline = INLINE.get(_row_format(text), INLINE_DYNAMIC)
    total = 5 + 13 + (nullable + 7) // 8 + (0 if table.primary_key else 6)
    for line in text.columns:
        if (
            (made := line.find("GENERATED"))
            and not any(token.word in ("STORED", "PERSISTENT") for token in made.tokens)
            and not line.find("STORED")
        ):
            continue
        size = _key_bytes(line, table)
        if line.type_name in ("char", "varchar", "varbinary"):
            total += inline + 1 if size >= inline else size + (1 if size < 256 else 2)
        elif line.type_name.endswith(("text", "blob")) or line.type_name == "json":
            tiny = 255 if line.type_name.startswith("tiny") else inline
            total += min(inline, tiny) + (1 if inline < 256 else 2)
        else:
            total += size
    return total


def _parts(item: Item) -> list[tuple[str, int]]:
    """Columns of an index with the length of their prefixes, 0 where all of the column counts."""
    found: list[tuple[str, int]] = []
    depth = 0
    for token in item.parts:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 1 and token.kind == "name":
            found.append((token.name, 0))
        elif depth == 2 and token.text.isdigit() and found:
            found[-1] = (found[-1][0], int(token.text))
    return found


def _is_text(line: ColumnText) -> bool:
    return line.type_name in ("char", "varchar", "tinytext", "text", "mediumtext", "longtext")


def _length(base: str) -> int:
    found = re.search(r"\((\d+)", base)
    return int(found[1]) if found else 1


def _width(line: ColumnText, table: Table) -> int:
    """Bytes that a character takes at most."""
    column = table.column(line.name)
    return 4 if column.charset not in (None, "", "binary") else 1


def _key_bytes(line: ColumnText, table: Table) -> int:
    if line.type_name in ("char", "varchar", "binary", "varbinary"):
        return _length(line.base) * _width(line, table)
    return _bytes(line, table)


def _bytes(line: ColumnText, table: Table) -> int:
    """Bytes of a column in the server's row format."""
    name, base = line.type_name, line.base
    if name in FIXED:
        return FIXED[name]
    if name in WITH_FRACTION:
        fraction = _length(base) if "(" in base else 0
        return WITH_FRACTION[name] + (fraction + 1) // 2
    if name in ("char", "binary"):
        return _length(base) * _width(line, table)
    if name in ("varchar", "varbinary"):
        size = _length(base) * _width(line, table)
        return size + (1 if size < 256 else 2)
    if name in ("decimal", "numeric"):
        found = re.search(r"\((\d+)(?:,\s*(\d+))?\)", base)
        digits, scale = (int(found[1]), int(found[2] or 0)) if found else (10, 0)
        return _digits(digits - scale) + _digits(scale)
    if name == "enum":
        return 1 if len(_members(base)) < 256 else 2
    if name == "set":
        count = (len(_members(base)) + 7) // 8
        return count if count < 5 else 8
    if name == "bit":
        return (_length(base) + 7) // 8
    return 12


def _digits(count: int) -> int:
    return count // 9 * 4 + (0, 1, 1, 2, 2, 3, 3, 4, 4)[count % 9]


def _members(base: str) -> list[str]:
    return re.findall(r"'(?:[^']|'')*'", base)
