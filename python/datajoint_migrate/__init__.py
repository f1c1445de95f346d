"""Migrate DataJoint 0.14.6 pipelines to DataJoint 2.x: parallel schemas, bit-exact, resumable."""

import importlib as _importlib
import inspect as _inspect
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from datajoint_migrate._core import __version__

if _TYPE_CHECKING:
    from datajoint_migrate.call.progress import Event
    from datajoint_migrate.catalog.server import Server
    from datajoint_migrate.console.progress import Display
    from datajoint_migrate.console.record import Record
    from datajoint_migrate.console.report.write import write_report
    from datajoint_migrate.errors import (
        ArchiveFailed,
        ConnectionFailed,
        DestinationBusy,
        DestinationNotEmpty,
        ExternalMissing,
        ForeignKeyLeavesMap,
        GaveWay,
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
    from datajoint_migrate.results import (
        BackupResult,
        BlobColumn,
        BlobColumnsResult,
        BlobHeader,
        BlobStatus,
        Check,
        CheckBackupResult,
        CodeResult,
        ColumnsAnalysis,
        ColumnsResult,
        ConfigResult,
        Conflict,
        CopyAllResult,
        CopyTableResult,
        CutoverResult,
        DamageResult,
        DiscardResult,
        Discrepancy,
        EstimateResult,
        ExternalResult,
        GradualResult,
        InPlaceResult,
        InspectResult,
        IntegrityResult,
        JobColumnsResult,
        JobsResult,
        LeftBehind,
        LineageResult,
        MigrateResult,
        ParallelSchemaResult,
        PromotableColumn,
        PromoteResult,
        RenameResult,
        ReportResult,
        RestoreResult,
        RollbackResult,
        RowsBrought,
        SampleResult,
        SchemaComparison,
        SchemaStatus,
        SetupCheck,
        SetupResult,
        SourceRemark,
        StatusResult,
        StoreConfigurationResult,
        StoreCopyResult,
        StructureDifference,
        SyncedTable,
        SyncResult,
        TableComparison,
        VerifyResult,
    )
    from datajoint_migrate.upstream import install, migrate_external_pointers_v2
    from datajoint_migrate.verbs.backup.archive import check_backup
    from datajoint_migrate.verbs.backup.backup import backup_schema
    from datajoint_migrate.verbs.backup.restore import restore_schema
    from datajoint_migrate.verbs.code.config import migrate_config
    from datajoint_migrate.verbs.code.rewrite import rewrite_code
    from datajoint_migrate.verbs.cutover.cutover import cutover
    from datajoint_migrate.verbs.cutover.rename import rename_schema
    from datajoint_migrate.verbs.cutover.rollback import rollback
    from datajoint_migrate.verbs.demo.demonstrate import demonstrate
    from datajoint_migrate.verbs.inplace.blobs import (
        analyze_blob_columns,
        check_migration_status,
        generate_migration_sql,
        migrate_blob_columns,
    )
    from datajoint_migrate.verbs.inplace.columns import analyze_columns, migrate_columns
    from datajoint_migrate.verbs.inplace.externals import migrate_external, migrate_filepath
    from datajoint_migrate.verbs.inplace.gradual import populate_v2_columns
    from datajoint_migrate.verbs.inplace.jobs_columns import add_job_metadata_columns
    from datajoint_migrate.verbs.look.blobs import check_blobs
    from datajoint_migrate.verbs.look.compare import compare_query_results, compare_schemas
    from datajoint_migrate.verbs.look.estimate import estimate_migration
    from datajoint_migrate.verbs.look.heads import unpack_header
    from datajoint_migrate.verbs.look.inspect import inspect_schemas
    from datajoint_migrate.verbs.look.integrity import verify_external_integrity
    from datajoint_migrate.verbs.look.scan import scan
    from datajoint_migrate.verbs.look.setup import check_setup
    from datajoint_migrate.verbs.look.stores import check_store_configuration
    from datajoint_migrate.verbs.look.text import check_text
    from datajoint_migrate.verbs.look.verify import verify_schema_v20
    from datajoint_migrate.verbs.move.copy import copy_all_data, copy_table_data
    from datajoint_migrate.verbs.move.discard import discard
    from datajoint_migrate.verbs.move.external import migrate_external_to_v20
    from datajoint_migrate.verbs.move.jobs import carry_jobs
    from datajoint_migrate.verbs.move.lineage import rebuild_lineage
    from datajoint_migrate.verbs.move.migrate import migrate
    from datajoint_migrate.verbs.move.parallel import create_parallel_schema
    from datajoint_migrate.verbs.move.promote import promote
    from datajoint_migrate.verbs.move.sample import copy_sample
    from datajoint_migrate.verbs.move.store import copy_store
    from datajoint_migrate.verbs.move.sync import sync
    from datajoint_migrate.verbs.status import status

__all__ = [
    "ArchiveFailed",
    "BackupResult",
    "BlobColumn",
    "BlobColumnsResult",
    "BlobHeader",
    "BlobStatus",
    "Check",
    "CheckBackupResult",
    "CodeResult",
    "ColumnsAnalysis",
    "ColumnsResult",
    "ConfigResult",
    "Conflict",
    "ConnectionFailed",
    "CopyAllResult",
    "CopyTableResult",
    "CutoverResult",
    "DamageResult",
    "DestinationBusy",
    "DestinationNotEmpty",
    "DiscardResult",
    "Discrepancy",
    "Display",
    "EstimateResult",
    "Event",
    "ExternalMissing",
    "ExternalResult",
    "ForeignKeyLeavesMap",
    "GaveWay",
    "GradualResult",
    "InPlaceResult",
    "InspectResult",
    "IntegrityResult",
    "InternalError",
    "Interrupted",
    "InvalidArgument",
    "JobColumnsResult",
    "JobsResult",
    "LeftBehind",
    "LineageResult",
    "MigrateResult",
    "MigrationError",
    "Mismatch",
    "NotFound",
    "NotReady",
    "ParallelSchemaResult",
    "PermissionMissing",
    "PromotableColumn",
    "PromoteResult",
    "Record",
    "RenameResult",
    "ReportResult",
    "RestoreResult",
    "RollbackResult",
    "RowsBrought",
    "SampleResult",
    "SchemaComparison",
    "SchemaStatus",
    "Server",
    "ServerError",
    "SetupCheck",
    "SetupResult",
    "SourceRemark",
    "StatusResult",
    "StoreConfigurationResult",
    "StoreCopyResult",
    "StoreFailed",
    "StoreMissing",
    "StructureDifference",
    "SyncResult",
    "SyncedTable",
    "TableComparison",
    "Unconvertible",
    "VerifyResult",
    "__version__",
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
    "discard",
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
    "promote",
    "rebuild_lineage",
    "rename_schema",
    "restore_schema",
    "rewrite_code",
    "rollback",
    "scan",
    "status",
    "sync",
    "unpack_header",
    "verify_external_integrity",
    "verify_schema_v20",
    "write_report",
]

# Where the public names are made that are neither errors nor results. A module is loaded when
# somebody asks for a name of it: a program that says its version needs none of them.
_HOMES = {
    "call.progress": ("Event",),
    "catalog.server": ("Server",),
    "console.progress": ("Display",),
    "console.record": ("Record",),
    "console.report.write": ("write_report",),
    "upstream": ("install", "migrate_external_pointers_v2"),
    "verbs.backup.archive": ("check_backup",),
    "verbs.backup.backup": ("backup_schema",),
    "verbs.backup.restore": ("restore_schema",),
    "verbs.code.config": ("migrate_config",),
    "verbs.code.rewrite": ("rewrite_code",),
    "verbs.cutover.cutover": ("cutover",),
    "verbs.cutover.rename": ("rename_schema",),
    "verbs.cutover.rollback": ("rollback",),
    "verbs.demo.demonstrate": ("demonstrate",),
    "verbs.inplace.blobs": (
        "analyze_blob_columns",
        "check_migration_status",
        "generate_migration_sql",
        "migrate_blob_columns",
    ),
    "verbs.inplace.columns": ("analyze_columns", "migrate_columns"),
    "verbs.inplace.externals": ("migrate_external", "migrate_filepath"),
    "verbs.inplace.gradual": ("populate_v2_columns",),
    "verbs.inplace.jobs_columns": ("add_job_metadata_columns",),
    "verbs.look.blobs": ("check_blobs",),
    "verbs.look.compare": ("compare_query_results", "compare_schemas"),
    "verbs.look.estimate": ("estimate_migration",),
    "verbs.look.heads": ("unpack_header",),
    "verbs.look.inspect": ("inspect_schemas",),
    "verbs.look.integrity": ("verify_external_integrity",),
    "verbs.look.scan": ("scan",),
    "verbs.look.setup": ("check_setup",),
    "verbs.look.stores": ("check_store_configuration",),
    "verbs.look.text": ("check_text",),
    "verbs.look.verify": ("verify_schema_v20",),
    "verbs.move.copy": ("copy_all_data", "copy_table_data"),
    "verbs.move.discard": ("discard",),
    "verbs.move.external": ("migrate_external_to_v20",),
    "verbs.move.jobs": ("carry_jobs",),
    "verbs.move.lineage": ("rebuild_lineage",),
    "verbs.move.migrate": ("migrate",),
    "verbs.move.parallel": ("create_parallel_schema",),
    "verbs.move.promote": ("promote",),
    "verbs.move.sample": ("copy_sample",),
    "verbs.move.store": ("copy_store",),
    "verbs.move.sync": ("sync",),
    "verbs.status": ("status",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("errors", "results", "upstream")


def __getattr__(name: str) -> _Any:
    """A public name, which is loaded now."""
    if name in _MODULES:
        return _importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from datajoint_migrate import errors, results

    home = _importlib.import_module(f"{__name__}.{_HOME[name]}") if name in _HOME else None
    found = getattr(home or (errors if hasattr(errors, name) else results), name)
    if _inspect.isfunction(found):
        from datajoint_migrate.call.border import guard
        from datajoint_migrate.console.notebook import shown

        # Here, so that no public function can be without it.
        found = guard(shown(found))
    # Another thread may have been first: everybody gets the same.
    return globals().setdefault(name, found)


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]
