"""Every Python block of the README runs, as printed there, on a real pipeline.

Only what is the reader's own is put in its place: the server, the folder, the schemas. Blocks that
begin with `import datajoint` are run by the 2.x client, the others here, one after another.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import datajoint_migrate
import environments
import pytest
from conftest import Fresh
from servers import Server
from small import MICE, Small, make

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
CLIENT = "2.3.5"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    ends = ("", "_v20", "_test")
    fresh(mysql, *(f"readme_{name}{end}" for name in ("lab", "rig") for end in ends))
    return make(mysql, "readme", tmp_path / "store")


def in_place(small: Small, text: str) -> str:
    """The text with this machine's server, schemas and folder."""
    for printed, real in (
        ("mysql://user:password@db.example.org:3306/", small.server.url),
        ('"host": "db.example.org", "port": 3306', f'"host": "{small.server.host}", '
         f'"port": {small.server.port}, "use_tls": false'),
        ("/data/raw", str(small.root)),
        ("my_lab", small.lab),
        ("my_rig", small.rig),
    ):  # fmt: skip
        text = text.replace(printed, real)
    return text


def test_the_blocks_run_as_printed(small: Small, tmp_path: Path) -> None:
    settings = [text for text in blocks("json") if '"stores"' in text]
    (tmp_path / "datajoint.json").write_text(in_place(small, settings[0]))
    names: dict[str, Any] = {}
    printed = blocks("python")
    assert len(printed) >= 5
    for text in printed:
        program = in_place(small, text)
        if text.startswith("import datajoint as dj"):
            run_by_client(small, program, tmp_path)
        else:
            exec(compile(program, "README.md", "exec"), names)
    assert names["result"]["rows_copied"] > MICE
    assert names["one"]["match"]
    assert names["verdict"]["compatible"], names["verdict"]["issues"]
    assert names["converted"]["rows_migrated"] == small.count(small.rig, "_recording")
    assert small.count(f"{small.lab}_test", "session") == MICE - 2
    assert small.count(f"{small.rig}_v20", "note") == 1


def run_by_client(small: Small, program: str, folder: Path) -> None:
    account = {"DJ_USER": small.server.user, "DJ_PASS": small.server.password}
    done = subprocess.run(
        [str(environments.python(CLIENT)), "-c", program],
        cwd=folder,
        env={**os.environ, **account},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "read by 2.x" in done.stdout


def test_every_public_function_and_error_is_in_the_readme() -> None:
    for name in datajoint_migrate.__all__:
        thing = getattr(datajoint_migrate, name)
        if name in ("Server", "MigrationError"):
            continue
        start = f"| `{name}(" if not isinstance(thing, type) else f"| `{name}` |"
        assert start in README, name


def test_every_code_that_is_raised_is_in_the_readme() -> None:
    sources = [*ROOT.glob("python/**/*.py"), *ROOT.glob("rust/*/src/**/*.rs")]
    # 1000 is the base class's own, which is never raised; `…` stands for any.
    raised = {code for path in sources for code in re.findall(r"\bDJM-\d{4}\b", path.read_text())}
    printed = set(re.findall(r"\bDJM-\d{4}\b", README))
    assert raised - {"DJM-1000"} == printed
