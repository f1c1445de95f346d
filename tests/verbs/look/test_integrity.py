"""Stores and the files in them: configured, there, whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    NotFound,
    StoreFailed,
    StoreMissing,
    check_store_configuration,
    migrate_external,
    migrate_filepath,
    verify_external_integrity,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.tables import read_schema
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.look import integrity
from faulty import Rule, faulty
from s3 import Bucket
from servers import Server
from small import RECORDINGS, Small, make

# 4 different signals, a paper and a movie for every recording
OBJECTS = 4 + 2 * RECORDINGS


@pytest.fixture(params=["mysql", "mariadb"])
def small(request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path) -> Small:
    server: Server = request.getfixturevalue(request.param)
    fresh(server, "int_rig", "int_lab")
    return make(server, "int", tmp_path / "store")


def verify(small: Small, **options: Any) -> dict[str, Any]:
    words = {"connection": small.server.url, **small.stores, **options}
    return verify_external_integrity(small.rig, **words)


def object_like(small: Small, end: str) -> Path:
    return next(path for path in small.objects.values() if path.name.endswith(end))


@pytest.mark.parametrize("level", ["exists", "size", "hash"])
def test_every_kind_of_object_is_found(small: Small, level: str) -> None:
    result = verify(small, level=level)
    assert (result["total_references"], result["valid"]) == (OBJECTS, OBJECTS)
    assert (result["missing"], result["stores_checked"]) == ([], ["raw"])


def test_each_level_sees_what_the_one_before_does_not(small: Small) -> None:
    object_like(small, "paper 2.pdf").unlink()
    object_like(small, "m 3.avi").write_bytes(b"short")
    object_like(small, "m 4.avi").write_bytes(b"AVI" * 4)
    problems = {
        level: sorted(entry["problem"] for entry in verify(small, level=level)["missing"])
        for level in ("exists", "size", "hash")
    }
    assert problems == {
        "exists": ["missing"],
        "size": ["missing", "size"],
        "hash": ["hash", "missing", "size"],
    }
    entry = verify(small)["missing"][0]
    assert entry["full_path"] == str(object_like(small, "paper 2.pdf"))
    assert (entry["expected_size"], entry["store"], len(entry["hash"])) == (8, "raw", 32)


def test_tables_are_read_page_by_page(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate_external(small.rig, False, connection=small.server.url, **small.stores)
    monkeypatch.setattr(LIMITS, "pointers_per_page", 3)
    result = verify(small, level="hash")
    assert result["valid"] == OBJECTS + RECORDINGS + RECORDINGS - 1
    assert result["missing"] == []


def test_pages_walk_a_composite_key(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "pointers_per_page", 2)
    with resolve(small.server.url).session(read_only=True) as session:
        schema = read_schema(session, small.lab)
        table = schema.tables["session__trial"]
        key = table.primary_key
        rows = [row for page in integrity.pages(session, table, key, key) for row in page]
    assert len(rows) == len(set(rows)) == 12


def test_pages_walk_keys_that_are_sorted_otherwise_than_they_are_written(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members of an ENUM by their place, a FLOAT by more digits than are shown."""
    monkeypatch.setattr(LIMITS, "pointers_per_page", 2)
    small.server.sql(
        f"CREATE TABLE `{small.lab}`.odd (side enum('right','left','both') NOT NULL,"
        " depth float NOT NULL, gain double NOT NULL, flags bit(9) NOT NULL,"
        " many set('z','a') NOT NULL, PRIMARY KEY (side, depth, gain, flags, many));"
        f"INSERT INTO `{small.lab}`.odd VALUES ('right', 0.1, 0.1, 1, 'a'),"
        " ('right', 1e10 / 3, 1, 2, 'z'),"
        " ('left', 16777217, 1e300, 3, 'z,a'), ('left', 0.30000001, -1, 257, ''),"
        " ('left', 0.30000001, 0.1 + 0.2e0, 4, 'a'), ('both', -0.1, 1 / 3e0, 5, 'z')"
    )
    with resolve(small.server.url).session(read_only=True) as session:
        table = read_schema(session, small.lab).tables["odd"]
        key = table.primary_key
        rows = [row for page in integrity.pages(session, table, key, ("flags",)) for row in page]
    assert len(rows) == len(set(rows)) == 6


def test_after_the_migration_the_new_objects_are_looked_for(small: Small) -> None:
    words = {"connection": small.server.url, **small.stores}
    for verb in (migrate_external, migrate_filepath):
        verb(small.rig, False, **words)
        verb(small.rig, finalize=True, **words)
    for path in (small.root / "_hash").rglob("*.blob"):
        path.unlink()
        break
    result = verify(small, level="hash")
    assert [entry["problem"] for entry in result["missing"]] == ["missing"]
    assert result["missing"][0]["filepath"].startswith("_hash/int_rig/")


def test_pointers_without_a_tracking_row_are_counted(small: Small) -> None:
    small.server.sql(
        "SET foreign_key_checks=0;"
        f"DELETE FROM `{small.rig}`.`~external_raw` WHERE filepath = 'movies/m 2.avi'"
    )
    assert verify(small)["untracked"] == {f"{small.rig}._recording.movie": 1}


def test_a_store_of_an_unknown_protocol_is_named_as_unchecked(small: Small) -> None:
    strange = {"protocol": "lakefs", "location": "raw"}
    result = verify(small, source_stores={"raw": strange}, dest_stores={"raw": strange})
    assert (result["stores_checked"], list(result["stores_unchecked"])) == ([], ["raw"])
    assert result["total_references"] == 0


def in_bucket(small: Small, bucket: Bucket) -> dict[str, Any]:
    """The store of `small` with all its files, moved to a bucket."""
    shutil.copytree(small.root, bucket.folder / "raw")
    return {
        "source_stores": {"raw": bucket.spec("raw")},
        "dest_stores": {"raw": bucket.spec("raw")},
    }


def test_a_bucket_is_looked_into_at_every_level(small: Small, bucket: Bucket) -> None:
    stores = in_bucket(small, bucket)
    result = verify(small, level="hash", **stores)
    assert (result["total_references"], result["valid"], result["missing"]) == (
        OBJECTS,
        OBJECTS,
        [],
    )
    there = {path.name: path for path in (bucket.folder / "raw").rglob("*")}
    next(path for name, path in there.items() if name.endswith("paper 2.pdf")).unlink()
    there["m 3.avi"].write_bytes(b"short")
    there["m 4.avi"].write_bytes(b"AVI" * 4)
    for level, problems in (
        ("exists", ["missing"]),
        ("size", ["missing", "size"]),
        ("hash", ["hash", "missing", "size"]),
    ):
        found = verify(small, level=level, **stores)["missing"]
        assert sorted(entry["problem"] for entry in found) == problems
        assert all(e["full_path"].startswith(f"s3://{bucket.name}/raw/") for e in found)


def test_a_bucket_that_does_not_let_us_in_is_an_error_and_not_missing_files(
    small: Small, bucket: Bucket
) -> None:
    wrong = {"raw": bucket.spec("raw") | {"secret_key": "wrong"}}
    with pytest.raises(StoreFailed, match="SignatureDoesNotMatch"):
        verify(small, source_stores=wrong, dest_stores=wrong)


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_what_no_tracking_row_knows_is_an_orphan(
    small: Small, bucket: Bucket, remote: bool
) -> None:
    stores = in_bucket(small, bucket) if remote else {}
    root = bucket.folder / "raw" if remote else small.root
    assert verify(small, orphans=True, **stores)["orphaned_count"] == 0
    signal = next(path for path in (root / small.rig).rglob("*") if path.is_file())
    strays = {
        f"{small.rig}/ab/cd/{'abcd' * 8}": b"deleted by 0.14.6 from its table only",
        f"{small.rig}/notes.txt": b"by hand",
        # The right name at the wrong place is found by no client.
        f"{small.rig}/{signal.name}": b"misplaced",
        # A place that is no schema's own.
        "movies/other.avi": b"of nobody",
    }
    for path, data in strays.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    found = verify(small, orphans=True, **stores)
    assert {entry["path"] for entry in found["orphaned"]} == set(list(strays)[:3])
    assert found["orphaned_bytes"] == sum(len(data) for data in list(strays.values())[:3])
    assert found["missing_count"] == 0


def test_parts_together_are_the_whole_and_a_part_is_always_the_same(small: Small) -> None:
    parts = [verify(small, level="hash", subset=f"{number}/3") for number in (1, 2, 3)]
    assert sum(part["checked"] for part in parts) == OBJECTS
    assert {part["total_references"] for part in parts} == {OBJECTS}
    assert verify(small, subset="1/3")["checked"] == parts[0]["checked"]
    assert verify(small, subset="1T")["checked"] == OBJECTS
    assert verify(small, subset="100%")["checked"] == OBJECTS
    some = [verify(small, subset=share)["checked"] for share in ("1", "10%", "50%", "90%")]
    assert some == sorted(some)
    assert some[-1] > some[0]
    for bad in ("0/2", "3/2", "0%", "101%", "some", "0", "-1"):
        with pytest.raises(InvalidArgument, match="subset"):
            verify(small, subset=bad)


def test_an_unknown_store_or_level_is_an_error(small: Small) -> None:
    with pytest.raises(NotFound, match=r"'rwa'.*did you mean 'raw'"):
        verify(small, store_name="rwa")
    with pytest.raises(InvalidArgument, match="level"):
        verify(small, level="all")
    with pytest.raises(StoreMissing, match="'raw'"):
        verify(small, source_stores={}, dest_stores={})
    assert verify(small, store_name="external-raw")["stores_checked"] == ["raw"]


def configuration(small: Small, spec: dict[str, Any] | None) -> dict[str, Any]:
    stores = {} if spec is None else {"raw": spec}
    return check_store_configuration(
        small.rig, source_stores={}, dest_stores=stores, connection=small.server.url
    )


def test_a_folder_is_opened(small: Small, tmp_path: Path) -> None:
    found = configuration(small, {"protocol": "file", "location": str(small.root)})
    assert (found["stores_configured"], found["details"][0]["status"]) == (["raw"], "configured")
    (tmp_path / "plain").write_text("no folder")
    for place in (tmp_path / "gone", tmp_path / "plain"):
        found = configuration(small, {"protocol": "file", "location": str(place)})
        assert found["stores_unreachable"] == ["raw"]
        assert str(place) in found["details"][0]["error"]


def test_a_store_that_is_not_configured_is_missing(small: Small) -> None:
    found = configuration(small, None)
    assert (found["stores_missing"], found["details"][0]["status"]) == (["raw"], "missing")


def test_a_bucket_is_connected_to_and_asked_whether_it_may_be_written(
    small: Small, bucket: Bucket
) -> None:
    found = configuration(small, bucket.spec("raw"))
    assert found["stores_configured"] == ["raw"]
    assert found["details"][0]["writable"] is True
    assert bucket.objects() == {}
    no_uploads: Rule = lambda method, _: "403" if method == "POST" else None  # noqa: E731
    with faulty(bucket.service.endpoint, no_uploads) as proxy:
        detail = configuration(small, bucket.spec("raw", endpoint=proxy.endpoint))["details"][0]
    assert (detail["status"], detail["writable"]) == ("configured", False)
    assert "AccessDenied" in detail["error"]


def test_a_bucket_that_cannot_be_read_is_unreachable(small: Small, bucket: Bucket) -> None:
    for wrong in (
        {"secret_key": "wrong-one"},
        {"bucket": "no-such-bucket"},
        {"endpoint": "127.0.0.1:9"},
    ):
        found = configuration(small, bucket.spec("raw") | wrong)
        assert found["stores_unreachable"] == ["raw"], found
        assert "wrong-one" not in repr(found)


def test_a_folder_that_may_not_be_written_is_said_to_be(small: Small) -> None:
    detail = configuration(small, {"protocol": "file", "location": str(small.root)})["details"][0]
    assert detail["writable"] is True
    # Only what 2.x is configured to use will be written to.
    found = check_store_configuration(
        small.rig,
        source_stores={"raw": {"protocol": "file", "location": str(small.root)}},
        dest_stores={},
        connection=small.server.url,
    )
    assert found["details"][0]["writable"] is None


def test_keys_that_2x_refuses_are_named(small: Small) -> None:
    bucket = {"protocol": "s3", "endpoint": "127.0.0.1:9", "bucket": "b", "location": "raw"}
    for change, said in (
        ({"bucket": None}, "lacks bucket"),
        ({"access_key": "a"}, "both or none"),
        ({"cache": "/x"}, "refuses the key 'cache'"),
        ({"protocol": "gcs"}, "refuses the key 'endpoint'"),
        ({"protocol": "azure"}, "lacks container"),
    ):
        found = configuration(small, bucket | change)
        assert found["stores_missing"] == ["raw"]
        assert said in found["details"][0]["error"]
