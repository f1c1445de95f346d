"""The hidden columns in which 2.x notes when and how long a row was computed."""

from __future__ import annotations

from typing import Any, cast

from datajoint_migrate.build.altering import alter, expected, statement
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.server import Server
from datajoint_migrate.catalog.tables import Table, find_table, read_schema
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.results import JobColumnsResult

# As 2.3.5 declares them.
COLUMNS = {
    "_job_start_time": "`_job_start_time` datetime(3) DEFAULT NULL "
    "COMMENT ':datetime(3):when computation began'",
    "_job_duration": "`_job_duration` float DEFAULT NULL "
    "COMMENT ':float32:computation duration in seconds'",
    "_job_version": "`_job_version` varchar(64) NOT NULL DEFAULT '' "
    "COMMENT ':varchar(64):code version'",
}
POPULATED = ("computed", "imported")


def add_job_metadata_columns(
    target: Any, dry_run: bool = True, *, connection: Any = None
) -> JobColumnsResult:
    """Add the hidden columns of `config.jobs.add_job_metadata` to computed and imported tables.

    `target` is a schema (name or DataJoint object) or a table class or instance. Parts, manual
    and lookup tables are left alone, rows that are there keep NULL and ''. One ALTER a table adds
    what is missing at the end, at once where the server can. The columns carry markers as 2.3.5
    writes them, on which 0.14.6 clients fail: for schemas they no longer use.

    Returns `tables_analyzed`, `tables_modified`, `columns_added`, `details` (dicts with `table`,
    `status` already_migrated, pending or migrated, `columns_added`, `sql_statements`, `algorithm`).
    Raises `InvalidArgument` for another kind of target.
    """
    name, server, only = _target(target, connection)
    result: dict[str, Any] = {
        "tables_analyzed": 0,
        "tables_modified": 0,
        "columns_added": 0,
        "details": [],
    }
    with server.session(read_only=dry_run) as session:
        if not dry_run:
            take_turn(session, [name])
        schema = read_schema(session, name)
        tables: list[Table] = [table for table in schema.tables.values() if table.tier in POPULATED]
        if only is not None:
            tables = [find_table(schema, only)]
        for table in tables:
            result["tables_analyzed"] += 1
            if table.tier not in POPULATED:
                continue
            there = {column.name for column in table.columns}
            missing = [sql for column, sql in COLUMNS.items() if column not in there]
            detail: dict[str, Any] = {
                "table": str(table),
                "status": "already_migrated",
                "columns_added": len(missing),
            }
            result["details"].append(detail)
            if not missing:
                continue
            clauses = [f"ADD COLUMN {sql}" for sql in missing]
            algorithm = expected(session, table, "add")
            detail |= {"status": "pending", "sql_statements": [], "algorithm": algorithm}
            detail["sql_statements"].append(statement(table, clauses, algorithm))
            if not dry_run:
                detail["algorithm"] = alter(session, table, clauses)
                detail["status"] = "migrated"
            result["tables_modified"] += 1
            result["columns_added"] += len(missing)
    return cast(JobColumnsResult, result)


def _target(target: Any, connection: Any) -> tuple[str, Server, str | None]:
    """Schema, server, and the one table that is meant, if one is."""
    table = target
    if isinstance(target, type) and hasattr(target, "table_name"):
        table = target()
    if isinstance(getattr(table, "table_name", None), str):
        return (*schema_of(table, connection), table.table_name)
    if isinstance(target, str) or isinstance(getattr(target, "database", None), str):
        return (*schema_of(target, connection), None)
    raise InvalidArgument(
        f"the target must be a schema or a table, not a {type(target).__name__}",
        hint="give the schema's name, a DataJoint schema object, or a table class",
    )
