"""A script of the guide's documentation, written for datajoint.migrate: only the import differs.

script.py URL SOURCE DEST FOLDER install|import
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

url, source, dest, folder, how = sys.argv[1:]

import datajoint_migrate  # noqa: E402

if how == "install":
    datajoint_migrate.install()
    from datajoint.migrate import (
        add_job_metadata_columns,
        check_migration_status,
        check_store_configuration,
        compare_query_results,
        copy_table_data,
        create_parallel_schema,
        migrate_blob_columns,
        migrate_external_pointers_v2,
        rebuild_lineage,
        verify_external_integrity,
        verify_schema_v20,
    )
else:
    from datajoint_migrate import (  # type: ignore[assignment]
        add_job_metadata_columns,
        check_migration_status,
        check_store_configuration,
        compare_query_results,
        copy_table_data,
        create_parallel_schema,
        migrate_blob_columns,
        migrate_external_pointers_v2,
        rebuild_lineage,
        verify_external_integrity,
        verify_schema_v20,
    )

# After the functions: who loads DataJoint first is told by itself that its module is deprecated.
import datajoint as dj  # noqa: E402

account, address = url.removeprefix("mysql://").rstrip("/").split("@")
dj.config["database.user"], dj.config["database.password"] = account.split(":")
dj.config["database.use_tls"] = False
connection = dj.conn()

checked = check_store_configuration(dj.Schema(source))
result = verify_external_integrity(dj.Schema(source))
made = create_parallel_schema(source=source, dest=dest, copy_data=False)
copied = {
    table: copy_table_data(source_schema=source, dest_schema=dest, table=table)["rows_copied"]
    for table in ("Mouse", "Scan", "Stats")
}
migrated = [
    migrate_external_pointers_v2(
        schema=dest,
        table="scan",
        attribute=attribute,
        source_store="external-raw",
        dest_store="raw",
        copy_files=attribute == "paper",
        connection=connection,
    )["rows_migrated"]
    for attribute in ("movie", "paper", "source")
]
schema = dj.Schema(dest)
blobs = migrate_blob_columns(schema, dry_run=False)
jobs = add_job_metadata_columns(schema, dry_run=False)
lineage = rebuild_lineage(schema, dry_run=False)
status = check_migration_status(schema)
same = compare_query_results(source, dest, "scan", 1e-6)
verdict = verify_schema_v20(dest)
print(
    json.dumps(
        {
            "stores": checked["stores_configured"],
            "missing": len(result["missing"]),
            "tables": made["tables_created"] > 0,
            "copied": copied,
            "migrated": migrated,
            "blobs": blobs["needs_migration"],
            "jobs": jobs["columns_added"],
            "lineage": lineage["status"],
            "pending": status["pending"],
            "match": same["match"],
            "compatible": verdict["compatible"],
            "here": Path.cwd().name,
        }
    )
)
