"""Under which number the engine keeps a table. TRUNCATE and IMPORT TABLESPACE give it a new one.

Told to users with the right PROCESS only.
"""

from __future__ import annotations

from typing import Any

from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import PermissionMissing, ServerError

UNKNOWN_TABLE = 1109


def table_ids(session: Session) -> dict[str, int]:
    """The number of every table of the server by its `place`; nothing for who may not see it."""
    return {_plain(str(name)).lower(): int(number) for name, number in _rows(session)}


def place(schema: str, table: str) -> str:
    """By which a table is found among `table_ids`."""
    return f"{schema}/{table}".lower()


def _rows(session: Session) -> list[tuple[Any, ...]]:
    old = session.is_mariadb or session.version < (8,)
    view = "INNODB_SYS_TABLES" if old else "INNODB_TABLES"
    try:
        return session.query(f"SELECT NAME, TABLE_ID FROM information_schema.{view}")
    except PermissionMissing:
        return []
    except ServerError as error:
        # A server without InnoDB.
        if error.context.get("errno") != UNKNOWN_TABLE:
            raise
        return []


def _plain(name: str) -> str:
    """`lab/@0023session` is `lab/#session`: letters that file names may not have are numbers."""
    parts = name.split("@")
    plain = parts[0]
    for part in parts[1:]:
        code = part[:4]
        is_code = len(code) == 4 and all(letter in "0123456789abcdef" for letter in code)
        plain += chr(int(code, 16)) + part[4:] if is_code else "@" + part
    return plain
