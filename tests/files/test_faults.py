"""What becomes of a copy of files when services, disks and files fail: named, whole, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    ConnectionFailed,
    ExternalMissing,
    StoreFailed,
    copy_store,
    migrate,
    verify_schema_v20,
)
from datajoint_migrate.limits import LIMITS
from faulty import Fault, faulty
from folders import files, folder
from s3 import Bucket
from servers import Server
from small import Small, make

OBJECTS = {f"d{n % 7}/file {n}": os.urandom(500 + 37 * n) for n in range(120)}
LARGE = {"large": os.urandom(19 << 20)}


def on_first(fault: Fault, method: str) -> Any:
    """That fault for the first request of each object with this method."""
    return lambda verb, before: fault if verb == method and not before else None


@pytest.mark.parametrize("fault", ["503", "cut the request"])
def test_uploads_that_fail_once_are_made_again(
    bucket: Bucket, tmp_path: Path, fault: Fault
) -> None:
    objects = OBJECTS | LARGE
    with faulty(bucket.service.endpoint, on_first(fault, "PUT")) as proxy:
        done = copy_store(
            folder(tmp_path / "from", objects), bucket.spec("x", endpoint=proxy.endpoint)
        )
    assert (done["files_copied"], done["errors"]) == (len(objects), [])
    assert bucket.objects() == {f"x/{name}": data for name, data in objects.items()}
    assert proxy.faults >= len(objects)


@pytest.mark.parametrize("fault", ["503", "cut the answer"])
def test_downloads_that_fail_once_are_made_again(
    bucket: Bucket, tmp_path: Path, fault: Fault
) -> None:
    objects = OBJECTS | LARGE
    copy_store(folder(tmp_path / "from", objects), bucket.spec("x"))
    with faulty(bucket.service.endpoint, on_first(fault, "GET")) as proxy:
        done = copy_store(
            bucket.spec("x", endpoint=proxy.endpoint), folder(tmp_path / "to", {}), verify=False
        )
    assert (done["files_copied"], done["errors"]) == (len(objects), [])
    assert files(tmp_path / "to") == objects
    assert proxy.faults >= len(objects)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fails for good is not waited for as long as who may come back."""
    monkeypatch.setattr(LIMITS, "away_seconds", 2)


@pytest.mark.usefixtures("impatient")
def test_a_service_that_stays_away_ends_the_call_which_goes_on_later(
    bucket: Bucket, tmp_path: Path
) -> None:
    def after_fifty(verb: str, _before: int) -> Fault:
        return "503" if verb == "PUT" and proxy.requests > 50 else None

    origin = folder(tmp_path / "from", OBJECTS)
    with (
        faulty(bucket.service.endpoint, after_fifty) as proxy,
        pytest.raises(ConnectionFailed, match=r"s3://.*SlowDown") as caught,
    ):
        copy_store(origin, bucket.spec("x", endpoint=proxy.endpoint))
    assert proxy.endpoint in str(caught.value)
    there = bucket.objects()
    assert 0 < len(there) < len(OBJECTS)
    assert all(OBJECTS[key.removeprefix("x/")] == data for key, data in there.items())
    again = copy_store(origin, bucket.spec("x"))
    assert again["files_copied"] == len(OBJECTS) - len(there)
    assert again["files_present"] == len(there)
    assert len(bucket.objects()) == len(OBJECTS)


@pytest.mark.usefixtures("impatient")
def test_a_large_upload_that_fails_leaves_no_object_and_no_parts(
    bucket: Bucket, tmp_path: Path
) -> None:
    def no_end(verb: str, before: int) -> Fault:
        return "503" if verb == "POST" and before else None

    with faulty(bucket.service.endpoint, no_end) as proxy, pytest.raises(ConnectionFailed):
        copy_store(folder(tmp_path / "from", LARGE), bucket.spec("x", endpoint=proxy.endpoint))
    assert bucket.objects() == {}
    assert proxy.seen["DELETE", f"/{bucket.name}/x/large"] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("from_bucket", [True, False])
def test_a_full_disk_ends_the_call_with_nothing_half_written(
    bucket: Bucket, tmp_path: Path, small_disk: Path, from_bucket: bool, verify: bool
) -> None:
    objects = {f"f{n}": os.urandom(30_000) for n in range(60)}
    origin = folder(tmp_path / "from", objects)
    if from_bucket:
        copy_store(origin, bucket.spec("x"))
        origin = bucket.spec("x")
    target = {"protocol": "file", "location": str(small_disk)}
    with pytest.raises(StoreFailed, match=r"No space left on device") as caught:
        copy_store(origin, target, verify=verify)
    assert str(small_disk) in str(caught.value)
    there = files(small_disk)
    assert all(objects.get(name) == data for name, data in there.items()), set(there)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    again = copy_store(origin, target, verify=verify)
    assert again["files_copied"] + len(there) == len(objects)
    assert files(small_disk) == objects


# A file that grows beyond a megabyte ends the process at once, as a kill does. Written files are
# held open until they are named, so a process that may hold few open names them soon.
CALL = """
import json, resource, signal, sys
from datajoint_migrate import copy_store
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
copy_store(*json.loads(sys.stdin.read()))
"""


@pytest.mark.parametrize("to_bucket", [True, False])
def test_a_call_that_was_killed_left_whole_files_and_goes_on(
    bucket: Bucket, tmp_path: Path, to_bucket: bool
) -> None:
    # Folders are walked from the last one, so the large file comes at the end.
    objects = {f"d{n % 9}/f{n}": os.urandom(20_000 + n) for n in range(1500)}
    objects["a/large"] = LARGE["large"]
    origin = folder(tmp_path / "from", objects)
    root = bucket.folder / "x" if to_bucket else tmp_path / "to"
    process = subprocess.Popen([sys.executable, "-c", CALL], stdin=subprocess.PIPE, text=True)
    uploads = 0

    def killing(verb: str, _before: int) -> Fault:
        nonlocal uploads
        uploads += verb == "PUT"
        if uploads < 500:
            return None
        process.kill()
        return "cut the request"

    with faulty(bucket.service.endpoint, killing) as proxy:
        through = bucket.spec("x", endpoint=proxy.endpoint)
        target = through if to_bucket else folder(tmp_path / "to", {})
        process.communicate(json.dumps([origin, target]))
    assert process.returncode == -(signal.SIGKILL if to_bucket else signal.SIGXFSZ)
    named = {name: data for name, data in files(root).items() if not name.endswith(".part")}
    assert 0 < len(named) < len(objects)
    # The service of the tests has its own temporary names, which are no objects.
    assert all(objects[name] == data for name, data in named.items() if name in objects)
    again = copy_store(origin, bucket.spec("x") if to_bucket else target)
    assert again["files_copied"] + again["files_present"] == len(objects)
    assert again["files_present"] > 0
    if to_bucket:
        stored = bucket.objects()
        assert {key: stored.get(f"x/{key}") for key in objects} == objects
    else:
        # What was half-written has been taken over, nothing else is there.
        assert files(root) == objects


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"flt_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "flt", tmp_path / "store")


def destination(to_bucket: bool, bucket: Bucket, tmp_path: Path) -> dict[str, Any]:
    """The new store, in a bucket or a folder."""
    return {"raw": bucket.spec("new") if to_bucket else folder(tmp_path / "new", {})}


@pytest.mark.parametrize("to_bucket", [True, False])
@pytest.mark.parametrize("fault", ["vanished", "truncated", "swapped"])
def test_a_file_that_is_not_what_it_was_is_named_and_mended_by_the_same_call(
    small: Small, bucket: Bucket, tmp_path: Path, to_bucket: bool, fault: str
) -> None:
    path = next(path for path in small.objects.values() if path.name.endswith("paper 4.pdf"))
    right = path.read_bytes()
    if fault == "vanished":
        path.unlink()
    else:
        path.write_bytes(right[:-1] if fault == "truncated" else right[::-1])
    call = {
        "source_stores": small.source_stores,
        "dest_stores": destination(to_bucket, bucket, tmp_path),
        "copy_files": True,
        "connection": small.server.url,
    }
    with pytest.raises(ExternalMissing, match=r"paper 4\.pdf"):
        migrate(small.map, **call)
    if fault == "swapped":
        assert small.count(small.map[small.rig], "_recording") == 0
    else:
        # Files are looked for before anything is made; what is in them is seen when they are read.
        assert small.map[small.rig] not in small.schemas_there()
    path.write_bytes(right)
    result = migrate(small.map, **call)
    assert result["match"], result["issues"]
    # All but what belongs to no row and what the first call had copied.
    already = 2 if fault == "swapped" else 0
    assert result["files_copied"] < len(small.objects) - already
    assert verify_schema_v20(small.map[small.rig], connection=small.server.url)["compatible"]


@pytest.mark.parametrize("fault", ["vanished", "truncated"])
@pytest.mark.parametrize("in_bucket", [True, False])
def test_in_place_a_file_that_is_not_what_it_was_is_named(
    small: Small, bucket: Bucket, in_bucket: bool, fault: str
) -> None:
    stores: dict[str, Any] = small.source_stores["raw"]
    root = small.root
    if in_bucket:
        copy_store({"protocol": "file", "location": str(small.root)}, bucket.spec("old"))
        stores, root = bucket.spec("old"), bucket.folder / "old"
    path = root / "movies" / "m 3.avi"
    if fault == "vanished":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ExternalMissing, match=r"movies/m 3\.avi"):
        migrate(
            small.map,
            source_stores={"raw": stores},
            dest_stores={"raw": stores},
            connection=small.server.url,
        )
