"""What a backup on the server says of itself, in a hidden table of its own.

The definitions as the schema had them are here, foreign keys into other schemas included, which
the backup's own tables must not hold; so are its programs, and what the rows were when proved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, get_type_hints

from datajoint_migrate._core import quote
from datajoint_migrate.call.border import check
from datajoint_migrate.catalog.names import RECORD
from datajoint_migrate.catalog.presence import has_table
from datajoint_migrate.catalog.programs import Program
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import InvalidArgument, NotFound, ServerError


@dataclass
class Kept:
    """One table: its SHOW CREATE TABLE, and rows and digest once they are proved."""

    create: str
    rows: int | None = None
    digest: str | None = None


@dataclass
class Record:
    """A backup of schema `source`. `orphans` are keys ("table.constraint") that did not hold.

    `version` is the engine's that took the digests; another may count otherwise.
    """

    source: str
    charset: str
    collation: str
    tables: dict[str, Kept]
    programs: list[Program] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    finished: bool = False
    snapshot: str = "none"
    version: str = ""


def has_record(session: Session, schema: str) -> bool:
    """Whether this schema is, or is becoming, a backup made here."""
    return has_table(session, schema, RECORD)


def read_record(session: Session, schema: str) -> Record | None:
    """The record of a backup; None where there is none, or none was written yet."""
    if not has_record(session, schema):
        return None
    try:
        said = read_notes(session, schema, RECORD)
        if not said:
            return None
        record = Record(
            **said["backup"][""],
            tables={name: Kept(**kept) for name, kept in said.get("table", {}).items()},
            programs=[Program(**one) for _, one in sorted(said.get("program", {}).items())],
        )
        for part in (record, *record.tables.values(), *record.programs):
            for name, hint in get_type_hints(type(part)).items():
                check(getattr(part, name), hint, f"{name} of a {type(part).__name__}")
        return record
    except (TypeError, KeyError, ValueError, AttributeError, ServerError, NotFound) as error:
        raise InvalidArgument(
            f"{schema}.{RECORD} is no record that backup_schema has written: {error}",
            hint="if another version of this package made it, use that one; else rename that "
            f"table, and {schema} serves as it is",
            context={"schema": schema, "table": RECORD},
        ) from error


def write_record(session: Session, schema: str, record: Record) -> None:
    """Write the record in one statement; what was there before is replaced."""
    make_notes(session, schema, RECORD, "the definitions a backup was made of")
    head = asdict(record)
    del head["tables"], head["programs"]
    rows: list[tuple[str, str, Any]] = [("backup", "", head)]
    rows += [("table", name, asdict(kept)) for name, kept in record.tables.items()]
    rows += program_notes("program", record.programs)
    write_notes(session, schema, RECORD, rows)


# -- a table of named facts ---------------------------------------------------------------------


def program_notes(kind: str, programs: Iterable[Program]) -> list[tuple[str, str, Any]]:
    """Programs as facts, in the order in which they can be made."""
    return [(kind, f"{number:06}", asdict(each)) for number, each in enumerate(programs)]


def make_notes(session: Session, schema: str, table: str, comment: str) -> None:
    """Make the table, unless it is there."""
    session.execute(
        f"CREATE TABLE IF NOT EXISTS {quote(schema, table)} (`kind` varchar(16) NOT NULL,"
        " `name` varchar(300) NOT NULL, `content` longtext NOT NULL, PRIMARY KEY (`kind`, `name`))"
        f" ENGINE=InnoDB CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='{comment}'"
    )


def write_notes(
    session: Session, schema: str, table: str, rows: Iterable[tuple[str, str, Any]]
) -> None:
    """Write facts (kind, name, anything JSON can say) in one statement, all or none."""
    values: list[str] = []
    for kind, name, content in rows:
        values += [kind, name, json.dumps(content)]
    marks = ", ".join(["(%s, %s, %s)"] * (len(values) // 3))
    session.execute(f"REPLACE INTO {quote(schema, table)} VALUES {marks}", values)


def read_notes(session: Session, schema: str, table: str) -> dict[str, dict[str, Any]]:
    """All facts: kind → name → content."""
    found: dict[str, dict[str, Any]] = {}
    for kind, name, content in session.query(
        f"SELECT `kind`, `name`, `content` FROM {quote(schema, table)} ORDER BY `kind`, `name`"
    ):
        found.setdefault(kind, {})[name] = json.loads(content)
    return found
