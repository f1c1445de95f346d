"""Commands that take the plan of the folder when no schema is named, and those around it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import discard, migrate
from datajoint_migrate.errors import NotReady
from program import Program, lines, program, write_stores
from servers import Server
from small import RECORDINGS, Small, make

ENDS = ("", "_v20", "_old", "_backup", "_new")


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"whole_{name}{end}" for name in ("lab", "rig") for end in ENDS))
    return make(mysql, "whole", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


def test_the_whole_plan_is_compared_verified_backed_up_and_cut_over(
    small: Small, dj: Program
) -> None:
    done = dj("plan", "whole_%", "-c", "lab.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"belong together: {small.lab}, {small.rig}" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("next: dj-migrate doctor")
    plan = tomllib.loads((dj.folder / "migration.toml").read_text())
    assert plan["schemas"] == small.map
    assert dj("run").returncode == 0
    done = dj("compare")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 schemas, 5 tables, 44 rows: everything is equal"
    done = dj("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ready for 2.x") == 2
    done = dj("cutover")
    assert done.returncode == 2
    assert f"✗ backup: no backup of {small.lab} was named" in done.stdout
    done = dj("backup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"rows in {small.rig}_backup" in done.stdout
    again = dj("backup")
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{small.lab}_backup is its backup already" in again.stdout
    done = dj("cutover")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"backup of {small.lab}: {small.lab}_backup" in done.stdout
    # A line says more than the name of its check.
    assert "✓ no unfinished copy: every copy is complete" in done.stdout
    assert "✓ names: all are short enough for the server" in done.stdout
    assert "✓ programs: there are none" in done.stdout
    # A backup is no production.
    listed = dj("inspect", f"{small.lab}_backup").stdout
    assert "backup" in listed.splitlines()[1].split()[1]
    kept = [json.loads(line) for line in (dj.folder / "migration.jsonl").read_text().splitlines()]
    said = [(line["command"], line["said"]) for line in kept if line["event"] == "begin"]
    assert ("compare", {"prod": small.lab, "test": f"{small.lab}_v20", "table": None}) in said
    assert ("verify", {"schema": f"{small.rig}_v20"}) in said
    assert ("backup", {"schema": small.rig, "name": f"{small.rig}_backup"}) in said
    small.server.sql(f"UPDATE `{small.lab}_v20`.mouse SET weight = 99 WHERE mouse_id = 3")
    done = dj("compare")
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].endswith("there are differences")


def test_archives_of_the_plan_are_checked_and_found(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("check").returncode == 1
    assert dj("run").returncode == 0
    done = dj("backup", "--into", "./archives")
    assert done.returncode == 0, done.stdout + done.stderr
    done = dj("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("everything is as it was written") == 2
    assert dj("check", "archives").stdout == done.stdout.replace(f"{dj.folder}/", "")
    done = dj("cutover")
    assert done.returncode == 0, done.stdout + done.stderr
    part = next((dj.folder / "archives" / small.lab / "tables").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    assert dj("check").returncode == 2


def test_a_child_that_is_left_out_is_told_when_the_plan_is_made(small: Small, dj: Program) -> None:
    done = dj("plan", small.lab, "-c", "lab.toml")
    assert f"{small.rig} refers to {small.lab} and is not in the plan" in done.stdout
    done = dj("plan", small.lab, "-c", "lab.toml", "-o", "other.toml", "--json")
    assert lines(done)[-1]["result"]["left_out"] == {small.rig: [small.lab]}


def test_a_plan_of_nothing_says_what_to_name(dj: Program) -> None:
    done = dj("plan")
    assert done.returncode == 1
    assert "--all" in done.stderr
    done = dj("plan", "nobody_has_this_%")
    assert done.returncode == 1
    assert "no schema of 0.14 matches" in done.stderr


def test_what_a_restore_put_aside_or_tried_is_not_planned_with_the_others(
    small: Small, dj: Program, fresh: Fresh
) -> None:
    aside = [f"{small.lab}_before_restore_2", f"{small.lab}_restore_test"]
    fresh(small.server, *aside)
    for name in aside:
        small.server.sql(
            f"CREATE DATABASE `{name}`; CREATE TABLE `{name}`.`~log` (a int PRIMARY KEY);"
            f"CREATE TABLE `{name}`.t (a int PRIMARY KEY)"
        )
    done = dj("plan", "whole_%", "-c", "lab.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert tomllib.loads((dj.folder / "migration.toml").read_text())["schemas"] == small.map
    assert f"left out, for what a restore has put there: {', '.join(aside)}" in done.stdout
    # Whoever names one has it.
    done = dj("plan", aside[0], "-c", "lab.toml", "-o", "other.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert aside[0] in (dj.folder / "other.toml").read_text()
    said = dj("inspect", aside[1]).stdout
    assert f"named as a restore of {small.lab} that was a test" in said


def test_without_a_plan_a_schema_has_to_be_named(dj: Program) -> None:
    for command in ("compare", "verify", "backup", "check", "files"):
        done = dj(command)
        assert done.returncode == 1, command
        assert "dj-migrate plan" in done.stderr, command


def test_jobs_files_text_and_blobs_of_the_plan(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("run").returncode == 0
    done = dj("jobs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 jobs carried over" in done.stdout
    done = dj("files", "--level", "hash", "--orphans")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{small.rig}: " in done.stdout
    (small.root / "movies" / "m 3.avi").unlink()
    done = dj("files", small.rig)
    assert done.returncode == 2
    assert "m 3.avi: missing" in done.stdout
    assert dj("text").returncode == 0
    small.server.sql(
        f"UPDATE `{small.lab}`.session SET notes = 'MÃ¼ller' WHERE mouse_id = 1;"
        f"UPDATE `{small.lab}`.session__trial SET data = 'no blob' WHERE mouse_id = 1"
    )
    done = dj("text")
    assert done.returncode == 2
    assert "meant was perhaps Müller" in done.stdout
    done = dj("blobs")
    assert done.returncode == 2
    assert "1 blob cannot be unpacked" in done.stdout


def test_a_schema_is_renamed(small: Small, dj: Program) -> None:
    done = dj("rename", small.lab, f"{small.lab}_new", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"{small.lab}_new" not in small.schemas_there()
    done = dj("rename", small.lab, f"{small.lab}_new")
    assert done.returncode == 0, done.stderr
    assert small.count(f"{small.lab}_new", "mouse") == 12


def test_copies_are_dropped_and_nothing_else(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert "there is no copy to drop" in dj("discard").stdout
    assert dj("run").returncode == 0
    there = small.schemas_there()
    done = dj("discard")
    assert done.returncode == 0, done.stderr
    assert f"{small.rig}_v20: 1 table, {RECORDINGS} rows" in done.stdout
    assert small.schemas_there() == there
    done = dj("discard", "--execute")
    assert done.returncode == 0, done.stdout + done.stderr
    assert small.schemas_there() == {small.lab, small.rig}


def test_what_is_no_copy_or_is_referred_to_is_not_dropped(small: Small) -> None:
    url = small.server.url
    migrate(small.map, connection=url, **small.stores)
    with pytest.raises(NotReady, match="refers to"):
        discard({small.lab: f"{small.lab}_v20"}, connection=url, execute=True)
    small.server.sql(f"CREATE DATABASE `{small.lab}_new`; CREATE TABLE `{small.lab}_new`.t (x int)")
    with pytest.raises(NotReady, match="is no copy"):
        discard({small.lab: f"{small.lab}_new"}, connection=url, execute=True)
    # Production is never a destination to drop.
    small.server.sql(f"CREATE TABLE `{small.lab}`.`~lineage` (x int)")
    with pytest.raises(NotReady, match=r"is a schema of 2\.x already"):
        discard(small.map, connection=url, execute=True)
    assert small.schemas_there() >= {*small.map, *small.map.values()}


def test_charset_and_executor_may_be_in_the_plan(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    plan = dj.folder / "migration.toml"
    plan.write_text(
        plan.read_text().replace(
            "[options]",
            '[options]\ncharset = "utf8mb4"\nexecutor = 2\nconsistency = "catch-up"',
        )
    )
    small.server.sql(
        f"ALTER TABLE `{small.lab}`.session MODIFY notes varchar(200) CHARACTER SET latin1 NOT NULL"
    )
    done = dj("run")
    assert done.returncode == 0, done.stdout + done.stderr
    charset = (
        "SELECT CHARACTER_SET_NAME FROM information_schema.COLUMNS WHERE COLUMN_NAME = 'notes'"
        f" AND TABLE_SCHEMA = '{small.lab}_v20'"
    )
    assert small.value(charset) == "utf8mb4"


def test_the_plan_may_say_how_it_is_cut_over(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("run").returncode == 0
    small.server.sql(
        f"INSERT INTO `{small.lab}`.mouse (mouse_id, species)"
        f" SELECT 99, species FROM `{small.lab}`.mouse LIMIT 1"
    )
    plan = dj.folder / "migration.toml"
    written = plan.read_text()
    for wrong, said in (
        ('sync = "yes"', "cutover.sync"),
        ("backup = true", "cutover.backup"),
        ('suffix = "_x"', "suffix"),
    ):
        plan.write_text(f"{written}\n[cutover]\n{wrong}\n")
        done = dj("cutover")
        assert (done.returncode, said in done.stderr) == (1, True), done.stdout + done.stderr
    plan.write_text(f'{written}\n[cutover]\nsync = true\nbackup = "rename"\n')
    done = dj("cutover", "--no-sync")
    assert done.returncode == 2
    assert f"{small.lab}.mouse and {small.lab}_v20.mouse differ in 1 place" in done.stdout
    assert "✓ backup: the renamed production is the backup" in done.stdout
    done = dj("cutover", "--backup", f"{small.lab}=nothing")
    assert done.returncode == 2
    assert "there is no backup 'nothing'" in done.stdout
    done = dj("cutover")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the copies are 1 row behind" in done.stdout
    assert f"{small.lab}_old" not in small.schemas_there()
    done = dj("cutover", "--execute")
    assert done.returncode == 0, done.stdout + done.stderr
    assert small.count(small.lab, "mouse") == small.count(f"{small.lab}_old", "mouse") == 13
