"""Table definitions: read whole, as 0.14.6 reads them, and types as 2.x spells them."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from datajoint_migrate.catalog.client import category_of

NAME = re.compile(r"\s*(?P<name>[a-z][a-z0-9_]*)\s*")
QUOTED = re.compile(r"\"[^\"\n\r]*\"|'[^'\n\r]*'")
DIVIDER = re.compile(r"(\s*)(_{3,})")
INDEX = re.compile(r"(unique\s+)?index\s*.*$", re.IGNORECASE)
INDEXED = re.compile(r"(unique\s+)?index\s*\(\s*(?P<args>.*)\)\s*(#.*)?$", re.IGNORECASE)
REFERENCE = re.compile(r"->\s*(\[(?P<options>[^\]]*)\])?(?P<table>.*)")
# 2.3.5's types, declare.py: those with a meaning of their own, which it writes in small letters
# and without blanks before the parenthesis, and those that it hands on to the server.
CORE = re.compile(
    r"(?P<name>uuid|json|bool|date|datetime|char|varchar|enum|decimal)\s*(?P<rest>\(.+\))?",
    re.IGNORECASE,
)
WITH_ARGUMENT = {
    "datetime": r"(\(\d+\))?",
    "char": r"\(\d+\)",
    "varchar": r"\(\d+\)",
    "enum": r"\(.+\)",
    "decimal": r"\(\d+\s*,\s*\d+\)",
}
ITS_OWN = re.compile(r"float32|float64|int64|int32|int16|int8|bytes|jsonb")
HANDED_ON = re.compile(
    r"((tiny|small|medium|big|)int|integer)(\s*\(.+\))?(\s+unsigned)?(\s+auto_increment)?|serial"
    r"|(decimal|numeric|dec|fixed)(\s*\(.+\))?(\s+unsigned)?(\s+zerofill)?"
    r"|(double|float|real)(\s*\(.+\))?(\s+unsigned)?"
    r"|(var)?char\s*\(.+\)|(time|timestamp|year)(\s*\(.+\))?|(tiny|small|medium|long)?text",
    re.IGNORECASE,
)
INTEGER = re.compile(
    r"(?P<base>(tiny|small|medium|big|)int(eger)?)\s*(?P<width>\(\s*\d+\s*\))?(?P<words>[\sa-z]*)",
    re.IGNORECASE,
)
# What the server takes `int8` and its like for, which 0.14.6 hands on to it.
NUMBERED = re.compile(r"int[12348]\b", re.IGNORECASE)
CODECS = {"blob", "attach", "hash", "object", "npy", "filepath"}


@dataclass(frozen=True)
class Rewritten:
    """A definition for 2.x; `changes` and `left` are (line from 0 on, what)."""

    text: str
    changes: tuple[tuple[int, str], ...]
    left: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Attribute:
    """The line of an attribute: its name, its type, and where that stands in the line."""

    name: str
    type: str
    start: int
    end: int


def rewrite_definition(
    text: str,
    adapters: Mapping[str, str | None],
    promoted: Mapping[str, str] | None = None,
) -> Rewritten:
    """Exchange what means something else in 2.x, or nothing.

    `adapters` are those known by name, with the store of their type, if it has one. `promoted` are
    the types of attributes that become object storage. Every line is read whole; one that is not
    understood is listed.
    """
    lines = text.split("\n")
    changes: list[tuple[int, str]] = []
    left: list[tuple[int, str]] = []
    stored: set[str] = set()
    indexes: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        said = line.strip()
        if not said or said.startswith(("#", "---")):
            continue
        if divider := DIVIDER.match(line):
            lines[number] = divider[1] + "-" * len(divider[2]) + line[divider.end() :]
            changes.append((number, "the divider ___ is ---"))
        elif _is_reference(said):
            left += [(number, why) for why in _reference(said)]
        elif INDEX.match(said) and not _attribute(line):
            indexes.append((number, said))
        elif (found := _attribute(line)) is None:
            left.append((number, f"{said!r} is no attribute that can be read"))
        else:
            promotion = (promoted or {}).get(found.name)
            new, why = (promotion, None) if promotion else _type(found.type, adapters)
            if "@" in new and new.startswith("<"):
                stored.add(found.name)
            if why is not None:
                left.append((number, why))
            if new != found.type:
                lines[number] = line[: found.start] + new + line[found.end :]
                changes.append((number, f"{found.type} is {new}"))
    for number, said in indexes:
        left += [(number, why) for why in _index(said, stored)]
    return Rewritten("\n".join(lines), tuple(changes), tuple(sorted(left)))


def filepaths(text: str) -> list[str]:
    """The attributes that 0.14.6 fills from a stage: those of its filepaths, still in its words."""
    found = filter(None, map(_attribute, text.split("\n")))
    return [one.name for one in found if category_of(one.type) == "FILEPATH"]


# -- lines ---------------------------------------------------------------------------------------


def _attribute(line: str) -> Attribute | None:
    """name [= default] : type [# comment], or None.

    As the client's grammar has it: a default ends at the first colon and a type at the first `#`
    that stand in no quotes.
    """
    name = NAME.match(line)
    if name is None:
        return None
    at = name.end()
    if line[at : at + 1] == "=":
        at = _end(line, at + 1, ":")
        if at == len(line):
            return None
    if line[at : at + 1] != ":":
        return None
    start = at + 1 + len(line[at + 1 :]) - len(line[at + 1 :].lstrip())
    if line[start : start + 1] == "<":
        end = line.find(">", start) + 1
        if not end or line[end:].strip()[:1] not in ("", "#"):
            return None
    elif re.match(r"[A-Za-z]", line[start:]):
        end = _end(line, start, "#")
    else:
        return None
    type_ = line[start:end].rstrip()
    return Attribute(name["name"], type_, start, start + len(type_))


def _end(line: str, at: int, stop: str) -> int:
    while at < len(line) and line[at] != stop:
        quoted = QUOTED.match(line, at)
        at = quoted.end() if quoted else at + 1
    return at


def _is_reference(said: str) -> bool:
    arrow = said.find("->")
    return arrow >= 0 and not any(mark in said[:arrow] for mark in "\"#'")


def _reference(said: str) -> list[str]:
    found = REFERENCE.match(said)
    if found is None:
        return [f"{said!r} is a foreign key that neither client reads"]
    options = {one.strip().upper() for one in (found["options"] or "").split(",") if one.strip()}
    try:
        ast.parse(found["table"].strip(), mode="eval")
    except (SyntaxError, ValueError):
        return [f"{said!r} refers to what is no expression"]
    if options - {"NULLABLE", "UNIQUE"}:
        return [f"{said!r} has options that neither client knows"]
    return []


def _index(said: str, stored: set[str]) -> list[str]:
    found = INDEXED.match(said)
    if found is None:
        return [f"{said!r} is an index that 2.x cannot read"]
    named = stored & set(re.findall(r"[a-z]\w*", found["args"]))
    if named:
        return [f"{said!r}: {' and '.join(sorted(named))} is JSON in 2.x, which has no index"]
    return []


# -- types ---------------------------------------------------------------------------------------


def _type(was: str, adapters: Mapping[str, str | None]) -> tuple[str, str | None]:
    """The type in 2.x, and what a person must see to."""
    category = category_of(was)
    if was.startswith("<"):
        return _codec(was, adapters)
    if category == "INTERNAL_BLOB":
        # Without the codec 2.x stores and returns bytes.
        return "<blob>", None
    if category == "INTERNAL_ATTACH":
        return "<attach>", None
    if category in ("EXTERNAL_BLOB", "EXTERNAL_ATTACH", "FILEPATH"):
        kind, _, store = was.partition("@")
        return f"<{kind.lower()}@{store}>", None
    if external := re.fullmatch(r"external-([a-z][-\w]*)", was, re.IGNORECASE):
        return f"<blob@{external[1]}>", None
    if NUMBERED.match(was):
        return was, f"{was} is another type for 0.14.6 than for 2.x: say which it is to be"
    if was.lower() == "boolean":
        return "bool", None
    if re.fullmatch(r"double\s+precision", was, re.IGNORECASE):
        return "double", None
    if (core := CORE.fullmatch(was)) is not None:
        name, rest = core["name"].lower(), core["rest"] or ""
        if name == "enum":
            return _enum(was, rest)
        if re.fullmatch(WITH_ARGUMENT.get(name, ""), rest):
            return name + rest, None
    if HANDED_ON.fullmatch(was) or ITS_OWN.fullmatch(was):
        return was, None
    if argument := re.fullmatch(r"((?:var)?char|datetime)\s*\(\s*(\d+)\s*\)", was, re.IGNORECASE):
        return f"{argument[1].lower()}({argument[2]})", None
    if category == "INTEGER" and (integer := INTEGER.fullmatch(was)) is not None:
        words = integer["words"].lower().split()
        known = [word for word in ("unsigned", "auto_increment") if word in words]
        if set(words) - {"signed", "not", "null"} == set(known):
            new = " ".join([integer["base"] + (integer["width"] or ""), *known])
            return new, None
    return was, f"2.x declares no {was}: choose another type for new tables"


def _codec(was: str, adapters: Mapping[str, str | None]) -> tuple[str, str | None]:
    name, _, store = was.strip("<>").partition("@")
    if name not in adapters:
        if name in CODECS:
            return was, None
        return was, f"{was} needs a codec called {name!r}; its adapter is not in this code"
    if name in CODECS and adapters[name] is not None:
        return was, f"{was}: 2.x has a codec {name!r} of its own; give the adapter another name"
    kept = adapters[name]
    return (f"<{name}@{kept}>" if kept and not store else was), None


def _enum(was: str, rest: str) -> tuple[str, str | None]:
    """2.3.5 writes the type into a comment between double quotes."""
    values = QUOTED.findall(rest)
    plain = QUOTED.sub("", rest)
    inside = [value[1:-1] for value in values]
    if re.fullmatch(r"\(\s*(,\s*)*\)", plain) is None or not values or "\\" in rest:
        return was, f"{was}: 2.x wants the values of an enum in single quotes"
    if any("'" in value or '"' in value for value in inside):
        return was, f"{was}: 2.x cannot write an enum whose values have quotes"
    return "enum" + QUOTED.sub(lambda found: f"'{found[0][1:-1]}'", rest), None
