"""What is there: servers, schemas, tables, external columns and stores."""

from datajoint_migrate.catalog.connection import Server, Session, resolve
from datajoint_migrate.catalog.externals import External, external_of, externals_of
from datajoint_migrate.catalog.stores import (
    Store,
    dest_stores,
    get_store,
    map_store,
    source_stores,
    tracked_store,
)
from datajoint_migrate.catalog.tables import (
    Column,
    ForeignKey,
    Index,
    Schema,
    Table,
    find_table,
    read_schema,
)

__all__ = [
    "Column",
    "External",
    "ForeignKey",
    "Index",
    "Schema",
    "Server",
    "Session",
    "Store",
    "Table",
    "dest_stores",
    "external_of",
    "externals_of",
    "find_table",
    "get_store",
    "map_store",
    "read_schema",
    "resolve",
    "source_stores",
    "tracked_store",
]
