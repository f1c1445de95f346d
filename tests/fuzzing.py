"""cargo-fuzz in the cache folder, and what it builds: without a sanitizer, so stable Rust will do.

python tests/fuzzing.py         # builds tool and targets, quick when they are there
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from environments import cache_folder, locked
from server_programs import install_package

VERSION = "0.13.2"
TARGETS = ("manifest", "chunk", "blob", "log", "packets")
FUZZ = Path(__file__).resolve().parent.parent / "rust" / "fuzz"


def tool() -> Path:
    """cargo-fuzz, built first when it is not there."""
    home = cache_folder() / f"cargo-fuzz-{VERSION}"
    found = home / "bin" / "cargo-fuzz"
    with locked("cargo-fuzz"):
        if not found.is_file():
            words = ["cargo", "install", "--quiet", "--locked", f"cargo-fuzz@{VERSION}"]
            subprocess.run([*words, "--root", str(home)], check=True)
    return found


def words(command: str, target: str) -> list[str]:
    """A command of cargo-fuzz for one of the targets."""
    built = cache_folder() / "target" / "fuzz"
    where = ["--fuzz-dir", str(FUZZ), "--target-dir", str(built), "--sanitizer", "none"]
    return [str(tool()), "fuzz", command, *where, target]


def build() -> None:
    """Build all targets."""
    # libFuzzer comes as C++.
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        install_package("g++")
    for target in TARGETS:
        subprocess.run(words("build", target), check=True, cwd=FUZZ.parent.parent)


def run(
    target: str, corpus: Path, seconds: int, findings: Path, archive: Path
) -> subprocess.CompletedProcess[str]:
    """Fuzz for some seconds; the exit status is 0 when nothing was found."""
    limits = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=25", "-verbosity=0"]
    found = f"-artifact_prefix={findings}{os.sep}"
    return subprocess.run(
        [*words("run", target), str(corpus), "--", *limits, "-print_final_stats=1", found],
        cwd=FUZZ.parent.parent,
        env={**os.environ, "DJM_ARCHIVE": str(archive)},
        capture_output=True,
        text=True,
    )


if __name__ == "__main__":
    build()
    sys.exit(0)
