"""copy_store: folders and buckets in any direction, proved, resumed, and what can go wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from datajoint_migrate import (
    ExternalMissing,
    InvalidArgument,
    MigrationError,
    StoreFailed,
    copy_store,
)
from datajoint_migrate.catalog.stores import dest_stores, source_stores
from folders import files, folder
from s3 import Bucket

LARGE = os.urandom(20 << 20)
NAMES = ("a/b.bin", "a/ü n.'x' 猴.dat", "a/100% #1?&=+~.tar.gz", "deep/er/.hidden", "empty", "dot.")


def some() -> dict[str, bytes]:
    """Small objects with names that need care, and one that takes several requests."""
    return {name: name.encode() * 3 if name != "empty" else b"" for name in NAMES} | {"l": LARGE}


@pytest.mark.parametrize("verify", [True, False])
def test_files_go_to_a_bucket_within_it_and_back(
    bucket: Bucket, tmp_path: Path, verify: bool
) -> None:
    objects = some()
    origin = folder(tmp_path / "from", objects)
    (tmp_path / "to").mkdir()
    up = copy_store(origin, bucket.spec("one"), verify=verify)
    assert (up["files_copied"], up["errors"]) == (len(objects), [])
    assert up["bytes_copied"] == sum(map(len, objects.values()))
    within = copy_store(bucket.spec("one"), bucket.spec("two/deeper"), verify=verify)
    assert (within["files_copied"], within["errors"]) == (len(objects), [])
    back = copy_store(bucket.spec("two/deeper"), folder(tmp_path / "to", {}), verify=verify)
    assert (back["files_copied"], back["errors"]) == (len(objects), [])
    assert files(tmp_path / "to") == objects


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("to_bucket", [True, False])
def test_a_second_call_copies_only_what_is_missing_and_names_what_differs(
    bucket: Bucket, tmp_path: Path, to_bucket: bool, verify: bool
) -> None:
    origin = folder(tmp_path / "from", some())
    target = bucket.spec("x") if to_bucket else folder(tmp_path / "to", {})
    root = bucket.folder / "x" if to_bucket else tmp_path / "to"
    copy_store(origin, target, verify=verify)
    assert copy_store(origin, target, verify=verify)["files_copied"] == 0
    there = (root / "a/b.bin").read_bytes()
    folder(tmp_path / "from", {"a/b.bin": b"longer than it was before", "new": b"new"})
    again = copy_store(origin, target, verify=verify)
    assert (again["files_copied"], again["files_present"]) == (1, len(NAMES))
    (error,) = again["errors"]
    assert error["path"] == "a/b.bin"
    assert "is there with other contents than" in error["error"]
    for place in (tmp_path / "from" / "a/b.bin", "s3://" if to_bucket else root / "a/b.bin"):
        assert str(place) in error["error"]
    assert (root / "a/b.bin").read_bytes() == there


@pytest.mark.parametrize("to_bucket", [True, False])
def test_other_contents_of_the_same_size_are_found_when_verifying(
    bucket: Bucket, tmp_path: Path, to_bucket: bool
) -> None:
    origin = folder(tmp_path / "from", {"x": b"right", "y": b"right"})
    target = bucket.spec("s") if to_bucket else folder(tmp_path / "to", {})
    copy_store(folder(tmp_path / "wrong", {"x": b"wrong"}), target)
    assert copy_store(origin, target, verify=False)["files_copied"] == 1
    again = copy_store(origin, target)
    assert (again["files_copied"], again["files_present"], again["error_count"]) == (0, 1, 1)
    there = files(tmp_path / "to") if not to_bucket else bucket.objects()
    assert sorted(there.values()) == [b"right", b"wrong"]


def test_more_objects_than_a_service_lists_at_once_are_all_copied(
    bucket: Bucket, tmp_path: Path
) -> None:
    # This service cuts a listing at 1000 and does not say how to go on.
    objects = {f"f{number:05d}": b"%d" % number for number in range(2345)}
    folder(bucket.folder / "raw", objects)
    (tmp_path / "to").mkdir()
    done = copy_store(bucket.spec("raw"), {"protocol": "file", "location": str(tmp_path / "to")})
    assert (done["files_copied"], done["errors"]) == (len(objects), [])
    assert files(tmp_path / "to") == objects


def test_a_prefix_copies_one_folder_only(bucket: Bucket, tmp_path: Path) -> None:
    origin = folder(tmp_path / "from", {"a/x": b"1", "ab/y": b"2", "z": b"3"})
    assert copy_store(origin, bucket.spec("s"), prefix="a")["files_copied"] == 1
    assert copy_store(bucket.spec("s"), folder(tmp_path / "to", {}), prefix="a")["files_copied"]
    assert files(tmp_path / "to") == {"a/x": b"1"}


def test_a_copied_file_keeps_its_time_and_is_no_link(tmp_path: Path) -> None:
    origin = folder(tmp_path / "from", {"x": b"1"})
    os.utime(tmp_path / "from" / "x", (1_000_000, 1_000_000))
    copy_store(origin, folder(tmp_path / "to", {}), verify=False)
    assert (tmp_path / "to" / "x").stat().st_mtime == 1_000_000
    assert (tmp_path / "to" / "x").stat().st_nlink == 1


@pytest.mark.parametrize("wrong", ["access_key", "secret_key", "bucket"])
def test_a_service_that_refuses_is_named_and_no_key_is_told(
    bucket: Bucket, tmp_path: Path, wrong: str
) -> None:
    spec = bucket.spec("x") | {wrong: "wrong-" + "x" * 20}
    with pytest.raises(MigrationError) as caught:
        copy_store(folder(tmp_path / "from", {"x": b"1"}), spec)
    said = str(caught.value) + repr(caught.value) + repr(caught.value.context)
    assert bucket.service.endpoint in said
    for secret in (spec["access_key"], spec["secret_key"], bucket.service.secret_key):
        assert secret not in said
    assert caught.value.code == "DJM-1405"


def test_a_service_that_is_not_there_is_named(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match=r"127\.0\.0\.1:9/"):
        copy_store(folder(tmp_path / "from", {"x": b"1"}), bucket.spec("x", endpoint="127.0.0.1:9"))


def test_the_same_place_and_odd_locations_are_refused(bucket: Bucket, tmp_path: Path) -> None:
    store = folder(tmp_path / "from", {})
    with pytest.raises(InvalidArgument, match="same place"):
        copy_store(store, store)
    with pytest.raises(InvalidArgument, match="slashes"):
        copy_store(store, bucket.spec("/x"))
    with pytest.raises(InvalidArgument, match="leads out"):
        copy_store(store, bucket.spec("x"), prefix="../y")
    with pytest.raises(ExternalMissing, match="No such"):
        copy_store(store, bucket.spec("x"), prefix="nowhere")


def test_keys_come_from_the_environment_or_a_profile_too(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = bucket.spec("x")
    spec = {name: keys[name] for name in keys if name not in ("access_key", "secret_key")}
    origin = folder(tmp_path / "from", {"a": b"1"})
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    profiles = tmp_path / "credentials"
    profiles.write_text(
        f"[lab]\naws_access_key_id = {keys['access_key']}\n"
        f"aws_secret_access_key = {keys['secret_key']}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profiles))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert copy_store(origin, spec)["files_copied"] == 1
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_key"])
    assert copy_store(origin, {**spec, "location": "y"})["files_copied"] == 1
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreFailed, match="SignatureDoesNotMatch"):
        copy_store(origin, {**spec, "location": "z"})


@pytest.mark.parametrize("missing", ["access_key", "secret_key"])
def test_half_a_pair_of_keys_is_not_made_whole_from_elsewhere(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    keys = bucket.spec("x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_key"])
    origin = folder(tmp_path / "from", {"a": b"1"})
    for half in ({**keys, missing: ""}, {name: keys[name] for name in keys if name != missing}):
        with pytest.raises(InvalidArgument, match=f"no '?{missing}") as caught:
            copy_store(origin, half)
        assert keys["secret_key"] not in str(caught.value)
    assert not bucket.objects()


def test_each_client_has_its_own_reading_of_a_spec() -> None:
    spec = {"protocol": "s3", "endpoint": "h:9000", "bucket": "b", "location": "a//b/"}
    spec |= {"access_key": "AKIA", "secret_key": "hush"}
    old, new = source_stores({"raw": spec})["raw"], dest_stores({"raw": spec})["raw"]
    assert old.spec()["service"]["endpoint"] == "http://h:9000"
    assert old.spec()["location"] == "a/b"
    # 2.x pastes the location in front of the path as it is, so these are other keys.
    assert old.place != new.place
    with pytest.raises(InvalidArgument, match="slashes"):
        new.spec()
    with pytest.raises(InvalidArgument, match="slashes") as caught:
        new.spec()
    assert "'a/b'" in str(caught.value.hint)
    plain = dest_stores({"raw": {**spec, "location": "a/b"}})["raw"]
    assert old.place[1:] == plain.place[1:]
    assert plain.spec()["service"]["endpoint"] == "https://h:9000"
    assert "hush" not in repr(plain)
    assert "AKIA" not in repr(plain)


def test_a_dry_run_opens_nothing(bucket: Bucket, tmp_path: Path) -> None:
    said = copy_store(
        folder(tmp_path / "from", {"a": b"1"}), bucket.spec("x"), prefix="p", dry_run=True
    )
    assert said == {"source": f"{tmp_path}/from/p", "dest": f"s3://{bucket.name}/x/p"}
    assert bucket.objects() == {}


def gcs(**more: Any) -> dict[str, Any]:
    """A store of Google's, in 2.x's words."""
    return {"protocol": "gcs", "bucket": "lab", "location": "raw"} | more


def azure(**more: Any) -> dict[str, Any]:
    """A store of Microsoft's, in 2.x's words."""
    return {"protocol": "azure", "container": "lab", "location": "raw"} | more


def test_a_gcs_store_takes_the_tokens_of_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    key = '{"type": "service_account", "private_key": "hush"}'
    (tmp_path / "key.json").write_text(key)
    for token, told in (
        (None, {"credentials": None, "anonymous": False}),
        ("google_default", {"credentials": None, "anonymous": False}),
        ("anon", {"credentials": None, "anonymous": True}),
        (str(tmp_path / "key.json"), {"credentials": key, "anonymous": False}),
        ({"private_key": "hush"}, {"credentials": '{"private_key": "hush"}', "anonymous": False}),
    ):
        store = dest_stores({"raw": gcs(token=token)})["raw"]
        assert store.spec()["service"] == {"kind": "gcs", "endpoint": None, **told}
        assert (store.spec()["bucket"], store.url) == ("lab", "gs://lab/raw")
        assert "hush" not in repr(store)
    for bad in ("browser", str(tmp_path / "gone.json"), {"refresh_token": "hush"}):
        with pytest.raises(InvalidArgument, match=r"token|credentials") as caught:
            dest_stores({"raw": gcs(token=bad)})["raw"].spec()
        assert "hush" not in str(caught.value)


def test_an_azure_store_takes_a_key_or_a_connection_string() -> None:
    plain = dest_stores({"raw": azure(account_name="lab", account_key="aHVzaA==")})["raw"]
    assert plain.url == "az://lab/raw"
    assert plain.spec()["service"] == {
        "kind": "azure",
        "account": "lab",
        "endpoint": None,
        "key": "aHVzaA==",
        "signature": None,
    }
    words = "DefaultEndpointsProtocol=https;AccountName=lab;AccountKey=aHVzaA==;EndpointSuffix="
    for suffix, endpoint in (
        ("core.windows.net", None),
        ("core.usgovcloudapi.net", "https://lab.blob.core.usgovcloudapi.net"),
    ):
        said = dest_stores({"raw": azure(connection_string=words + suffix)})["raw"]
        known = said.spec()["service"]
        assert (known["account"], known["key"]) == ("lab", "aHVzaA==")
        assert known["endpoint"] == endpoint
        assert "aHVzaA" not in repr(said)
    signed = "BlobEndpoint=https://lab.blob.core.windows.net/;SharedAccessSignature=?sv=1&sig=x%3D"
    known = dest_stores({"raw": azure(connection_string=signed)})["raw"].spec()["service"]
    assert (known["account"], known["signature"]) == ("lab", "sv=1&sig=x%3D")
    with pytest.raises(InvalidArgument, match="account_name"):
        dest_stores({"raw": azure()})["raw"].spec()
    with pytest.raises(InvalidArgument, match="lacks container"):
        dest_stores({"raw": {**azure(), "container": None}})["raw"].spec()


def test_services_that_do_not_answer_are_named_and_no_key_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:9")
    at = "BlobEndpoint=http://127.0.0.1:9/lab;AccountName=lab;AccountKey=aHVzaA=="
    for spec in (gcs(), azure(connection_string=at)):
        with pytest.raises(MigrationError, match=r"127\.0\.0\.1:9") as caught:
            copy_store(spec, folder(tmp_path / "to", {}))
        assert "aHVzaA" not in str(caught.value) + repr(caught.value.context)
