"""What can be promoted is seen beforehand, by the first bytes of the values that 0.14.6 packed."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
import promoting
from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    check_blobs,
    create_parallel_schema,
    inspect_schemas,
    unpack_header,
)
from program import program
from promoting import literal, packed, table
from servers import Server

SCHEMA = "headed"

# The words of 2.x's own refusals, and what the header says of the same values.
OLD = """
import sys
import numpy as np
import datajoint as dj
host, port, user, password = sys.argv[1:]
dj.config.update({"database.host": host, "database.port": int(port), "database.user": user,
                  "database.password": password, "database.use_tls": False})
schema = dj.Schema("headed")

@schema
class Scan(dj.Manual):
    definition = '''
    scan : int
    ---
    image=null : longblob
    mixed=null : longblob
    nothing=null : longblob
    paper=null : attach
    '''

with open("paper.txt", "w") as file:
    file.write("hello")
mixed = [np.arange(3), [1, 2], "text", {"a": 1}, np.float32(2), None]
for number in range(6):
    image = np.full((82, 384), number, dtype="float32") if number else np.zeros((0, 3))
    Scan.insert1(dict(scan=number, image=image, mixed=mixed[number], paper="paper.txt"))
"""


def run_old(server: Server, folder: Path) -> None:
    (folder / "old.py").write_text(OLD)
    reach = [server.host, str(server.port), server.user, server.password]
    words = [str(environments.python("0.14.6")), str(folder / "old.py"), *reach]
    done = clients.run(words, cwd=folder)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def of(found: list[Any], column: str) -> dict[str, Any]:
    (only,) = [one for one in found if one["column"] == column]
    return dict(only)


@pytest.mark.parametrize("name", sorted(promoting.kinds()))
def test_a_header_says_what_2x_makes_of_the_value(name: str) -> None:
    blob, told = promoting.kinds()[name], promoting.theirs()[name]
    said = unpack_header(blob)
    assert said == unpack_header(blob[:1024], len(blob))
    if name in promoting.arrays():
        assert said == {"kind": "array", "dtype": told["dtype"], "shape": told["shape"]}
    else:
        # What lies behind the header is not looked at: only a proof finds that it is cut.
        assert said["kind"] != "array" or name in {"ZL cut", "ZL damaged"}


def test_the_data_are_not_inflated() -> None:
    head = b"mYm\0A" + b"".join(n.to_bytes(8, "little") for n in (2, 1 << 20, 1 << 9))
    head += (7).to_bytes(4, "little") + bytes(4)
    whole = len(head) + 4 * (1 << 29)
    # Two GiB of zeros in two MB, of which one kilobyte is there.
    packer = zlib.compressobj(1)
    begun = packer.compress(head + bytes(1 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    blob = b"ZL123\0" + whole.to_bytes(8, "little") + begun
    said = unpack_header(blob[:1024], 2_200_000)
    assert said == {"kind": "array", "dtype": "float32", "shape": [1 << 20, 1 << 9]}


def test_what_is_no_packed_value_has_a_kind_and_no_shape() -> None:
    good = packed(1.0, 2.0)
    for blob, kind in (
        (b"", "empty"),
        (b"[0 1 2]", "text"),
        (b"\x00\x01\x02\x03\x04", "no blob"),
        (good[:-1], "damaged"),
        (good + b"x", "damaged"),
        (b"mYm\0A" + b"\xff" * 40, "damaged"),
        (b"ZL123\0" + b"\xff" * 8 + zlib.compress(good), "damaged"),
    ):
        assert unpack_header(blob) == {"kind": kind, "dtype": None, "shape": None}, blob
    with pytest.raises(InvalidArgument, match="blob of unpack_header"):
        unpack_header("mYm")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_a_lab_sees_what_can_be_promoted_and_what_it_saves(
    kind: str, request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, SCHEMA, f"{SCHEMA}_v20")
    run_old(server, tmp_path)
    found = check_blobs(SCHEMA, connection=server.url)
    assert found["ok"]
    stored = server.sql(f"SELECT SUM(LENGTH(image)) FROM {SCHEMA}.scan")[0][0]
    image = of(found["promotable"], "image")
    assert image == {
        "table": f"{SCHEMA}.scan",
        "column": "image",
        "marker": None,
        "becomes": "npy",
        "rows": 6,
        "nulls": 0,
        "bytes": int(str(stored)),
        "file_bytes": 5 * (128 + 4 * 82 * 384) + 128,
        "kinds": {"array": 6},
        "dtypes": {"float32": 5, "float64": 1},
        "shapes": [
            {"dtype": "float32", "shape": [82, 384], "rows": 5},
            {"dtype": "float64", "shape": [0, 3], "rows": 1},
        ],
        "other_shapes": 0,
        "sampled": False,
    }
    mixed = of(found["promotable"], "mixed")
    assert (mixed["becomes"], mixed["rows"], mixed["nulls"]) == ("blob", 5, 1)
    assert mixed["kinds"] == {"array": 1, "list": 1, "str": 1, "dict": 1, "scalar": 1}
    nothing = of(found["promotable"], "nothing")
    assert (nothing["becomes"], nothing["rows"], nothing["nulls"]) == ("blob", 0, 6)
    paper = of(found["promotable"], "paper")
    assert (paper["becomes"], paper["rows"], paper["kinds"]) == ("attach", 6, {})

    (seen,) = inspect_schemas([SCHEMA], connection=server.url)["schemas"]
    assert seen["promotable"] == found["promotable"]
    create_parallel_schema(SCHEMA, f"{SCHEMA}_v20", copy_data=True, connection=server.url)
    copied = check_blobs(f"{SCHEMA}_v20", connection=server.url)["promotable"]
    names = ("column", "becomes", "rows", "bytes", "file_bytes", "shapes")
    assert [[one[name] for name in names] for one in copied] == [
        [one[name] for name in names] for one in found["promotable"]
    ]


def test_beside_other_things_only_the_first_rows_are_looked_at(
    mysql: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh(mysql, SCHEMA)
    values: list[bytes | None] = [packed(1.0, 2.0)] * 8 + [promoting.kinds()["dict"]]
    table(mysql, SCHEMA, values)
    mysql.sql(
        f"CREATE TABLE {SCHEMA}.`~lineage` (a int PRIMARY KEY); ANALYZE TABLE {SCHEMA}.session"
    )
    module = "datajoint_migrate.verbs.look.heads.LIMITS.head_"
    (seen,) = inspect_schemas([SCHEMA], connection=mysql.url)["schemas"]
    assert (seen["promotable"][0]["becomes"], seen["promotable"][0]["sampled"]) == ("blob", False)
    for bound, value, rows in (("rows", 5, 5), ("bytes", 1, 1)):
        with monkeypatch.context() as patched:
            patched.setattr(module + bound, value)
            (seen,) = inspect_schemas([SCHEMA], connection=mysql.url)["schemas"]
        (only,) = seen["promotable"]
        assert (only["rows"], only["becomes"], only["sampled"]) == (rows, "npy", True)


def test_columns_of_keys_and_of_codecs_of_ones_own_are_not_promised(
    mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0)], marker="<edges>")
    mysql.sql(
        f"CREATE TABLE {SCHEMA}.keyless (raw longblob COMMENT ':bytes:', `signal` longblob);"
        f"INSERT INTO {SCHEMA}.keyless VALUES ('x', {literal(packed(1.0))}), (NULL, NULL)"
    )
    found = check_blobs(SCHEMA, connection=mysql.url)["promotable"]
    told = {(one["table"], one["column"]): one["becomes"] for one in found}
    assert told == {
        (f"{SCHEMA}.session", "signal"): None,
        # Without a primary key no row can be told from another.
        (f"{SCHEMA}.keyless", "raw"): None,
        (f"{SCHEMA}.keyless", "signal"): None,
    }
    signal = next(one for one in found if one["column"] == "signal" and one["rows"] == 1)
    assert signal["nulls"] in (0, 1)


def test_the_commands_tell_it(mysql: Server, fresh: Fresh, tmp_path: Path) -> None:
    fresh(mysql, SCHEMA)
    values = [packed(1.0, 2.0), packed(3.0, 4.0), packed(5.0)]
    table(mysql, SCHEMA, list(values))
    mysql.sql(f"CREATE TABLE {SCHEMA}.`~lineage` (a int PRIMARY KEY)")
    dj = program(mysql, tmp_path / "here")
    size = sum(map(len, values))
    line = (
        f"{SCHEMA}.session.signal: 3 arrays (2 × float64 [2], 1 × float64 [1]), {size} bytes; can"
        f" become npy@store, {3 * 128 + 40} bytes of files"
    )
    for command in ("blobs", "inspect"):
        done = dj(command, SCHEMA)
        assert line in " ".join(done.stdout.split()), done.stdout + done.stderr
    events = [json.loads(text) for text in dj("blobs", SCHEMA, "--json").stdout.splitlines()]
    (result,) = [event for event in events if event["event"] == "result"]
    assert result["result"]["promotable"][0]["shapes"][0]["rows"] == 2
