"""Stores that others write to, too: what they put there hangs no call and leads none elsewhere."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    MigrationError,
    backup_schema,
    check_backup,
    copy_store,
    migrate,
    restore_schema,
    verify_external_integrity,
    write_report,
)
from datajoint_migrate.catalog.stores import dest_stores
from datajoint_migrate.files.batches import plan_batches, run_batch
from s3 import Bucket
from servers import Server
from small import Small, make

WAITS_NOT = pytest.mark.timeout(120)


def spec(path: Path) -> dict[str, Any]:
    path.mkdir(parents=True, exist_ok=True)
    return {"protocol": "file", "location": str(path)}


@pytest.fixture
def odd() -> Iterator[Callable[[str, Path], str]]:
    """Puts what is no plain file somewhere, and says how it is to be called."""
    sockets: list[socket.socket] = []

    def put(kind: str, path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
            return "a named pipe (FIFO), no plain file"
        if kind == "folder":
            path.mkdir()
            return "a folder, no plain file"
        if kind == "socket":
            here = socket.socket(socket.AF_UNIX)
            sockets.append(here)
            # The name of a socket may only be short.
            before = Path.cwd()
            os.chdir(path.parent)
            try:
                here.bind(path.name)
            finally:
                os.chdir(before)
            return "a socket, no plain file"
        path.symlink_to("/dev/zero")
        return "a device, no plain file"

    yield put
    for one in sockets:
        one.close()


KINDS = pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])


@WAITS_NOT
@KINDS
@pytest.mark.parametrize("verify", [True, False])
def test_what_is_no_plain_file_is_named_at_either_end_of_a_copy(
    kind: str, verify: bool, odd: Callable[[str, Path], str], tmp_path: Path
) -> None:
    source, dest = spec(tmp_path / "from"), spec(tmp_path / "to")
    for name in ("a", "b"):
        (tmp_path / "from" / name).write_bytes(b"")
    said = odd(kind, tmp_path / "from" / "odd")
    odd(kind, tmp_path / "to" / "b")
    done = copy_store(source, dest, verify=verify)
    assert (done["files_copied"], done["files_present"]) == (1, 0)
    errors = {error["path"]: error["error"] for error in done["errors"]}
    expected = {"b"} if kind == "folder" else {"b", "odd"}
    assert set(errors) == expected
    assert all(said in error for error in errors.values())


@WAITS_NOT
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_plain_file_is_named_on_its_way_into_a_bucket(
    kind: str, odd: Callable[[str, Path], str], bucket: Bucket, tmp_path: Path
) -> None:
    said = odd(kind, tmp_path / "from" / "odd")
    done = copy_store(spec(tmp_path / "from"), bucket.spec("x"))
    assert [said in error["error"] for error in done["errors"]] == [True]


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    ends = ("", "_v20", "_again", "_again_restoring")
    fresh(mysql, *(f"shared_{name}{end}" for name in ("lab", "rig") for end in ends))
    return make(mysql, "shared", tmp_path / "store")


@WAITS_NOT
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_every_reader_of_a_store_names_what_is_no_plain_file(
    kind: str, odd: Callable[[str, Path], str], small: Small, tmp_path: Path
) -> None:
    path = next(path for path in small.objects.values() if path.name.endswith("paper 4.pdf"))
    kept = path.read_bytes()
    said = odd(kind, path)
    here: dict[str, Any] = {"connection": small.server.url}
    stores = {"source_stores": small.source_stores}
    in_place = {**stores, "dest_stores": small.dest_stores}
    copied = {**stores, "dest_stores": {"raw": spec(tmp_path / "new")}, "copy_files": True}
    for options in (in_place, copied):
        with pytest.raises(MigrationError, match="no plain file") as refused:
            migrate(small.map, **here, **options)
        assert path.name in str(refused.value)
    with pytest.raises(MigrationError, match="no plain file"):
        backup_schema(small.rig, tmp_path / "archive", with_files=True, **here, **stores)
    found = verify_external_integrity(small.rig, **here, **stores)
    assert said in str(found), found
    path.rmdir() if kind == "folder" else path.unlink()
    path.write_bytes(kept)
    # The same calls go on.
    backup_schema(small.rig, tmp_path / "archive", with_files=True, **here, **stores)
    assert migrate(small.map, **here, **copied)["match"]
    chunk = next((tmp_path / "archive" / "tables").rglob("*.parquet"))
    odd(kind, chunk)
    assert "no plain file" in str(check_backup(tmp_path / "archive")["problems"])
    with pytest.raises(MigrationError, match="no plain file"):
        restore_schema(tmp_path / "archive", "shared_rig_again", **here)


def test_files_put_back_from_an_archive_replace_nothing_and_follow_no_link(
    small: Small, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"connection": small.server.url, "with_files": True}
    backup_schema(small.rig, tmp_path / "a", **options, source_stores=small.source_stores)
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    path = next(path for path in small.objects.values() if path.name.endswith("m 3.avi"))
    for trap in ("pipe", "link", "folders"):
        new = tmp_path / f"new-{trap}"
        stores = {"raw": {**small.source_stores["raw"], "location": str(spec(new)["location"])}}
        target = new / path.relative_to(small.root)
        target.parent.mkdir(parents=True)
        if trap == "pipe":
            os.mkfifo(target)
        elif trap == "link":
            target.symlink_to(precious)
        else:
            target.parent.rmdir()
            target.parent.symlink_to(tmp_path)
        with pytest.raises(MigrationError) as refused:
            restore_schema(tmp_path / "a", "shared_rig_again", **options, source_stores=stores)
        words = {"pipe": "no plain file", "link": "other contents", "folders": "is a link"}
        assert words[trap] in str(refused.value)
        assert precious.read_bytes() == b"mine"
        assert not (tmp_path / path.name).exists()


def test_no_name_that_somebody_could_foresee_is_opened(tmp_path: Path) -> None:
    source, dest = spec(tmp_path / "from"), spec(tmp_path / "to")
    (tmp_path / "from" / "sub").mkdir()
    (tmp_path / "from" / "sub" / "x").write_bytes(b"contents")
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    batches = list(plan_batches(*dest_stores({"a": source, "b": dest}).values()))
    (batch,) = batches
    journal = tmp_path / "to" / ".datajoint-migrate" / batch.journal
    journal.mkdir(parents=True)
    (journal / f"{batch.key}.done").symlink_to(mine)
    with pytest.raises(MigrationError):
        run_batch(batch)
    assert mine.read_bytes() == b"mine"
    assert (tmp_path / "to" / "sub" / "x").read_bytes() == b"contents"
    (journal / f"{batch.key}.done").unlink()
    (tmp_path / "to" / "sub" / "x").unlink()
    (tmp_path / "to" / "sub").rmdir()
    (tmp_path / "to" / "sub").symlink_to(outside)
    done = copy_store(source, dest)
    assert "is a link" in done["errors"][0]["error"]
    assert not list(outside.iterdir())


def test_two_runs_of_a_batch_have_temporary_names_of_their_own(tmp_path: Path) -> None:
    source, dest = spec(tmp_path / "from"), spec(tmp_path / "to")
    (tmp_path / "from" / "x").write_bytes(b"contents")
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    # What version 0.1.0 would have opened.
    (tmp_path / "to" / ".x.5c80c09683041123.part").symlink_to(mine)
    assert copy_store(source, dest)["files_copied"] == 1
    assert mine.read_bytes() == b"mine"
    assert (tmp_path / "to" / "x").read_bytes() == b"contents"


@pytest.mark.parametrize("verify", [True, False])
def test_copies_of_files_and_folders_allow_no_more_than_their_sources(
    verify: bool, tmp_path: Path
) -> None:
    source, dest = spec(tmp_path / "from"), spec(tmp_path / "to")
    old = os.umask(0o022)
    try:
        for folder, rights in (("open", 0o755), ("closed", 0o700), ("closed/in", 0o755)):
            (tmp_path / "from" / folder).mkdir()
            for mode in (0o600, 0o640, 0o644, 0o666, 0o444):
                file = tmp_path / "from" / folder / f"{mode:o}"
                file.write_bytes(b"x")
                file.chmod(mode)
            (tmp_path / "from" / folder).chmod(rights)
        assert copy_store(source, dest, verify=verify)["error_count"] == 0
    finally:
        os.umask(old)
    for path in (tmp_path / "to").rglob("*"):
        there = stat.S_IMODE((tmp_path / "from" / path.relative_to(tmp_path / "to")).stat().st_mode)
        made = stat.S_IMODE(path.stat().st_mode)
        assert made & ~there == 0, path
        assert made == there & ~0o022


def test_a_filepath_of_another_contents_stays_and_a_damaged_blob_is_mended(
    small: Small, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    call: dict[str, Any] = {
        "connection": small.server.url,
        "source_stores": small.source_stores,
        "dest_stores": {"raw": spec(new)},
        "copy_files": True,
    }
    movie = next(path for path in small.objects.values() if path.name.endswith("m 3.avi"))
    other = new / movie.relative_to(small.root)
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another")
    with pytest.raises(MigrationError, match="other contents") as refused:
        migrate(small.map, **call)
    assert str(other) in str(refused.value)
    assert str(movie) in str(refused.value)
    assert other.read_bytes() == b"another"
    blob = next((new / "_hash").rglob("*.blob"))
    right = blob.read_bytes()
    blob.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    other.unlink()
    assert migrate(small.map, **call)["match"]
    assert blob.read_bytes() == right
    assert other.read_bytes() == movie.read_bytes()


@WAITS_NOT
def test_a_report_and_a_record_are_written_over_nothing_of_somebody_else(tmp_path: Path) -> None:
    record = tmp_path / "r.jsonl"
    record.write_text('{"version": 1, "command": "run", "event": "begin", "time": "2026-01-01"}\n')
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "link.html").symlink_to(mine)
    os.mkfifo(tmp_path / "pipe.html")
    for name in ("link.html", "pipe.html"):
        with pytest.raises(InvalidArgument):
            write_report(record, tmp_path / name)
    assert mine.read_text() == "mine"
    with suppress(MigrationError):
        write_report(record, tmp_path / "new.html")
