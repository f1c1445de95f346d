"""Files of a store copied to another, against the tools that are at hand for that."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import s3
from measure import Contestant, Taken, Unavailable, alternate, ours, ratios, timed
from peers import install
from table import Row

FOLDERS = 256
SMALLEST, LARGEST = 1_000, 1_000_000
# The mean of the sizes is that of 20,000 files in 728 MB.
SPREAD = 5.0
LANES = 32


def files(count: int, repeats: int) -> list[Row]:
    """Folder to folder, with and without verification; folder to S3 and S3 to S3."""
    with tempfile.TemporaryDirectory(prefix="djm-files-") as name:
        root = Path(name)
        make(root / "store", count)
        rows = _folders(root, count, repeats)
        return rows + _buckets(root, count, repeats)


def make(root: Path, count: int) -> None:
    """`count` files of 1 KB to 1 MB, small ones most often, in folders; equal on every run."""
    chance = random.Random("datajoint")
    noise = chance.randbytes(LARGEST * 2)
    for number in range(count):
        share = chance.random() ** SPREAD
        size = int(SMALLEST * (LARGEST / SMALLEST) ** share)
        folder = root / f"{number % FOLDERS:02x}"
        folder.mkdir(parents=True, exist_ok=True)
        start = chance.randrange(LARGEST)
        (folder / f"{number:032x}").write_bytes(noise[start : start + size])


def _folders(root: Path, count: int, repeats: int) -> list[Row]:
    origin, target = root / "store", root / "copy"

    def prepare(empty: bool = False) -> None:
        shutil.rmtree(target, ignore_errors=True)
        if empty:
            target.mkdir()
        os.sync()

    def check() -> None:
        found = sum(1 for path in target.rglob("*") if path.is_file())
        if found != count:
            raise RuntimeError(f"{found} files instead of {count}")

    def us(verify: bool) -> Contestant:
        stores = [{"protocol": "file", "location": str(at)} for at in (origin, target)]
        run = _ours(*stores, verify=verify)
        return Contestant("datajoint_migrate", run, lambda: prepare(empty=True), check)

    words = [str(origin), str(target)]
    plain, verified = us(False), us(True)
    copied = Contestant("cp -r", lambda: timed([["cp", "-r", *words]]), prepare, check)
    synced = Contestant("rsync -a", lambda: _rsync(f"{origin}/", str(target)), prepare, check)
    cloned = Contestant("rclone copy --checksum", lambda: _rclone(words, False), prepare, check)
    checked = Contestant(
        "rclone copy --checksum, rclone check", lambda: _rclone(words, True), prepare, check
    )
    alternate([plain, copied, synced, cloned, verified, checked], repeats)
    unverified = [(copied, 1.0), (synced, None), (cloned, None)]
    return [
        *(_row("files, folder to folder", plain, peer, goal, count) for peer, goal in unverified),
        _row("files, verified", verified, checked, 1.8, count),
    ]


def _buckets(root: Path, count: int, repeats: int) -> list[Row]:
    (root / "s3").mkdir()
    with s3.running(root / "s3") as service:
        source, target = service.make_bucket("source"), service.make_bucket("target")
        folder = {"protocol": "file", "location": str(root / "store")}
        # The slash at the end tells rclone that it is a folder; it would ask the service otherwise.
        remote = [f":s3:{source.name}/raw/", f":s3:{target.name}/raw/"]

        def prepare(bucket: s3.Bucket) -> Callable[[], None]:
            def empty() -> None:
                shutil.rmtree(bucket.folder)
                bucket.folder.mkdir()
                os.sync()

            return empty

        def check(bucket: s3.Bucket) -> Callable[[], None]:
            def counted() -> None:
                found = sum(1 for path in bucket.folder.rglob("*") if path.is_file())
                if found != count:
                    raise RuntimeError(f"{found} objects instead of {count}")

            return counted

        def pair(
            here: dict[str, Any], there: s3.Bucket, words: list[str]
        ) -> tuple[Contestant, Contestant]:
            steps = (prepare(there), check(there))
            return (
                Contestant("datajoint_migrate", _ours(here, there.spec("raw")), *steps),
                Contestant(
                    "rclone copy --checksum, rclone check",
                    lambda: _rclone(words, True, service),
                    *steps,
                ),
            )

        up = pair(folder, source, [str(root / "store"), remote[0]])
        alternate(up, repeats)
        across = pair(source.spec("raw"), target, remote)
        alternate(across, repeats)
    return [
        _row("files, folder to S3, verified", *up, 1.5, count),
        _row("files, S3 to S3, verified", *across, 1.5, count),
    ]


def _ours(source: dict[str, Any], dest: dict[str, Any], verify: bool = True) -> Callable[[], Taken]:
    def run() -> Taken:
        taken, found = ours("copy_store", source=source, dest=dest, verify=verify)
        if found["errors"]:
            raise RuntimeError(f"{found['errors'][0]}")
        return taken

    return run


def _rsync(source: str, target: str) -> Taken:
    _program("rsync")
    return timed([["rsync", "-a", source, target]])


def _rclone(words: list[str], check: bool, service: s3.S3 | None = None) -> Taken:
    _program("rclone")
    settings = ["--quiet", f"--transfers={LANES}", f"--checkers={LANES}"]
    with _remote(service):
        copied = timed([["rclone", "copy", "--checksum", *settings, *words]])
        if not check:
            return copied
        checked = timed([["rclone", "check", *settings, *words]])
    return Taken(copied.seconds + checked.seconds)


@contextmanager
def _remote(service: s3.S3 | None) -> Iterator[None]:
    """How to reach the service, as rclone takes it from the environment."""
    known: dict[str, str | None] = {"RCLONE_CONFIG": "/dev/null"}
    if service is not None:
        known |= {
            "RCLONE_S3_PROVIDER": "Other",
            "RCLONE_S3_ENDPOINT": f"http://{service.endpoint}",
            "RCLONE_S3_ACCESS_KEY_ID": service.access_key,
            "RCLONE_S3_SECRET_ACCESS_KEY": service.secret_key,
            "RCLONE_S3_REGION": "us-east-1",
            # Debian's rclone cannot take one.
            "AWS_CA_BUNDLE": None,
        }
    before = {name: os.environ.get(name) for name in known}
    _set(known)
    try:
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _program(name: str) -> None:
    if shutil.which(name) is None:
        install(name)
    if shutil.which(name) is None:
        raise Unavailable(f"{name} is not installed")


def _row(job: str, us: Contestant, peer: Contestant, goal: float | None, count: int) -> Row:
    row = Row(job, count, us.seconds, peer.name, us.peak_mib, goal=goal)
    if peer.unavailable is not None:
        row.unavailable = peer.unavailable
    else:
        row.peer_seconds, row.ratios = peer.seconds, ratios(us, peer)
    return row
