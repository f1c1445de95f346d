"""SQL taken apart, just far enough to find the names in it: the one tokeniser of the package."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple


class Token(NamedTuple):
    """A piece of SQL. Kinds: space, comment, string, name (quoted), word (bare), mark, and open
    and close of what only some servers read: `/*!80003`, `*/`."""

    kind: str
    text: str

    @property
    def word(self) -> str:
        """The word in capitals; empty for anything that is not a bare word."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """What it is called, without its quotes, if it can stand for something."""
        if self.kind == "name":
            mark = self.text[0]
            return self.text[1:-1].replace(2 * mark, mark)
        return self.text if self.kind == "word" else ""

    @property
    def is_name(self) -> bool:
        """Whether it can stand for something, quoted or not."""
        return self.kind in ("name", "word")


COMMENT = r"(?P<comment>--(?=\s|$)[^\n]*|\#[^\n]*|/\*(?!!|M!).*?\*/)"
BACKTICK = r"(?P<name>`(?:[^`]|``)*`)"
NUMBER_OR_WORD = r"(?P<word>[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|[\w$]+)"
REST = r"(?P<space>\s+)|(?P<open>/\*M?!\d*)|(?P<mark>.)"


def _string(mark: str, escapes: bool) -> str:
    if escapes:
        return rf"{mark}(?:[^{mark}\\]|\\.|{mark}{mark})*{mark}"
    return f"{mark}(?:[^{mark}]|{mark}{mark})*{mark}"


@cache
def _pattern(ansi_quotes: bool, escapes: bool) -> re.Pattern[str]:
    strings = _string("'", escapes)
    if ansi_quotes:
        quoted = rf'(?P<string>{strings})|(?P<ansi>"(?:[^"]|"")*")'
    else:
        quoted = f"(?P<string>{strings}|{_string(chr(34), escapes)})"
    return re.compile(f"{COMMENT}|{BACKTICK}|{quoted}|{NUMBER_OR_WORD}|{REST}", re.DOTALL)


# Where a statement has a value bound: `%s` in a name, a string or a comment is what it says.
STRINGS = _string("'", True) + "|" + _string('"', True)
PARAMETER = re.compile(f"{COMMENT}|{BACKTICK}|{STRINGS}|(?P<value>%s)".encode(), re.DOTALL)


# Modes that quote names with ", those that hold that mode among others.
ANSI = {"ANSI_QUOTES", "ANSI", "ORACLE", "DB2", "MSSQL", "POSTGRESQL", "MAXDB"}


def tokens(sql: str, sql_mode: str = "") -> list[Token]:
    """The pieces of a statement made under `sql_mode`; joined again they are the statement."""
    modes = set(sql_mode.upper().split(","))
    pattern = _pattern(bool(ANSI & modes), "NO_BACKSLASH_ESCAPES" not in modes)
    found: list[Token] = []
    at, opened = 0, False
    while at < len(sql):
        if opened and sql.startswith("*/", at):
            found.append(Token("close", "*/"))
            opened = False
        else:
            match = pattern.match(sql, at)
            assert match is not None, "every character is a mark at least"
            kind = str(match.lastgroup)
            found.append(Token("name" if kind == "ansi" else kind, match[0]))
            opened = opened or kind == "open"
        at += len(found[-1].text)
    return found


def text_of(parts: Iterable[Token]) -> str:
    """The SQL of some tokens."""
    return "".join(token.text for token in parts)


def ended(condition: str | None) -> str | None:
    """A caller's condition that swallows nothing after it, even if it ends in a comment."""
    return f"{condition}\n" if condition else None


def unquoted(text: str) -> list[str]:
    """The names in `` `lab`.`mouse` `` or `` `lab`.mouse ``; a bare one is itself."""
    parts, rest = [], text.strip()
    while match := re.match(BACKTICK + r"(?:\.|$)", rest):
        parts.append(match["name"][1:-1].replace("``", "`"))
        rest = rest[match.end() :]
    return [*parts, rest] if rest or not parts else parts


def words_of(sql: str, sql_mode: str = "") -> set[str]:
    """Every name in a statement, quoted or bare."""
    return {token.name for token in tokens(sql, sql_mode) if token.is_name}
