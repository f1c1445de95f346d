"""What results hold is said by types, and the reference's table is made of these."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datajoint_migrate as migration
from catalogue import TABLE, table
from conftest import Fresh
from promised import SEEN, functions, misfits, promise, watched
from servers import Server
from small import Small, make

# Not a dict: a stream, a list of statements, nothing.
OTHERS = {"scan", "generate_migration_sql", "analyze_blob_columns", "install"}


def test_every_function_names_a_type_for_its_result() -> None:
    for name, function in functions().items():
        if name not in OTHERS:
            assert typing.is_typeddict(promise(function)), name


def test_a_result_that_breaks_its_promise_is_found() -> None:
    promised = promise(migration.rename_schema)
    kept = {"tables_renamed": 1, "programs_moved": 0, "notes": ["a"], "time_taken": 0.5}
    assert not list(misfits(kept, promised, "it"))
    assert list(misfits({**kept, "more": 1}, promised, "it"))
    assert list(misfits({**kept, "notes": [1]}, promised, "it"))
    assert list(misfits({**kept, "time_taken": None}, promised, "it"))
    del kept["notes"]
    assert list(misfits(kept, promised, "it"))


def calls(small: Small, folder: Path) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Every function at least once: name, arguments, keywords; in an order that leads somewhere."""
    server: dict[str, Any] = {"connection": small.server.url}
    stores: dict[str, Any] = {**server, **small.stores}
    lab, rig, copies, part = small.lab, small.rig, small.map, f"{small.rig}_part"
    backups = {lab: f"{lab}_backup", rig: f"{rig}_backup"}
    record, archive = folder / "migration.jsonl", folder / "archive"
    configuration, code = folder / "dj_local_conf.json", folder / "code.py"
    configuration.write_text('{"database.host": "h", "database.user": "u"}')
    code.write_text("import datajoint as dj\n")
    (folder / "elsewhere").mkdir()
    folders = [
        {"protocol": "file", "location": str(place)} for place in (small.root, folder / "elsewhere")
    ]
    signal = ("Recording", "signal", "raw", "raw")
    yield "inspect_schemas", ([lab],), server
    yield "estimate_migration", ([lab],), server
    yield "check_setup", (copies,), stores
    yield "check_text", (lab,), server
    yield "unpack_header", (b"mYm\0",), {}
    yield "check_blobs", (lab,), server
    yield "check_store_configuration", (rig,), stores
    yield "verify_external_integrity", (rig,), stores
    yield "copy_store", (*folders,), {"dry_run": True}
    yield "copy_store", (*folders,), {}
    yield "migrate", (copies,), {**stores, "dry_run": True}
    with migration.Record(record) as kept:
        yield "migrate", (copies,), {**stores, "on_event": kept}
    yield "status", (copies,), server
    small.server.sql(
        f"INSERT INTO `{copies[lab]}`.mouse VALUES (100, 'rat', 1, NULL);"
        f"INSERT INTO `{lab}`.session VALUES (1, '2025-01-01', '')"
    )
    yield "sync", (copies,), {**stores, "dry_run": True}
    yield "sync", (copies,), {**stores, "on_conflict": "production"}
    yield "discard", (copies,), server
    yield "write_report", (record, folder / "report.html"), {}
    yield "compare_schemas", (lab, copies[lab]), server
    yield "compare_query_results", (lab, copies[lab], "Mouse"), server
    yield "verify_schema_v20", (copies[lab],), server
    yield "rebuild_lineage", (copies[lab],), server
    trials = (copies[lab], "Session.Trial", "data", "blob@raw")
    yield "promote", trials, {**server, "stores": small.dest_stores, "dry_run": True}
    yield "carry_jobs", ({lab: copies[lab]},), server
    yield "scan", (lab, "Mouse"), server
    yield "copy_sample", (lab, f"{lab}_part", {"Mouse": "mouse_id < 3"}), server
    for schema, name in backups.items():
        yield "backup_schema", (schema, name), server
    yield "backup_schema", (lab, archive), server
    yield "check_backup", (archive,), {}
    yield "restore_schema", (archive, f"{lab}_restored"), server
    yield "rename_schema", (f"{lab}_restored", f"{lab}_again"), server
    yield "cutover", (copies,), {**server, "backups": backups}
    yield "cutover", (copies,), {**server, "backups": backups, "execute": True}
    yield "rollback", (copies,), server
    yield "rollback", (copies,), {**server, "execute": True}
    options = {**server, "schema_map": {lab: copies[lab]}}
    yield "create_parallel_schema", (rig, part), options
    yield "copy_table_data", (rig, part, "Recording"), stores
    yield "migrate_external_to_v20", (part, *signal), {**stores, "source_schema": rig}
    yield "migrate_external_pointers_v2", (part, *signal), {**stores, "source_schema": rig}
    yield "copy_all_data", (lab, f"{lab}_all"), server
    yield "analyze_columns", (lab,), server
    yield "migrate_columns", (lab,), server
    yield "analyze_blob_columns", (lab,), server
    yield "generate_migration_sql", (lab,), server
    yield "migrate_blob_columns", (lab,), server
    yield "check_migration_status", (lab,), server
    yield "add_job_metadata_columns", (rig,), server
    yield "migrate_external", (rig,), stores
    yield "migrate_filepath", (rig,), stores
    yield "populate_v2_columns", (rig, "Recording", "signal"), stores
    yield "rewrite_code", (code,), {}
    yield "migrate_config", (configuration, folder / "new"), {}
    yield "demonstrate", (), server
    yield "install", (), {}


def test_every_function_returns_the_keys_it_promises(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    """Each is called, and its result is held against its type."""
    names = {"lab": ("", "_v20", "_part", "_all", "_backup", "_restored", "_again", "_old")}
    names["rig"] = ("", "_v20", "_part", "_backup", "_old")
    fresh(mysql, *(f"res_{one}{after}" for one, afters in names.items() for after in afters))
    small = make(mysql, "res", tmp_path / "store")
    called = set()
    for name, arguments, keywords in calls(small, tmp_path):
        SEEN.pop(name, None)
        function = functions()[name]
        promised = promise(function)
        watched(name, function, promised)(*arguments, **keywords)
        if typing.is_typeddict(promised):
            assert promised.__required_keys__ <= SEEN[name] <= set(promised.__annotations__)
        called.add(name)
    assert called == set(functions())


def test_the_table_of_the_reference_is_made_of_the_functions() -> None:
    assert TABLE.read_text(encoding="utf-8") == table(), "run: python tests/catalogue.py"


DESCRIBED = (
    "migrate", "create_parallel_schema", "copy_table_data", "copy_all_data", "copy_sample",
    "compare_query_results", "compare_schemas", "backup_schema", "restore_schema",
)  # fmt: skip


def test_help_has_one_line_for_each_parameter_and_an_example() -> None:
    for name in DESCRIBED:
        function = functions()[name]
        doc = inspect.getdoc(function) or ""
        (section,) = re.findall(r"\nArgs:\n((?:    .+\n)+)", doc)
        said = [line.split(":")[0].strip() for line in section.splitlines()]
        assert said == list(inspect.signature(function).parameters), name
        assert re.search(rf"\n    >>> .*\b{name}\(", doc), name
