"""Stores and the files in them: configured, there, whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    NotFound,
    StoreMissing,
    check_store_configuration,
    migrate_external,
    migrate_filepath,
    verify_external_integrity,
)
from datajoint_migrate.catalog import read_schema, resolve
from datajoint_migrate.steps import integrity
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
    monkeypatch.setattr(integrity, "PAGE", 3)
    result = verify(small, level="hash")
    assert result["valid"] == OBJECTS + RECORDINGS + RECORDINGS - 1
    assert result["missing"] == []


def test_pages_walk_a_composite_key(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "PAGE", 2)
    with resolve(small.server.url).session(read_only=True) as session:
        schema = read_schema(session, small.lab)
        table = schema.tables["session__trial"]
        key = table.primary_key
        rows = [row for page in integrity.pages(session, table, key, key) for row in page]
    assert len(rows) == len(set(rows)) == 12


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


def test_a_store_that_is_no_folder_is_named_as_unchecked(small: Small) -> None:
    bucket = {"protocol": "s3", "endpoint": "e:9000", "bucket": "b", "location": "raw"}
    result = verify(small, source_stores={"raw": bucket}, dest_stores={"raw": bucket})
    assert (result["stores_checked"], list(result["stores_unchecked"])) == ([], ["raw"])
    assert result["total_references"] == 0


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


def test_a_bucket_is_checked_by_its_keys_and_said_to_be_only_that(small: Small) -> None:
    bucket = {"protocol": "s3", "endpoint": "e:9000", "bucket": "b", "location": "raw"}
    found = configuration(small, bucket)
    assert found["stores_configured"] == ["raw"]
    assert "nothing has been connected to" in found["details"][0]["note"]
    for change, said in (
        ({"bucket": None}, "lacks bucket"),
        ({"access_key": "a"}, "both or none"),
        ({"cache": "/x"}, "refuses the key 'cache'"),
    ):
        found = configuration(small, bucket | change)
        assert found["stores_missing"] == ["raw"]
        assert said in found["details"][0]["error"]
