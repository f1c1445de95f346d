"""Migrate DataJoint 0.14.6 pipelines to DataJoint 2.x: parallel schemas, bit-exact, resumable."""

from datajoint_migrate.catalog.connection import Server
from datajoint_migrate.errors import (
    ConnectionFailed,
    DestinationNotEmpty,
    ExternalMissing,
    ForeignKeyLeavesMap,
    InternalError,
    Interrupted,
    InvalidArgument,
    MigrationError,
    Mismatch,
    NotFound,
    PermissionMissing,
    ServerError,
    StoreFailed,
    StoreMissing,
    Unconvertible,
)
from datajoint_migrate.steps.columns import analyze_columns, migrate_columns
from datajoint_migrate.steps.compare import compare_query_results, compare_schemas
from datajoint_migrate.steps.copying import copy_all_data, copy_table_data
from datajoint_migrate.steps.external import migrate_external_to_v20
from datajoint_migrate.steps.files import copy_store
from datajoint_migrate.steps.lineage import rebuild_lineage
from datajoint_migrate.steps.migrate import migrate
from datajoint_migrate.steps.scan import scan
from datajoint_migrate.steps.schema import create_parallel_schema
from datajoint_migrate.steps.verify import verify_schema_v20

__all__ = [
    "ConnectionFailed",
    "DestinationNotEmpty",
    "ExternalMissing",
    "ForeignKeyLeavesMap",
    "InternalError",
    "Interrupted",
    "InvalidArgument",
    "MigrationError",
    "Mismatch",
    "NotFound",
    "PermissionMissing",
    "Server",
    "ServerError",
    "StoreFailed",
    "StoreMissing",
    "Unconvertible",
    "analyze_columns",
    "compare_query_results",
    "compare_schemas",
    "copy_all_data",
    "copy_store",
    "copy_table_data",
    "create_parallel_schema",
    "migrate",
    "migrate_columns",
    "migrate_external_to_v20",
    "rebuild_lineage",
    "scan",
    "verify_schema_v20",
]
