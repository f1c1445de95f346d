"""What a user may do, as SHOW GRANTS tells it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from datajoint_migrate.catalog.connection import Session

LINE = re.compile(r"GRANT (?P<what>.+?) ON (?P<where>.+?) TO ", re.DOTALL)


@dataclass(frozen=True)
class Grants:
    """Privileges by where they hold: `*.*`, a pattern of schemas, or one table."""

    lines: tuple[tuple[frozenset[str], str], ...]

    def has(self, privilege: str, schema: str | None = None) -> bool:
        """Whether `privilege` is held everywhere, or on all of `schema`."""
        for privileges, where in self.lines:
            if not privileges & {privilege.upper(), "ALL PRIVILEGES", "ALL"}:
                continue
            if where == "*.*" or (schema is not None and _covers(where, schema)):
                return True
        return False

    def missing(self, privileges: tuple[str, ...], schema: str) -> list[str]:
        """Those of `privileges` that are not held on all of `schema`."""
        return [privilege for privilege in privileges if not self.has(privilege, schema)]


def read_grants(session: Session) -> Grants:
    """The privileges of the session's user, those of its active roles included."""
    lines = []
    for (text,) in session.query("SHOW GRANTS"):
        found = LINE.match(str(text))
        if found:
            # Privileges on columns, SELECT (`a`), are none on the whole.
            names = re.sub(r"\w+(?: \w+)* \([^)]*\)", "", found["what"])
            held = frozenset(name.strip().upper() for name in names.split(",") if name.strip())
            lines.append((held, found["where"]))
    return Grants(tuple(lines))


def _covers(where: str, schema: str) -> bool:
    found = re.fullmatch(r"`(?P<pattern>(?:[^`]|``)+)`\.\*", where)
    if found is None:
        return False
    pattern = found["pattern"].replace("``", "`")
    parts = re.split(r"(\\.|[%_])", pattern)
    said = {"%": ".*", "_": "."}
    regex = "".join(
        said.get(part) or re.escape(part[1:] if part[:1] == "\\" else part) for part in parts
    )
    return re.fullmatch(regex, schema, re.DOTALL) is not None
