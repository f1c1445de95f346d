"""Every block of the README and of the guide runs, as printed there, on a real pipeline.

Only what is the reader's own is put in its place: the server, the folders, the schemas. Python goes
page by page in one program; blocks that begin with `import datajoint` are run by the 2.x client.
Lines of `dj-migrate` are run as processes, one after another.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import browser
import clients
import datajoint_migrate
import environments
from conftest import Fresh
from datajoint_migrate.console import cli
from datajoint_migrate.console.settings import OPTIONS, load
from printed import (
    ENDS,
    FIRST_HOUR,
    GUIDE,
    PAGES,
    README,
    ROOT,
    blocks,
    commands,
    in_place,
    languages,
    levelled,
    outputs,
)
from servers import Server
from small import MICE, Small, make

CLIENT = "2.3.5"
# A block that names both is run by both.
OLDER = "2.0.0"
# What the reader has: a pipeline's code and 0.14.6's configuration.
CODE = '''import datajoint as dj

schema = dj.schema("docs_lab")


@schema
class Species(dj.Lookup):
    definition = """
    species : varchar(24)
    ---
    picture = null : longblob
    """
'''


@pytest.fixture
def reader(mysql: Server, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """Who reads: in a folder with code and configurations, production on the server."""
    fresh(mysql, *(f"docs_{name}{end}" for name in ("lab", "rig") for end in ENDS))
    small = make(mysql, "docs", tmp_path / "store")
    for folder in ("my_pipeline", "archive"):
        (tmp_path / folder).mkdir()
    (tmp_path / "my_pipeline" / "lab.py").write_text(CODE)
    (printed,) = blocks(GUIDE, "json")
    (tmp_path / "datajoint.json").write_text(in_place(small, printed))
    (tmp_path / "dj_local_conf.json").write_text(
        json.dumps({"database.host": mysql.host, "stores": small.source_stores})
    )
    monkeypatch.chdir(tmp_path)
    for name in ("HOST", "PORT", "USER", "PASS"):
        monkeypatch.delenv(f"DJ_{name}", raising=False)
    return small


def run_by_client(small: Small, program: str, client: str = CLIENT) -> str:
    """What a program printed that the 2.x client ran."""
    done = clients.run(
        [str(environments.python(client)), "-W", "ignore", "-c", program],
        env={**os.environ, "DJ_USER": small.server.user, "DJ_PASS": small.server.password},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def run_python(small: Small, text: str) -> dict[str, Any]:
    """The names that are there when all of a text's Python blocks have run."""
    names: dict[str, Any] = {}
    for printed in blocks(text, "python"):
        program = in_place(small, printed)
        if printed.startswith("import datajoint as dj"):
            said = run_by_client(small, program)
            assert "read by 2.x" in said
            if OLDER in printed:
                # But for what each says when it connects.
                older = run_by_client(small, program, OLDER)
                assert older.splitlines()[1:] == said.splitlines()[1:]
        else:
            exec(compile(program, "as printed", "exec"), names)
    return names


def run_commands(small: Small, text: str) -> list[str]:
    """Run the lines of `dj-migrate`, all of which must end well; what each printed."""
    printed = []
    account = {"HOST": small.server.host, "PORT": small.server.port, "USER": small.server.user}
    settings = {f"DJ_{name}": str(value) for name, value in account.items()}
    for words in commands(in_place(small, text)):
        done = subprocess.run(
            [str(Path(sys.executable).with_name(words[0])), *words[1:]],
            env={**os.environ, **settings, "DJ_PASS": small.server.password},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        printed.append(done.stdout)
    return printed


def test_the_readmes_python_runs(reader: Small) -> None:
    names = run_python(reader, README)
    assert names["result"]["rows_copied"] > MICE
    assert reader.count(f"{reader.lab}_v20", "mouse") == MICE


def test_the_first_hours_python_runs(reader: Small) -> None:
    names = run_python(reader, FIRST_HOUR)
    assert names["result"]["rows_copied"] > MICE
    assert names["one"]["match"]
    assert names["verdict"]["compatible"], names["verdict"]["issues"]
    assert names["told"]["missing"] == []
    assert names["reader"] is not None
    assert reader.count(f"{reader.lab}_v20", "mouse") == MICE


def test_the_readmes_commands_print_what_it_shows(reader: Small) -> None:
    assert reader.count(reader.lab, "mouse") == MICE
    said = run_commands(reader, README)
    shown = outputs(in_place(reader, README))
    assert len(said) == len(shown) == 5
    for real, lines in zip(said, shown, strict=True):
        there = iter(map(levelled, real.splitlines()))
        for line in lines:
            if line != "…":
                assert levelled(line) in there, (line, real)
    # The last of them was a cutover.
    assert reader.count(f"{reader.lab}_old", "mouse") == MICE
    assert "lineage" in str(reader.server.sql(f"SHOW TABLES FROM `{reader.lab}`"))


def test_the_first_hours_commands_run(reader: Small, tmp_path: Path) -> None:
    before = reader.server.sql(f"SHOW CREATE TABLE `{reader.lab}`.mouse")
    run_commands(reader, FIRST_HOUR)
    assert reader.count(f"{reader.lab}_v20", "mouse") == MICE
    assert (tmp_path / "migration.html").stat().st_size > 10_000
    assert reader.server.sql(f"SHOW CREATE TABLE `{reader.lab}`.mouse") == before


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_guides_python_runs(reader: Small) -> None:
    names = run_python(reader, GUIDE)
    assert {found["name"] for found in names["found"]["schemas"]} == {reader.lab, reader.rig}
    assert names["checked"]["ok"]
    assert "<blob>" in names["rewritten"]["diff"]
    assert names["result"]["rows_copied"] > MICE
    assert names["sample"]["tables"][f"{reader.lab}.session"] == MICE - 2
    assert names["converted"]["rows_migrated"] == reader.count(reader.rig, "_recording")
    assert reader.count(f"{reader.lab}_test", "session") == MICE - 2
    assert names["copied"]["files_copied"] > 0
    assert names["files"]["missing"] == []
    assert names["compared"]["structure_match"], names["compared"]["structure"]
    assert names["verdict"]["compatible"], names["verdict"]["issues"]
    assert names["restored"]["kept"] == f"{reader.lab}_before_restore"
    assert names["archived"]["rows_backed_up"] > MICE
    assert names["told"]["missing"] == []
    assert names["undone"]["executed"]
    assert names["part"]["rows"] > 0
    assert names["looked"]["refused"] == {}
    assert names["promoted"]["rows_promoted"] == names["restored_values"]["rows_restored"] == MICE
    assert names["dropped"]["old_column"] is None
    assert reader.count(f"{reader.rig}_v20", "note") == 1


def test_the_guides_commands_run(reader: Small, tmp_path: Path) -> None:
    run_commands(reader, GUIDE)
    assert "<blob>" in (tmp_path / "my_pipeline" / "lab.py").read_text()
    assert (tmp_path / "v20" / "datajoint.json").is_file()
    assert (tmp_path / "migration.html").stat().st_size > 10_000
    assert reader.count(f"{reader.lab}_restore_test", "mouse") == MICE


def test_blocks_that_nothing_runs_are_plain_text() -> None:
    assert languages() == {"python", "console", "json", "toml", "text"}
    outside = [name for name in PAGES if not name.startswith(("guide/", "first-hour"))]
    for name in outside:
        assert not blocks(PAGES[name], "python") + blocks(PAGES[name], "console"), name


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as a site; building it fails for a broken link."""
    site = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [
            *(environments.python("docs").with_name("mkdocs"), "build", "--strict", "--quiet"),
            *("--site-dir", site),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return site


def test_the_site_has_every_page_and_no_broken_link(site: Path) -> None:
    functions = (site / "reference" / "functions" / "index.html").read_text()
    results = (site / "reference" / "results" / "index.html").read_text()
    for name in datajoint_migrate.__all__:
        if hasattr(datajoint_migrate.results, name):
            assert f'id="{name.lower()}"' in results, name
        elif not issubclass_of_error(name) and name != "__version__":
            assert f'id="datajoint_migrate.{name}"' in functions, name
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]*(?:src|href)="(http[^"]*)"', page.read_text()
        )
        assert loaded == [], page


@pytest.mark.parametrize("page", ["index.html", "install/index.html", "first-hour/index.html"])
def test_nothing_of_the_site_is_cut_off(site: Path, page: str) -> None:
    for width in (1280, 390):
        seen = browser.measure(site / page, width, root=site)
        assert seen["whole"] <= seen["width"], (width, seen["outside"])
    # Colours can be chosen, whatever a reader had before.
    assert 'data-md-component="palette"' in (site / page).read_text()


def issubclass_of_error(name: str) -> bool:
    thing = getattr(datajoint_migrate, name)
    return isinstance(thing, type) and issubclass(thing, Exception)


def test_links_of_the_readme_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).is_file(), link


def test_the_plan_that_is_printed_is_one_and_has_everything(tmp_path: Path) -> None:
    (text,) = blocks(PAGES["reference/command-line.md"], "toml")
    (tmp_path / "plan.toml").write_text(text)
    settings = load(tmp_path / "plan.toml")
    assert None not in settings.job().values()
    assert settings.store_map == {"raw": "main"}
    assert set(OPTIONS) == set(settings.options)


def test_every_command_is_on_its_page() -> None:
    said = re.findall(r"^\| `([a-z]+)` \|", PAGES["reference/command-line.md"], re.MULTILINE)
    assert sorted(said) == sorted(typer.main.get_group(cli.app).commands)


def test_every_error_and_every_code_is_on_its_page() -> None:
    page = PAGES["reference/errors.md"]
    for name in datajoint_migrate.__all__:
        if issubclass_of_error(name) and name != "MigrationError":
            assert f"| `{name}` |" in page, name
    sources = [*ROOT.glob("python/**/*.py"), *ROOT.glob("rust/*/src/**/*.rs")]
    # 1000 is the base class's own, which is never raised.
    raised = {code for path in sources for code in re.findall(r"\bDJM-\d{4}\b", path.read_text())}
    assert raised - {"DJM-1000"} == set(re.findall(r"\bDJM-\d{4}\b", page))
