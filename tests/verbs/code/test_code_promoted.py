"""Code of columns that become object storage: their types are written, their fetches are marked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import clients
from conftest import Fresh
from datajoint_migrate import InvalidArgument, promote, rewrite_code
from environments import python
from promoting import packed, table
from servers import Server

PROMOTE = {"lab.Session.signal": "npy@raw", "lab.__session__trial.data": "npy@raw"}
NOTED = "is object storage now: what is fetched is a reference, and the array its .load()"

CODE = '''import datajoint as dj

schema = dj.schema("lab")


@schema
class Session(dj.Manual):
    definition = """
    id : int
    ---
    signal = null : longblob  # what was measured
    note = null : longblob
    """

    class Trial(dj.Part):
        definition = """
        -> Session
        ---
        data = null : longblob
        """

        def first(self):
            return self.fetch1("data")


@schema
class Other(dj.Manual):
    definition = """
    id : int
    ---
    signal = null : longblob
    """


key = {"id": 1}
(Session & key).fetch1("signal")
(Session & key & "note is null").fetch("signal", "note")
(Session & key).fetch1("signal").load()
Session.fetch("note")
Session.Trial.fetch(as_dict=True)
(Session * Session.Trial).fetch1()
Other.fetch1("signal")
(Session & key).proj(x="signal").fetch("x")
Session.proj("signal").fetch("signal")
'''
MARKED = [
    ("data", 'self.fetch1("data")'),
    ("signal", '(Session & key).fetch1("signal")\n'),
    ("signal", '(Session & key & "note is null")'),
    ("data", "Session.Trial.fetch(as_dict=True)"),
    ("data", "(Session * Session.Trial)"),
    ("signal", "(Session * Session.Trial)"),
    ("signal", 'Session.proj("signal")'),
]


def expected(text: str) -> set[tuple[int, str]]:
    return {
        (text[: text.index(found)].count("\n") + 1, f"{column} {NOTED}") for column, found in MARKED
    }


def test_types_are_written_and_fetches_are_marked(tmp_path: Path) -> None:
    file = tmp_path / "lab.py"
    file.write_text(CODE)
    done = rewrite_code(file, promote=PROMOTE, execute=True)
    made = file.read_text()
    assert "signal = null : <npy@raw>  # what was measured" in made
    assert "data = null : <npy@raw>\n" in made
    assert "note = null : <blob>" in made
    # The same name in another table is another column.
    assert made.count("<npy@raw>") == 2
    assert made.count("signal = null : <blob>") == 1
    marked = {(one["line"], one["what"]) for one in done["left"] if NOTED in one["what"]}
    assert marked == expected(CODE)
    # Code of 2.x is marked as well, and nothing of it is changed.
    again = rewrite_code(file, promote=PROMOTE)
    assert again["files_changed"] == []
    assert len([one for one in again["left"] if NOTED in one["what"]]) == len(MARKED)
    assert not [one for one in rewrite_code(file)["left"] if NOTED in one["what"]]


def test_columns_that_are_no_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lab.py").write_text(CODE)
    for name, to in (("signal", "npy@raw"), ("lab.signal", "npy@raw"), ("lab.Session.x", "npy")):
        with pytest.raises(InvalidArgument):
            rewrite_code(tmp_path, promote={name: to})


def test_other_codecs_are_fetched_as_ever(tmp_path: Path) -> None:
    (tmp_path / "lab.py").write_text(CODE)
    done = rewrite_code(tmp_path, promote={"lab.Session.signal": "blob@raw"})
    assert "+    signal = null : <blob@raw>  # what was measured" in done["diff"]
    assert not [one for one in done["left"] if NOTED in one["what"]]


def test_the_command_takes_them_from_the_plan(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "lab.py").write_text(CODE)
    plan = '[promote]\n"lab.Session.signal" = "npy@raw"\n'
    (tmp_path / "plan.toml").write_text(plan)
    program = str(Path(sys.executable).with_name("dj-migrate"))
    words = ["code", "code", "-c", "plan.toml", "--promote", "lab.Session.Trial.data=npy@raw"]
    done = subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("<npy@raw>") == 2
    assert f"signal {NOTED}" in " ".join(done.stdout.split())


def test_the_rewritten_code_reads_what_was_promoted(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "coded")
    (tmp_path / "raw").mkdir()
    stores = {"raw": {"protocol": "file", "location": str(tmp_path / "raw")}}
    table(mysql, "coded", [packed(1.0, 2.0), None])
    promote("coded", "Session", "signal", "npy@raw", stores=stores, connection=mysql.url)
    source = '''import datajoint as dj

schema = dj.schema("coded")


@schema
class Session(dj.Manual):
    definition = """
    id : int
    ---
    signal = null : longblob  # what was measured
    """
'''
    (tmp_path / "code").mkdir()
    file = tmp_path / "code" / "lab.py"
    file.write_text(source)
    rewrite_code(file, promote={"coded.Session.signal": "npy@raw"}, execute=True)
    reach = {"host": mysql.host, "user": mysql.user, "password": mysql.password}
    run = f"""
import json
import datajoint as dj
for name, value in {reach!r}.items():
    dj.config[f"database.{{name}}"] = value
dj.config["database.port"] = {mysql.port}
dj.config["database.use_tls"] = False
dj.config.stores["raw"] = json.loads({json.dumps(json.dumps(stores["raw"]))})
import lab
value = (lab.Session & "id = 0").fetch1("signal")
print(type(value).__name__, list(value.shape), value.load().tolist())
print((lab.Session & "id = 1").fetch1("signal"))
"""
    for version in ("2.3.5", "2.0.0"):
        done = clients.run(
            [str(python(version)), "-c", run],
            cwd=tmp_path / "code",
            env={**os.environ, "PYTHONPATH": str(tmp_path / "code")},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-2:] == ["NpyRef [2] [1.0, 2.0]", "None"], version
