"""What a copy remembers of itself: the options it was made by, and for each table when both sides
were last known to be equal.

A hidden table of each destination holds it, so that a second person at another desk has it too. Its
lines of chunks are the engine's; what is read here is believed only as far as it can be checked.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.call.marks import seen
from datajoint_migrate.catalog.names import SYNC
from datajoint_migrate.catalog.presence import with_table
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.errors import InvalidArgument, MigrationError

VERSION = 1
ROLLED_BACK = "rolled_back"
# More than any head says: a head of a table is a few hundred bytes.
MOST_BYTES = 1 << 20
# That one statement keeps.
HEADS_AT_ONCE = 50

Name = tuple[str, str]

CREATE = """CREATE TABLE IF NOT EXISTS {table} (
table_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
chunk BIGINT UNSIGNED NOT NULL, plan CHAR(32) CHARACTER SET ascii NOT NULL,
bounds LONGTEXT CHARACTER SET utf8mb4 NOT NULL, row_count BIGINT UNSIGNED NOT NULL DEFAULT 0,
blocks LONGBLOB NOT NULL, PRIMARY KEY (table_name, chunk)) ENGINE=InnoDB
COMMENT 'what sync knows of this copy'"""


@dataclass(frozen=True)
class Head:
    """What is known of one table: `base` is "lines" (see the engine) or "empty"."""

    definition: str
    base: str = "lines"
    source: list[str] | None = None
    copy: list[str] | None = None
    at: str = ""
    position: str = ""
    compare: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class State:
    """The state of one destination: `options` of the copy, heads by table, and when a cutover of it
    was undone last, if one was."""

    options: Mapping[str, Any]
    heads: Mapping[str, Head]
    rolled_back: str | None = None


def definition(table: Table) -> str:
    """Identifies how a source table is declared, but for where it goes on numbering."""
    create = re.sub(r" AUTO_INCREMENT=\d+", "", table.create)
    return hashlib.sha256(create.encode()).hexdigest()


def prepare(session: Session, schemas: Iterable[str]) -> None:
    """Make the hidden table where it is not there."""
    for schema in schemas:
        session.execute(CREATE.format(table=quote(schema, SYNC)))


def read_state(session: Session, schema: str) -> State | None:
    """The state of a destination, None where there is none. Raises `InvalidArgument` for one that
    this package cannot have written."""
    return read_states(session, [schema])[schema]


def read_states(session: Session, schemas: Iterable[str]) -> dict[str, State | None]:
    """`read_state` of several destinations."""
    names = list(schemas)
    there = set(with_table(session, names, SYNC))
    return {name: _read(session, name) if name in there else None for name in names}


def _read(session: Session, schema: str) -> State | None:
    options: Mapping[str, Any] | None = None
    heads: dict[str, Head] = {}
    rolled_back: str | None = None
    for table, size, said in session.query(
        f"SELECT table_name, LENGTH(bounds), LEFT(bounds, {MOST_BYTES})"
        f" FROM {quote(schema, SYNC)} WHERE chunk = 0"
    ):
        try:
            if int(size) > MOST_BYTES:
                raise ValueError("it is too long")
            known = json.loads(said)
            if table == "":
                options = _options(known)
                undone = known.get(ROLLED_BACK)
                rolled_back = undone if isinstance(undone, str) else None
            else:
                heads[str(table)] = _head(known)
        except (ValueError, TypeError, KeyError) as error:
            raise _unreadable(schema, str(table), error) from None
    return None if options is None else State(options, heads, rolled_back)


def _options(said: Any) -> Mapping[str, Any]:
    if said["version"] != VERSION:
        raise ValueError(f"version {said['version']!r} is not known")
    kinds: dict[str, tuple[type, ...]] = {
        "unsigned": (str,),
        "charset": (str,),
        "unseen": (str,),
        "copy_files": (bool,),
        "store_map": (dict,),
        "final": (str,),
        "adapters": (dict, type(None)),
    }
    for name, kind in kinds.items():
        if not isinstance(said[name], kind):
            raise TypeError(f"{name} is {said[name]!r}")
    for name in ("store_map", "adapters"):
        for key, value in (said[name] or {}).items():
            if not isinstance(value, str):
                raise TypeError(f"{name}.{key} is {value!r}")
    return {name: said[name] for name in kinds}


def _head(said: Any) -> Head:
    for name in ("source", "copy"):
        times = said[name]
        if times is not None and not (
            isinstance(times, list) and len(times) == 2 and all(isinstance(t, str) for t in times)
        ):
            raise TypeError(f"{name} is {times!r}")
    if said["base"] not in ("lines", "empty"):
        raise ValueError(f"base is {said['base']!r}")
    for name in ("definition", "at", "position"):
        if not isinstance(said[name], str):
            raise TypeError(f"{name} is {said[name]!r}")
    compare = said["compare"]
    if compare is not None and not isinstance(compare, dict):
        raise TypeError(f"compare is {compare!r}")
    return Head(
        said["definition"],
        said["base"],
        said["source"],
        said["copy"],
        said["at"],
        said["position"],
        compare,
    )


def _unreadable(schema: str, table: str, error: Exception) -> InvalidArgument:
    what = f"of {table!r}" if table else "of the whole copy"
    return InvalidArgument(
        f"the state {schema}.{SYNC} says nothing that can be understood {what}: {error}",
        hint=f"rename the table {quote(schema, SYNC)}, and sync compares everything",
        context={"schema": schema, "table": table},
    )


def write_options(session: Session, schema: str, options: Mapping[str, Any]) -> None:
    """Keep the options that a copy was made by."""
    _write(session, schema, {"": {"version": VERSION, **options}})


def write_head(session: Session, schema: str, table: str, head: Head) -> None:
    """Keep what is known of a table from now on."""
    write_heads(session, schema, {table: head})


def write_heads(session: Session, schema: str, heads: Mapping[str, Head]) -> None:
    """Keep what is known of several tables from now on."""
    _write(session, schema, {table: dict(vars(head)) for table, head in heads.items()})


@contextmanager
def kept(session: Session, tables: Iterable[Name]) -> Iterator[None]:
    """What is known of copies stays true across statements that change no row of them.

    Such a statement renews the time at which the table was made, and leaves the other, by which a
    write of somebody else would show, and the number, which a TRUNCATE would renew.
    """
    places = list(tables)
    schemas = sorted({schema for schema, _ in places})
    known = {schema: _heads(session, schema) for schema in with_table(session, schemas, SYNC)}
    if not known:
        yield
        return
    before = seen(session, known)

    def carry() -> None:
        after = seen(session, known)
        carried: dict[str, dict[str, Head]] = {schema: {} for schema in known}
        for schema, table in places:
            head = known.get(schema, {}).get(table)
            was, now = before.get((schema, table)), after.get((schema, table))
            if head and was and now and was.is_as(head.copy) and (copy := was.over(now)):
                carried[schema][table] = replace(head, copy=copy)
        for schema, heads in carried.items():
            write_heads(session, schema, heads)

    try:
        yield
    except MigrationError:
        # Those that it came to are carried over nevertheless, if that can be.
        with suppress(MigrationError):
            carry()
        raise
    carry()


def _heads(session: Session, schema: str) -> Mapping[str, Head]:
    """What is known of tables; nothing also of what cannot be understood."""
    try:
        known = _read(session, schema)
    except InvalidArgument:
        return {}
    return known.heads if known else {}


def now() -> str:
    """UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def row_counts(session: Session, schema: str) -> dict[str, int]:
    """Rows of each table when both sides were last equal."""
    return {
        str(table): int(rows)
        for table, rows in session.query(
            f"SELECT table_name, SUM(row_count) FROM {quote(schema, SYNC)} WHERE table_name <> ''"
            " GROUP BY table_name"
        )
    }


def doubt(session: Session, schema: str) -> None:
    """A cutover was undone: the rows that were noted are told from those that are
    there, but no time and no log proves any more that they are the same."""
    known = read_state(session, schema)
    if known is None:
        return
    write_heads(
        session,
        schema,
        {
            table: replace(head, source=None, copy=None, position="", at="")
            for table, head in known.heads.items()
        },
    )
    write_options(session, schema, {**known.options, ROLLED_BACK: now()})


def forget(session: Session, schema: str, table: str) -> None:
    """Take a table out, with its chunks."""
    session.execute(f"DELETE FROM {quote(schema, SYNC)} WHERE table_name = %s", (table,))


def move(
    session: Session, schema: str, gone: Iterable[str], moves: Iterable[tuple[str, str]]
) -> None:
    """Let what is known of tables follow their new names; all of it, or nothing."""
    statements: list[tuple[str, tuple[str, ...]]] = [
        (f"DELETE FROM {quote(schema, SYNC)} WHERE table_name = %s", (t,)) for t in gone
    ]
    for was, now in moves:
        sql = f"UPDATE {quote(schema, SYNC)} SET table_name = %s WHERE table_name = %s"
        statements.append((sql, (now, was)))
    if not statements:
        return
    session.execute("START TRANSACTION")
    for sql, values in statements:
        session.execute(sql, values)
    session.execute("COMMIT")


def _write(session: Session, schema: str, said: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [(table, json.dumps(one, default=str)) for table, one in said.items()]
    for start in range(0, len(rows), HEADS_AT_ONCE):
        part = rows[start : start + HEADS_AT_ONCE]
        session.execute(
            f"REPLACE INTO {quote(schema, SYNC)} (table_name, chunk, plan, bounds, blocks) VALUES "
            + ", ".join(["(%s, 0, '', %s, '')"] * len(part)),
            [value for row in part for value in row],
        )
