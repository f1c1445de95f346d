"""A pipeline with everything 0.14.6 can hold, migrated by one call, read by real 2.x clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import migrate
from full_pipeline import ADAPTERS, FullPipeline, read_with, work_with
from servers import Server

CLIENTS = ("2.3.5", "2.0.0")

pytestmark = pytest.mark.timeout(300)


def migrated(
    pipeline: FullPipeline, prefix: str, stores: Any, *names: str, **options: Any
) -> dict[str, str]:
    """Migrate all schemas, or those named, to ones under `prefix`; the map of old to new names."""
    schema_map = pipeline.schema_map(prefix, *names)
    result = migrate(
        schema_map,
        source_stores=pipeline.source_stores,
        dest_stores=stores,
        connection=pipeline.server.url,
        adapters=ADAPTERS,
        **options,
    )
    assert result["match"], result["issues"]
    assert result["compatible"], result["issues"]
    return schema_map


def must_read(
    pipeline: FullPipeline, server: Server, schema_map: dict[str, str], stores: Any, scratch: Path
) -> None:
    """Every value must be equal with every 2.x client."""
    for client in CLIENTS:
        reading = read_with(client, pipeline, server, schema_map, stores, scratch)
        assert reading.equal, f"DataJoint {client}: {reading.different()[:5]}"


@pytest.mark.parametrize("copy_files", [False, True], ids=["in place", "files copied"])
def test_inside_one_server_every_value_reads_back_equal(
    full_pipeline_mysql: FullPipeline,
    mysql: Server,
    fresh: Fresh,
    tmp_path: Path,
    copy_files: bool,
) -> None:
    pipeline = full_pipeline_mysql
    fresh(mysql, *pipeline.schema_map("inside").values())
    stores = pipeline.stores_elsewhere(tmp_path) if copy_files else pipeline.stores_in_place()
    schema_map = migrated(pipeline, "inside", stores, copy_files=copy_files)
    must_read(pipeline, mysql, schema_map, stores, tmp_path)


@pytest.mark.parametrize("copy_files", [False, True], ids=["in place", "files copied"])
def test_to_a_server_without_local_infile_every_value_reads_back_equal(
    full_pipeline_mysql: FullPipeline,
    mysql_b: Server,
    fresh: Fresh,
    tmp_path: Path,
    copy_files: bool,
) -> None:
    pipeline = full_pipeline_mysql
    fresh(mysql_b, *pipeline.schema_map("beside").values())
    stores = pipeline.stores_elsewhere(tmp_path) if copy_files else pipeline.stores_in_place()
    schema_map = migrated(
        pipeline, "beside", stores, copy_files=copy_files, dest_connection=mysql_b.url
    )
    must_read(pipeline, mysql_b, schema_map, stores, tmp_path)


@pytest.mark.parametrize("copy_files", [False, True], ids=["in place", "files copied"])
def test_from_mariadb_to_mysql_every_value_reads_back_equal(
    full_pipeline_maria: FullPipeline,
    mysql: Server,
    fresh: Fresh,
    tmp_path: Path,
    copy_files: bool,
) -> None:
    pipeline = full_pipeline_maria
    fresh(mysql, *pipeline.schema_map("across").values())
    stores = pipeline.stores_elsewhere(tmp_path) if copy_files else pipeline.stores_in_place()
    schema_map = migrated(
        pipeline, "across", stores, copy_files=copy_files, dest_connection=mysql.url
    )
    must_read(pipeline, mysql, schema_map, stores, tmp_path)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_2x_client_works_on_it_as_on_its_own(
    full_pipeline_mysql: FullPipeline, mysql: Server, fresh: Fresh, tmp_path: Path, client: str
) -> None:
    pipeline = full_pipeline_mysql
    fresh(mysql, *pipeline.schema_map("worked").values())
    stores = pipeline.stores_elsewhere(tmp_path / "stores")
    # 2.3.5 deletes nothing where it can reach a table that refers to itself, as `altered` has.
    migrated(pipeline, "worked", stores, "colony", "imaging", copy_files=True)
    well, said = work_with(client, mysql, "worked", stores, tmp_path)
    assert well, said
