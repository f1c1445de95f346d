"""What people look for in a repository: it is parsed, agrees with itself, names real commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import datajoint_migrate
from places import ROOT

GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def lines_of(workflow: Any) -> list[str]:
    """Every line of shell that a workflow runs."""
    return [
        line
        for job in workflow["jobs"].values()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
    ]


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda path: path.name)
def test_every_file_of_github_is_yaml(path: Path) -> None:
    assert isinstance(parsed(path), dict)
    if path.parent.name == "workflows":
        assert "has never run" in path.read_text().splitlines()[0]


def test_the_workflow_calls_what_the_script_calls() -> None:
    script = [
        line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")
    ]
    called = lines_of(parsed(GITHUB / "workflows/ci.yml"))
    assert [line for line in called if line.startswith("make ")] == script
    assert {line.split()[1] for line in script} <= TARGETS


def test_wheels_are_built_for_old_linux_for_arm_and_for_macos() -> None:
    jobs = parsed(GITHUB / "workflows/wheels.yml")["jobs"]
    targets = {
        (name, one["target"])
        for name, job in jobs.items()
        for one in job["strategy"]["matrix"]["include"]
    }
    assert targets == {
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("macos", "x86_64-apple-darwin"),
        ("macos", "aarch64-apple-darwin"),
    }
    built = [
        step["with"]
        for step in jobs["linux"]["steps"]
        if step.get("uses", "").startswith("PyO3/maturin-action")
    ]
    assert [one["manylinux"] for one in built] == ["manylinux_2_28"]


def test_hooks_before_a_commit_are_lines_of_make_lint() -> None:
    lint = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]
    for repository in parsed(ROOT / ".pre-commit-config.yaml")["repos"]:
        for hook in repository["hooks"]:
            assert hook["entry"] in lint.replace("$(VENV)/bin/", ""), hook["id"]


def test_a_module_of_the_benches_hides_none_of_the_tests() -> None:
    """The benches use both, by their bare names."""
    of_benches, of_tests = (
        {one.name for one in (ROOT / folder).glob("*.py")} for folder in ("benches", "tests")
    )
    assert len(of_benches) > 10
    assert not of_benches & of_tests


def test_versions_and_names_agree() -> None:
    citation = parsed(ROOT / "CITATION.cff")
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert citation["version"] == cargo["workspace"]["package"]["version"]
    assert citation["version"] == datajoint_migrate.__version__
    assert citation["title"] == PROJECT["project"]["name"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert [one["name"] for one in citation["authors"]] == [
        one["name"] for one in PROJECT["project"]["authors"]
    ]
    assert (ROOT / "CHANGELOG.md").read_text().startswith("# Changelog")


def test_the_image_installs_what_its_steps_build(tmp_path: Path) -> None:
    steps = re.findall(
        r"^(FROM|RUN|COPY|ENTRYPOINT|WORKDIR) (.*)$", (ROOT / "Dockerfile").read_text(), re.M
    )
    build = next(words for verb, words in steps if verb == "RUN" and "maturin build" in words)
    # The same words, without the optimisation that takes minutes.
    words = [word for word in shlex.split(build) if word != "--release"]
    words[0] = str(Path(sys.executable).with_name("maturin"))
    words[words.index("/wheels")] = str(tmp_path / "wheels")
    words[words.index("python3")] = sys.executable
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    [wheel] = (tmp_path / "wheels").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    (scripts,) = [name for name in names if name.endswith("entry_points.txt")]
    script = zipfile.ZipFile(wheel).read(scripts).decode()
    (entry,) = [words for verb, words in steps if verb == "ENTRYPOINT"]
    assert f"{entry.strip('[]').strip(chr(34))}=" in script
    # The second stage takes the folder in which the first one puts the wheel.
    assert ("COPY", "--from=build /wheels /wheels") in steps
    assert any(verb == "RUN" and words.endswith("/wheels/*.whl") for verb, words in steps)
    needs = tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))
    (image,) = [words for verb, words in steps if verb == "FROM" and words.startswith("python:")]
    assert tuple(map(int, image.partition(":")[2].partition("-")[0].split("."))) >= needs
