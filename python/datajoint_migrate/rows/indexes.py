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
from datajoint_migrate.catalog.definition import definition
from datajoint_migrate.catalog.names import POSTPONED
from datajoint_migrate.catalog.presence import has_table
from datajoint_migrate.catalog.server import Server
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import text_of
from datajoint_migrate.errors import InvalidArgument, MigrationError, ServerError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.target.ddl import parse

logger = logging.getLogger("datajoint_migrate")


Name = tuple[str, str]


def postpone(source: Session, session: Session, tables: Iterable[dict[str, Any]]) -> None:
    """Note and drop the indexes that large, still empty destination tables can load without.

    `tables` are those of a copy plan. Unique indexes stay, and those a foreign key needs.
    """
    large = LIMITS.large_index_share * int(session.query("SELECT @@innodb_buffer_pool_size")[0][0])
    tables = list(tables)
    sizes = _index_bytes(source, {table["source_schema"] for table in tables})
    for table in tables:
        index_bytes = sizes.get((table["source_schema"], table["source_table"]), 0)
        if table["limit"] or table["where_clause"] or index_bytes < large:
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
        for index, text in spare.items():
            session.execute(
                f"REPLACE INTO {notes} (table_name, index_name, definition) VALUES (%s, %s, %s)",
                (name, index, text),
            )
        drops = ", ".join(f"DROP INDEX {quote(index)}" for index in spare)
        session.execute(f"ALTER TABLE {where} {drops}")
        logger.info("%s: %d indexes are built after the load", where, len(spare))


def _index_bytes(source: Session, schemas: Iterable[str]) -> dict[Name, int]:
    """What the server says all indexes of each table but the first take, schema by schema."""
    found: dict[Name, int] = {}
    for schema in sorted(set(schemas)):
        rows = source.query(
            "SELECT TABLE_NAME, INDEX_LENGTH FROM information_schema.TABLES"
            " WHERE TABLE_SCHEMA = %s",
            (schema,),
        )
        found |= {(schema, str(table)): int(size or 0) for table, size in rows}
    return found


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
    with ThreadPoolExecutor(max_workers=LIMITS.index_builders) as pool:
        done = [pool.submit(_build, session.server, *one) for one in work]
    for one in done:
        one.result()
    for schema in {schema for schema, _, _ in work}:
        if not _noted(session, schema):
            session.execute(f"DROP TABLE IF EXISTS {quote(schema, POSTPONED)}")


def _noted(session: Session, schema: str) -> dict[str, dict[str, str]]:
    """Per table the definitions of its postponed indexes by name."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    if has_table(session, schema, POSTPONED):
        for table, index, definition in session.query(
            f"SELECT table_name, index_name, definition FROM {quote(schema, POSTPONED)}"
        ):
            if not _is_index(definition):
                raise InvalidArgument(
                    f"{schema}.{POSTPONED} has something that is no index of {table}",
                    hint="somebody changed it: begin the copy anew, under another name",
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
            session.execute(f"SET SESSION innodb_ddl_buffer_size = {LIMITS.sort_bytes}")
        there = _indexes(session, schema, table)
        missing = [text for index, text in postponed.items() if index not in there]
        if missing:
            adds = ", ".join(f"ADD {text}" for text in missing)
            session.execute(f"ALTER TABLE {quote(schema, table)} {adds}")
        session.execute(f"DELETE FROM {quote(schema, POSTPONED)} WHERE table_name = %s", (table,))


def _spare(session: Session, schema: str, table: str) -> dict[str, str]:
    """Name and definition of every index that neither a constraint nor a counter needs."""
    create = definition(session, schema, table)
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
