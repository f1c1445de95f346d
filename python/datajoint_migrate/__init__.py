"""Migrate DataJoint 0.14.6 pipelines to DataJoint 2.x: parallel schemas, bit-exact, resumable."""

from datajoint_migrate.catalog.connection import Server
from datajoint_migrate.console.report.write import write_report
from datajoint_migrate.errors import (
    ArchiveFailed,
    ConnectionFailed,
    DestinationBusy,
    DestinationNotEmpty,
    ExternalMissing,
    ForeignKeyLeavesMap,
    InternalError,
    Interrupted,
    InvalidArgument,
    MigrationError,
    Mismatch,
    NotFound,
    NotReady,
    PermissionMissing,
    ServerError,
    StoreFailed,
    StoreMissing,
    Unconvertible,
)
from datajoint_migrate.steps.backup.archive import check_backup
from datajoint_migrate.steps.backup.backup import backup_schema
from datajoint_migrate.steps.backup.restore import restore_schema
from datajoint_migrate.steps.checks.compare import compare_query_results, compare_schemas
from datajoint_migrate.steps.checks.damage import check_blobs
from datajoint_migrate.steps.checks.doctor import check_setup
from datajoint_migrate.steps.checks.encoding import check_text
from datajoint_migrate.steps.checks.estimate import estimate_migration
from datajoint_migrate.steps.checks.inspect import inspect_schemas
from datajoint_migrate.steps.checks.integrity import verify_external_integrity
from datajoint_migrate.steps.checks.stores import check_store_configuration
from datajoint_migrate.steps.checks.verify import verify_schema_v20
from datajoint_migrate.steps.code.config import migrate_config
from datajoint_migrate.steps.code.rewrite import rewrite_code
from datajoint_migrate.steps.copying import copy_all_data, copy_table_data
from datajoint_migrate.steps.cutover.cutover import cutover
from datajoint_migrate.steps.cutover.rename import rename_schema
from datajoint_migrate.steps.cutover.rollback import rollback
from datajoint_migrate.steps.demo.demonstrate import demonstrate
from datajoint_migrate.steps.external import migrate_external_to_v20
from datajoint_migrate.steps.files import copy_store
from datajoint_migrate.steps.inplace.blobs import (
    analyze_blob_columns,
    check_migration_status,
    generate_migration_sql,
    migrate_blob_columns,
)
from datajoint_migrate.steps.inplace.columns import analyze_columns, migrate_columns
from datajoint_migrate.steps.inplace.externals import migrate_external, migrate_filepath
from datajoint_migrate.steps.inplace.gradual import populate_v2_columns
from datajoint_migrate.steps.inplace.jobs_columns import add_job_metadata_columns
from datajoint_migrate.steps.jobs import carry_jobs
from datajoint_migrate.steps.lineage import rebuild_lineage
from datajoint_migrate.steps.migrate import migrate
from datajoint_migrate.steps.sample import copy_sample
from datajoint_migrate.steps.scan import scan
from datajoint_migrate.steps.schema import create_parallel_schema
from datajoint_migrate.upstream import install, migrate_external_pointers_v2

__all__ = [
    "ArchiveFailed",
    "ConnectionFailed",
    "DestinationBusy",
    "DestinationNotEmpty",
    "ExternalMissing",
    "ForeignKeyLeavesMap",
    "InternalError",
    "Interrupted",
    "InvalidArgument",
    "MigrationError",
    "Mismatch",
    "NotFound",
    "NotReady",
    "PermissionMissing",
    "Server",
    "ServerError",
    "StoreFailed",
    "StoreMissing",
    "Unconvertible",
    "add_job_metadata_columns",
    "analyze_blob_columns",
    "analyze_columns",
    "backup_schema",
    "carry_jobs",
    "check_backup",
    "check_blobs",
    "check_migration_status",
    "check_setup",
    "check_store_configuration",
    "check_text",
    "compare_query_results",
    "compare_schemas",
    "copy_all_data",
    "copy_sample",
    "copy_store",
    "copy_table_data",
    "create_parallel_schema",
    "cutover",
    "demonstrate",
    "estimate_migration",
    "generate_migration_sql",
    "inspect_schemas",
    "install",
    "migrate",
    "migrate_blob_columns",
    "migrate_columns",
    "migrate_config",
    "migrate_external",
    "migrate_external_pointers_v2",
    "migrate_external_to_v20",
    "migrate_filepath",
    "populate_v2_columns",
    "rebuild_lineage",
    "rename_schema",
    "restore_schema",
    "rewrite_code",
    "rollback",
    "scan",
    "verify_external_integrity",
    "verify_schema_v20",
    "write_report",
]
