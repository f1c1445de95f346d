"""Blob columns that become object storage while they are in use, read by the real 2.x clients."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import promoting
from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    MigrationError,
    NotFound,
    StoreMissing,
    Unconvertible,
    promote,
)
from datajoint_migrate.verbs.move import promote as module
from environments import python
from faulty import faulty
from program import program
from promoting import client, literal, objects, packed, seen, table
from s3 import Bucket
from servers import Server

SCHEMA = "promoted"
NEW, OLD = "_signal_new", "_signal_old"


@pytest.fixture
def store(tmp_path: Path) -> dict[str, Any]:
    """The folder `raw` as a 2.x store."""
    (tmp_path / "raw").mkdir()
    return {"raw": {"protocol": "file", "location": str(tmp_path / "raw")}}


def root(stores: dict[str, Any], name: str = "raw") -> Path:
    return Path(stores[name]["location"])


def rows(server: Server, column: str = "signal") -> list[Any]:
    return promoting.rows(server, SCHEMA, column)


def columns(server: Server, name: str = "session") -> dict[str, tuple[str, str, str]]:
    """Type, nullability and comment of each column."""
    found = server.sql(
        "SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE, COLUMN_COMMENT FROM information_schema.COLUMNS"
        f" WHERE TABLE_SCHEMA = '{SCHEMA}' AND TABLE_NAME = '{name}'"
    )
    return {str(one[0]): (str(one[1]), str(one[2]), str(one[3])) for one in found}


def triggers(server: Server) -> int:
    found = server.sql(
        f"SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{SCHEMA}'"
    )
    return int(str(found[0][0]))


def test_both_clients_read_every_kind_of_array_equal_and_no_file_is_an_orphan(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    names = list(promoting.arrays())
    table(mysql, SCHEMA, list(promoting.arrays().values()), null="NOT NULL")
    result = promote(SCHEMA, "Session", "signal", "npy@raw", stores=store, connection=mysql.url)
    assert (result["rows_promoted"], result["rows_null"]) == (len(names), 0)
    assert result["files_written"] == len(names)
    assert result["match"] is True
    assert result["refused"] == {}
    told = promoting.theirs()
    for at, (name, found) in enumerate(zip(names, rows(mysql), strict=True)):
        file = root(store) / found["path"]
        assert file.read_bytes() == promoting.file_of(name), name
        assert found["path"].startswith(f"_schema/{SCHEMA}/session/id={at}/signal_"), name
        assert (found["dtype"], found["shape"]) == (told[name]["dtype"], told[name]["shape"])
        assert found["store"] == "raw"
        assert found["size"] == file.stat().st_size
        assert found["md5"] == hashlib.md5(file.read_bytes()).hexdigest()
    assert columns(mysql)["signal"] == ("json", "NO", ":<npy@raw>:what was measured")
    assert columns(mysql)[OLD] == ("longblob", "NO", ":<blob>:what was measured")
    for version in ("2.3.5", "2.0.0"):
        said = client(python(version), mysql, SCHEMA, store, "read")
        assert len(said["rows"]) == len(names)
        for name, (_, values) in zip(names, said["rows"], strict=True):
            dtype, shape, data = values["signal"]
            assert (dtype, shape) == (told[name]["dtype"], told[name]["shape"]), (version, name)
            assert data == _data_of(promoting.file_of(name)), (version, name)
        assert any("signal" in line and "<npy@raw>" in line for line in said["definition"])
    collected = client(python("2.3.5"), mysql, SCHEMA, store, "orphans")["raw"]
    assert collected["schema_paths_orphaned"] == 0
    assert collected["schema_paths_referenced"] == len(names)
    for version in ("2.3.5", "2.0.0"):
        made = client(python(version), mysql, SCHEMA, store, "insert")
        assert made[:2] == ["float64", [2, 3]]
        mysql.sql(f"DELETE FROM {SCHEMA}.session WHERE id = 1000")


def _data_of(file: bytes) -> str:
    """The hash of an array's elements, as its file has them: in Fortran's order."""
    return hashlib.sha256(file[10 + int.from_bytes(file[8:10], "little") :]).hexdigest()


def test_what_cannot_be_promoted_stops_everything_before_anything_is_written(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    every = promoting.kinds()
    table(mysql, SCHEMA, list(every.values()))
    before = columns(mysql)
    with pytest.raises(Unconvertible) as caught:
        promote(SCHEMA, "session", "signal", "npy@raw", stores=store, connection=mysql.url)
    error = caught.value
    assert error.code == "DJM-1302"
    refused = error.context["refused"]
    arrays = promoting.arrays()
    assert sum(refused.values()) == len(every) - len(arrays)
    assert refused["list"] == 5
    assert refused["scalar"] == 23
    assert refused["text"] == refused["no blob"] == refused["empty"] == 1
    first = next(at for at, name in enumerate(every) if name not in arrays)
    assert error.context["examples"][0]["key"] == {"id": str(first)}
    assert "blob@raw" in str(error)
    result = promote(
        SCHEMA, "session", "signal", "npy@raw", stores=store, connection=mysql.url,
        on_other="report",
    )  # fmt: skip
    assert (result["match"], result["rows_promoted"]) == (False, 0)
    assert result["refused"] == refused
    assert result["kinds"]["array"] == len(arrays)
    assert any(f"{len(arrays)} values are arrays" in note for note in result["notes"])
    assert columns(mysql) == before
    assert (objects(root(store)), triggers(mysql)) == ([], 0)


@pytest.mark.parametrize("bad", sorted(set(promoting.kinds()) - set(promoting.arrays())))
def test_each_kind_that_is_no_array_is_refused_alone(bad: str) -> None:
    from datajoint_migrate import _core

    kind, dtype, _ = _core.unpack_header(promoting.kinds()[bad])
    assert kind != "array" or bad in {"ZL cut", "ZL damaged"}
    assert dtype is None or kind in {"scalar", "array"}


def test_one_bad_row_in_ten_thousand_is_named(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0, 2.0)])
    mysql.sql(
        "SET SESSION cte_max_recursion_depth = 20000;"
        f"INSERT INTO {SCHEMA}.session WITH RECURSIVE r AS (SELECT 1 n UNION ALL SELECT n + 1 FROM"
        f" r WHERE n < 9999) SELECT n, {literal(packed(1.0, 2.0))} FROM r"
    )
    mysql.sql(f"UPDATE {SCHEMA}.session SET `signal` = x'5b3020315d' WHERE id = 7654")
    result = promote(
        SCHEMA, "session", "signal", "npy@raw", stores=store, connection=mysql.url, dry_run=True
    )
    assert result["kinds"] == {"array": 9999, "text": 1}
    assert [one["key"] for one in result["examples"]] == [{"id": "7654"}]
    assert objects(root(store)) == []


def test_null_stays_null_and_equal_arrays_have_files_of_their_own(
    server: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, [packed(1.0), None, packed(1.0), None, packed(2.0)])
    result = promote(SCHEMA, "session", "signal", "npy@raw", stores=store, connection=server.url)
    assert (result["rows_promoted"], result["rows_null"]) == (3, 2)
    assert (result["files_written"], len(objects(root(store)))) == (3, 3)
    found = rows(server)
    assert found[1] is found[3] is None
    assert found[0]["path"] != found[2]["path"]
    assert found[0]["md5"] == found[2]["md5"]
    said = client(python("2.3.5"), server, SCHEMA, store, "read")
    values = [row[1]["signal"] for row in said["rows"]]
    none = ["NoneType", "None"]
    assert values == [seen((1.0,)), none, seen((1.0,)), none, seen((2.0,))]
    again = promote(SCHEMA, "session", "signal", "npy@raw", stores=store, connection=server.url)
    assert (again["rows_promoted"], again["files_written"], again["match"]) == (0, 0, True)
    gone = promote(
        SCHEMA, "session", "signal", "npy@raw", stores=store, connection=server.url, drop_old=True
    )
    assert gone["old_column"] is None
    assert OLD not in columns(server)
    with pytest.raises(NotFound, match="no old column"):
        promote(
            SCHEMA, "session", "signal", "npy@raw", stores=store, connection=server.url, undo=True
        )


def test_every_kind_of_key_becomes_folders_as_2x_spells_them(
    server: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(server, SCHEMA)
    server.sql(
        f"CREATE DATABASE {SCHEMA}; CREATE TABLE {SCHEMA}.`#key` (s varchar(200) COLLATE"
        " utf8mb4_bin NOT NULL, d date NOT NULL, t datetime(6) NOT NULL, u binary(16) NOT NULL"
        " COMMENT ':uuid:', f double NOT NULL, n decimal(8,3) NOT NULL, e enum('a b','c') NOT NULL,"
        f" x longblob COMMENT ':<blob>:', PRIMARY KEY (s,d,t,u,f,n,e))"
    )
    texts = ["plain", "with space", "sl/ash", "ünï", "a%b", "..", "q'uote", "new\nline", ""]
    texts += ["x" * 120, "ü" * 101]
    for text in texts:
        server.sql(
            f"INSERT INTO {SCHEMA}.`#key` VALUES (x'{text.encode().hex()}', '2020-01-02',"
            " '2020-01-02 03:04:05.678901', x'00000000000000000000000000000007', 1e20, 1.5, 'c',"
            f" {literal(packed(1.0))})"
        )
    result = promote(SCHEMA, "#key", "x", "npy@raw", stores=store, connection=server.url)
    assert result["rows_promoted"] == len(texts)
    told = {
        str(name): json.loads(str(js))["path"]
        for name, js in server.sql(f"SELECT s, x FROM {SCHEMA}.`#key`")
    }
    tail = (
        "d=2020-01-02/t=2020-01-02T03-04-05/u=00000000-0000-0000-0000-000000000007/f=1e+20/"
        "n=1.500/e=c/x_"
    )
    for text, part in {
        "plain": "plain",
        "with space": "with space",
        "sl/ash": "sl%2Fash",
        "ünï": "ünï",
        "a%b": "a%b",
        "..": "..",
        "new\nline": "new%0Aline",
        "": "",
        "x" * 120: "x" * 50 + "_" + hashlib.md5(b"x" * 120).hexdigest()[:8],
        "ü" * 101: hashlib.md5(("ü" * 101).encode()).hexdigest(),
    }.items():
        assert told[text].startswith(f"_schema/{SCHEMA}/#key/s={part}/{tail}"), text
        assert (root(store) / told[text]).is_file()
    said = client(python("2.3.5"), server, SCHEMA, store, "read", "Key")
    assert [row[1]["x"] for row in said["rows"]] == [seen((1.0,))] * len(texts)


def test_what_is_written_while_the_column_is_promoted_is_promoted_too(
    server: Server, fresh: Fresh, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, [packed(float(at)) for at in range(6)])
    engine, calls = module._core.promote, []

    def writing(plan: dict[str, Any], on_event: Any = None) -> dict[str, Any]:
        done: dict[str, Any] = engine(plan, on_event)
        calls.append(plan.get("into"))
        if calls.count(NEW) == 1 and calls[-1] == NEW:
            server.sql(
                f"UPDATE {SCHEMA}.session SET `signal` = {literal(packed(9.0))} WHERE id = 1;"
                f"UPDATE {SCHEMA}.session SET `signal` = NULL WHERE id = 2;"
                f"DELETE FROM {SCHEMA}.session WHERE id = 3;"
                f"INSERT INTO {SCHEMA}.session (id, `signal`) VALUES (7, {literal(packed(7.0))})"
            )
        return done

    monkeypatch.setattr(module._core, "promote", writing)
    result = promote(SCHEMA, "session", "signal", "npy@raw", stores=store, connection=server.url)
    assert calls == [None, NEW, NEW]
    assert (result["rows_promoted"], result["rows_null"]) == (5, 1)
    said = client(python("2.3.5"), server, SCHEMA, store, "read")
    assert [row[1]["signal"] for row in said["rows"]] == [
        seen((0.0,)),
        seen((9.0,)),
        ["NoneType", "None"],
        seen((4.0,)),
        seen((5.0,)),
        seen((7.0,)),
    ]
    assert triggers(server) == 0


def test_one_call_undoes_it_while_the_old_column_is_there(
    server: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(server, SCHEMA)
    values = [packed(1.0), packed(2.0, 3.0)]
    table(server, SCHEMA, values, null="NOT NULL")
    look = f"SHOW CREATE TABLE {SCHEMA}.session; SELECT id, HEX(`signal`) FROM {SCHEMA}.session"
    before = server.sql(look)
    options: dict[str, Any] = {"stores": store, "connection": server.url}
    promote(SCHEMA, "session", "signal", "npy@raw", **options)
    undone = promote(SCHEMA, "session", "signal", "npy@raw", undo=True, **options)
    assert undone["rows_restored"] == 2
    assert server.sql(look) == before
    # The files are found again.
    again = promote(SCHEMA, "session", "signal", "npy@raw", **options)
    assert (again["rows_promoted"], again["files_written"]) == (2, 0)
    if server.kind == "mysql":
        client(python("2.3.5"), server, SCHEMA, store, "insert")
        with pytest.raises(MigrationError, match="1 row of promoted"):
            promote(SCHEMA, "session", "signal", "npy@raw", undo=True, **options)
        assert columns(server)["signal"][0] == "json"


def test_both_clients_read_every_kind_from_a_store_as_from_the_table(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    every = promoting.kinds()
    assert len(every) == 128
    table(mysql, SCHEMA, list(every.values()), null="NOT NULL")
    options: dict[str, Any] = {"stores": store, "connection": mysql.url}
    versions = ("2.3.5", "2.0.0")
    before = [client(python(one), mysql, SCHEMA, store, "each") for one in versions]
    result = promote(SCHEMA, "session", "signal", "blob@raw", **options)
    assert (result["rows_promoted"], result["match"]) == (len(every), True)
    assert len(objects(root(store))) == len(set(every.values()))
    for version, said in zip(versions, before, strict=True):
        now = client(python(version), mysql, SCHEMA, store, "each")
        for name, one, other in zip(every, said, now, strict=True):
            assert one == other, (version, name)
        assert len([one for one in said if one[0] != "refused"]) > 100
    undone = promote(SCHEMA, "session", "signal", "blob@raw", undo=True, **options)
    assert undone["rows_restored"] == len(every)


def test_other_kinds_move_into_a_store_unchanged(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    every = promoting.kinds()
    good = ["2d float64", "list of ints", "dict", "str", "ml cell {1,'a'}", "2d float64"]
    options: dict[str, Any] = {"stores": store, "connection": mysql.url}
    table(mysql, SCHEMA, [every[name] for name in good])
    before = client(python("2.3.5"), mysql, SCHEMA, store, "read")["rows"]
    result = promote(SCHEMA, "session", "signal", "blob@raw", **options)
    assert (result["rows_promoted"], len(objects(root(store)))) == (6, 5)
    assert result["files_written"] == 5
    found = rows(mysql)
    assert found[0] == found[5]
    name = hashlib.md5(every["2d float64"]).digest()
    named = base64.b32encode(name).decode().rstrip("=").lower()
    assert found[0] == {
        "hash": named,
        "path": f"_hash/{SCHEMA}/{named}.blob",
        "schema": SCHEMA,
        "store": "raw",
        "size": len(every["2d float64"]),
    }
    for version in ("2.3.5", "2.0.0"):
        assert client(python(version), mysql, SCHEMA, store, "read")["rows"] == before
    assert (
        client(python("2.3.5"), mysql, SCHEMA, store, "orphans")["raw"]["hash_paths_orphaned"] == 0
    )
    mysql.sql(
        f"ALTER TABLE {SCHEMA}.session DROP COLUMN {OLD}, ADD COLUMN file longblob COMMENT"
        " ':<attach>:', ADD COLUMN raw longblob COMMENT ':bytes:';"
        f"UPDATE {SCHEMA}.session SET file = CONCAT('a.txt', x'00', id), raw = x'00ff0a5c'"
    )
    for column, to, many in (("file", "attach@raw", 6), ("raw", "hash@raw", 1)):
        result = promote(SCHEMA, "session", column, to, **options)
        assert (result["rows_promoted"], result["files_written"]) == (6, many)
    row = client(python("2.3.5"), mysql, SCHEMA, store, "read")["rows"][0][1]
    assert row["raw"] == ["bytes", 4, hashlib.sha256(b"\x00\xff\x0a\x5c").hexdigest()]
    assert "a.txt" in row["file"][1]


@pytest.mark.parametrize("to", ["npy@raw", "blob@raw", "attach@raw", "hash@raw"])
def test_the_collector_finds_no_orphan_of_whatever_a_column_became(
    mysql: Server, fresh: Fresh, store: dict[str, Any], to: str
) -> None:
    fresh(mysql, SCHEMA)
    values = [packed(1.0), packed(2.0), None, packed(1.0)]
    marker = {"npy@raw": "<blob>", "blob@raw": "<blob>", "attach@raw": "<attach>"}.get(to, "bytes")
    if marker == "<attach>":
        values = [value and b"a.txt\0" + value for value in values]
    table(mysql, SCHEMA, list(values), marker)
    done = promote(SCHEMA, "session", "signal", to, stores=store, connection=mysql.url)
    there = 3 if to == "npy@raw" else 2
    assert (done["rows_promoted"], done["files_written"]) == (3, there)
    assert len(objects(root(store))) == there
    found = client(python("2.3.5"), mysql, SCHEMA, store, "orphans")["raw"]
    part = "schema" if to == "npy@raw" else "hash"
    assert found[f"{part}_paths_referenced"] == there
    assert {key: many for key, many in found.items() if "orphan" in key and many} == {}


def test_equal_values_are_one_file_that_is_counted_once(
    mysql: Server, fresh: Fresh, store: dict[str, Any], bucket: Bucket
) -> None:
    with faulty(bucket.service.endpoint, lambda *_: None) as proxy:
        stores = {**store, "bucket": bucket.spec("lab/data", proxy.endpoint)}
        for to in ("blob@raw", "blob@bucket"):
            fresh(mysql, SCHEMA)
            table(mysql, SCHEMA, [packed(1.0)])
            mysql.sql(
                "SET SESSION cte_max_recursion_depth = 20000;"
                f"INSERT INTO {SCHEMA}.session WITH RECURSIVE r AS (SELECT 1 n UNION ALL"
                " SELECT n + 1 FROM r WHERE n < 9999) SELECT n,"
                f" CONCAT({literal(packed(1.0)[:-1])}, CHAR(n MOD 7)) FROM r"
            )
            done = promote(SCHEMA, "session", "signal", to, stores=stores, connection=mysql.url)
            there = len(objects(root(store))) if to == "blob@raw" else len(bucket.objects())
            assert (done["rows_promoted"], done["files_written"], there) == (10_000, 8, 8)
        # Whether each is there, its bytes, and what it holds; not for every row.
        assert proxy.requests < 200


def test_a_store_whose_folders_the_collector_does_not_look_into_is_named(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    store["raw"]["partition_pattern"] = "{id}"
    table(mysql, SCHEMA, [packed(1.0), packed(2.0)])
    done = promote(SCHEMA, "session", "signal", "npy@raw", stores=store, connection=mysql.url)
    assert any("partition_pattern" in note for note in done["notes"])
    paths = [one["path"] for one in rows(mysql)]
    assert all(path.startswith(f"_schema/{SCHEMA}/session/id=") for path in paths)
    found = client(python("2.3.5"), mysql, SCHEMA, store, "orphans")["raw"]
    assert (found["schema_paths_referenced"], found["schema_paths_orphaned"]) == (2, 0)
    said = client(python("2.3.5"), mysql, SCHEMA, store, "read")
    assert [row[1]["signal"] for row in said["rows"]] == [seen((1.0,)), seen((2.0,))]


def test_a_missing_or_damaged_object_is_named_before_anything_is_written(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    options: dict[str, Any] = {"stores": store, "connection": mysql.url}
    table(mysql, SCHEMA, [packed(float(at)) for at in range(4)])
    promote(SCHEMA, "session", "signal", "blob@raw", drop_old=True, **options)
    (root(store) / rows(mysql)[1]["path"]).unlink()
    (root(store) / rows(mysql)[2]["path"]).write_bytes(packed(5.0))
    there = objects(root(store))
    with pytest.raises(Unconvertible, match="2 × missing or damaged object") as caught:
        promote(SCHEMA, "session", "signal", "npy@raw", **options)
    assert [one["key"]["id"] for one in caught.value.context["examples"]] == ["1", "2"]
    assert objects(root(store)) == there
    assert NEW not in columns(mysql)


def test_a_large_value_is_never_in_memory_as_a_whole(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0)])
    # 24 MB of doubles, and complex ones of 40 MB, in the packed form.
    head = b"mYm\0A" + b"".join(n.to_bytes(8, "little") for n in (2, 3, 1_000_000))
    real = head + (6).to_bytes(4, "little") + (0).to_bytes(4, "little")
    head = b"mYm\0A" + b"".join(n.to_bytes(8, "little") for n in (1, 2_500_000))
    both = head + (6).to_bytes(4, "little") + (1).to_bytes(4, "little")
    for at, (start, ones) in enumerate(((real, 3_000_000), (both, 5_000_000)), 1):
        mysql.sql(
            f"INSERT INTO {SCHEMA}.session VALUES ({at}, CONCAT(x'{start.hex()}',"
            f" REPEAT(x'{bytes(range(1, 9)).hex()}', {ones})))"
        )
    result = promote(SCHEMA, "session", "signal", "npy@raw", stores=store, connection=mysql.url)
    assert result["rows_promoted"] == 3
    said = client(python("2.3.5"), mysql, SCHEMA, store, "read")
    found = [row[1]["signal"][:2] for row in said["rows"][1:]]
    assert found == [["float64", [3, 1_000_000]], ["complex128", [2_500_000]]]
    data = hashlib.sha256(bytes(range(1, 9)) * 5_000_000).hexdigest()
    assert said["rows"][2][1]["signal"][2] == data


def test_values_that_end_where_a_frame_ends_come_whole(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0)])
    frame, head = 0xFF_FFFF, 29
    # What makes a row of one frame, of two, and of a little less or more.
    lengths = [frame - 5, frame - 4, frame - 3, frame + 1, 2 * frame - 9, 2 * frame - 8]
    for at, length in enumerate(lengths, 1):
        many = length - head
        start = b"mYm\0A" + b"".join(n.to_bytes(8, "little") for n in (1, many))
        start += (9).to_bytes(4, "little") + bytes(4)
        mysql.sql(
            f"INSERT INTO {SCHEMA}.session VALUES ({at}, CONCAT(x'{start.hex()}',"
            f" REPEAT('ab{at}', {many // 3}), LEFT('xyz', {many % 3})))"
        )
    result = promote(SCHEMA, "session", "signal", "npy@raw", stores=store, connection=mysql.url)
    assert result["rows_promoted"] == len(lengths) + 1
    for at, (length, found) in enumerate(zip(lengths, rows(mysql)[1:], strict=True), 1):
        many = length - head
        data = f"ab{at}".encode() * (many // 3) + b"xyz"[: many % 3]
        assert (root(store) / found["path"]).read_bytes()[128:] == data
        assert (found["shape"], found["size"]) == ([many], many + 128)


def test_calls_that_make_no_sense_are_refused(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0)])
    options: dict[str, Any] = {"stores": store, "connection": mysql.url}
    for to in ("npy", "npy@", "object@raw", "", "npy@raw@x"):
        with pytest.raises(InvalidArgument, match="no type a column can be promoted to"):
            promote(SCHEMA, "session", "signal", to, **options)
    with pytest.raises(StoreMissing, match="'row' is not configured"):
        promote(SCHEMA, "session", "signal", "npy@row", **options)
    with pytest.raises(Unconvertible, match="does not become attach@raw"):
        promote(SCHEMA, "session", "signal", "attach@raw", **options)
    with pytest.raises(Unconvertible, match="does not become npy@raw"):
        promote(SCHEMA, "session", "id", "npy@raw", **options)
    with pytest.raises(NotFound):
        promote(SCHEMA, "session", "signals", "npy@raw", **options)
    with pytest.raises(InvalidArgument, match="drop_old"):
        promote(SCHEMA, "session", "signal", "npy@raw", undo=True, drop_old=True, **options)
    mysql.sql(f"ALTER TABLE {SCHEMA}.session ADD COLUMN {NEW} json")
    with pytest.raises(DestinationNotEmpty, match="none that a call has left"):
        promote(SCHEMA, "session", "signal", "npy@raw", **options)
    mysql.sql(
        f"ALTER TABLE {SCHEMA}.session DROP COLUMN {NEW};"
        f"CREATE TRIGGER {SCHEMA}.mine BEFORE UPDATE ON {SCHEMA}.session FOR EACH ROW SET NEW.id ="
        " NEW.id"
    )
    with pytest.raises(Unconvertible, match="the trigger mine"):
        promote(SCHEMA, "session", "signal", "npy@raw", **options)


def test_files_of_arrays_are_not_carried_on_and_characters_are_no_arrays(
    mysql: Server, fresh: Fresh, store: dict[str, Any], tmp_path: Path
) -> None:
    fresh(mysql, SCHEMA)
    (tmp_path / "other").mkdir()
    stores = {**store, "other": {"protocol": "file", "location": str(tmp_path / "other")}}
    options: dict[str, Any] = {"stores": stores, "connection": mysql.url}
    table(mysql, SCHEMA, [packed(1.0)])
    promote(SCHEMA, "session", "signal", "npy@raw", **options)
    before = (rows(mysql), columns(mysql), objects(root(store)))
    for to in ("npy@other", "blob@other"):
        with pytest.raises(Unconvertible, match=f"not carried to {to}") as caught:
            promote(SCHEMA, "session", "signal", to, **options)
        assert "no hash by which a copy could be proved" in str(caught.value)
        assert "copy_store" in str(caught.value.hint)
    assert (rows(mysql), columns(mysql), objects(root(store))) == before
    assert list((tmp_path / "other").iterdir()) == []
    # MATLAB's characters are UTF-16, of which the clients keep the low byte.
    fresh(mysql, SCHEMA)
    every = promoting.kinds()
    names = ["ml char (1,5)", "ml char (2,3)", "ml char é", "ml char empty"]
    table(mysql, SCHEMA, [every[name] for name in names])
    with pytest.raises(Unconvertible, match="4 × character array") as caught:
        promote(SCHEMA, "session", "signal", "npy@raw", **options)
    assert all("no array of numbers" in one["why"] for one in caught.value.context["examples"])
    assert "blob@raw, which takes every value" in str(caught.value.hint)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    server: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, [packed(1.0), None])
    before = columns(server)
    result = promote(
        SCHEMA, "session", "signal", "npy@raw", stores=store, connection=server.url, dry_run=True
    )
    assert (result["kinds"], result["dtypes"]) == ({"array": 1}, {"float64": 1})
    assert (result["bytes_in"], result["bytes_out"]) == (len(packed(1.0)), 136)
    assert any(sql.startswith("CREATE TRIGGER") for sql in result["sql"])
    assert columns(server) == before
    assert objects(root(store)) == []


def test_the_command_tells_what_a_column_holds_and_promotes_it(
    mysql: Server, fresh: Fresh, store: dict[str, Any], tmp_path: Path
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0), None, promoting.kinds()["str"]])
    dj = program(mysql, tmp_path / "here")
    spec = "".join(f"{key} = {json.dumps(value)}\n" for key, value in store["raw"].items())
    (dj.folder / "lab.toml").write_text(f"[stores.destination.raw]\n{spec}")
    words = ("promote", SCHEMA, "Session", "signal", "npy@raw", "-c", "lab.toml")
    done = dj(*words, "--dry-run")
    assert done.returncode == 2
    assert "id=2: str" in done.stdout
    assert "2 values, 1 NULL" in done.stdout
    done = dj(*words)
    assert done.returncode == 1
    assert "DJM-1302" in done.stderr
    mysql.sql(f"DELETE FROM {SCHEMA}.session WHERE id = 2")
    done = dj(*words, "--drop-old")
    assert done.returncode == 0, done.stderr
    assert "1 value promoted, 1 NULL, 1 file written" in done.stdout
    assert set(columns(mysql)) == {"id", "signal"}
