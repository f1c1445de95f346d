"""Code of 0.14.6 rewritten for 2.x: what is certain is done, the rest is listed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    NotFound,
    migrate_config,
    rewrite_code,
)
from places import PIPELINES
from servers import Server

DECLARE = PIPELINES / "elements" / "declare.py"
ELEMENTS = (
    *("lab", "animal", "session", "event", "array_ephys"),
    *("calcium_imaging", "deeplabcut", "miniscope", "optogenetics"),
)
SCHEMAS = (
    *("lab", "subject", "session", "event", "trial", "ephys", "probe"),
    *("scan", "imaging", "miniscope", "optogenetics", "train", "model"),
)


def command(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`dj-migrate` as a process."""
    program = str(Path(sys.executable).with_name("dj-migrate"))
    return subprocess.run([program, *words], capture_output=True, text=True, cwd=cwd)


# -- real packages -------------------------------------------------------------------------------


def sources(folder: Path) -> Path:
    """The Elements as they were published, in a folder."""
    python = environments.python("elements")
    (found,) = (python.parent.parent / "lib").glob("python3*/site-packages")
    for name in ELEMENTS:
        shutil.copytree(found / f"element_{name}", folder / f"element_{name}")
    return folder


def declared(server: Server, version: str, path: Path, prefix: str) -> dict[str, Any]:
    """The columns of all tables that a client declares from the sources at `path`."""
    words = ["127.0.0.1", str(server.port), server.user, server.password, prefix]
    done = clients.run(
        [str(environments.python(version)), str(DECLARE), *words],
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(path)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(600)
def test_published_pipelines_declare_the_same_tables_under_2x(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, *(f"{prefix}_{name}" for prefix in ("elo", "eln") for name in SCHEMAS))
    old, new = sources(tmp_path / "old"), sources(tmp_path / "new")
    before = declared(mysql, "0.14.6", old, "elo_")
    done = rewrite_code(new, execute=True)
    assert len(done["files_changed"]) > 20
    # Settings of 0.14.6 that 2.x has not are a person's to replace; every line of them is listed.
    settings = new / "element_calcium_imaging" / "__init__.py"
    lines = {each["line"] for each in done["left"] if each["file"] == str(settings)}
    assert lines == {
        number
        for number, line in enumerate(settings.read_text().splitlines(), 1)
        if "dj.config" in line and not line.startswith("#")
    }
    settings.write_text("")
    after = declared(mysql, "2.3.5", new, "eln_")
    assert len(before) > 70
    assert before.keys() == after.keys()
    different = [
        (table, *columns)
        for table in before
        for columns in zip(before[table], after[table], strict=True)
        if columns[0] != columns[1]
    ]
    # 2.x says `bool` for what MySQL calls `boolean`; both are fetched as 0 and 1.
    assert {(was[1], now[1]) for _, was, now in different} == {("tinyint(1)", "tinyint")}
    assert len(different) == 4
    # What is rewritten once is not rewritten again.
    assert rewrite_code(new)["diff"] == ""


# -- what becomes of what ------------------------------------------------------------------------

HEAD = "import datajoint as dj\nfrom core import Mouse, Session, lab, schema\n"
# What the names of HEAD are is seen in their module only.
CORE = """import datajoint as dj
schema = dj.Schema('lab')
lab = dj.VirtualModule('lab', 'lab')

@schema
class Mouse(dj.Manual):
    definition = 'mouse : int'

@schema
class Session(dj.Manual):
    definition = '-> Mouse'
"""


def written(folder: Path, code: str) -> Path:
    """A program `program.py` in a folder, beside the module that its names come from."""
    (folder / "core.py").write_text(CORE)
    file = folder / "program.py"
    file.write_text(HEAD + code)
    return file


REWRITTEN = {
    "names": ("dj.schema('x')\ndj.ERD(s)\n", "dj.Schema('x')\ndj.Diagram(s)\n"),
    "virtual modules": (
        "m = dj.create_virtual_module('m', 'lab')\n",
        "m = dj.VirtualModule('m', 'lab')\n",
    ),
    "fetch": ("x = Mouse.fetch()\n", "x = Mouse.to_arrays()\n"),
    "dicts": (
        "x = (Mouse & key).fetch(as_dict=True, limit=3)\n",
        "x = (Mouse & key).to_dicts(limit=3)\n",
    ),
    "keys": ("x = (lab.Mouse() - 'a=1').fetch('KEY')\n", "x = (lab.Mouse() - 'a=1').keys()\n"),
    "attributes": ("a, b = Mouse.fetch('a', 'b')\n", "a, b = Mouse.to_arrays('a', 'b')\n"),
    "keys and attributes": (
        "k, b = Mouse.proj().fetch('KEY', 'b')\n",
        "k, b = Mouse.proj().to_arrays('b', include_key=True)\n",
    ),
    "frames": ("x = Mouse.fetch(format='frame')\n", "x = Mouse.to_pandas()\n"),
    "a query with a name": (
        "def f(key):\n    q = Mouse * Session & key\n    return q.fetch()\n",
        "def f(key):\n    q = Mouse * Session & key\n    return q.to_arrays()\n",
    ),
    "joins": ("x = Mouse @ Session\n", "x = Mouse.join(Session, semantic_check=False)\n"),
    "updates": (
        "(Mouse & key)._update('weight', 3)\n",
        "Mouse.update1({**key, 'weight': 3})\n",
    ),
    "a setting": ("dj.config['enable_python_native_blobs'] = True\nx = 1\n", "x = 1\n"),
    "definitions": (
        "@schema\nclass Mouse(dj.Manual):\n"
        '    definition = """  # mice : longblob\n'
        "    mouse_id : int unsigned   # it's : blob@raw\n"
        "    ---\n"
        "    -> Strain\n"
        "    note = ':# longblob' : varchar(30)\n"
        "    time = null : longblob  # a # b\n"
        "    movie : blob@raw\n"
        "    paper: attach@my-docs # longblob\n"
        "    file: filepath@raw\n"
        "    old : external-raw\n"
        '    sex = "M" : enum("M", "F")\n'
        "    alive : boolean\n"
        '    """\n',
        "@schema\nclass Mouse(dj.Manual):\n"
        '    definition = """  # mice : longblob\n'
        "    mouse_id : int unsigned   # it's : blob@raw\n"
        "    ---\n"
        "    -> Strain\n"
        "    note = ':# longblob' : varchar(30)\n"
        "    time = null : <blob>  # a # b\n"
        "    movie : <blob@raw>\n"
        "    paper: <attach@my-docs> # longblob\n"
        "    file: <filepath@raw>\n"
        "    old : <blob@raw>\n"
        "    sex = \"M\" : enum('M', 'F')\n"
        "    alive : bool\n"
        '    """\n',
    ),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_what_is_certain_is_rewritten(tmp_path: Path, name: str) -> None:
    before, after = REWRITTEN[name]
    file = written(tmp_path, before)
    shown = rewrite_code(file)
    assert file.read_text() == HEAD + before
    assert not shown["executed"]
    done = rewrite_code(file, execute=True)
    assert file.read_text() == HEAD + after
    assert done["left"] == []
    assert done["diff"] == shown["diff"] != ""
    assert done["changes"]


LEFT = {
    "something else's fetch": ("connection.fetch('SELECT 1')\n", "may be no table"),
    "attributes of a variable": ("Mouse.fetch(*names)\n", "only a run tells"),
    "dicts of attributes": ("Mouse.fetch('a', as_dict=True)\n", "has the key as well"),
    "keys behind": ("a, k = Mouse.fetch('a', 'KEY')\n", "keys first"),
    "downloads": ("Mouse.fetch('a', download_path='x')\n", "config.override"),
    "matrices": ("x = a @ b\n", "may be no tables"),
    "positions": ("Mouse.insert1((1, 'x'))\n", "by position"),
    "rows by position": ("Mouse.insert([(1, 'x')])\n", "by position"),
    "settings": ("dj.config['custom'] = {}\n", "config"),
    "saved settings": ("dj.config.save_local()\n", "no dj.config.save_local"),
    "what is gone": ("dj.kill()\n", "no dj.kill"),
    "a definition that is made": (
        "class Mouse(dj.Manual):\n    definition = f'a : {kind}'\n",
        "no plain string",
    ),
    "a codec": (
        "class Mouse(dj.Manual):\n    definition = 'a : <packed>'\n",
        "needs a codec",
    ),
    "a type that is refused": (
        "class Mouse(dj.Manual):\n    definition = 'a : varbinary(9)'\n",
        "declares no varbinary",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_certain_is_left_and_listed_with_its_line(tmp_path: Path, name: str) -> None:
    code, why = LEFT[name]
    file = written(tmp_path, code)
    done = rewrite_code(tmp_path, execute=True)
    assert file.read_text() == HEAD + code
    (one,) = done["left"]
    assert why in one["what"]
    assert one["file"] == str(file)
    assert one["line"] in (3, 4)


@pytest.mark.parametrize("name", REWRITTEN)
def test_what_is_rewritten_is_not_rewritten_again(tmp_path: Path, name: str) -> None:
    written(tmp_path, REWRITTEN[name][0])
    rewrite_code(tmp_path, execute=True)
    again = rewrite_code(tmp_path, execute=True)
    assert (again["diff"], again["left"]) == ("", [])


STAGED = """
@schema
class Movie(dj.Imported):
    definition = \"\"\"
    -> Session
    ---
    film : filepath@raw   # filepath@none
    sheet = null : <filepath@raw>
    \"\"\"

    def make(self, key):
        self.insert1({**key, 'film': '/stage/film.avi'})
"""


def test_inserts_of_files_that_0146_took_from_a_stage_are_left_and_listed(tmp_path: Path) -> None:
    file = written(tmp_path, STAGED)
    other = tmp_path / "other.py"
    other.write_text("from program import Movie\nMovie().insert(rows)\nMovie.delete()\n")
    done = rewrite_code(tmp_path, execute=True)
    assert "film : <filepath@raw>" in file.read_text()
    assert [(Path(one["file"]).name, one["line"]) for one in done["left"]] == [
        ("other.py", 2),
        ("program.py", 14),
    ]
    for one in done["left"]:
        assert "film: 2.x copies no file out of a stage" in one["what"]
    # What stands there in 2.x's words has been looked at by a person.
    assert rewrite_code(tmp_path)["left"] == []


def test_files_that_are_none_of_datajoints_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("x = a @ b\nrepository.fetch()\n")
    (tmp_path / "broken.py").write_text("import datajoint as dj\ndef\n")
    (tmp_path / "latin.py").write_bytes(b"import datajoint\n# \xe9\n")
    done = rewrite_code(tmp_path, execute=True)
    assert done["files_changed"] == []
    assert {Path(one["file"]).name for one in done["left"]} == {"broken.py", "latin.py"}
    with pytest.raises(NotFound, match="there is no"):
        rewrite_code(tmp_path / "nowhere")


ADAPTED = '''import datajoint as dj
schema = dj.schema('code_adapted')

class Pair(dj.AttributeAdapter):
    """Two numbers."""
    attribute_type = 'varchar(30)'

    def put(self, pair):
        return '%d %d' % pair

    def get(self, text):
        return tuple(int(word) for word in text.split())

pair = Pair()

@schema
class Point(dj.Manual):
    definition = """
    id : int
    ---
    at : <pair>
    """

Point.insert1({'id': 1, 'at': (3, 4)}, skip_duplicates=True)
print((Point & {'id': 1}).fetch1('at'))
'''


def test_an_adapter_becomes_a_codec_that_reads_and_writes_the_same(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "code_adapted")
    file = tmp_path / "points.py"
    file.write_text(ADAPTED)
    # 0.14.6 takes a port from its file only.
    (tmp_path / "dj_local_conf.json").write_text(json.dumps({"database.port": mysql.port}))
    reach = {
        "DJ_HOST": "127.0.0.1",
        "DJ_PORT": str(mysql.port),
        "DJ_USER": mysql.user,
        "DJ_PASS": mysql.password,
        "DJ_SUPPORT_ADAPTED_TYPES": "TRUE",
    }

    def run(version: str) -> str:
        words = [str(environments.python(version)), "-W", "ignore", str(file)]
        done = clients.run(words, cwd=tmp_path, env={**os.environ, **reach})
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    assert run("0.14.6") == "(3, 4)"
    done = rewrite_code(file, execute=True)
    assert any("codec pair through" in one["what"] for one in done["left"])
    assert "class Pair(dj.Codec):" in file.read_text()
    assert run("2.3.5") == "(3, 4)"


def test_the_command_shows_the_difference_and_writes_when_it_is_told_to(tmp_path: Path) -> None:
    file = written(tmp_path, "x = Mouse.fetch()\n")
    shown = command("code", str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert "-x = Mouse.fetch()" in shown.stdout
    assert "+x = Mouse.to_arrays()" in shown.stdout
    assert "fetch()" in file.read_text()
    assert command("code", str(tmp_path), "--execute").returncode == 0
    assert "to_arrays()" in file.read_text()
    file.write_text(HEAD + "Mouse.insert1((1, 2))\n")
    left = command("code", str(tmp_path), "--json")
    assert left.returncode == 2
    assert json.loads(left.stdout)["result"]["left"][0]["line"] == 3
    assert command("code", str(tmp_path / "nowhere")).returncode == 1


# -- configuration -------------------------------------------------------------------------------

SAVE = """
import datajoint as dj
dj.config.update({"database.host": "db.lab.org", "database.user": "me", "database.port": 3307})
dj.config["database.password"] = "pass word"
dj.config["loglevel"] = "WARNING"
dj.config["custom"] = {"database.prefix": "lab_"}
dj.config["stores"] = {
    "raw": dict(protocol="file", location="RAW", subfolding=[2, 2], stage="RAW"),
    "far": dict(protocol="s3", endpoint="s3.org", bucket="b", location="/x", access_key="key",
                secret_key="hush", secure=True),
}
dj.config.save("dj_local_conf.json")
"""
READ = """
import json, datajoint as dj
db = dj.config.database
print(json.dumps([db.host, db.port, db.user, db.password.get_secret_value(),
      {name: dj.config.get_store_spec(name) for name in ("raw", "far")}, dj.config.loglevel]))
"""


def spoken(version: str, code: str, folder: Path) -> str:
    """What a client prints, run in a folder."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DJ_")}
    done = clients.run(
        [str(environments.python(version)), "-W", "ignore", "-c", code],
        cwd=folder,
        env=clean,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", ["2.3.5", "2.0.0"])
def test_2x_reads_the_settings_that_0146_saved(tmp_path: Path, version: str) -> None:
    (tmp_path / "raw").mkdir()
    spoken("0.14.6", SAVE.replace("RAW", str(tmp_path / "raw")), tmp_path)
    shown = command("config", "dj_local_conf.json", cwd=tmp_path)
    # `custom` is left to its owner.
    assert shown.returncode == 2, shown.stderr
    assert not (tmp_path / "datajoint.json").exists()
    assert command("config", "--execute", cwd=tmp_path).returncode == 2
    host, port, user, password, stores, level = json.loads(spoken(version, READ, tmp_path))
    assert (host, port, user, password) == ("db.lab.org", 3307, "me", "pass word")
    assert level == "WARNING"
    assert stores["raw"]["location"] == str(tmp_path / "raw")
    assert stores["raw"]["subfolding"] == [2, 2]
    assert stores["far"]["secret_key"] == "hush"
    assert stores["far"]["bucket"] == "b"
    # 0.14.6 leaves the root away, 2.x takes what is written.
    assert stores["far"]["location"] == "x"
    # No secret but in the files that only their owner may read.
    for text in (shown.stdout, shown.stderr, (tmp_path / "datajoint.json").read_text()):
        assert "hush" not in text
        assert "pass word" not in text
    for file in (tmp_path / ".secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / ".secrets").stat().st_mode) == 0o700


def test_a_stage_is_told_and_is_no_reason_to_stop(tmp_path: Path) -> None:
    stores = {"raw": {"protocol": "file", "location": "/data", "stage": "/stage"}}
    (tmp_path / "dj_local_conf.json").write_text(
        json.dumps({"database.host": "h", "database.user": "u", "stores": stores})
    )
    done = command("config", "--execute", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stores.raw.stage: 2.x copies nothing out of a stage" in done.stdout
    made = json.loads((tmp_path / "datajoint.json").read_text())
    assert made["stores"]["raw"] == {"protocol": "file", "location": "/data"}


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    source = tmp_path / "dj_local_conf.json"
    source.write_text(json.dumps({"database.host": "h", "database.user": "u", "fetch_format": 1}))
    (tmp_path / "datajoint.json").write_text("mine")
    with pytest.raises(DestinationNotEmpty, match=r"datajoint\.json"):
        migrate_config(source, tmp_path, execute=True)
    assert (tmp_path / "datajoint.json").read_text() == "mine"
    assert not (tmp_path / ".secrets").exists()
    done = migrate_config(source, tmp_path / "new", execute=True)
    assert done["left"] == ["fetch_format: 2.x has no such setting"]
    assert (tmp_path / "new" / ".secrets" / "database.user").read_text() == "u"


def test_what_is_no_configuration_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.json"):
        migrate_config(tmp_path / "nowhere.json", tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InvalidArgument, match=r"broken\.json"):
        migrate_config(tmp_path / "broken.json", tmp_path)
