"""Tables of other engines become InnoDB, the engine that 2.x declares and transactions need."""

from __future__ import annotations

from datajoint_migrate.catalog.sql import Token
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.target.ddl import CreateTable

# Their rows are somewhere else, or nowhere.
NO_ROWS = {"MRG_MYISAM", "MERGE", "FEDERATED", "BLACKHOLE", "CONNECT", "SPIDER"}
NO_FORMAT = {"FIXED", "PAGE"}


def to_innodb(text: CreateTable, table: Table) -> list[str]:
    """Change ENGINE, and the options that only other engines take, in place; notes say what.

    Raises `Unconvertible` for engines whose tables hold no rows of their own, and for numbering
    within a group, which only MyISAM has.
    """
    at = text.option_at("ENGINE")
    if at is None:
        return []
    notes = []
    engine = text.options[at].text
    if engine.upper() in NO_ROWS:
        raise Unconvertible(
            f"{table} is a {engine} table: it has no rows of its own",
            hint="make it an InnoDB table with the rows it shows",
            context={"table": str(table), "engine": engine},
        )
    if engine.upper() != "INNODB":
        _refuse_grouped_numbers(table, engine)
        text.options[at] = Token("word", "InnoDB")
        notes.append(
            f"{table}: ENGINE {engine} is InnoDB in the copy; {engine} keeps no foreign keys, "
            "so the copy has none, and no snapshot: copy it while nobody writes to it"
        )
    row_format = text.option_at("ROW_FORMAT")
    if row_format is not None and text.options[row_format].text.upper() in NO_FORMAT:
        notes.append(
            f"{table}: ROW_FORMAT {text.options[row_format].text} is DYNAMIC in the copy, "
            "InnoDB has no such format"
        )
        text.options[row_format] = Token("word", "DYNAMIC")
    return notes


def _refuse_grouped_numbers(table: Table, engine: str) -> None:
    keys = [table.primary_key, *(index.columns for index in table.indexes)]
    for column in table.columns:
        if column.auto_increment and all(key[:1] != (column.name,) for key in keys):
            raise Unconvertible(
                f"{table}.{column.name} is numbered within a group, which only {engine} can do",
                hint=f"add an index that begins with {column.name!r} in the source",
                context={"table": str(table), "column": column.name},
            )
