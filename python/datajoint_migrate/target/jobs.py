"""The job table of an auto-populated table, `~~sorting` for `__sorting`, as 2.x declares it."""

from __future__ import annotations

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.target.ddl import literal, parse

PREFIX = "~~"
# What 2.x gives a job unless it is told otherwise.
PRIORITY = 5
PID_MAX = 2**31 - 1
CONNECTION_MAX = 2**63 - 1

# Definition and 2.x marker, as 2.3.5 and 2.0.0 alike declare them.
FIELDS = (
    ("status", "enum('pending','reserved','success','error','ignore') NOT NULL",
     "enum('pending', 'reserved', 'success', 'error', 'ignore')"),
    ("priority", "tinyint NOT NULL", "int8"),
    ("created_time", "datetime(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)", "datetime(3)"),
    ("scheduled_time", "datetime(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)", "datetime(3)"),
    ("reserved_time", "datetime(3) DEFAULT NULL", "datetime(3)"),
    ("completed_time", "datetime(3) DEFAULT NULL", "datetime(3)"),
    ("duration", "double DEFAULT NULL", "float64"),
    ("error_message", "varchar(2047) NOT NULL DEFAULT ''", "varchar(2047)"),
    ("error_stack", "longblob", "<blob>"),
    ("user", "varchar(255) NOT NULL DEFAULT ''", "varchar(255)"),
    ("host", "varchar(255) NOT NULL DEFAULT ''", "varchar(255)"),
    ("pid", "int NOT NULL DEFAULT 0", "int32"),
    ("connection_id", "bigint NOT NULL DEFAULT 0", "int64"),
    ("version", "varchar(64) NOT NULL DEFAULT ''", "varchar(64)"),
)  # fmt: skip


def job_table(name: str) -> str:
    """The name 2.x gives the job table of a table."""
    return PREFIX + name.lstrip("_")


def job_key(table: Table) -> list[str]:
    """What 2.x tells jobs apart by: key attributes that come with a foreign key within the key."""
    primary = set(table.primary_key)
    inherited = {
        name for key in table.foreign_keys if set(key.columns) <= primary for name in key.columns
    }
    return [name for name in table.primary_key if name in inherited]


def declare_jobs(table: Table) -> str:
    """CREATE TABLE of the job table of a table with foreign keys in its primary key.

    Key attributes keep the type, character set and collation they have in the table: 2.x compares
    the two with each other.
    """
    key = job_key(table)
    types = {text.name: text.base for text in parse(table.create).columns}
    lines = []
    for column in map(table.column, key):
        line = f"{quote(column.name)} {types[column.name]}"
        if column.charset:
            line += f" CHARACTER SET {column.charset} COLLATE {column.collation}"
        line += " NOT NULL"
        if column.marker:
            line += f" COMMENT {literal(f':{column.marker}:')}"
        lines.append(line)
    lines += [
        f"{quote(name)} {definition} COMMENT {literal(f':{marker}:')}"
        for name, definition, marker in FIELDS
    ]
    lines.append(f"PRIMARY KEY ({', '.join(map(quote, key))})")
    lines.append("KEY `status` (`status`, `priority`, `scheduled_time`)")
    where = quote(table.schema, table.name)
    # Whatever the schema's own character set is: messages of exceptions may hold any character.
    options = f"ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT={literal(f'Job queue for {where}')}"
    return (
        f"CREATE TABLE IF NOT EXISTS {quote(table.schema, job_table(table.name))} (\n  "
        + ",\n  ".join(lines)
        + f"\n) {options}"
    )
