"""A private S3 service for the tests, which checks the signature of every request.

`s3s-fs` is built from the Rust registry into the cache folder, once; it keeps a bucket as a folder
and an object as a file of it. Standard library only.

    python tests/s3.py              # builds it, quick when it is there
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environments import cache_folder, locked

VERSION = "0.13.0"
START_SECONDS = 30
ACCESS_KEY = "AKIATESTS"
SECRET_KEY = "the-secret-of-the-tests"


@dataclass(frozen=True)
class S3:
    """A running service; `root` holds a folder per bucket."""

    endpoint: str
    root: Path
    access_key: str = ACCESS_KEY
    secret_key: str = field(default=SECRET_KEY, repr=False)

    def make_bucket(self, name: str) -> Bucket:
        """An empty bucket whose name is made of `name`."""
        bucket = "b-" + hashlib.sha256(name.encode()).hexdigest()[:16]
        shutil.rmtree(self.root / bucket, ignore_errors=True)
        (self.root / bucket).mkdir()
        return Bucket(self, bucket)


@dataclass(frozen=True)
class Bucket:
    """One bucket of the service."""

    service: S3
    name: str

    def spec(self, location: str, endpoint: str | None = None, **more: Any) -> dict[str, Any]:
        """A store in it, in words that both 0.14.6 and 2.x take."""
        return {
            "protocol": "s3",
            "endpoint": endpoint or self.service.endpoint,
            "bucket": self.name,
            "location": location,
            "access_key": self.service.access_key,
            "secret_key": self.service.secret_key,
            "secure": False,
            **more,
        }

    @property
    def folder(self) -> Path:
        """Where the service keeps the objects."""
        return self.service.root / self.name

    def objects(self) -> dict[str, bytes]:
        """Every object by its key."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


def program() -> Path:
    """The service's program, built first when it is not there."""
    home = cache_folder() / f"s3s-fs-{VERSION}"
    found = home / "bin" / "s3s-fs"
    if found.is_file():
        return found
    with locked("s3s-fs"):
        if not found.is_file():
            with tempfile.TemporaryDirectory(prefix="s3s-fs.", dir=cache_folder()) as target:
                subprocess.run(
                    [
                        *("cargo", "install", "s3s-fs", "--version", VERSION, "--locked"),
                        *("--quiet", "--features", "binary", "--root", str(home)),
                        *_built_soon(),
                    ],
                    env={**os.environ, "CARGO_TARGET_DIR": target},
                    check=True,
                )
    return found


def _built_soon() -> list[str]:
    """Only what sees every byte is optimised: the build takes less than half of the time."""
    levels = ["profile.release.opt-level=0"]
    for crate in ("crc-fast", "md-5", "memchr", "sha2"):
        levels.append(f"profile.release.package.{crate}.opt-level=3")
    return [word for level in levels for word in ("--config", level)]


def _nodelay() -> Path:
    """What makes the program send at once, built first when it is not there."""
    source = Path(__file__).with_name("nodelay.c")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    found = cache_folder() / f"nodelay-{digest}.so"
    with locked("s3s-fs"):
        if not found.is_file():
            made = found.with_suffix(f".{os.getpid()}")
            words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"]
            subprocess.run(words, check=True)
            made.rename(found)
    return found


@contextmanager
def running(folder: Path) -> Iterator[S3]:
    """The service on a free port, its objects below `folder`; it ends with the block."""
    root = folder / "buckets"
    root.mkdir()
    for attempt in range(3):
        process, port = _launch(root, folder / "log")
        if _answers(process, port):
            break
        said = (folder / "log").read_text(errors="replace")
        # Another process may take the port between looking and binding.
        if attempt == 2 or "AddrInUse" not in said:
            process.kill()
            raise RuntimeError(f"s3s-fs did not start: {said[-2000:]}")
    try:
        yield S3(f"127.0.0.1:{port}", root)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _launch(root: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *(str(program()), "--host", "127.0.0.1", "--port", str(port)),
                *("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY, str(root)),
            ],
            stdout=file,
            stderr=file,
            env={**os.environ, "RUST_LOG": "warn", "LD_PRELOAD": str(_nodelay())},
        )
    return process, port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError):
            if _listens(process, port):
                return True
        time.sleep(0.05)
    return False


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it is this process that does: whoever took the port would answer, too."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    there = [words[9] for words in lines if words[3] == "0A" and words[1].endswith(f":{port:04X}")]
    held = {os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()}
    return any(f"socket:[{number}]" in held for number in there)


if __name__ == "__main__":
    print(program(), file=sys.stderr)
