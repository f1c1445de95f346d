"""check_blobs tells DataJoint's blobs from what other hands wrote into their columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import InvalidArgument, check_blobs, create_parallel_schema
from datajoint_migrate.verbs.look.blobs import guess
from full_pipeline import FullPipeline
from servers import Server

SCHEMA = "dmg"

CONNECT = """
import sys
import numpy as np
import datajoint as dj
host, port, user, password, schema_name = sys.argv[1:]
dj.config["database.host"] = host
dj.config["database.port"] = int(port)
dj.config["database.user"] = user
dj.config["database.password"] = password
dj.config["database.use_tls"] = False
"""

OLD = """
schema = dj.Schema(schema_name)

@schema
class Scan(dj.Manual):
    definition = '''
    day : date
    scan : int
    ---
    image=null : longblob
    small=null : blob
    paper=null : attach
    '''

paper = sys.argv[0] + "paper.txt"
with open(paper, "w") as file:
    file.write("hello")
key = dict(day="2020-01-01")
cell = np.empty((1, 2), dtype=object)
cell[0, 0], cell[0, 1] = np.zeros((2, 3)), np.ones((1, 3))
struct = np.empty((1, 1), dtype=[("a", object), ("b", object)])
struct[0, 0] = (np.zeros((2, 2)), np.ones((1, 1)))
values = [
    np.arange(5), np.zeros(5000), {"a": 1}, "text", [1, "x"], None, np.array([]), 3.5,
    {"big": np.zeros(9000)}, cell.view(dj.MatCell),
    struct.view(dj.MatStruct), b"bytes", np.float32(1), np.datetime64("2020-01-01"),
]
for number, value in enumerate(values):
    Scan.insert1(dict(key, scan=number, image=value, small=number, paper=paper))
"""

NEW = """
schema = dj.Schema(schema_name)
schema.make_classes()
key = dict(day="2021-01-01")
Scan.insert1(dict(key, scan=0, image=np.arange(3000)))
Scan.insert1(dict(key, scan=1, image=np.eye(2)))
Scan.insert1(dict(key, scan=2, small=3.5))
"""


def run(version: str, program: str, server: Server, folder: Path) -> None:
    """Run a program with a real client; it may leave files in `folder`."""
    path = folder / f"client_{version}.py"
    path.write_text(CONNECT + program)
    words = [server.host, str(server.port), server.user, server.password, SCHEMA]
    done = clients.run(
        [str(environments.python(version)), str(path), *words],
        cwd=folder,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def column(found: dict[str, Any], name: str) -> dict[str, Any]:
    (only,) = [one for one in found["columns"] if one["column"] == name]
    return dict(only)


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_what_2_0_0_wrote_as_text_is_told_from_the_blobs_of_0_14_6(
    kind: str, request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, SCHEMA)
    run("0.14.6", OLD, server, tmp_path)
    before = check_blobs(SCHEMA, connection=server.url)
    assert before["ok"], before["damaged"]
    assert before["damaged"] == []
    assert column(before, "image") == {
        "table": f"{SCHEMA}.scan",
        "column": "image",
        "marker": None,
        "rows": 14,
        "nulls": 1,
        "formats": {"ZL123": 2, "dj0": 7, "mYm": 4},
    }
    assert column(before, "paper")["formats"] == {"attach": 14}

    run("2.0.0", NEW, server, tmp_path)
    found = check_blobs(SCHEMA, "Scan", connection=server.url)
    assert not found["ok"]
    assert not found["truncated"]
    assert column(found, "image")["formats"] == {"ZL123": 2, "dj0": 7, "mYm": 4, "text": 2}
    assert [(row["column"], row["key"]["scan"]) for row in found["damaged"]] == [
        ("image", 0),
        ("image", 1),
        ("small", 2),
    ]
    assert {str(row["key"]["day"]) for row in found["damaged"]} == {"2021-01-01"}
    assert found["damaged"][0]["head"].startswith(b"[   0    1    2")
    assert all("str(array)" in row["guess"] for row in found["damaged"])


def test_a_whole_real_pipeline_has_no_damage(
    full_pipeline_mysql: FullPipeline,
) -> None:
    server = full_pipeline_mysql.server
    formats: dict[str, int] = {}
    for schema in full_pipeline_mysql.schemas:
        found = check_blobs(schema, connection=server.url)
        assert found["ok"], found["damaged"][:3]
        for one in found["columns"]:
            for name, count in one["formats"].items():
                formats[name] = formats.get(name, 0) + count
    assert formats.keys() >= {"mYm", "dj0", "ZL123", "attach"}


def put(server: Server, values: dict[str, str], kind: str = "longblob", comment: str = "") -> None:
    """A table with these values, given as SQL."""
    rows = ", ".join(f"('{name}', {value})" for name, value in values.items())
    server.sql(
        f"CREATE DATABASE `{SCHEMA}`; CREATE TABLE `{SCHEMA}`.`thing` (`name` varchar(40),"
        f" `value` {kind} COMMENT '{comment}', PRIMARY KEY (`name`));"
        f"CREATE TABLE `{SCHEMA}`.`~jobs` (`id` int PRIMARY KEY, `key` blob);"
        f"INSERT INTO `{SCHEMA}`.`~jobs` VALUES (1, 'not looked at');"
        f"INSERT INTO `{SCHEMA}`.`thing` VALUES {rows}"
    )


ZLIB = "x'789C4B4C4A06000249011B'"
BAD = {
    "array": "'[1 2 3]'",
    "bare magic": "'mYm'",
    "cut": "x'6D596D00'",
    "empty": "''",
    "npy": "x'934E554D5059010076007B'",
    "pickle": "x'8004950A'",
    "png": "x'89504E470D0A1A0A'",
    "raw": "x'00010203FF'",
    "words": "'just words'",
    "zl giant": f"CONCAT('ZL123', x'00', x'FFFFFFFFFFFFFFFF', {ZLIB})",
    "zl header": "CONCAT('ZL123', x'00', x'0300000000000000', 'not zlib')",
    "zl zero": f"CONCAT('ZL123', x'00', x'0000000000000000', {ZLIB})",
}
GOOD = {
    "good dj0": "CONCAT('dj0', x'00', 'x')",
    "good mym": "CONCAT('mYm', x'00', x'41')",
    "good zl": f"CONCAT('ZL123', x'00', x'E803000000000000', {ZLIB})",
    "null": "NULL",
}


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
@pytest.mark.parametrize("marker", ["", ":<blob>:a comment"])
def test_every_other_format_is_reported_with_a_guess(
    kind: str, marker: str, request: pytest.FixtureRequest, fresh: Fresh
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, SCHEMA)
    put(server, BAD | GOOD, comment=marker)
    found = check_blobs(SCHEMA, connection=server.url)
    guesses = {row["key"]["name"]: row["guess"] for row in found["damaged"]}
    assert guesses.keys() == BAD.keys()
    assert guesses["npy"] == "a numpy file"
    assert guesses["pickle"] == "a Python pickle"
    assert guesses["png"] == "a PNG image"
    assert guesses["raw"] == "unknown bytes"
    assert guesses["words"] == "text"
    assert guesses["empty"] == "empty"
    assert guesses["zl giant"] == "a compressed blob, cut or damaged"
    assert "str(array)" in guesses["array"]
    (only,) = found["columns"]
    assert (only["rows"], only["nulls"]) == (len(BAD) + len(GOOD), 1)
    assert only["formats"] == {
        "ZL123": 1, "dj0": 1, "empty": 1, "mYm": 1, "npy": 1, "raw": 7, "text": 3,
    }  # fmt: skip


@pytest.mark.parametrize("marker", [":attach:", ":<attach>:paper"])
def test_an_attachment_has_to_begin_with_its_name(mysql: Server, fresh: Fresh, marker: str) -> None:
    fresh(mysql, SCHEMA)
    put(
        mysql,
        {
            "bare": "'%PDF-1.4 without a name'",
            "good": "CONCAT('a b.txt', x'00', 'contents')",
            "nameless": "CONCAT(x'00', 'contents')",
            "packed": "CONCAT('mYm', x'00', 'x')",
            "unicode": "CONCAT(CONVERT('ü 猴.dat' USING utf8mb4), x'00')",
        },
        comment=marker,
    )
    found = check_blobs(SCHEMA, connection=mysql.url)
    assert [row["key"]["name"] for row in found["damaged"]] == ["bare", "nameless", "packed"]
    assert [row["guess"] for row in found["damaged"]] == [
        "a PDF document",
        "unknown bytes",
        "a packed object",
    ]


def test_what_a_codec_of_the_users_own_wrote_is_counted_but_not_judged(
    mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, SCHEMA)
    put(mysql, {"a": "'words'", "b": "CONCAT('mYm', x'00', 'x')"}, comment=":<edges>:")
    found = check_blobs(SCHEMA, connection=mysql.url)
    assert found["ok"]
    assert found["columns"][0]["formats"] == {"mYm": 1, "text": 1}


def test_the_report_is_bounded_over_all_columns(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, SCHEMA)
    put(mysql, {f"{n:03}": "'[1]'" for n in range(30)}, kind="mediumblob")
    mysql.sql(
        f"ALTER TABLE `{SCHEMA}`.`thing` ADD COLUMN `second` tinyblob;"
        f"UPDATE `{SCHEMA}`.`thing` SET `second` = 'x'"
    )
    found = check_blobs(SCHEMA, connection=mysql.url, limit=40)
    assert [row["column"] for row in found["damaged"]] == ["value"] * 30 + ["second"] * 10
    assert found["truncated"]
    assert check_blobs(SCHEMA, connection=mysql.url, limit=60)["truncated"] is False
    with pytest.raises(InvalidArgument):
        check_blobs(SCHEMA, connection=mysql.url, limit=-1)


def test_a_parallel_schema_is_looked_at_like_its_source(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, SCHEMA, f"{SCHEMA}_v20")
    put(mysql, {"a": "'[1 2]'", "b": "CONCAT('mYm', x'00', 'x')"})
    create_parallel_schema(SCHEMA, f"{SCHEMA}_v20", copy_data=True, connection=mysql.url)
    found = check_blobs(f"{SCHEMA}_v20", connection=mysql.url)
    assert [row["key"] for row in found["damaged"]] == [{"name": "a"}]
    assert found["columns"][0]["marker"] == "<blob>"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"[0.1 0.2]", "str(array)"),
        (b"array([1, 2])", "str(array)"),
        (b"{'a': 1}", "str(array)"),
        (b"<__main__.Thing object at 0x7f>", "str(array)"),
        (b"3.14", "str(array)"),
        (b"MATLAB 5.0 MAT-file", "a MAT file"),
        ("größer".encode(), "text"),
        (b"\x00\x01", "unknown bytes"),
        (b"\xff\xfe", "unknown bytes"),
    ],
)
def test_a_guess_names_what_the_bytes_look_like(head: bytes, said: str) -> None:
    assert guess(head).startswith(said)
