"""Table definitions: types as 2.x spells them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# name [= default] : type [# comment]
ATTRIBUTE = re.compile(
    r"(?P<before>\s*[a-z][a-z0-9_]*\s*(?:=\s*(?:\"[^\"]*\"|'[^']*'|[^:#]*?)\s*)?:\s*)"
    r"(?P<type>(?:[^#'\"]|'[^']*'|\"[^\"]*\")*?)"
    r"(?P<after>\s*(?:#.*)?)$",
    re.IGNORECASE,
)
OTHER = re.compile(r"\s*(#|---|___|->|(unique\s+)?index\b|$)", re.IGNORECASE)
STORED = re.compile(r"(blob|attach|filepath)@([a-z][-\w]*)", re.IGNORECASE)
EXTERNAL = re.compile(r"external-([a-z]\w*)", re.IGNORECASE)
ADAPTED = re.compile(r"<([a-z]\w*)>", re.IGNORECASE)
REFUSED = re.compile(
    r"(var)?binary\b|bit\b|set\s*\(|geometry\b|point\b|linestring\b|polygon\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Rewritten:
    """A definition for 2.x; `changes` and `left` are (line from 0 on, what)."""

    text: str
    changes: tuple[tuple[int, str], ...]
    left: tuple[tuple[int, str], ...]


def rewrite_definition(text: str, adapters: Mapping[str, str | None]) -> Rewritten:
    """Exchange the types that mean something else in 2.x or nothing.

    `adapters` are those known by name, with the store of their type, if it has one.
    """
    lines = text.split("\n")
    changes, left = [], []
    for number, line in enumerate(lines):
        if OTHER.match(line):
            continue
        found = ATTRIBUTE.match(line)
        if found is None:
            left.append((number, f"{line.strip()!r} is no attribute that can be read"))
            continue
        was = found["type"].strip()
        new, why = _type(was, adapters)
        if why is not None:
            left.append((number, why))
        if new != was:
            lines[number] = found["before"] + new + found["after"]
            changes.append((number, f"{was} is {new}"))
    return Rewritten("\n".join(lines), tuple(changes), tuple(left))


def _type(was: str, adapters: Mapping[str, str | None]) -> tuple[str, str | None]:
    """The type in 2.x, and what a person must see to."""
    low = was.lower()
    if low in ("tinyblob", "blob", "mediumblob", "longblob"):
        # Without the codec 2.x stores and returns bytes.
        return "<blob>", None
    if low == "attach":
        return "<attach>", None
    if stored := STORED.fullmatch(was):
        return f"<{stored[1].lower()}@{stored[2]}>", None
    if external := EXTERNAL.fullmatch(was):
        return f"<blob@{external[1]}>", None
    if low == "boolean":
        return "bool", None
    if re.fullmatch(r"double\s+precision", low):
        return "double", None
    if low.startswith("enum") and '"' in was:
        # 2.3.5 writes the type into a comment between double quotes.
        if "'" in was or "\\" in was:
            return was, "enum: 2.x wants its values in single quotes"
        return was.replace('"', "'"), None
    if adapted := ADAPTED.fullmatch(was):
        name = adapted[1]
        if name not in adapters:
            return was, f"{was} needs a codec called {name!r}; its adapter is not in this code"
        store = adapters[name]
        return (f"<{name}@{store}>" if store else was), None
    if REFUSED.match(low):
        return was, f"2.x declares no {was}: choose another type for new tables"
    return was, None
