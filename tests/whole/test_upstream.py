"""The drop-in: upstream's names, parameters and scripts, beside the real DataJoint 2.3.5."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import clients
import datajoint_migrate
import environments
import inplace_pipeline
from conftest import Fresh
from places import PIPELINES
from servers import Server

PROGRAMS = PIPELINES / "upstream"
SCHEMA = "upstream_lab"


def run_235(folder: Path, program: str, *words: str, **environment: str) -> Any:
    """Run a program in the environment of 2.3.5, with this package and what it imports."""
    extra = folder / "extra"
    extra.mkdir(exist_ok=True)
    spec = importlib.util.find_spec("mysql")
    assert spec
    assert spec.submodule_search_locations
    (extra / "mysql").symlink_to(next(iter(spec.submodule_search_locations)))
    package = Path(str(datajoint_migrate.__file__)).parent.parent
    done = clients.run(
        [
            environments.python("2.3.5"),
            "-W",
            "error::DeprecationWarning",
            PROGRAMS / program,
            *words,
        ],
        env={**os.environ, "PYTHONPATH": f"{package}:{extra}", **environment},
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DeprecationWarning" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_public_name_is_there_with_its_parameters(tmp_path: Path) -> None:
    assert run_235(tmp_path, "names.py") == []


@pytest.mark.parametrize("how", ["install", "import"])
def test_a_script_of_the_documentation_runs_with_another_import(
    mysql: Server, fresh: Fresh, tmp_path: Path, how: str
) -> None:
    fresh(mysql, SCHEMA, f"{SCHEMA}_v20")
    pipeline = inplace_pipeline.make(mysql, SCHEMA, tmp_path)
    (tmp_path / "here").mkdir()
    settings = {
        "database": {"host": mysql.host, "port": mysql.port},
        "stores": {"default": "raw", "raw": pipeline.stores["dest_stores"]["raw"]},
    }
    (tmp_path / "here" / "datajoint.json").write_text(json.dumps(settings))
    words = (mysql.url, SCHEMA, f"{SCHEMA}_v20", str(tmp_path), how)
    assert run_235(tmp_path / "here", "script.py", *words) == {
        "stores": ["raw"],
        "missing": 0,
        "tables": True,
        "copied": {"Mouse": 5, "Scan": 5, "Stats": 1},
        "migrated": [5, 4, 4],
        "blobs": 0,
        "jobs": 3,
        "lineage": "rebuilt",
        "pending": 0,
        "match": True,
        "compatible": True,
        "here": "here",
    }
    read = inplace_pipeline.client("2.3.5", mysql, f"{SCHEMA}_v20", tmp_path, "fetch")
    assert read == pipeline.fetched


def test_without_datajoint_the_names_are_there_too() -> None:
    code = (
        "import datajoint_migrate as d; d.install(); import sys;"
        "m = sys.modules['datajoint.migrate'];"
        "assert m.migrate_external_pointers_v2 is d.migrate_external_pointers_v2;"
        "assert all(hasattr(m, name) for name in d.__all__); assert 'scan' in dir(m)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
