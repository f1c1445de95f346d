"""What a user may do: SHOW GRANTS, read as the server reads it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from datajoint_migrate.catalog.session import Session

NAME = r"`(?:[^`]|``)*`"
LINE = re.compile(
    rf"(?P<verb>GRANT|REVOKE) (?P<what>.+?) ON (?P<where>\*\.\*|{NAME}\.(?:\*|{NAME}))"
    r" (?:TO|FROM) (?P<who>.+?)(?: IDENTIFIED .*| REQUIRE .*| WITH .*)?$",
    re.DOTALL,
)
EVERYTHING = {"ALL PRIVILEGES", "ALL"}


class Line(NamedTuple):
    """Privileges of a user or role on `*.*` or a pattern of schemas; or some that are taken back
    from `*.*` for one schema."""

    privileges: frozenset[str]
    where: str
    who: str
    taken: bool = False

    def holds(self, privilege: str) -> bool:
        """Whether the line names it."""
        return bool(self.privileges & {privilege.upper(), *EVERYTHING})

    @property
    def pattern(self) -> str | None:
        """The pattern of schemas; None for `*.*` and for one table."""
        found = re.fullmatch(rf"(?P<name>{NAME})\.\*", self.where)
        return found["name"][1:-1].replace("``", "`") if found else None


@dataclass(frozen=True)
class Grants:
    """What holds for a user, its active roles included.

    Of the lines that fit a schema a server takes one, and the others count for nothing: MySQL the
    one whose first wildcard comes last; with roles, whose lines it joins with the user's, the
    first by its letters; MariaDB the one with most letters, for the user and for each role.
    Where MySQL may revoke privileges in parts, % and _ in a line stand for themselves.
    """

    lines: tuple[Line, ...]
    is_mariadb: bool = False
    roles: bool = False
    literal: bool = False
    folds: bool = False

    def has(self, privilege: str, schema: str | None = None) -> bool:
        """Whether `privilege` is held everywhere, or on all of `schema`."""
        given = [line for line in self.lines if not line.taken]
        everywhere = any(line.where == "*.*" and line.holds(privilege) for line in given)
        if schema is None:
            return everywhere
        name = schema.lower() if self.folds else schema
        fitting = [
            line
            for line in self.lines
            if line.pattern is not None and self._fits(line.pattern, name)
        ]
        taken = any(
            line.taken and line.pattern == name and line.holds(privilege) for line in fitting
        )
        if everywhere and not taken:
            return True
        return any(
            all(line.holds(privilege) for line in lines)
            for lines in self._deciding([line for line in fitting if not line.taken])
        )

    def missing(self, privileges: tuple[str, ...], schema: str) -> list[str]:
        """Those of `privileges` that are not held on all of `schema`."""
        return [privilege for privilege in privileges if not self.has(privilege, schema)]

    def _fits(self, pattern: str, schema: str) -> bool:
        pattern = pattern.lower() if self.folds else pattern
        return pattern == schema if self.literal else _covers(pattern, schema)

    def _deciding(self, lines: list[Line]) -> list[list[Line]]:
        """The lines that a server goes by, all that are equal before it together."""
        if not lines:
            return []
        if self.is_mariadb:
            owners = {line.who for line in lines}
            own = [[line for line in lines if line.who == who] for who in sorted(owners)]
            return [_first(mine, _letters) for mine in own]
        if not self.roles:
            return [_first(lines, _wildcard_at)]
        plain = [line for line in lines if not re.search("[%_]", line.pattern or "")]
        first = min(line.pattern or "" for line in lines)
        return [plain or [line for line in lines if line.pattern == first]]


def read_grants(session: Session) -> Grants:
    """The privileges of the session's user, those of its active roles included."""
    lines = []
    for (text,) in session.query("SHOW GRANTS"):
        found = LINE.match(str(text))
        if found:
            # Privileges on columns, SELECT (`a`), are none on the whole.
            names = re.sub(r"\w+(?: \w+)* \([^)]*\)", "", found["what"])
            held = frozenset(name.strip().upper() for name in names.split(",") if name.strip())
            lines.append(Line(held, found["where"], found["who"], found["verb"] == "REVOKE"))
    modern = not session.is_mariadb and session.version >= (8, 0, 16)
    role = session.query("SELECT CURRENT_ROLE()")[0][0] if modern else "NONE"
    return Grants(
        tuple(lines),
        is_mariadb=session.is_mariadb,
        roles=str(role).upper() != "NONE",
        literal=modern and bool(int(session.query("SELECT @@GLOBAL.partial_revokes")[0][0])),
        folds=bool(int(session.query("SELECT @@GLOBAL.lower_case_table_names")[0][0])),
    )


def _covers(pattern: str, schema: str) -> bool:
    parts = re.split(r"(\\.|[%_])", pattern)
    said = {"%": ".*", "_": "."}
    regex = "".join(
        said.get(part) or re.escape(part[1:] if part[:1] == "\\" else part) for part in parts
    )
    return re.fullmatch(regex, schema, re.DOTALL) is not None


def _first(lines: list[Line], rank: Callable[[str], Any]) -> list[Line]:
    """Those of the highest rank: which of them a server takes is not known, so all must hold."""
    best = max(rank(line.pattern or "") for line in lines)
    return [line for line in lines if rank(line.pattern or "") == best]


def _wildcard_at(pattern: str) -> int:
    bare = re.sub(r"\\.", "\\\\\\\\", pattern)
    found = re.search("[%_]", bare)
    return found.start() if found else 1000


def _letters(pattern: str) -> tuple[bool, int]:
    bare = re.sub(r"\\.", "x", pattern)
    return "%" not in bare, len(bare.replace("%", ""))
