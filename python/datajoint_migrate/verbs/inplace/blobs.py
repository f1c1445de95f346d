"""Blobs and attachments inside the table: their markers, in place."""

from __future__ import annotations

import re
from typing import Any, cast

from datajoint_migrate.build.altering import alter, expected, statement
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.client import is_attach, is_pointer
from datajoint_migrate.catalog.kinds import BLOBS
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Schema, Table, read_schema
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.results import BlobColumn, BlobColumnsResult, BlobStatus
from datajoint_migrate.target.ddl import parse
from datajoint_migrate.target.types import fit_comment

STORED = re.compile(r"<[\w-]+@[\w-]+>$")


def _label(column: Column, target_type: str = "blob") -> str | None:
    """The marker that a blob column lacks; None when 2.x reads it as it is."""
    if column.data_type not in BLOBS:
        return None
    if is_attach(column.marker):
        return "<attach>"
    return None if column.marker else f"<{target_type}>"


def _entry(table: Table, column: Column, needs_migration: bool) -> BlobColumn:
    return {
        "table_name": str(table),
        "column_name": column.name,
        "column_type": column.column_type,
        "current_comment": column.comment,
        "needs_migration": needs_migration,
        "is_nullable": column.nullable,
    }


def analyze_blob_columns(schema: Any, *, connection: Any = None) -> list[BlobColumn]:
    """Find the blob columns of a schema, and which of them 2.x would return as raw bytes.

    Those are the ones without a marker, and attachments marked as 0.14.6 did (`:attach:`).

    Returns dicts with `table_name`, `column_name`, `column_type`, `current_comment`,
    `needs_migration`, `is_nullable`.
    """
    name, server = schema_of(schema, connection)
    with server.session(read_only=True) as session:
        return _analyze(read_schema(session, name))


def _analyze(schema: Schema) -> list[BlobColumn]:
    return [
        _entry(table, column, _label(column) is not None)
        for table in schema.tables.values()
        if not table.hidden
        for column in table.columns
        if column.data_type in BLOBS
    ]


def generate_migration_sql(
    schema: Any, target_type: str = "blob", dry_run: bool = True, *, connection: Any = None
) -> list[str]:
    """The ALTER statements, one a table, that mark blobs and attachments for 2.x.

    Each repeats every definition exactly and changes only comments. With `dry_run=False` they are
    run as well, as by `migrate_blob_columns`.
    """
    result = migrate_blob_columns(schema, target_type, dry_run, connection=connection)
    return list(result["sql_statements"])


def migrate_blob_columns(
    schema: Any, target_type: str = "blob", dry_run: bool = True, *, connection: Any = None
) -> BlobColumnsResult:
    """Mark blobs and attachments inside the tables of a schema for 2.x, in place.

    Only comments change and no row is touched. For schemas that no 0.14.6 client uses any more:
    a marker makes it fail. A comment too long for its marker loses its end. A second call, after
    a kill too, does what is left.

    Returns `analyzed`, `needs_migration`, `migrated` (columns), `sql_statements`, `details` (dicts
    with `table`, `columns`, `algorithm`, `comments_cut`).
    Raises `InvalidArgument` for a `target_type` that cannot be the name of a codec.
    """
    if not re.fullmatch(r"[a-z]\w*", target_type):
        raise InvalidArgument(
            f"{target_type!r} cannot be the name of a codec",
            hint="'blob', or the name of a codec of yours over <bytes>",
        )
    name, server = schema_of(schema, connection)
    with server.session(read_only=dry_run) as session:
        if not dry_run:
            take_turn(session, [name])
        found = read_schema(session, name)
        columns = _analyze(found)
        result: dict[str, Any] = {
            "analyzed": len(columns),
            "needs_migration": sum(column["needs_migration"] for column in columns),
            "migrated": 0,
            "sql_statements": [],
            "details": [],
        }
        for table in found.tables.values():
            labels = {
                column.name: label
                for column in table.columns
                if not table.hidden and (label := _label(column, target_type))
            }
            if labels:
                _mark(session, table, labels, dry_run, result)
    return cast(BlobColumnsResult, result)


def _mark(
    session: Session, table: Table, labels: dict[str, str], dry_run: bool, result: dict[str, Any]
) -> None:
    clauses, cut = comment_clauses(table, labels)
    algorithm = expected(session, table, "comment", list(labels))
    result["sql_statements"].append(statement(table, clauses, algorithm))
    if not dry_run:
        algorithm = alter(session, table, clauses, algorithm)
        result["migrated"] += len(labels)
    result["details"].append(
        {
            "table": str(table),
            "columns": list(labels),
            "algorithm": algorithm,
            "comments_cut": cut,
        }
    )


def comment_clauses(table: Table, labels: dict[str, str]) -> tuple[list[str], dict[str, int]]:
    """MODIFY clauses that put the labels into the comments and change nothing else.

    And by column, how many characters a comment at the server's limit loses.
    """
    clauses, cut = [], {}
    for line in parse(table.create).columns:
        if line.name in labels:
            comment, lost = fit_comment(labels[line.name], table.column(line.name).text)
            line.set_comment(comment)
            clauses.append(f"MODIFY COLUMN {line.render()}")
            if lost:
                cut[line.name] = lost
    return clauses, cut


def check_migration_status(schema: Any, *, connection: Any = None) -> BlobStatus:
    """How far a schema's blobs are: in the tables, and (unlike upstream) in stores.

    A column counts as migrated when 2.x gets its value, not its bytes: in the table marked with a
    codec, in a store JSON marked with one.

    Returns `total_blob_columns`, `migrated`, `pending`, `columns` (dicts as of
    `analyze_blob_columns`).
    """
    name, server = schema_of(schema, connection)
    with server.session(read_only=True) as session:
        found = read_schema(session, name)
    columns = _analyze(found) + [
        _entry(table, column, column.data_type == "binary")
        for table in found.tables.values()
        if not table.hidden
        for column in table.columns
        if _in_store(column)
    ]
    pending = sum(column["needs_migration"] for column in columns)
    return {
        "total_blob_columns": len(columns),
        "migrated": len(columns) - pending,
        "pending": pending,
        "columns": columns,
    }


def _in_store(column: Column) -> bool:
    marker = column.marker or ""
    if column.data_type == "binary":
        # An adapter over BINARY(16) points into a store.
        return is_pointer(marker) or marker.startswith("<")
    return column.data_type in ("json", "longtext") and bool(STORED.match(marker))
