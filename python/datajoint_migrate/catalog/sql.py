"""Statements that users wrote, taken apart just far enough to find the names in them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A piece of SQL. Kinds: space, comment, string, name (quoted), word (bare), mark."""

    kind: str
    text: str
    name: str = ""

    @property
    def is_name(self) -> bool:
        """Whether it can stand for something, quoted or not."""
        return self.kind in ("name", "word")


COMMENT = r"(?P<comment>--(?=\s|$)[^\n]*|\#[^\n]*|/\*(?!!|M!).*?\*/)"
BACKTICK = r"(?P<name>`(?:[^`]|``)*`)"
NUMBER_OR_WORD = r"(?P<word>[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|[\w$]+)"
REST = r"(?P<space>\s+)|(?P<mark>/\*M?!\d*|.)"


def _string(mark: str, escapes: bool) -> str:
    if escapes:
        return rf"{mark}(?:[^{mark}\\]|\\.|{mark}{mark})*{mark}"
    return f"{mark}(?:[^{mark}]|{mark}{mark})*{mark}"


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


def words(sql: str, sql_mode: str = "") -> list[Word]:
    """The pieces of a statement made under `sql_mode`; joined again they are the statement."""
    modes = set(sql_mode.upper().split(","))
    pattern = _pattern("ANSI_QUOTES" in modes, "NO_BACKSLASH_ESCAPES" not in modes)
    found = []
    for match in pattern.finditer(sql):
        kind, text = str(match.lastgroup), match[0]
        if kind == "name":
            found.append(Word("name", text, text[1:-1].replace("``", "`")))
        elif kind == "ansi":
            found.append(Word("name", text, text[1:-1].replace('""', '"')))
        else:
            found.append(Word(kind, text, text if kind == "word" else ""))
    return found


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
    return {word.name for word in words(sql, sql_mode) if word.is_name}
