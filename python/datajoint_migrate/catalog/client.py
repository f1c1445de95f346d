"""How DataJoint 0.14.6 reads what it wrote: types, markers, names, by its own expressions.

The expressions are the client's, flags and lack of an end included: what is read more strictly
here than there is a column, a key or a file that nobody looks at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

# datajoint/declare.py, TYPE_PATTERN, in its order: the first that matches decides.
TYPE_PATTERN = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "INTEGER": r"((tiny|small|medium|big|)int|integer)(\s*\(.+\))?(\s+unsigned)?"
        r"(\s+auto_increment)?|serial$",
        "DECIMAL": r"(decimal|numeric)(\s*\(.+\))?(\s+unsigned)?$",
        "FLOAT": r"(double|float|real)(\s*\(.+\))?(\s+unsigned)?$",
        "STRING": r"(var)?char\s*\(.+\)$",
        "JSON": r"json$",
        "ENUM": r"enum\s*\(.+\)$",
        "BOOL": r"bool(ean)?$",
        "TEMPORAL": r"(date|datetime|time|timestamp|year)(\s*\(.+\))?$",
        "INTERNAL_BLOB": r"(tiny|small|medium|long|)blob$",
        "EXTERNAL_BLOB": r"blob@(?P<store>[a-z][\-\w]*)$",
        "INTERNAL_ATTACH": r"attach$",
        "EXTERNAL_ATTACH": r"attach@(?P<store>[a-z][\-\w]*)$",
        "FILEPATH": r"filepath@(?P<store>[a-z][\-\w]*)$",
        "UUID": r"uuid$",
        "ADAPTED": r"<.+>$",
    }.items()
}
SPECIAL = ("UUID", "INTERNAL_ATTACH", "EXTERNAL_ATTACH", "EXTERNAL_BLOB", "FILEPATH", "ADAPTED")
KINDS = {"EXTERNAL_BLOB": "blob", "EXTERNAL_ATTACH": "attach", "FILEPATH": "filepath"}
# datajoint/heading.py, of 0.14.6 and of 2.x alike; a comment goes on behind its first line, which
# the clients do not show.
MARKER = re.compile(r":(?P<type>[^:]+):(?P<text>.*)", re.DOTALL)


@dataclass(frozen=True)
class Said:
    """What a marker says: its `category` as the client calls it, the store, the adapter's name."""

    category: str
    store: str | None = None
    adapter: str | None = None

    @property
    def kind(self) -> str | None:
        """blob, attach or filepath when the column points into a store."""
        return KINDS.get(self.category)


# Written before 0.12, when a store had no name or this one.
LEGACY = re.compile(r"external(-(?P<store>[a-z][-\w]*))?$", re.IGNORECASE)


def category_of(type_: str) -> str | None:
    """What 0.14.6 takes a type in a definition for; None when it refuses it."""
    return next((name for name, known in TYPE_PATTERN.items() if known.match(type_)), None)


def said_by(marker: str | None) -> Said | None:
    """What 0.14.6 reads in the marker of a comment; None when it knows no such type."""
    if marker is None:
        return None
    category = next((name for name in SPECIAL if TYPE_PATTERN[name].match(marker)), None)
    if category is None:
        return None
    if category in KINDS:
        return Said(category, store=marker.split("@")[1].rstrip("\n"))
    if category == "ADAPTED":
        return Said(category, adapter=marker.lstrip("<").rstrip("\n").rstrip(">"))
    return Said(category)


def is_attach(marker: str | None) -> bool:
    """Whether a marker says that a blob column holds attachments."""
    said = said_by(marker)
    return said is not None and said.category == "INTERNAL_ATTACH"


def is_uuid(marker: str | None) -> bool:
    """Whether a marker says that a BINARY(16) column holds UUIDs."""
    said = said_by(marker)
    return said is not None and said.category == "UUID"


def is_pointer(marker: str | None) -> bool:
    """Whether a marker is that of a column that points into a store, before 0.12 or since."""
    said = said_by(marker)
    return (said is not None and said.kind is not None) or bool(LEGACY.match(marker or ""))


def location_in_bucket(location: str) -> str:
    """What 0.14.6 puts before the names of objects in a bucket.

    It reads a location as a path of Windows, so that a backslash divides as a slash does, and
    leaves its root away (`/data`, `C:\\data`).
    """
    parts = PureWindowsPath(location).parts
    if parts and any(mark in parts[0] for mark in ("\\", ":")):
        parts = parts[1:]
    joined = PurePosixPath(*parts).as_posix()
    return "" if joined == "." else joined
