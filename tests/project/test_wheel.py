"""The wheel alone: a newcomer ends with a migrated schema, a report and a rollback."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import environments
from conftest import Fresh
from places import ROOT
from servers import Server
from small import Small, make

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    maturin = Path(sys.executable).with_name("maturin")
    target = os.environ.get("CARGO_TARGET_DIR", str(environments.cache_folder() / "target"))
    done = subprocess.run(
        [str(maturin), "build", "--release", "--quiet", "--out", str(folder)],
        cwd=ROOT,
        env={**os.environ, "CARGO_TARGET_DIR": target},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True, symlinks=True)
    words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run([str(folder / "bin" / "python"), *words], check=True)
    return folder / "bin"


def test_one_wheel_is_for_every_python_and_linux_of_these_years(wheel: Path) -> None:
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, python, abi) == ("datajoint_migrate", "cp311", "abi3")
    assert version[0].isdigit()
    # Debian 12 has glibc 2.36.
    assert platform.startswith(("manylinux_2_28", "manylinux_2_34"))


def test_neither_datajoint_nor_arrow_is_needed(bare: Path) -> None:
    code = (
        "import importlib.util as u, datajoint_migrate\n"
        "print([n for n in ('datajoint', 'pyarrow', 'numpy', 'libcst') if u.find_spec(n)])"
    )
    done = subprocess.run([str(bare / "python"), "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_newcomer_ends_with_a_migrated_schema_a_report_and_a_rollback(
    bare: Path, mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    names = ("whl_lab", "whl_rig")
    fresh(mysql, *(f"{name}{end}" for name in names for end in ("", "_v20", "_old", "_bak")))
    small: Small = make(mysql, "whl", tmp_path / "store")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DJ_")}
    reach = {"DJ_HOST": "127.0.0.1", "DJ_PORT": str(mysql.port), "DJ_USER": mysql.user}
    folder = tmp_path / "work"
    folder.mkdir()

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(bare / "dj-migrate"), *words],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**clean, **reach, "DJ_PASS": mysql.password},
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout

    assert "connection" in run("doctor")
    assert "whl_lab" in run("inspect", *names, code=2)
    # Without a configuration the stores are the obstacle, and it says where to put them.
    run("plan", *names, code=2)
    plan = folder / "migration.toml"
    for side in ("source", "destination"):
        spec = f'protocol = "file"\nlocation = "{tmp_path / "store"}"\n'
        plan.write_text(plan.read_text() + f"\n[stores.{side}.raw]\n{spec}")
    assert "✗" not in run("doctor", "migration.toml")
    run("run")
    run("run")
    run("compare", "whl_lab", "whl_lab_v20")
    run("report")
    assert (folder / "migration.html").stat().st_size > 10_000
    for name in names:
        run("backup", name, f"{name}_bak")
    backups = [word for name in names for word in ("--backup", f"{name}={name}_bak")]
    before = mysql.sql(f"SHOW CREATE TABLE `{small.lab}`.mouse")
    run("cutover", *backups, "--execute")
    assert mysql.sql(f"SHOW CREATE TABLE `{small.lab}`.mouse") != before
    run("rollback", "--execute")
    assert mysql.sql(f"SHOW CREATE TABLE `{small.lab}`.mouse") == before
