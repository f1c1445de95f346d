"""An archive in a bucket: what an archive in a folder can, with a service in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import environments
from conftest import Fresh
from datajoint_migrate import (
    ArchiveFailed,
    ConnectionFailed,
    DestinationNotEmpty,
    backup_schema,
    check_backup,
    compare_schemas,
    restore_schema,
)
from faulty import Fault, faulty
from s3 import ACCESS_KEY, SECRET_KEY, Bucket
from servers import Server
from small import Small, make

BACK = "buc_back"
TRIALS = 40_000


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, "buc_rig", "buc_lab", BACK, f"{BACK}_restoring")
    return make(mysql, "buc", tmp_path / "store")


@pytest.fixture
def url(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in the bucket, whose service and keys the environment names."""
    reach(monkeypatch, f"http://{bucket.service.endpoint}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return f"s3://{bucket.name}/backups/lab"


def reach(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)


def many_trials(small: Small) -> None:
    small.server.sql(
        f"SET cte_max_recursion_depth=400000; INSERT INTO `{small.lab}`.session__trial"
        f" WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {TRIALS - 1})"
        " SELECT i DIV 60000, '2024-01-01' + INTERVAL i DIV 60000 DAY, i % 60000 + 2,"
        " CONCAT(SHA2(i, 512), REPEAT(SHA2(i + 1, 512), 8)) FROM n;"
        f" ANALYZE TABLE `{small.lab}`.session__trial"
    )


READ = """
import sys
from pyarrow import fs, parquet
endpoint, key, secret, *paths = sys.argv[1:]
service = fs.S3FileSystem(
    endpoint_override=endpoint, scheme="http", access_key=key, secret_key=secret
)
print(sum(parquet.read_table(path, filesystem=service).num_rows for path in paths))
"""


def test_it_is_written_proved_read_by_others_and_restored(
    small: Small, bucket: Bucket, url: str
) -> None:
    many_trials(small)
    saved = backup_schema(small.lab, url, connection=small.server.url)
    assert saved["backup_location"] == url
    objects = bucket.objects()
    assert {key.split("/")[2] for key in objects} == {"manifest.json", "tables"}
    assert sum(len(data) for key, data in objects.items() if "tables" in key) == saved["bytes"]
    for data in objects.values():
        assert SECRET_KEY.encode() not in data
    checked = check_backup(url)
    assert checked["ok"], checked["problems"]
    assert checked["rows"] == saved["rows_backed_up"]
    words = [str(environments.python("readers")), "-c", READ, bucket.service.endpoint]
    words += [ACCESS_KEY, SECRET_KEY]
    words += [f"{bucket.name}/{key}" for key in objects if "/session__trial/" in key]
    said = subprocess.run(words, capture_output=True, text=True)
    assert said.stdout.strip() == str(small.count(small.lab, "session__trial")), said.stderr
    restored = restore_schema(url, BACK, connection=small.server.url)
    assert restored["rows_restored"] == saved["rows_backed_up"]
    assert compare_schemas(small.lab, BACK, connection=small.server.url)["match"]
    with pytest.raises(DestinationNotEmpty, match="finished archive"):
        backup_schema(small.lab, url, connection=small.server.url)
    with pytest.raises(DestinationNotEmpty, match="no archive"):
        backup_schema(small.lab, f"s3://{bucket.name}/backups", connection=small.server.url)


def test_files_of_stores_go_there_and_come_back(small: Small, url: str) -> None:
    options: dict[str, Any] = {"with_files": True, "source_stores": small.source_stores}
    saved = backup_schema(small.rig, url, connection=small.server.url, **options)
    assert check_backup(url)["ok"]
    kept = {path: path.read_bytes() for path in small.objects.values()}
    shutil.rmtree(small.root)
    small.root.mkdir()
    restored = restore_schema(url, BACK, connection=small.server.url, **options)
    assert restored["files_restored"] == saved["files_backed_up"] > 0
    back = {path: data for path, data in kept.items() if path.exists()}
    assert len(back) == saved["files_backed_up"]
    assert all(path.read_bytes() == data for path, data in back.items())


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "exchanged"])
def test_damage_is_named_and_nothing_is_restored(
    small: Small, bucket: Bucket, url: str, damage: str
) -> None:
    backup_schema(small.lab, url, connection=small.server.url)
    tables = bucket.folder / "backups" / "lab" / "tables"
    one, other = sorted(tables.rglob("*.parquet"))[:2]
    data = bytearray(one.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        one.write_bytes(data)
    elif damage == "cut":
        one.write_bytes(data[:-1])
    elif damage == "exchanged":
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)
    else:
        one.unlink()
    problems = check_backup(url)["problems"]
    assert one.relative_to(tables.parent).as_posix() in [found["file"] for found in problems]
    with pytest.raises(ArchiveFailed, match="tables/"):
        restore_schema(url, BACK, connection=small.server.url)
    assert not small.server.sql(f"SHOW DATABASES LIKE '{BACK}'")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("diary.txt", "dear diary"),
        ("000000000000-notes.jsonl", "dear diary"),
        ("000000000000-notes.jsonl", '{"archive":{"version":1}}\n'),
    ],
)
def test_what_somebody_else_keeps_where_the_journal_goes_is_refused_and_stays(
    small: Small, bucket: Bucket, url: str, name: str, text: str
) -> None:
    folder = bucket.folder / "backups" / "lab" / "journal"
    folder.mkdir(parents=True)
    (folder / name).write_text(text)
    before = bucket.objects()
    with pytest.raises(ArchiveFailed, match="journal"):
        backup_schema(small.lab, url, connection=small.server.url)
    assert bucket.objects() == before


def test_a_proof_asks_for_many_files_at_once(
    small: Small, bucket: Bucket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"with_files": True, "source_stores": small.source_stores}
    backup_schema(small.rig, url, connection=small.server.url, **options)
    with faulty(bucket.service.endpoint, lambda *_: None) as proxy:
        reach(monkeypatch, f"http://{proxy.endpoint}")
        proxy.gather = 10
        checked = check_backup(url, subset="1")
    assert checked["ok"], checked["problems"]
    assert proxy.most >= 10


def test_a_service_that_fails_now_and_then_is_asked_again(
    small: Small, bucket: Bucket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(_verb: str, before: int) -> Fault:
        return "503" if not before else None

    with faulty(bucket.service.endpoint, first) as proxy:
        reach(monkeypatch, f"http://{proxy.endpoint}")
        backup_schema(small.lab, url, connection=small.server.url)
        assert check_backup(url)["ok"]
        restore_schema(url, BACK, connection=small.server.url)
        assert proxy.faults > 10
    assert compare_schemas(small.lab, BACK, connection=small.server.url)["match"]


def test_a_service_that_is_away_says_nothing_about_the_archive(
    small: Small, bucket: Bucket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_schema(small.lab, url, connection=small.server.url)
    with faulty(bucket.service.endpoint, lambda *_: "503") as proxy:
        reach(monkeypatch, f"http://{proxy.endpoint}")
        with pytest.raises(ConnectionFailed, match="backups/lab"):
            check_backup(url)


KILLED = """
import os, signal, sys
from datajoint_migrate import backup_schema
from datajoint_migrate.limits import LIMITS
LIMITS.chunk_bytes = 1 << 20
server, schema, url = sys.argv[1:]
def die(event):
    if event["rows"] >= 10_000:
        os.kill(os.getpid(), signal.SIGKILL)
# Slow on purpose: a fast machine would be done before it is seen at work.
slow = {"max_bytes_per_second": 10_000_000}
backup_schema(schema, url, connection=server, lanes=1, on_event=die, **slow)
"""


def test_a_killed_backup_goes_on(small: Small, bucket: Bucket, url: str) -> None:
    many_trials(small)
    words = [sys.executable, "-c", KILLED, small.server.url, small.lab, url]
    assert subprocess.run(words, env=dict(os.environ)).returncode == -signal.SIGKILL
    finished = {key for key in bucket.objects() if key.endswith(".parquet")}
    assert finished
    with pytest.raises(ArchiveFailed, match="unfinished"):
        restore_schema(url, BACK, connection=small.server.url)
    times = {key: (bucket.folder / key).stat().st_mtime_ns for key in finished}
    saved = backup_schema(small.lab, url, connection=small.server.url)
    kept = [key for key in finished if (bucket.folder / key).stat().st_mtime_ns == times[key]]
    assert kept
    names = {key.split("/")[2] for key in bucket.objects()}
    assert names == {"manifest.json", "tables"}
    manifest = json.loads(bucket.objects()["backups/lab/manifest.json"])
    named = {chunk["path"] for table in manifest["tables"] for chunk in table["chunks"]}
    there = {key.removeprefix("backups/lab/") for key in bucket.objects()} - {"manifest.json"}
    assert named == there
    restored = restore_schema(url, BACK, connection=small.server.url)
    assert restored["rows_restored"] == saved["rows_backed_up"]
    assert compare_schemas(small.lab, BACK, connection=small.server.url)["match"]
