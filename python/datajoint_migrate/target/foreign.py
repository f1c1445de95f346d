"""Definitions from elsewhere, which may say anything: is it a table's own definition, no more?

SHOW CREATE TABLE prints few things. What it does not print is not believed: rows that a definition
would bring along, tables that are somewhere else, files where the definition wants them.
"""

from __future__ import annotations

from itertools import pairwise

from datajoint_migrate.catalog.sql import Token, tokens
from datajoint_migrate.errors import ArchiveFailed, InternalError
from datajoint_migrate.target.ddl import CreateTable, parse

# Engines that keep the rows of a table themselves, in the server's own folder.
ENGINES = {
    "INNODB", "MYISAM", "MEMORY", "HEAP", "CSV", "ARCHIVE", "ARIA", "ROCKSDB", "TOKUDB",
    "BLACKHOLE", "NDB", "NDBCLUSTER",
}  # fmt: skip
# What SHOW CREATE TABLE prints after the bracket, before PARTITION.
OPTIONS = {
    "ENGINE", "AUTO_INCREMENT", "DEFAULT", "CHARSET", "CHARACTER", "SET", "COLLATE", "COMMENT",
    "ROW_FORMAT", "KEY_BLOCK_SIZE", "STATS_PERSISTENT", "STATS_AUTO_RECALC", "STATS_SAMPLE_PAGES",
    "CHECKSUM", "DELAY_KEY_WRITE", "MAX_ROWS", "MIN_ROWS", "AVG_ROW_LENGTH", "PACK_KEYS",
    "COMPRESSION", "ENCRYPTION", "AUTOEXTEND_SIZE", "ENGINE_ATTRIBUTE",
    "SECONDARY_ENGINE_ATTRIBUTE", "DATA", "INDEX", "DIRECTORY", "TABLESPACE", "PAGE_CHECKSUM",
    "TRANSACTIONAL", "PAGE_COMPRESSED", "PAGE_COMPRESSION_LEVEL", "ENCRYPTED", "ENCRYPTION_KEY_ID",
    "IETF_QUOTES", "TABLE_CHECKSUM", "WITH", "SYSTEM", "VERSIONING",
}  # fmt: skip
# What begins a query, or leads elsewhere, wherever it stands outside the columns' own expressions.
NEVER = {"SELECT", "AS", "TABLE", "LIKE", "UNION", "CONNECTION", "IGNORE", "REPLACE"}


def prove_definition(create: str, table: str, where: str) -> None:
    """Raises `ArchiveFailed` unless `create` is what SHOW CREATE TABLE may say of a table."""
    try:
        text = parse(create)
        said = _strange(create, text)
    except (InternalError, IndexError):
        said = "it cannot be read"
    if said:
        raise ArchiveFailed(
            f"{where}: the definition of the table {table!r} is none that a server shows: {said}",
            hint="nothing of it was run; who may have changed it?",
            context={"table": table},
        )


def _strange(create: str, text: CreateTable) -> str | None:
    parts = tokens(create)
    hidden = any(token.kind == "comment" or token.text.startswith("/*M!") for token in parts)
    if hidden or _dashes(parts):
        return "it holds a comment"
    if any(token.word == "SELECT" for token in parts):
        return "it holds a SELECT"
    for column in text.columns:
        if column.find("REFERENCES"):
            return f"the column {column.name!r} refers to a table"
    for item in text.items:
        if item.kind == "other" and item.parts[0].word != "PERIOD":
            return f"{''.join(token.text for token in item.parts)[:60]!r} stands among its columns"
    return _strange_options([token for token in text.options if token.kind != "space"])


def _dashes(parts: list[Token]) -> bool:
    return any(first.text == second.text == "-" for first, second in pairwise(parts))


def _strange_options(options: list[Token]) -> str | None:
    partitioned = False
    for at, token in enumerate(options):
        before = options[at - 1].text if at else ""
        if token.word == "ENGINE":
            value = next((one.text for one in options[at + 1 : at + 3] if one.text != "="), "")
            if value.strip("'\"`").upper() not in ENGINES:
                return f"the rows of its engine {value} are not its own"
        elif token.word == "PARTITION" and not partitioned:
            partitioned = True
        elif token.word and before != "=":
            wrong = token.word in NEVER if partitioned else token.word not in OPTIONS
            # A character set's name may stand without a sign before it.
            if wrong and before.upper() not in ("SET", "CHARSET", "COLLATE", "ENGINE"):
                return f"{token.text} stands after its columns"
        elif token.text == ";":
            return "it ends before its end"
    return None


def in_default_place(text: CreateTable, table: str) -> list[str]:
    """Take out where the table's files are to be: another server need not have that place, and two
    tables cannot share a file. The note says what was taken out."""
    kept: list[Token] = []
    found: list[str] = []
    parts = text.options
    at = 0
    while at < len(parts):
        end = _end_of_place(parts, at)
        if end is None:
            kept.append(parts[at])
            at += 1
            continue
        found.append("".join(token.text for token in parts[at:end]))
        while kept and kept[-1].kind == "space":
            kept.pop()
        at = end
    if not found:
        return []
    text.options = kept
    places = ", ".join(dict.fromkeys(found))
    return [f"{table} is made in the server's default place, without {places}"]


def _end_of_place(parts: list[Token], at: int) -> int | None:
    if parts[at].kind != "word":
        return None
    solid = [index for index in range(at, len(parts)) if parts[index].kind != "space"][:4]
    said = [parts[index] for index in solid]
    if said[0].word == "TABLESPACE":
        said, solid = said[1:], solid[1:]
    elif said[0].word in ("DATA", "INDEX") and [one.word for one in said[1:2]] == ["DIRECTORY"]:
        said, solid = said[2:], solid[2:]
    else:
        return None
    if said and said[0].text == "=":
        said, solid = said[1:], solid[1:]
    return solid[0] + 1 if said else None
