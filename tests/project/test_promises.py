"""What the documents promise of the command line, where a user would see it broken."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import backup_schema, cutover, migrate, rollback
from datajoint_migrate.errors import ConnectionFailed, ExternalMissing, NotReady
from places import ROOT
from program import PROGRAM, Program, lines, program, write_stores
from servers import Server
from small import Small, make


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    ends = ("", "_v20", "_old", "_backup", "_sample")
    fresh(mysql, *(f"promise_{name}{end}" for name in ("lab", "rig") for end in ends))
    return make(mysql, "promise", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    return made


def migrated(small: Small) -> None:
    assert migrate(small.map, connection=small.server.url, **small.stores)["match"]


@pytest.fixture
def odd(mysql: Server, fresh: Fresh) -> str:
    """A schema with columns that CSV has no type for."""
    fresh(mysql, "promise_odd")
    mysql.sql(
        "CREATE DATABASE promise_odd; CREATE TABLE promise_odd.every ("
        "k binary(16) PRIMARY KEY COMMENT ':uuid:', b longblob, v varbinary(8), t varchar(9),"
        " d datetime(6), n decimal(20, 5), j json, e enum('a', 'b'), w bit(9));"
        "INSERT INTO promise_odd.every VALUES (x'00112233445566778899aabbccddeeff',"
        " x'6d596d00ff', NULL, 'é', '2024-01-02 03:04:05.6', 1.5, '[1]', 'b', b'100000001'),"
        " (x'ff112233445566778899aabbccddeeff', NULL, x'ff', '0x', NULL, NULL, NULL, NULL, NULL)"
    )
    return "promise_odd"


def test_a_csv_holds_bytes_as_digits_whatever_the_column(odd: str, dj: Program) -> None:
    done = dj("scan", odd, "every", "-o", "every.csv")
    assert done.returncode == 0, done.stderr
    with (dj.folder / "every.csv").open(newline="") as file:
        first, second = sorted(csv.DictReader(file), key=lambda row: row["k"])
    assert first["k"] == "0x00112233445566778899aabbccddeeff"
    assert (first["b"], first["v"], first["t"]) == ("0x6d596d00ff", "", "é")
    assert (second["b"], second["v"], second["t"]) == ("", "0xff", "0x")
    assert first["e"] == "b"
    assert first["n"] == "1.50000"


def test_compare_sees_another_structure(small: Small, dj: Program) -> None:
    migrated(small)
    small.server.sql(f"ALTER TABLE `{small.lab}_v20`.mouse MODIFY weight double NOT NULL")
    done = dj("compare", small.lab, f"{small.lab}_v20")
    assert done.returncode == 2
    assert "mouse: type weight: float in production, double in the copy" in done.stdout
    assert "every value is equal, and there are 2 differences of structure" in done.stdout
    small.server.sql(
        f"ALTER TABLE `{small.lab}_v20`.mouse MODIFY weight double NOT NULL DEFAULT 12.5"
    )
    done = dj("compare", small.lab, f"{small.lab}_v20")
    assert "every value is equal, and there is 1 difference of structure" in done.stdout


def test_a_differing_row_is_told_by_key_column_and_both_values(small: Small, dj: Program) -> None:
    server = small.server
    server.sql(
        f"ALTER TABLE `{small.lab}`.session MODIFY notes varchar(200) CHARACTER SET latin1;"
        f"UPDATE `{small.lab}`.session SET notes = 'Gewicht für Gabi' WHERE mouse_id = 3"
    )
    migrated(small)
    server.sql(
        f"UPDATE `{small.lab}_v20`.session SET notes = 'größer' WHERE mouse_id = 3;"
        f"UPDATE `{small.lab}_v20`.mouse SET weight = 1.1e-7, dob = NULL WHERE mouse_id = 4;"
        f"DELETE FROM `{small.lab}_v20`.session__trial WHERE mouse_id = 5"
    )
    done = dj("compare", small.lab, f"{small.lab}_v20")
    assert done.returncode == 2
    assert (
        "session mouse_id=3, session_date=2024-01-04: notes is Gewicht für Gabi in production,"
        " größer in the copy"
    ) in done.stdout
    assert (
        "mouse mouse_id=4: weight is 0.5714 in production, 1.1e-7 in the copy;"
        " dob is 2020-01-01 in production, NULL in the copy"
    ) in done.stdout
    assert (
        "session__trial mouse_id=5, session_date=2024-01-06, trial=1: the row is missing in the"
        " copy"
    ) in done.stdout
    found = lines(dj("compare", small.lab, f"{small.lab}_v20", "--json"))[-1]["result"]
    assert list(found["tables"]["session__trial"]["discrepancies"][0]["key"]) == [
        "mouse_id",
        "session_date",
        "trial",
    ]


def test_a_refused_login_has_the_code_of_a_refused_login(small: Small, dj: Program) -> None:
    dj.environment["DJ_PASS"] = "wrong"
    done = dj("inspect")
    assert done.returncode == 1
    assert "(DJM-1102)" in done.stderr
    wrong = f"mysql://{small.server.user}:wrong@{small.server.host}:{small.server.port}/"
    with pytest.raises(ConnectionFailed) as caught:
        migrate(small.map, connection=wrong)
    assert caught.value.code == "DJM-1102"


def test_a_missing_file_and_a_missing_tracking_row_have_codes_of_their_own(small: Small) -> None:
    path = small.root / "movies" / "m 3.avi"
    path.rename(path.with_suffix(".away"))
    with pytest.raises(ExternalMissing, match="1 file of external stores is missing") as caught:
        migrate(small.map, connection=small.server.url, **small.stores)
    assert caught.value.code == "DJM-1402"
    path.with_suffix(".away").rename(path)
    small.server.sql(
        "SET foreign_key_checks = 0;"
        f"DELETE FROM `{small.rig}`.`~external_raw` WHERE filepath = 'movies/m 3.avi'"
    )
    with pytest.raises(ExternalMissing, match="tracking row") as caught:
        migrate(small.map, connection=small.server.url, **small.stores)
    assert caught.value.code == "DJM-1401"


def test_every_code_that_is_raised_is_documented_and_none_else() -> None:
    sources = [*ROOT.glob("python/**/*.py"), *ROOT.glob("rust/core/src/**/*.rs")]
    raised = {
        code for path in sources for code in re.findall(r"DJM-\d{4}", path.read_text("utf-8"))
    }
    told = set(re.findall(r"DJM-\d{4}", (ROOT / "docs/reference/errors.md").read_text()))
    # The class of all others, which is never raised itself.
    assert raised - {"DJM-1000"} == told


def test_a_cutover_that_is_not_ready_ends_with_two_and_a_line_a_reason(
    small: Small, dj: Program
) -> None:
    migrated(small)
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    done = dj("cutover", "--execute")
    assert done.returncode == 2, done.stderr
    reasons = [line for line in done.stderr.splitlines() if line.startswith("✗ ")]
    assert len(reasons) >= 2
    assert "not ready for the cutover (DJM-1703)" in done.stderr


def test_a_sample_that_is_looked_at_says_rows_and_no_sql(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    before = small.schemas_there()
    done = dj("sample", "--rows", "Session=3", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "SELECT" not in done.stdout
    assert "{" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("10 rows of 4 tables would be copied")
    assert small.schemas_there() == before
    assert lines(dj("sample", "--rows", "Session=3", "--dry-run", "--json"))[-1]["result"]["plan"]


def test_a_rollback_that_is_looked_at_says_what_would_leave_production(
    small: Small, dj: Program
) -> None:
    migrated(small)
    url = small.server.url
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    words = []
    for schema in small.map:
        backup_schema(schema, f"{schema}_backup", connection=url)
        words += ["--backup", f"{schema}={schema}_backup"]
    done = dj("cutover", *words, "--execute")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "undo: dj-migrate rollback --execute" in done.stdout
    small.server.sql(
        f"INSERT INTO `{small.lab}`.mouse VALUES (901, 'rat', 1, NULL), (902, 'rat', 1, NULL);"
        f"CREATE TABLE `{small.lab}`.`brand_new` (x int PRIMARY KEY)"
    )
    looked = rollback(small.map, connection=url)
    assert looked["rows_written"] == {f"{small.lab}_v20.mouse": 2}
    assert looked["tables_new"] == [f"{small.lab}_v20.brand_new"]
    done = dj("rollback")
    assert done.returncode == 0, done.stderr
    assert f"{small.lab}_v20.mouse: +2 rows since the cutover" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("nothing was changed; with --execute it is undone, and 2 new rows would")
    assert len(done.stdout.splitlines()) < 15
    done = dj("rollback", "--execute")
    assert done.returncode == 0, done.stderr
    assert "2 new rows stay in" in done.stdout.splitlines()[-1]


def test_a_pipe_gets_whole_lines(small: Small, dj: Program, fresh: Fresh) -> None:
    long = "promise_" + "very_" * 9 + "long"
    fresh(small.server, long)
    small.server.sql(
        f"CREATE DATABASE `{long}`; CREATE TABLE `{long}`.`~log` (id int PRIMARY KEY);"
        f"CREATE TABLE `{long}`.t (id int PRIMARY KEY)"
    )
    dj.environment["COLUMNS"] = "80"
    done = dj("inspect", long)
    assert sum(long in line for line in done.stdout.splitlines()) >= 1
    row = next(line for line in done.stdout.splitlines() if line.startswith(long))
    assert "0.14" in row


def test_a_refused_command_does_not_turn_a_good_record_red(small: Small, dj: Program) -> None:
    assert dj("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    assert dj("run").returncode == 0
    refused = dj("rollback")
    assert refused.returncode == 1
    # Names, and no dict of Python.
    assert (
        f"no journal of a cutover of {small.lab} -> {small.lab}_v20, {small.rig} ->"
        in refused.stderr
    )
    assert "{" not in refused.stderr
    done = dj("report", "--json")
    assert done.returncode == 0, done.stderr
    assert lines(done)[-1]["result"]["finding"].startswith("Every value is equal")


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("typer", ""),
        ("rich", ""),
        # Loaded by a command that is under way.
        ("mysql", "interrupted (DJM-1601)\n→ nothing was changed\n"),
    ],
)
def test_ctrl_c_while_the_program_is_loaded_shows_nothing_of_python(
    tmp_path: Path, module: str, told: str
) -> None:
    # A module that is imported while it starts says so and waits.
    (tmp_path / f"{module}.py").write_text(
        "import sys, time\nprint('loading', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM}",
            *("inspect", "lab"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "".join(line for line in said.splitlines(True) if "stopping" not in line) == told


def test_a_file_in_the_folder_is_the_connection_and_a_mixture_is_told(
    small: Small, dj: Program
) -> None:
    server = small.server
    said = {"host": server.host, "port": server.port, "user": server.user}
    (dj.folder / "dj_local_conf.json").write_text(
        json.dumps({f"database.{key}": value for key, value in said.items()})
    )
    for name in ("DJ_HOST", "DJ_PORT", "DJ_USER"):
        del dj.environment[name]
    done = dj("inspect", small.lab)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    dj.environment["DJ_HOST"] = "localhost" if server.host != "localhost" else "127.0.0.1"
    done = dj("inspect", small.lab)
    # The file's port is that of its own host.
    assert f":{server.port}" not in done.stderr
    assert "DJ_HOST as set, user" in done.stderr
    assert "of dj_local_conf.json" in done.stderr


def test_a_reason_not_to_cut_over_names_the_row(small: Small) -> None:
    migrated(small)
    small.server.sql(f"DELETE FROM `{small.lab}_v20`.session__trial WHERE mouse_id = 5")
    with pytest.raises(NotReady) as caught:
        cutover(small.map, connection=small.server.url, execute=True)
    assert (
        "differ in 1 place, the first: session__trial mouse_id=5, session_date=2024-01-06, trial=1:"
        " the row is missing in the copy"
    ) in str(caught.value)
