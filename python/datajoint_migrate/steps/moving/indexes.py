"""Indexes that outgrow the server's memory are built once after the load, not row by row in it.

Two million narrow rows, same server, 2 cores, an index over random text: with a buffer pool of
64 MiB 14.8 s, or 3.3 s to load and 3.7 s to build; with one of 2 GiB 8.0 s, or 3.3 and 4.0. Where
rows of a key share their value, as is usual, 6.5 s with 2 GiB, so what fits stays in place.
What is postponed is noted in the destination first, so that whatever is killed, the same call
puts every index back.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Server, Session
from datajoint_migrate.errors import InvalidArgument, MigrationError, ServerError
from datajoint_migrate.steps.moving.plan import POSTPONED
from datajoint_migrate.target.ddl import parse, text_of

logger = logging.getLogger("datajoint_migrate")

# Of the buffer pool, what an index may fill before its pages are read again for every row.
LARGE_SHARE = 0.5
# Memory of the server for sorting one index; its default of 1 MiB merges large ones in many passes.
SORT_BYTES = 64 << 20
BUILDERS = 2

Name = tuple[str, str]


def postpone(source: Session, session: Session, tables: Iterable[dict[str, Any]]) -> None:
    """Note and drop the indexes that large, still empty destination tables can load without.

    `tables` are those of a copy plan. Unique indexes stay, and those a foreign key needs.
    """
    large = LARGE_SHARE * int(session.query("SELECT @@innodb_buffer_pool_size")[0][0])
    for table in tables:
        if table["limit"] or table["where_clause"] or _index_bytes(source, table) < large:
            continue
        schema, name = table["destination_schema"], table["destination_table"]
        where = quote(schema, name)
        if session.query(f"SELECT 1 FROM {where} LIMIT 1"):
            continue
        spare = _spare(session, schema, name)
        if not spare:
            continue
        notes = quote(schema, POSTPONED)
        session.execute(
            f"CREATE TABLE IF NOT EXISTS {notes} (table_name VARCHAR(64) CHARACTER SET utf8mb4"
            " COLLATE utf8mb4_bin NOT NULL, index_name VARCHAR(64) CHARACTER SET utf8mb4"
            " COLLATE utf8mb4_bin NOT NULL, definition LONGTEXT CHARACTER SET utf8mb4 NOT NULL,"
            " PRIMARY KEY (table_name, index_name)) ENGINE=InnoDB"
            " COMMENT 'indexes that an unfinished migration builds at its end'"
        )
        for index, definition in spare.items():
            session.execute(
                f"REPLACE INTO {notes} (table_name, index_name, definition) VALUES (%s, %s, %s)",
                (name, index, definition),
            )
        drops = ", ".join(f"DROP INDEX {quote(index)}" for index in spare)
        session.execute(f"ALTER TABLE {where} {drops}")
        logger.info("%s: %d indexes are built after the load", where, len(spare))


def _index_bytes(source: Session, table: dict[str, Any]) -> int:
    rows = source.query(
        "SELECT INDEX_LENGTH FROM information_schema.TABLES"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        (table["source_schema"], table["source_table"]),
    )
    return int(rows[0][0] or 0) if rows else 0


def build_postponed(session: Session, tables: Iterable[Name]) -> None:
    """Build what was postponed for these destination tables, by this call or a killed one."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for schema, name in tables:
        wanted[schema].add(name)
    work: list[tuple[str, str, dict[str, str]]] = []
    for schema, names in wanted.items():
        for name, postponed in _noted(session, schema).items():
            if name in names:
                work.append((schema, name, postponed))
    with ThreadPoolExecutor(max_workers=BUILDERS) as pool:
        done = [pool.submit(_build, session.server, *one) for one in work]
    for one in done:
        one.result()
    for schema in {schema for schema, _, _ in work}:
        if not _noted(session, schema):
            session.execute(f"DROP TABLE IF EXISTS {quote(schema, POSTPONED)}")


def _noted(session: Session, schema: str) -> dict[str, dict[str, str]]:
    """Per table the definitions of its postponed indexes by name."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    there = session.query(
        "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        (schema, POSTPONED),
    )
    if there:
        for table, index, definition in session.query(
            f"SELECT table_name, index_name, definition FROM {quote(schema, POSTPONED)}"
        ):
            if not _is_index(definition):
                raise InvalidArgument(
                    f"{schema}.{POSTPONED} has something that is no index of {table}",
                    hint="somebody changed it: drop it, and compare the indexes of that table",
                )
            found[table][index] = definition
    return found


def _is_index(definition: Any) -> bool:
    """Whether a text becomes SQL that adds one index and does nothing else."""
    try:
        items = parse(f"CREATE TABLE `t` (\n  {definition}\n)").items
    except MigrationError:
        return False
    return [(item.kind, item.parts[0].word) for item in items] == [("index", "KEY")]


def _build(server: Server, schema: str, table: str, postponed: dict[str, str]) -> None:
    with server.session() as session:
        session.execute("SET SESSION foreign_key_checks = 0")
        # MariaDB and older servers do not know it.
        with contextlib.suppress(ServerError):
            session.execute(f"SET SESSION innodb_ddl_buffer_size = {SORT_BYTES}")
        there = _indexes(session, schema, table)
        missing = [text for index, text in postponed.items() if index not in there]
        if missing:
            adds = ", ".join(f"ADD {text}" for text in missing)
            session.execute(f"ALTER TABLE {quote(schema, table)} {adds}")
        session.execute(f"DELETE FROM {quote(schema, POSTPONED)} WHERE table_name = %s", (table,))


def _spare(session: Session, schema: str, table: str) -> dict[str, str]:
    """Name and definition of every index that neither a constraint nor a counter needs."""
    create = str(session.query(f"SHOW CREATE TABLE {quote(schema, table)}")[0][1])
    indexes = _indexes(session, schema, table)
    needed = _needed(session, schema, table)
    primary = indexes.get("PRIMARY", ())
    spare = {}
    for item in parse(create).items:
        if item.kind != "index" or item.parts[0].word != "KEY":
            continue
        columns = indexes[item.name]
        serves = any(columns[: len(key)] == key and primary[: len(key)] != key for key in needed)
        if not serves:
            spare[item.name] = text_of(item.parts)
    return spare


def _indexes(session: Session, schema: str, table: str) -> dict[str, tuple[str | None, ...]]:
    found: dict[str, tuple[str | None, ...]] = {}
    for index, column in session.query(
        "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY INDEX_NAME, SEQ_IN_INDEX",
        (schema, table),
    ):
        found[index] = (*found.get(index, ()), column)
    return found


def _needed(session: Session, schema: str, table: str) -> set[tuple[str, ...]]:
    """Columns that some index has to begin with: keys from here and to here, the counter."""
    keys: dict[tuple[str, ...], tuple[str, ...]] = {}
    for which, columns in (
        ("TABLE", "COLUMN_NAME"),
        ("REFERENCED_TABLE", "REFERENCED_COLUMN_NAME"),
    ):
        for owner, child, name, column in session.query(
            f"SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, {columns}"
            f" FROM information_schema.KEY_COLUMN_USAGE WHERE {which}_SCHEMA = %s"
            f" AND {which}_NAME = %s AND REFERENCED_TABLE_NAME IS NOT NULL"
            " ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
            (schema, table),
        ):
            key = (which, owner, child, name)
            keys[key] = (*keys.get(key, ()), column)
    counters = session.query(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s"
        " AND TABLE_NAME = %s AND EXTRA LIKE %s",
        (schema, table, "%auto_increment%"),
    )
    return {*keys.values(), *((row[0],) for row in counters)}
