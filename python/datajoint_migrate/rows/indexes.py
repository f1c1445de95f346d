"""Large indexes are built once after the load, not row by row in it.

800,000 narrow rows, 2 cores, in memory, two rounds: the destination of MySQL 9.7 took 0.79 to 0.94
of the processor seconds, least with an index over random times, most over names that rows share;
the copy as a whole 0.91 to 1.03 of the time. MariaDB, 500,000 rows: 0.80 and 0.85, and 0.92 to 1.0
of the time. Beside rows of 600 bytes an index over names saved 0.06 and no time, because all rows
are read to build it. One that outgrows the buffer pool is worth it whatever the rows: two million,
random text, 64 MiB, 7.0 s instead of 14.8 s.

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
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.presence import with_table
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
    pool = int(session.query("SELECT @@innodb_buffer_pool_size")[0][0])
    tables = list(tables)
    sizes = _sizes(source, {table["source_schema"] for table in tables})
    for table in tables:
        size = sizes.get((table["source_schema"], table["source_table"]), (0, 0))
        if table["limit"] or table["where_clause"] or not _is_large(*size, pool):
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


def _sizes(source: Session, schemas: Iterable[str]) -> dict[Name, tuple[int, int]]:
    """Bytes that the rows of each table take, and all its indexes but the first, as the server
    says."""
    rows = of_schemas(
        source,
        "SELECT TABLE_SCHEMA, TABLE_NAME, DATA_LENGTH, INDEX_LENGTH FROM information_schema.TABLES"
        " WHERE {TABLE_SCHEMA}",
        schemas,
    )
    return {
        (schema, str(table)): (int(data or 0), int(index or 0))
        for schema, table, data, index in rows
    }


def _is_large(data_bytes: int, index_bytes: int, pool_bytes: int) -> bool:
    if index_bytes >= LIMITS.large_index_share * pool_bytes:
        return True
    part = LIMITS.late_index_part * data_bytes
    return index_bytes >= max(LIMITS.late_index_bytes, part)


def build_postponed(session: Session, tables: Iterable[Name]) -> None:
    """Build what was postponed for these destination tables, by this call or a killed one."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for schema, name in tables:
        wanted[schema].add(name)
    work: list[tuple[str, str, dict[str, str]]] = []
    for schema in with_table(session, wanted, POSTPONED):
        for name, postponed in _noted(session, schema).items():
            if name in wanted[schema]:
                work.append((schema, name, postponed))
    with ThreadPoolExecutor(max_workers=LIMITS.index_builders) as pool:
        done = [pool.submit(_build, session.server, *one) for one in work]
    for one in done:
        one.result()
    for schema in with_table(session, {schema for schema, _, _ in work}, POSTPONED):
        if not _noted(session, schema):
            session.execute(f"DROP TABLE IF EXISTS {quote(schema, POSTPONED)}")


def _noted(session: Session, schema: str) -> dict[str, dict[str, str]]:
    """Per table the definitions of its postponed indexes by name."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for table, index, text in session.query(
        f"SELECT table_name, index_name, definition FROM {quote(schema, POSTPONED)}"
    ):
        if not _is_index(text):
            raise InvalidArgument(
                f"{schema}.{POSTPONED} has something that is no index of {table}",
                hint="somebody changed it: begin the copy anew, under another name",
            )
        found[table][index] = text
    return found


def _is_index(text: Any) -> bool:
    """Whether a text becomes SQL that adds one index and does nothing else."""
    try:
        items = parse(f"CREATE TABLE `t` (\n  {text}\n)").items
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
