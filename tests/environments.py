"""Virtual environments the tests run in: the real DataJoint clients, and the one with the tools.

Standard library only: it runs on a bare machine, before any environment exists.

    python tests/environments.py              # make all, quick when they are there
    python tests/environments.py dev 0.14.6   # only these; prints the path of each Python
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "dev": (
        "maturin>=1.9,<2",
        "distributed>=2024.1",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
        "import-linter>=2.12",
        "libcst",
        "ruff",
        "mypy",
        "mysql-connector-python",
        "pyarrow",
        "numpy",
        "rich",
        "typer",
        "zstandard",
    ),
    # setuptools 81 dropped pkg_resources, which 0.14.6 imports.
    "0.14.6": ("datajoint==0.14.6", "setuptools<81"),
    "2.3.5": ("datajoint==2.3.5",),
    # What `pip install datajoint[s3]` adds: the client's way to a bucket.
    "2.3.5-s3": ("datajoint==2.3.5", "s3fs"),
    "2.0.0": ("datajoint==2.0.0",),
    # A notebook as people have it, with what this package depends on.
    "notebook": ("ipykernel", "nbclient", "mysql-connector-python", "rich", "typer"),
    # Pipelines of the 0.14 days, for their sources: what they depend on is not needed.
    "elements": (
        "--no-deps",
        "element-lab==0.1.1",
        "element-animal==0.1.8",
        "element-session==0.1.6",
        "element-event==0.2.3",
        "element-array-ephys==0.2.11",
        "element-calcium-imaging==0.7.2",
        "element-deeplabcut==0.2.3",
        "element-miniscope==0.3.1",
        "element-optogenetics==0.1.3",
    ),
    "docs": ("mkdocs-material>=9.6,<10", "mkdocstrings[python]>=0.30", "ruff"),
    # What people read archives with.
    "readers": ("pandas", "duckdb", "pyarrow", "blake3"),
}

UV = "uv>=0.9,<1"


def cache_folder() -> Path:
    """The folder for build caches, environments and unpacked servers (made when missing)."""
    named = os.environ.get("DATAJOINT_MIGRATE_CACHE")
    folder = Path(named) if named else Path.home() / ".cache" / "datajoint-migrate"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock file `name` of the cache folder, so that two installers take turns."""
    with (cache_folder() / f".{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


def stamp(name: str) -> str:
    """What an environment was made of; a different stamp means it is made anew."""
    text = "\n".join((sys.version, *REQUIREMENTS[name]))
    return hashlib.sha256(text.encode()).hexdigest()


def python(name: str) -> Path:
    """The Python of environment `name` ("dev", "0.14.6", ...), made first when it is not there.

    Raises KeyError for an unknown name and CalledProcessError when pip fails.
    """
    wanted = stamp(name)
    folder = cache_folder() / f"venv-{name}"
    found = folder / "bin" / "python"
    mark = folder / "requirements.sha256"
    if _made(mark, wanted):
        return found
    with locked(f"venv-{name}"):
        if _made(mark, wanted):
            return found
        # Scripts carry absolute paths, so an environment cannot be made elsewhere and renamed:
        # the stamp, written last, is what tells a complete one from an interrupted one.
        shutil.rmtree(folder, ignore_errors=True)
        uv = _installer()
        # Not the Python of an environment: it may be the one that is made anew.
        base = getattr(sys, "_base_executable", sys.executable)
        make = [uv, "venv", "--quiet", "--seed", "--python", base]
        subprocess.run([*make, folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", found]
        subprocess.run([*install, *REQUIREMENTS[name]], check=True)
        mark.write_text(wanted)
    return found


def _installer() -> Path:
    """uv, in an environment of its own: it makes the others in a sixth of pip's time."""
    folder = cache_folder() / "venv-uv"
    found = folder / "bin" / "uv"
    mark = folder / "requirements.sha256"
    wanted = hashlib.sha256("\n".join((sys.version, UV)).encode()).hexdigest()
    if _made(mark, wanted):
        return found
    with locked("venv-uv"):
        if not _made(mark, wanted):
            shutil.rmtree(folder, ignore_errors=True)
            _provide_ensurepip()
            venv.create(folder, with_pip=True, symlinks=True)
            install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*install, "--disable-pip-version-check", UV], check=True)
            mark.write_text(wanted)
    return found


def _provide_ensurepip() -> None:
    """Debian keeps the pip that venv needs in a package of its own."""
    if importlib.util.find_spec("ensurepip") is None and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "--quiet", "--quiet"], check=True)
        subprocess.run(
            ["apt-get", "install", "--yes", "--quiet", "--quiet", "python3-venv"], check=True
        )


def _made(mark: Path, wanted: str) -> bool:
    return mark.is_file() and mark.read_text() == wanted


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in REQUIREMENTS]
    if unknown:
        print(f"no such environment: {', '.join(unknown)}; known: {', '.join(REQUIREMENTS)}")
        return 2
    for name in names or REQUIREMENTS:
        print(python(name), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
