"""doctor and a dry run are refused what a run would be refused, and end with one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import check_setup
from program import Program, lines, program, write_stores
from servers import Server
from small import Small, make

USER = "refusals_plain"


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"refusals_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "refusals", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


def refused(dj: Program, *words: str) -> str:
    """All three refuse, for the same reason; what doctor shows."""
    looked = dj("doctor")
    assert looked.returncode == 2, looked.stdout
    for command in (["run", "--dry-run"], ["run"]):
        done = dj(*command)
        assert done.returncode == 1, done.stdout
        for word in words:
            assert word in done.stderr, done.stderr
            assert word in looked.stdout, looked.stdout
    assert looked.stdout.splitlines()[-1].startswith("not ready: 1 line marked ✗")
    return looked.stdout


def test_what_is_ready_is_said_to_be_so(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    done = dj("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("ready: dj-migrate run")
    done = dj("run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "nothing was changed; a run would not be refused"


def test_a_missing_file(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    (small.root / "movies" / "m 3.avi").unlink()
    refused(dj, "1 file of external stores is missing", "m 3.avi")
    assert small.schemas_there() == {small.lab, small.rig}


def test_a_key_that_leaves_the_plan(small: Small, dj: Program) -> None:
    dj("plan", small.rig, "-c", "lab.toml")
    refused(dj, small.lab)
    assert small.schemas_there() == {small.lab, small.rig}


def test_a_value_without_a_tracking_row(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    small.server.sql(
        "SET foreign_key_checks = 0;"
        f"DELETE FROM `{small.rig}`.`~external_raw` WHERE filepath = 'movies/m 3.avi'"
    )
    refused(dj, "tracking row")


@pytest.fixture
def plain(small: Small) -> Iterator[str]:
    """A user who may do everything with this pipeline, and nothing else."""
    small.server.sql(
        f"DROP USER IF EXISTS {USER}; CREATE USER {USER} IDENTIFIED BY 'pw';"
        f"GRANT ALL ON `refusals\\_%`.* TO {USER}"
    )
    yield f"mysql://{USER}:pw@{small.server.host}:{small.server.port}/"
    small.server.sql(f"DROP USER {USER}")


def test_what_the_cutover_will_ask_for_is_told_before_the_run(
    small: Small, dj: Program, plain: str
) -> None:
    checks = check_setup(small.map, connection=plain, **small.stores)["checks"]
    seen = next(check for check in checks if check["name"] == "cutover: sessions of others")
    assert seen["ok"]
    assert "PROCESS" in seen["detail"]
    assert f"GRANT PROCESS ON *.* TO '{USER}'" in str(seen["hint"])
    assert "GRANT SELECT ON performance_schema.*" in str(seen["hint"])
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    dj.environment |= {"DJ_USER": USER, "DJ_PASS": "pw"}
    done = dj("doctor")
    assert done.returncode == 0, done.stdout
    assert "! cutover: sessions of others" in done.stdout
    assert "marked ! can wait" in done.stdout.splitlines()[-1]


def test_lines_that_say_the_same_of_many_schemas_are_one(
    small: Small, dj: Program, fresh: Fresh
) -> None:
    names = [f"refusals_many_{number}" for number in range(5)]
    fresh(small.server, *names, *(f"{name}_v20" for name in names))
    for name in names:
        small.server.sql(
            f"CREATE DATABASE `{name}`; CREATE TABLE `{name}`.`~log` (id int PRIMARY KEY);"
            f"CREATE TABLE `{name}`.t (id int PRIMARY KEY)"
        )
    assert dj("plan", *names).returncode == 0
    done = dj("doctor")
    assert done.returncode == 0, done.stdout
    assert "✓ read, 5 times: all privileges" in done.stdout
    assert "✓ write, 5 times: all privileges" in done.stdout
    assert len(done.stdout.splitlines()) < 20
    assert len(lines(dj("doctor", "--json"))[-1]["result"]["checks"]) > 20
