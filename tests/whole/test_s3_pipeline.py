"""The full pipeline with its files in S3, written by 0.14.6, migrated, read by 2.3.5."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh, drop
from datajoint_migrate import migrate
from datajoint_migrate.verbs.look.setup import check_setup
from full_pipeline import ADAPTERS, FullPipeline, fill, read_with
from pipelines.full import stores
from s3 import S3, Bucket
from servers import Server

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def origin(s3_server: S3) -> Bucket:
    return s3_server.make_bucket("origin")


@pytest.fixture(scope="module")
def pipeline(
    mysql: Server, origin: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FullPipeline]:
    """The full pipeline, all stores in a bucket; one location ends with a slash."""
    root = tmp_path_factory.mktemp("full_s3")
    specs = stores.in_bucket(specs_in(origin, deep="some/deep/"), stage=root / "stage")
    made = fill(mysql, f"fulls3{os.getpid()}", root, specs=specs)
    yield made
    drop(mysql, *made.schemas)


def specs_in(bucket: Bucket, **locations: str) -> stores.Specs:
    """Stores in a bucket, below folders of their names unless they are given."""
    names = {"raw": "raw", "flat": "flat", "deep": "some/deep"} | locations
    return {name: bucket.spec(location) for name, location in names.items()}


def migrated(
    pipeline: FullPipeline, prefix: str, dest_stores: Any, copy_files: bool, secret: str
) -> dict[str, str]:
    """Migrate all schemas to ones under `prefix`; the map of old to new names."""
    schema_map = pipeline.schema_map(prefix)
    events: list[Any] = []
    result = migrate(
        schema_map,
        source_stores=pipeline.source_stores,
        dest_stores=dest_stores,
        connection=pipeline.server.url,
        adapters=ADAPTERS,
        copy_files=copy_files,
        on_event=events.append,
    )
    assert result["match"], result["issues"]
    assert result["compatible"], result["issues"]
    assert secret not in repr(result) + repr(events)
    return schema_map


def test_in_place_every_value_reads_back_equal_and_no_object_changes(
    pipeline: FullPipeline, mysql: Server, origin: Bucket, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, *pipeline.schema_map("s3in").values())
    before = origin.objects()
    there = stores.in_bucket(specs_in(origin))
    schema_map = migrated(pipeline, "s3in", there, False, origin.service.secret_key)
    after = origin.objects()
    assert {key: after.get(key) for key in before} == before
    # Attachments alone are written anew.
    assert after.keys() - before.keys()
    assert all("/_hash/" in key for key in after.keys() - before.keys())
    reading = read_with("2.3.5-s3", pipeline, mysql, schema_map, there, tmp_path)
    assert reading.equal, reading.different()[:5]


@pytest.mark.parametrize("same_bucket", [True, False], ids=["one bucket", "two buckets"])
def test_copied_to_s3_every_value_reads_back_equal(
    pipeline: FullPipeline,
    mysql: Server,
    origin: Bucket,
    bucket: Bucket,
    fresh: Fresh,
    tmp_path: Path,
    same_bucket: bool,
) -> None:
    fresh(mysql, *pipeline.schema_map("s3to").values())
    locations = {"raw": "new/raw", "flat": "new/flat", "deep": "new/deep"}
    there = stores.in_bucket(specs_in(origin if same_bucket else bucket, **locations))
    schema_map = migrated(pipeline, "s3to", there, True, origin.service.secret_key)
    reading = read_with("2.3.5-s3", pipeline, mysql, schema_map, there, tmp_path)
    assert reading.equal, reading.different()[:5]


def test_copied_to_folders_every_value_reads_back_equal(
    pipeline: FullPipeline, mysql: Server, origin: Bucket, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, *pipeline.schema_map("s3out").values())
    there = pipeline.stores_elsewhere(tmp_path)
    schema_map = migrated(pipeline, "s3out", there, True, origin.service.secret_key)
    reading = read_with("2.3.5", pipeline, mysql, schema_map, there, tmp_path)
    assert reading.equal, reading.different()[:5]


def test_folders_copied_to_s3_every_value_reads_back_equal(
    full_pipeline_mysql: FullPipeline, mysql: Server, bucket: Bucket, fresh: Fresh, tmp_path: Path
) -> None:
    pipeline = full_pipeline_mysql
    fresh(mysql, *pipeline.schema_map("s3up").values())
    there = stores.in_bucket(specs_in(bucket))
    schema_map = migrated(pipeline, "s3up", there, True, bucket.service.secret_key)
    reading = read_with("2.3.5-s3", pipeline, mysql, schema_map, there, tmp_path)
    assert reading.equal, reading.different()[:5]


def test_doctor_connects_to_buckets(pipeline: FullPipeline, bucket: Bucket) -> None:
    where = {"source_stores": pipeline.source_stores, "adapters": ADAPTERS, "copy_files": True}
    schema_map = pipeline.schema_map("s3doc")

    def told(dest_stores: Any) -> dict[str, dict[str, Any]]:
        on = {"dest_stores": dest_stores, "connection": pipeline.server.url}
        checks = check_setup(schema_map, **where, **on)["checks"]
        return {check["name"]: check for check in checks if check["name"].startswith("store ")}

    good = stores.in_bucket(specs_in(bucket))
    before = bucket.objects()
    assert all(check["ok"] for check in told(good).values())
    assert len(told(good)) == 3
    assert bucket.objects() == before
    wrong = {**good, "raw": {**good["raw"], "secret_key": "no such secret"}}
    nowhere = {**good, "flat": {**good["flat"], "bucket": "no-such-bucket"}}
    refused, lost = told(wrong), told(nowhere)
    assert [name for name, check in refused.items() if not check["ok"]] == ["store raw"]
    assert [name for name, check in lost.items() if not check["ok"]] == ["store flat"]
    assert "no such secret" not in repr(refused)
