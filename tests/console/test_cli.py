"""`dj-migrate` as a user runs it: a process, its output, its exit code, its files."""

from __future__ import annotations

import json
import re
import signal
import tomllib
from pathlib import Path

import pyarrow.parquet
import pytest

from conftest import Fresh
from datajoint_migrate import backup_schema, create_parallel_schema
from datajoint_migrate.catalog.server import resolve
from program import Program, lines, program, write_stores
from servers import Server
from small import MICE, RECORDINGS, Small, make


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    ends = ("", "_v20", "_old", "_backup", "_copy")
    fresh(mysql, *(f"cli_{name}{end}" for name in ("lab", "rig") for end in ends))
    return make(mysql, "cli", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    """`dj("inspect", …)` runs the program; `dj.folder` is where."""
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


def test_inspect_tells_what_is_there_and_changes_nothing(small: Small, dj: Program) -> None:
    before = small.schemas_there()
    done = dj("inspect", small.lab, small.rig, "-c", "lab.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert small.lab in done.stdout
    assert "raw (attach blob filepath)" in done.stdout
    assert f"belong together: {small.lab}, {small.rig}" in done.stdout
    assert done.stdout.splitlines()[-1] == (
        "nothing is in the way of 2 schemas of 0.14; next: dj-migrate plan"
    )
    assert small.schemas_there() == before


def test_inspect_tells_backups_from_production_and_small_from_empty(
    small: Small, fresh: Fresh, dj: Program
) -> None:
    backup, aside = f"{small.lab}_bak", f"{small.lab}_before_restore"
    fresh(small.server, backup, aside)
    backup_schema(small.lab, backup, connection=small.server.url)
    small.server.sql(f"CREATE DATABASE `{aside}`; CREATE TABLE `{aside}`.`~log` (a int)")
    said = dj("inspect", small.lab, backup, aside).stdout
    cells = {line.split()[0]: line.split() for line in said.splitlines()[1:4]}
    assert [cells[name][1] for name in (small.lab, backup, aside)] == ["0.14", "backup", "0.14"]
    # Estimates, of which a person sees that they are, and sizes that are not 0 for being small.
    assert said.splitlines()[0].split()[3:5] == ["about", "size"]
    assert cells[small.lab][4:7:2] == ["rows", "kB"]
    assert float(cells[small.lab][5]) > 0
    assert f"{aside}: named as what {small.lab} was before a restore" in said


def test_what_stands_in_the_way_is_exit_code_two(small: Small, dj: Program) -> None:
    done = dj("inspect", small.rig, "--json")
    assert done.returncode == 2
    (found,) = lines(done)
    obstacles = found["result"]["schemas"][0]["obstacles"]
    assert f"keys lead to '{small.lab}': migrate both in one call" in obstacles
    assert "the store 'raw' is not configured" in obstacles


def test_plan_run_run_again_compare_verify(small: Small, dj: Program, tmp_path: Path) -> None:
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
    assert "0 rows copied, 44 were there already, 0 files" in again.stdout
    assert dj("compare", small.rig, f"{small.rig}_v20").returncode == 0
    assert dj("verify", f"{small.rig}_v20").stdout.strip().endswith("ready for 2.x")
    small.server.sql(f"UPDATE `{small.lab}_v20`.mouse SET weight = 99 WHERE mouse_id = 3")
    done = dj("compare", small.lab, f"{small.lab}_v20", "--table", "Mouse")
    assert done.returncode == 2
    assert "99" in done.stdout


def test_a_record_that_cannot_be_written_stops_nothing(small: Small, dj: Program) -> None:
    (dj.folder / "lab.jsonl").mkdir()
    done = dj("compare", small.lab, small.lab, "-c", "lab.toml")
    assert done.returncode == 0, done.stderr
    assert "not recorded: the record lab.jsonl cannot be written" in done.stderr


def test_a_schema_that_is_not_ready_is_exit_code_two(small: Small, dj: Program) -> None:
    done = dj("verify", small.rig)
    assert done.returncode == 2
    assert "not ready" in done.stdout


def test_scan_writes_a_file_that_is_not_there_yet(
    small: Small, dj: Program, tmp_path: Path
) -> None:
    done = dj("scan", small.lab, "Mouse", "--to", "mice.parquet", "--where", "mouse_id < 5")
    assert done.returncode == 0, done.stderr
    table = pyarrow.parquet.read_table(tmp_path / "here" / "mice.parquet")
    assert table.column("mouse_id").to_pylist() == [0, 1, 2, 3, 4]
    assert dj("scan", small.lab, "Mouse", "--to", "mice.parquet").returncode == 1
    assert dj("scan", small.lab, "Mouse", "--to", "mice.csv").returncode == 0
    assert len((tmp_path / "here" / "mice.csv").read_text().splitlines()) == MICE + 1
    assert dj("scan", small.lab, "Mouse", "--to", "mice.xlsx").returncode == 1


def test_an_error_has_its_code_and_its_hint(small: Small, dj: Program) -> None:
    done = dj("verify", small.lab + "x")
    assert done.returncode == 1
    assert "DJM-1202" in done.stderr
    assert small.lab in done.stderr
    (error,) = lines(dj("verify", small.lab + "x", "--json"))
    assert (error["version"], error["event"], error["code"]) == (1, "error", "DJM-1202")


def test_no_password_is_taken_from_the_command_line(small: Small, dj: Program) -> None:
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
    dj: Program, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "here" / "odd.toml").write_text(text)
    done = dj("run", "odd.toml")
    assert done.returncode == 1
    assert said in done.stderr


def test_doctor_says_what_is_missing_and_how_to_mend_it(
    small: Small, dj: Program, tmp_path: Path
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
    small: Small, dj: Program, tmp_path: Path
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
    with resolve(small.server.url).session() as session:
        session.execute("SET SESSION foreign_key_checks = 0")
        session.execute("START TRANSACTION")
        last = f"SELECT * FROM `{small.lab}`.session__trial ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1"
        session.execute(f"INSERT INTO `{copy}`.session__trial {last}")
        process = dj.start("run", "--json")
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
    assert copied[0]["rows_before"] > 0
    assert copied[0]["done"] == copied[0]["rows_before"] + copied[0]["rows"]
    assert "Every value is equal" in dj("report").stdout
    assert (tmp_path / "here" / "migration.html").stat().st_size > 10_000


def test_an_interrupted_look_has_changed_nothing(small: Small, dj: Program) -> None:
    waiting = (
        "SELECT 1 FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()"
        f" AND STATE LIKE 'Waiting%' AND INFO LIKE '%{small.lab}%'"
    )
    with resolve(small.server.url).session() as session:
        session.execute(f"LOCK TABLES `{small.lab}`.mouse WRITE")
        process = dj.start("compare", small.lab, small.lab)
        while process.poll() is None and not small.server.sql(waiting):
            pass
        process.send_signal(signal.SIGINT)
        session.execute("UNLOCK TABLES")
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "nothing was changed" in said


def test_backup_check_restore_cutover_rollback(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("run").returncode == 0
    backups = []
    for schema in small.map:
        done = dj("backup", schema, f"{schema}_backup", "-c", "migration.toml")
        assert done.returncode == 0, done.stderr
        assert f"rows in {schema}_backup" in done.stdout
        backups += ["--backup", f"{schema}={schema}_backup"]
    done = dj("backup", small.lab, "./archive", "--json")
    assert lines(done)[-1]["result"]["rows_backed_up"] > MICE
    done = dj("check", "archive")
    assert (done.returncode, done.stderr) == (0, "")
    assert "everything is as it was written" in done.stdout
    part = next((dj.folder / "archive" / "tables").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    done = dj("check", "archive")
    assert done.returncode == 2
    assert "damaged" in done.stdout
    done = dj("restore", f"{small.lab}_backup", f"{small.lab}_copy", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"{small.lab}_copy" not in small.schemas_there()
    done = dj("restore", f"{small.lab}_backup", f"{small.lab}_copy")
    assert done.returncode == 0, done.stderr
    assert small.count(f"{small.lab}_copy", "mouse") == MICE
    assert dj("restore", f"{small.lab}_backup", f"{small.lab}_copy").returncode == 1

    done = dj("cutover", "--backup", f"{small.lab}=nothing")
    assert done.returncode == 2
    assert "✗ backup: there is no backup 'nothing'" in done.stdout
    assert dj("cutover", "--backup", "nothing").returncode == 1
    done = dj("cutover", *backups)
    assert done.returncode == 0, done.stdout
    assert "nothing was changed; with --execute it is done" in done.stdout
    assert f"{small.lab}_old" not in small.schemas_there()
    done = dj("cutover", *backups, "--execute")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{small.lab}_old" in small.schemas_there()
    again = dj("cutover")
    assert "have changed places already" in again.stdout
    # A copy that is made again would be in the way of a rollback.
    for words in (("run",), ("run", "--dry-run"), ("sync",)):
        done = dj(*words)
        assert done.returncode == 1, done.stdout
        assert f"{small.lab} is cut over" in done.stderr
        assert "dj-migrate rollback undoes the cutover" in done.stderr
    assert "2 schemas are cut over; dj-migrate status" in dj("doctor").stdout
    done = dj("rollback")
    assert done.returncode == 0, done.stderr
    assert f"{small.lab}_old" in small.schemas_there()
    done = dj("rollback", "--execute")
    assert done.returncode == 0, done.stderr
    assert "are back where they were" in done.stdout
    assert small.count(f"{small.lab}_v20", "mouse") == MICE
    # All of it is in the record beside the plan; nothing is beside lab.toml.
    kept = [json.loads(line) for line in (dj.folder / "migration.jsonl").read_text().splitlines()]
    assert {"run", "sync", "backup", "cutover", "rollback"} == {line["command"] for line in kept}
    assert not (dj.folder / "lab.jsonl").exists()


def test_sample_takes_chosen_rows_and_their_parents(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("sample", "--rows", "Session").returncode == 1
    done = dj("sample", "--rows", "Session=mouse_id < 3", "--rows", "Recording=2")
    assert done.returncode == 0, done.stderr
    assert small.count(f"{small.lab}_v20", "session") == 3
    assert small.count(f"{small.rig}_v20", "_recording") == 2
    # The copies of a run are not called a sample for what they have already.
    again = dj("sample", "--rows", "Session=mouse_id < 3", "--rows", "Recording=2")
    assert (again.returncode, "discard" in again.stdout) == (0, False), again.stdout
    assert "the copies hold these rows already" in again.stdout
    # A run would be refused, and is not once the sample is taken away as it was said.
    assert "dj-migrate discard --execute" in done.stdout
    refused = dj("run")
    assert (refused.returncode, "already holds" in refused.stderr) == (1, True)
    assert dj("discard", "--execute").returncode == 0
    assert dj("run").returncode == 0
    assert small.count(f"{small.lab}_v20", "session") == small.count(small.lab, "session")


def test_external_converts_one_column(small: Small, dj: Program) -> None:
    for source, dest in small.map.items():
        create_parallel_schema(
            source, dest, True, schema_map=small.map, connection=small.server.url
        )
    words = (f"{small.rig}_v20", "Recording", "signal", "raw", "raw", "-c", "lab.toml")
    done = dj("external", *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    kind = (
        "SELECT DATA_TYPE FROM information_schema.COLUMNS WHERE COLUMN_NAME = 'signal'"
        f" AND TABLE_SCHEMA = '{small.rig}_v20'"
    )
    assert small.value(kind) == "binary"
    done = dj("external", *words)
    assert done.returncode == 0, done.stderr
    assert f"{RECORDINGS} pointers" in done.stdout
    assert small.value(kind) == "json"


def test_a_plan_says_what_it_will_take_and_on_what_that_rests(small: Small, dj: Program) -> None:
    small.server.sql(
        f"SET cte_max_recursion_depth=100000; INSERT INTO `{small.lab}`.session__trial"
        " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 79999)"
        " SELECT 0, '2024-01-01', i % 60000 + 2, REPEAT('x', 100) FROM n WHERE i < 60000;"
        f"ANALYZE TABLE `{small.lab}`.session__trial"
    )
    before = small.schemas_there()
    done = dj("plan", small.lab, small.rig, "-c", "lab.toml", "--json")
    assert done.returncode == 0, done.stderr
    estimate = lines(done)[-1]["result"]["estimate"]
    (sample,) = estimate["samples"]
    assert (sample["table"], sample["rows"]) == (f"{small.lab}.session__trial", 50_000)
    assert 0 < estimate["compare_seconds"] < 60
    assert estimate["disk_bytes"] > 6_000_000
    # Attachments are always written anew.
    tracked = f"SELECT SUM(size) FROM `{small.rig}`.`~external_raw`"
    assert estimate["file_bytes"] == int(
        small.value(f"{tracked} WHERE attachment_name IS NOT NULL") or 0
    )
    assert "nothing is written" in " ".join(estimate["based_on"])
    assert small.schemas_there() == before
    text = dj("plan", small.lab, small.rig, "-c", "lab.toml", "-o", "other.toml").stdout
    assert re.search(r"rows, [\d.]+ MB; time: about [\d.]+ \w+ to [\d.]+ \w+", text), text
    assert "was not measured" not in text
    rests = dj("plan", small.lab, "-c", "lab.toml", "-o", "third.toml", "-v").stdout
    assert "copying was not measured" in rests


def test_help_names_the_commands_and_the_shell_can_complete_them(dj: Program) -> None:
    done = dj("--help")
    assert done.returncode == 0
    commands = "inspect plan doctor run external sample compare verify scan check report backup"
    for name in (*commands.split(), "restore", "cutover", "rollback"):
        assert f" {name} " in done.stdout
    assert "130 interrupted" in done.stdout
    dj.environment |= {"_DJ_MIGRATE_COMPLETE": "complete_bash"}
    dj.environment |= {"COMP_WORDS": "dj-migrate ro", "COMP_CWORD": "1"}
    assert dj().stdout.split() == ["rollback"]
