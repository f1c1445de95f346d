"""What a command needs before it can begin: environments, servers, the engine. One line a step.

Standard library only: it runs on a bare machine, before any environment exists.

    python tests/prepare.py demo       # only what the demonstration uses
    python tests/prepare.py all        # what tests and lints use, too
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import environments
import s3
from server_programs import InstallError, programs

ROOT = Path(__file__).resolve().parent.parent
DEMO = ("0.14.6", "2.3.5")


def main(words: list[str]) -> int:
    if words not in (["demo"], ["all"]):
        print(__doc__, file=sys.stderr)
        return 2
    everything = words == ["all"]
    names = [name for name in environments.REQUIREMENTS if name != "dev"] if everything else DEMO
    kinds = ("mysql", "mariadb") if everything else ("mysql",)
    if shutil.which("cargo") is None:
        print("The engine is built from Rust: install cargo (https://rustup.rs).", file=sys.stderr)
        return 1
    try:
        _step("Python environment of the tools", lambda: environments.python("dev"))
        # What is fetched waits for the network, what is built for the processor.
        fetching = _Fetching(names, kinds)
        fetching.start()
        _step("The engine, built from Rust", _build)
        fetching.join()
        if fetching.failed:
            raise fetching.failed
        if everything:
            _step("An S3 service, built from Rust (a minute the first time)", s3.program)
    except (InstallError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class _Fetching(threading.Thread):
    def __init__(self, names: tuple[str, ...] | list[str], kinds: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self.names, self.kinds = names, kinds
        self.failed: InstallError | subprocess.CalledProcessError | None = None

    def run(self) -> None:
        try:
            for name in self.names:
                what = f"Python environment {name}"
                _step(what, lambda name=name: environments.python(name))  # type: ignore[misc]
            for kind in self.kinds:
                _step(f"The server: {kind}", lambda kind=kind: programs(kind))  # type: ignore[misc]
        except (InstallError, subprocess.CalledProcessError) as error:
            self.failed = error


def _step(what: str, do: Callable[[], object]) -> None:
    began = time.monotonic()
    do()
    took = time.monotonic() - began
    # What was there already needs no words.
    if took > 1:
        print(f"{what}: {took:.0f} s", flush=True)


def _build() -> None:
    tools = environments.python("dev").parent
    cache = environments.cache_folder()
    target = os.environ.get("CARGO_TARGET_DIR", str(cache / "target"))
    environment = {**os.environ, "CARGO_TARGET_DIR": target, "VIRTUAL_ENV": str(tools.parent)}
    if not (Path(target) / "debug").is_dir():
        print("Building the engine; three minutes the first time, on two cores.", flush=True)
    words = [str(tools / "maturin"), "develop", "--quiet"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
