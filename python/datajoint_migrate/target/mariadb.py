"""Makes the DDL that MariaDB prints into DDL that MySQL takes, changing what is written only."""

from __future__ import annotations

import re

from datajoint_migrate.catalog.sql import Token, text_of, tokens
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.target.ddl import Clause, ColumnText, CreateTable, Item

INTEGERS = {"tinyint", "smallint", "mediumint", "int", "bigint"}
NO_LITERAL_DEFAULT = {
    "tinyblob", "blob", "mediumblob", "longblob", "tinytext", "text", "mediumtext", "longtext",
    "json",
}  # fmt: skip
ONLY_MARIADB_TYPES = {"uuid", "inet4", "inet6", "row", "xmltype"}
ENGINES = {"aria", "s3", "columnstore", "rocksdb", "mroonga"}
OPTIONS = {
    "PAGE_CHECKSUM", "TRANSACTIONAL", "PAGE_COMPRESSED", "PAGE_COMPRESSION_LEVEL", "ENCRYPTED",
    "ENCRYPTION_KEY_ID", "IETF_QUOTES", "TABLE_CHECKSUM", "SEQUENCE", "WITH_SYSTEM_VERSIONING",
}  # fmt: skip
NOW = re.compile(r"(?:current_timestamp|now|localtime|localtimestamp)\s*(?:\((\d*)\))?$", re.I)


def to_mysql(table: CreateTable, where: str) -> list[str]:
    """Change `table` in place; the notes say what MySQL has no equal for.

    Raises `Unconvertible` for system versioning, sequences and types that only MariaDB has.
    """
    notes: list[str] = []
    for column in table.columns:
        _column(column, where, notes)
    for item in table.items:
        if item.kind == "other":
            raise _foreign(where, text_of(item.parts))
        _index(item)
    _options(table, where, notes)
    return notes


def _foreign(where: str, what: str) -> Unconvertible:
    return Unconvertible(
        f"{where}: MySQL has nothing like {what!r}",
        hint="change it in the source, or take MariaDB as the destination",
        context={"table": where},
    )


# -- columns -----------------------------------------------------------------------------------


def _column(column: ColumnText, where: str, notes: list[str]) -> None:
    name = column.type_name
    place = f"{where}.{column.name}"
    if name in ONLY_MARIADB_TYPES:
        raise _foreign(place, column.base)
    if _is_json(column):
        column.base = "json"
        column.drop("CHECK", "CHARACTER", "COLLATE")
    elif name in INTEGERS:
        _drop_width(column)
    elif name == "year":
        column.base = "year"
    for clause in column.clauses:
        if note := _clause(column, clause, place):
            notes.append(f"{place}: {note}")
    column.drop("comment")


def _is_json(column: ColumnText) -> bool:
    check = column.find("CHECK")
    if column.type_name != "longtext" or check is None:
        return False
    said = text_of(check.tokens).lower().replace("check", "", 1)
    return said == f"(json_valid(`{column.name.lower()}`))"


def _drop_width(column: ColumnText) -> None:
    # tinyint(1) is how both servers write bool; zerofill needs its width.
    if column.base.lower().startswith("tinyint(1)") or "zerofill" in column.base.lower():
        return
    column.base = re.sub(r"\(\d+\)", "", column.base, count=1)


def _clause(column: ColumnText, clause: Clause, place: str) -> str | None:
    """Rewrite one clause; the note is what was lost."""
    match clause.keyword:
        case "DEFAULT":
            _default(column, clause, place)
        case "ON":
            if now := NOW.search(clause.text):
                clause.text = f" ON UPDATE {_now(now)}"
        case "PERSISTENT":
            clause.text = " STORED"
        case "COLLATE":
            return _collation(column, clause)
        case "WITH" | "WITHOUT":
            raise _foreign(place, clause.text.strip())
        case "GENERATED" if any(token.word == "ROW" for token in clause.tokens):
            raise _foreign(place, clause.text.strip())
        case "COMPRESSED" | "REF_SYSTEM_ID":
            note = f"{clause.text.strip()} is left out"
            clause.text = ""
            return note
    return None


def _now(found: re.Match[str]) -> str:
    return f"CURRENT_TIMESTAMP({found[1]})" if found[1] else "CURRENT_TIMESTAMP"


def _default(column: ColumnText, clause: Clause, place: str) -> None:
    value = clause.tokens[1:]
    said = text_of(value)
    if any(token.word == "NEXTVAL" for token in value):
        raise _foreign(place, clause.text.strip())
    if now := NOW.match(said):
        clause.text = f" DEFAULT {_now(now)}"
    elif _is_literal(value):
        if column.type_name in NO_LITERAL_DEFAULT and value[0].word != "NULL":
            clause.text = f" DEFAULT ({said})"
    elif not said.startswith("("):
        expression = clause.text.strip().split(None, 1)[1]
        clause.text = f" DEFAULT ({expression})"


def _is_literal(value: list[Token]) -> bool:
    return all(
        token.kind == "string"
        or token.text in "+-."
        or token.word in ("NULL", "TRUE", "FALSE", "B", "X")
        or re.fullmatch(r"[\d.]+([eE]\d*)?|0[xX][0-9a-fA-F]+|_\w+", token.text)
        for token in value
    )


def _collation(column: ColumnText, clause: Clause) -> str | None:
    old = clause.tokens[1].text
    charset = column.find("CHARACTER")
    new = mysql_collation(old, charset.tokens[2].text if charset else None)
    if new == old:
        return None
    clause.text = f" COLLATE {new}"
    return f"collation {old} is {new} on MySQL"


def mysql_collation(name: str, charset: str | None = None) -> str:
    """The collation of MySQL that comes nearest to one of MariaDB."""
    given = name.lower()
    if "uca1400" in given:
        found = given.split("_uca1400")[0] if "_uca1400" in given else charset
        charset = found or "utf8mb4"
        if charset != "utf8mb4":
            return f"{charset}_unicode_520_ci"
        if given.endswith("as_cs"):
            return "utf8mb4_0900_as_cs"
        return "utf8mb4_0900_as_ci" if given.endswith("as_ci") else "utf8mb4_0900_ai_ci"
    if given == "utf8mb4_nopad_bin":
        return "utf8mb4_0900_bin"
    if given.startswith("utf8_"):
        given = "utf8mb3_" + given.removeprefix("utf8_")
    return given.replace("_nopad", "").replace("_mysql561", "")


# -- indexes and options -----------------------------------------------------------------------


def _index(item: Item) -> None:
    if item.kind == "index" and item.parts[-1].word == "IGNORED":
        item.parts[-1] = Token("word", "INVISIBLE")


def _options(table: CreateTable, where: str, notes: list[str]) -> None:
    kept: list[Token] = []
    parts = table.options
    at = 0
    while at < len(parts):
        token = parts[at]
        key = token.name.upper() if token.kind == "name" else token.word
        if key == "PARTITION":
            kept += parts[at:]
            break
        if key == "WITH" or key == "PERIOD":
            raise _foreign(where, text_of(parts[at:]))
        if at + 2 < len(parts) and parts[at + 1].text == "=":
            value = parts[at + 2].text
            if key in OPTIONS or token.kind == "name":
                notes.append(f"{where}: the option {key}={value} is left out")
                while kept and kept[-1].kind == "space":
                    kept.pop()
            else:
                kept += [token, parts[at + 1], *_option(key, value, where, notes)]
            at += 3
            continue
        kept.append(token)
        at += 1
    table.options = kept


def _option(key: str, value: str, where: str, notes: list[str]) -> list[Token]:
    new = value
    if key == "ENGINE" and value.lower() in ENGINES:
        new = "InnoDB"
    elif key == "ROW_FORMAT" and value.upper() == "PAGE":
        new = "DYNAMIC"
    elif key == "COLLATE":
        new = mysql_collation(value)
    if new != value:
        notes.append(f"{where}: {key} {value} is {new} on MySQL")
    return tokens(new)
