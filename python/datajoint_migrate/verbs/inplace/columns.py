"""Labels in column comments, in place: what 2.x reads a column as."""

from __future__ import annotations

from typing import Any, cast

from datajoint_migrate.build.altering import alter, expected, statement
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.client import is_attach, is_pointer, is_uuid
from datajoint_migrate.catalog.kinds import BLOBS, bare_type
from datajoint_migrate.catalog.tables import Column, Schema, read_schema
from datajoint_migrate.results import ColumnsAnalysis, ColumnsResult
from datajoint_migrate.verbs.inplace.blobs import comment_clauses

# Core types of 2.x that are exactly the native type; unsigned types have none, and a label that
# does not match its column breaks the job tables that 2.x declares from it.
EXACT = {
    "tinyint(1)": "bool",
    "tinyint": "int8",
    "smallint": "int16",
    "int": "int32",
    "bigint": "int64",
    "float": "float32",
    "double": "float64",
}


def _label(column: Column) -> str | None:
    """The marker a column should get, None when it is fine without or has one that 2.x reads."""
    if is_attach(column.marker) and column.data_type in BLOBS:
        return "<attach>"
    if is_uuid(column.marker) and column.marker != "uuid":
        return "uuid"
    if column.comment.startswith(":"):
        return None
    if column.data_type in BLOBS:
        return "<blob>"
    return EXACT.get(bare_type(column))


def _is_external(column: Column) -> bool:
    marker = column.marker or ""
    if is_pointer(marker):
        return True
    # An adapter over a pointer: BINARY(16) that is not a uuid.
    return marker.startswith("<") and column.column_type.lower() == "binary(16)"


def analyze_columns(schema: Any, *, connection: Any = None) -> ColumnsAnalysis:
    """Find the columns whose comment needs a type label for 2.x. Reads only.

    `schema` is a name or a DataJoint schema object. Unsigned and other native types that no core
    type equals need no label: 2.x reads them as they are.

    Returns `needs_migration`, `already_migrated`, `external_storage`: lists of dicts with
    `table`, `column`, `native_type`, `core_type`, `comment`, `is_nullable`.
    """
    name, server = schema_of(schema, connection)
    with server.session(read_only=True) as session:
        return cast(ColumnsAnalysis, _analyze(read_schema(session, name)))


def _analyze(schema: Schema) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {
        "needs_migration": [],
        "already_migrated": [],
        "external_storage": [],
    }
    for table in schema.tables.values():
        if table.hidden:
            continue
        for column in table.columns:
            entry = {
                "table": f"{schema.name}.{table.name}",
                "column": column.name,
                "native_type": column.column_type,
                "core_type": None,
                "comment": column.comment,
                "is_nullable": column.nullable,
            }
            label = _label(column)
            if _is_external(column):
                found["external_storage"].append({**entry, "reason": "external_storage"})
            elif label is not None:
                found["needs_migration"].append({**entry, "core_type": label})
            elif column.marker is not None:
                found["already_migrated"].append({**entry, "core_type": column.marker})
    return found


def migrate_columns(schema: Any, dry_run: bool = True, *, connection: Any = None) -> ColumnsResult:
    """Write type labels into the column comments of a schema, in place.

    One ALTER a table, which repeats every definition exactly and changes only comments: the
    server does it without touching a row (`details` says where it cannot). Meant for schemas that
    only 2.x uses: labels break 0.14.6 clients, and a parallel schema has those it needs from the
    start. External columns are left to `migrate_external`. A second call finds nothing to do.

    Returns `columns_analyzed`, `columns_migrated`, `columns_skipped`, `sql_statements`,
    `details` (dicts with `table`, `column`, `native_type`, `core_type`, `status`, `algorithm`,
    which is COPY where the server has to copy the table, `comment_cut`, the characters that a
    comment at the server's limit loses to its label).
    """
    name, server = schema_of(schema, connection)
    with server.session(read_only=dry_run) as session:
        if not dry_run:
            take_turn(session, [name])
        found = read_schema(session, name)
        analysis = _analyze(found)
        wanted = {(e["table"], e["column"]): e["core_type"] for e in analysis["needs_migration"]}
        result: dict[str, Any] = {
            "columns_analyzed": sum(len(entries) for entries in analysis.values()),
            "columns_migrated": 0,
            "columns_skipped": len(analysis["already_migrated"])
            + len(analysis["external_storage"]),
            "sql_statements": [],
            "details": [],
        }
        for table in found.tables.values():
            labels = {
                column.name: wanted[f"{name}.{table.name}", column.name]
                for column in table.columns
                if (f"{name}.{table.name}", column.name) in wanted
            }
            if not labels:
                continue
            clauses, cut = comment_clauses(table, labels)
            algorithm = expected(session, table, "comment", list(labels))
            result["sql_statements"].append(statement(table, clauses, algorithm))
            if not dry_run:
                algorithm = alter(session, table, clauses, algorithm)
                result["columns_migrated"] += len(labels)
            result["details"] += [
                {
                    "table": f"{name}.{table.name}",
                    "column": column,
                    "native_type": table.column(column).column_type,
                    "core_type": label,
                    "status": "dry_run" if dry_run else "migrated",
                    "algorithm": algorithm,
                    "comment_cut": cut.get(column, 0),
                }
                for column, label in labels.items()
            ]
    return cast(ColumnsResult, result)
