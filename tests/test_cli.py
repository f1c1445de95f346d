"""`dj-migrate` as a user runs it: a process, its output, its exit code, its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from conftest import Fresh
from servers import Server
from small import MICE, RECORDINGS, Small, make

PROGRAM = "from datajoint_migrate.console.cli import main; main()"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"cli_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "cli", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Run:
    """`dj("inspect", …)`: the program, in an empty folder, with its password in the environment."""
    folder = tmp_path / "here"
    folder.mkdir()
    server = small.server
    known = {
        "DJ_HOST": server.host,
        "DJ_PORT": str(server.port),
        "DJ_USER": server.user,
        "DJ_PASS": server.password,
    }
    (folder / "lab.toml").write_text(
        f'[stores.source.raw]\nprotocol = "file"\nlocation = "{small.root}"\nstage = "/stage"\n'
        f'[stores.destination.raw]\nprotocol = "file"\nlocation = "{small.root}"\n'
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **known, "COLUMNS": "200", "TERM": "dumb"}
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Its JSON lines."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_inspect_tells_what_is_there_and_changes_nothing(small: Small, dj: Run) -> None:
    before = small.schemas_there()
    done = dj("inspect", small.lab, small.rig, "-c", "lab.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert small.lab in done.stdout
    assert "raw (attach blob filepath)" in done.stdout
    assert small.schemas_there() == before


def test_what_stands_in_the_way_is_exit_code_two(small: Small, dj: Run) -> None:
    done = dj("inspect", small.rig, "--json")
    assert done.returncode == 2
    (found,) = lines(done)
    obstacles = found["result"]["schemas"][0]["obstacles"]
    assert f"keys lead to '{small.lab}': migrate both in one call" in obstacles
    assert "the store 'raw' is not configured" in obstacles


def test_plan_run_run_again_compare_verify(small: Small, dj: Run, tmp_path: Path) -> None:
    done = dj("plan", small.rig, small.lab, "-c", "lab.toml")
    assert done.returncode == 0, done.stderr
    written = tmp_path / "here" / "migration.toml"
    assert list(tomllib.loads(written.read_text())["schemas"]) == [small.lab, small.rig]
    assert dj("plan", small.lab, "-c", "lab.toml").returncode == 1, "a plan is never overwritten"
    done = dj("run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"{small.lab} -> {small.lab}_v20" in done.stdout
    assert small.schemas_there() == {small.lab, small.rig}
    done = dj("run", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = lines(done)[-1]
    assert (result["event"], result["result"]["match"]) == ("result", True)
    assert small.count(f"{small.rig}_v20", "_recording") == RECORDINGS
    again = dj("run")
    assert again.returncode == 0, again.stderr
    assert "0 rows copied" in again.stdout
    assert dj("compare", small.rig, f"{small.rig}_v20").returncode == 0
    assert dj("verify", f"{small.rig}_v20").stdout.strip().endswith("ready for 2.x")
    small.server.sql(f"UPDATE `{small.lab}_v20`.mouse SET weight = 99 WHERE mouse_id = 3")
    done = dj("compare", small.lab, f"{small.lab}_v20", "--table", "Mouse")
    assert done.returncode == 2
    assert "99" in done.stdout


def test_a_schema_that_is_not_ready_is_exit_code_two(small: Small, dj: Run) -> None:
    done = dj("verify", small.rig)
    assert done.returncode == 2
    assert "not ready" in done.stdout


def test_scan_writes_a_file_that_is_not_there_yet(small: Small, dj: Run, tmp_path: Path) -> None:
    done = dj("scan", small.lab, "Mouse", "--to", "mice.parquet", "--where", "mouse_id < 5")
    assert done.returncode == 0, done.stderr
    table = pyarrow.parquet.read_table(tmp_path / "here" / "mice.parquet")
    assert table.column("mouse_id").to_pylist() == [0, 1, 2, 3, 4]
    assert dj("scan", small.lab, "Mouse", "--to", "mice.parquet").returncode == 1
    assert dj("scan", small.lab, "Mouse", "--to", "mice.csv").returncode == 0
    assert len((tmp_path / "here" / "mice.csv").read_text().splitlines()) == MICE + 1
    assert dj("scan", small.lab, "Mouse", "--to", "mice.xlsx").returncode == 1


def test_an_error_has_its_code_and_its_hint(small: Small, dj: Run) -> None:
    done = dj("verify", small.lab + "x")
    assert done.returncode == 1
    assert "DJM-1202" in done.stderr
    assert small.lab in done.stderr
    (error,) = lines(dj("verify", small.lab + "x", "--json"))
    assert (error["version"], error["event"], error["code"]) == (1, "error", "DJM-1202")


def test_no_password_is_taken_from_the_command_line(small: Small, dj: Run) -> None:
    done = dj("verify", small.lab, "--connection", "mysql://root:secret@localhost/")
    assert done.returncode == 1
    assert "DJ_PASS" in done.stderr
    assert "secret" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[schema]\na = 'b'", "did you mean schemas?"),
        ("[options]\ncopy_file = true", "did you mean options.copy_files?"),
        ("[schemas\n", "is not TOML"),
        ("schemas = 3", "not a [schemas] table"),
        ("", "names no schemas"),
    ],
)
def test_a_plan_that_means_nothing_is_refused(
    dj: Run, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "here" / "odd.toml").write_text(text)
    done = dj("run", "odd.toml")
    assert done.returncode == 1
    assert said in done.stderr


def test_doctor_says_what_is_missing_and_how_to_mend_it(
    small: Small, dj: Run, tmp_path: Path
) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    done = dj("doctor", "migration.toml")
    assert done.returncode == 0, done.stdout
    assert "✓ store raw" in done.stdout
    server = small.server
    server.sql(
        "DROP USER IF EXISTS cli_reader; CREATE USER cli_reader IDENTIFIED BY 'cli';"
        f"GRANT SELECT ON `{small.lab.replace('_', chr(92) + '_')}`.* TO cli_reader;"
        f"GRANT SELECT (mouse_id) ON `{small.rig}`._recording TO cli_reader"
    )
    plan = tmp_path / "here" / "migration.toml"
    source = f'[source]\nhost = "{server.host}"\nport = {server.port}\nuser = "cli_reader"\n'
    source += 'password = "cli"\n'
    destination = source.replace("[source]", "[destination]")
    plan.write_text(source + destination + plan.read_text().replace(str(small.root), "/nowhere"))
    done = dj("doctor", "migration.toml", "--json")
    server.sql("DROP USER cli_reader")
    assert done.returncode == 2, done.stderr
    checks = {check["name"]: check for check in lines(done)[0]["result"]["checks"]}
    assert checks[f"read {small.lab}"]["ok"]
    assert "SELECT" in checks[f"read {small.rig}"]["detail"]
    assert "RELOAD" in checks["snapshot"]["hint"]
    write = checks[f"write {small.lab}_v20"]
    assert (write["ok"], "CREATE" in write["hint"]) == (False, True)


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    small: Small, dj: Run, tmp_path: Path
) -> None:
    small.server.sql(
        f"SET cte_max_recursion_depth=400000; INSERT INTO `{small.lab}`.session__trial"
        " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299999)"
        " SELECT i DIV 60000, '2024-01-01' + INTERVAL i DIV 60000 DAY, i % 60000 + 2,"
        f" REPEAT('x', 100) FROM n; ANALYZE TABLE `{small.lab}`.session__trial"
    )
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    copy = f"{small.lab}_v20"
    create_parallel_schema(small.lab, copy, external="convert", connection=small.server.url)
    # Somebody else's row under way in the last chunk: it waits, so the copy cannot be over.
    holder = resolve(small.server.url).session()
    with holder as session:
        session.execute("SET SESSION foreign_key_checks = 0")
        session.execute("START TRANSACTION")
        last = f"SELECT * FROM `{small.lab}`.session__trial ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1"
        session.execute(f"INSERT INTO `{copy}`.session__trial {last}")
        process = started(dj, "run", "--json")
        assert process.stdout is not None
        for line in process.stdout:
            seen = json.loads(line)
            if (seen["event"], seen.get("verb")) == ("progress", "copy") and seen["rows"] > 100_000:
                break
        process.send_signal(signal.SIGINT)
        session.execute("ROLLBACK")
    said = [json.loads(line) for line in process.stdout]
    assert process.wait(60) == 130
    assert (said[-1]["event"], said[-1]["error"]) == ("error", "Interrupted")
    assert said[-1]["hint"] == "what is done stays; go on with: dj-migrate run --json"
    told = dj("report")
    assert told.returncode == 0, told.stderr
    assert "run is not finished" in told.stdout
    again = dj("run", "--json")
    assert again.returncode == 0, again.stderr
    copied = [line for line in lines(again) if line.get("verb") == "copy"]
    # What was there counts as done, and the speed is that of this call.
    assert copied[0]["rows_before"] > 100_000
    assert copied[0]["done"] == copied[0]["rows_before"] + copied[0]["rows"]
    assert "Every value is equal" in dj("report").stdout
    assert (tmp_path / "here" / "migration.html").stat().st_size > 10_000


def test_an_interrupted_look_has_changed_nothing(small: Small, dj: Run) -> None:
    with resolve(small.server.url).session() as session:
        session.execute(f"LOCK TABLES `{small.lab}`.mouse WRITE")
        process = started(dj, "compare", small.lab, small.rig)
        waiting = f"SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting%' AND INFO LIKE '%{small.lab}%' AND ID <> CONNECTION_ID()"
        while process.poll() is None and not small.server.sql(waiting):
            pass
        process.send_signal(signal.SIGINT)
        session.execute("UNLOCK TABLES")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "nothing was changed" in said
