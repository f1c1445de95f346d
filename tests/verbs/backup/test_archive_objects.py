"""The objects of an archive are named in a file of their own; earlier archives stay readable."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archives import blake3, change
from conftest import Fresh, drop
from datajoint_migrate import (
    ArchiveFailed,
    ExternalMissing,
    backup_schema,
    check_backup,
    restore_schema,
)
from folders import files as files_of
from places import TESTS
from servers import Server
from small import RECORDINGS, Small, add_recording, make

OBJECTS = "objects.parquet"
BACK = "obj_back"
# The tables of `rig`, each in one file.
CHUNKS = 3
# Of a version that listed objects in the manifest: three kinds of external columns, six objects.
BEFORE = TESTS / "recorded" / "archive_that_lists_its_objects.tar.gz"


@pytest.fixture(scope="module")
def made(mysql: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, Path]:
    """The small pipeline, and its `rig` with its files in an archive."""
    drop(mysql, "obj_rig", "obj_lab")
    root = tmp_path_factory.mktemp("objects")
    small = make(mysql, "obj", root / "store")
    options: dict[str, Any] = {"with_files": True, "source_stores": small.source_stores}
    backup_schema(small.rig, str(root / "archive"), connection=mysql.url, **options)
    return small, root / "archive"


@pytest.fixture
def small(made: tuple[Small, Path], fresh: Fresh) -> Small:
    fresh(made[0].server, BACK, f"{BACK}_restoring")
    return made[0]


@pytest.fixture
def archive(made: tuple[Small, Path], tmp_path: Path) -> Path:
    """A copy of the archive, to be damaged."""
    return Path(shutil.copytree(made[1], tmp_path / "archive"))


def stores(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return {"raw": {"protocol": "file", "location": str(folder), "stage": "/stage"}}


def test_objects_are_named_in_a_table_that_everybody_reads(archive: Path) -> None:
    manifest = json.loads((archive / "manifest.json").read_text())
    rows = pq.read_table(archive / OBJECTS).to_pylist()
    there = files_of(archive / "files")
    assert manifest["files"] == []
    assert manifest["totals"]["files"] == manifest["objects"]["rows"] == len(rows) == len(there)
    assert manifest["objects"]["stores"] == ["raw"]
    assert manifest["objects"]["blake3"] == blake3((archive / OBJECTS).read_bytes())
    assert [row["path"] for row in rows] == sorted(f"files/{path}" for path in there)
    for row in rows:
        content = there[row["path"].removeprefix("files/")]
        assert row["path"] == f"files/{row['store']}/{row['object']}"
        assert (row["bytes"], row["blake3"]) == (len(content), blake3(content))


def test_what_an_archive_says_of_itself_is_as_long_for_many_files_as_for_few(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    """What may be written may be read: no number of files makes it longer than a reader takes."""
    fresh(mysql, "obm_rig", "obm_lab", BACK)
    small = make(mysql, "obm", tmp_path / "store")
    lengths = []
    for number in range(2):
        place = tmp_path / f"of {number}"
        made = backup_schema(
            small.rig,
            str(place),
            with_files=True,
            source_stores=small.source_stores,
            connection=small.server.url,
        )
        assert check_backup(str(place))["ok"]
        lengths.append((made["files_backed_up"], (place / "manifest.json").stat().st_size))
        for more in range(1000, 1200):
            if number == 0:
                add_recording(small, more)
    (few, short), (many, long) = lengths
    assert many > few + 200
    assert long - short < many - few
    assert restore_schema(str(place), BACK, connection=small.server.url)["rows_restored"] > 200


def test_a_longer_one_than_a_reader_takes_is_refused_by_its_length(
    small: Small, archive: Path
) -> None:
    with (archive / "manifest.json").open("r+b") as file:
        # Of holes, mostly.
        file.truncate((8 << 30) + 1)
    said = "of 8589934592 that a manifest may have"
    looked = check_backup(str(archive))
    assert looked["ok"] is False
    assert said in str(looked["problems"])
    with pytest.raises(ArchiveFailed, match=said):
        restore_schema(str(archive), BACK, connection=small.server.url)


def test_an_archive_without_files_has_no_table_of_them(small: Small, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    backup_schema(small.rig, str(folder), connection=small.server.url)
    assert not (folder / OBJECTS).exists()
    assert "objects" not in json.loads((folder / "manifest.json").read_text())
    assert check_backup(folder)["ok"]


def test_files_go_back_where_they_were(small: Small, archive: Path, tmp_path: Path) -> None:
    checked = check_backup(archive)
    there = files_of(archive / "files" / "raw")
    assert checked["ok"]
    assert checked["files"] == checked["files_read"] == len(there) + CHUNKS
    empty = stores(tmp_path / "empty")
    options: dict[str, Any] = {"connection": small.server.url, "with_files": True}
    restored = restore_schema(str(archive), BACK, source_stores=empty, **options)
    assert restored["files_restored"] == len(there)
    assert files_of(tmp_path / "empty") == there
    assert {path: small.root.joinpath(path).read_bytes() for path in there} == there
    assert small.count(BACK, "_recording") == RECORDINGS


@pytest.mark.parametrize("subset", ["1/3", "2/3", "3/3", "20%", "1"])
def test_a_subset_holds_objects_as_it_holds_chunk_files(archive: Path, subset: str) -> None:
    every = check_backup(archive)["files"]
    once, again = check_backup(archive, subset), check_backup(archive, subset)
    assert 0 < once["files_read"] < every
    assert once["bytes_read"] == again["bytes_read"]
    parts = [check_backup(archive, f"{number}/4")["files_read"] for number in range(1, 5)]
    assert sum(parts) == every
    lost = next((archive / "files").rglob("*.avi"))
    lost.unlink()
    problems = check_backup(archive, subset)["problems"]
    assert [problem["file"] for problem in problems] == [str(lost.relative_to(archive))]


# -- what is no archive any more -----------------------------------------------------------------


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)


def exchanged(file: Path) -> None:
    """As good a file of the same length, of other objects."""
    table = pq.read_table(file)
    pq.write_table(table.slice(0, table.num_rows - 1), file, compression="zstd")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "missing"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-9]), "cut short"),
    "longer": (lambda file: file.write_bytes(file.read_bytes() + b"x"), "added"),
    "flipped": (flipped, "BLAKE3"),
    "exchanged": (exchanged, ""),
    "empty": (lambda file: file.write_bytes(b""), "cut short"),
    "folder": (lambda file: (file.unlink(), file.mkdir()), "no plain file"),
}


def assert_refused(small: Small, archive: Path, words: str, tmp_path: Path) -> None:
    checked = check_backup(archive)
    assert not checked["ok"]
    assert [problem["file"] for problem in checked["problems"]] == [OBJECTS]
    assert words in checked["problems"][0]["problem"]
    # The chunk files are proved all the same.
    assert checked["files_read"] == CHUNKS
    with pytest.raises(ArchiveFailed, match=r"objects\.parquet") as caught:
        restore_schema(
            str(archive),
            BACK,
            connection=small.server.url,
            with_files=True,
            source_stores=stores(tmp_path / "empty"),
        )
    assert caught.value.code == "DJM-1406"
    assert files_of(tmp_path / "empty") == {}
    assert not small.server.sql(f"SHOW DATABASES LIKE '{BACK}%'")


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_to_the_table_of_objects_is_found_before_anything_is_written(
    small: Small, archive: Path, name: str, tmp_path: Path
) -> None:
    damage, words = DAMAGES[name]
    damage(archive / OBJECTS)
    assert_refused(small, archive, words, tmp_path)


def test_the_table_of_another_archive_is_noticed(
    small: Small, archive: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    small.server.sql(f"DELETE FROM `{small.rig}`.`_recording` WHERE recording_id = 3")
    options: dict[str, Any] = {"with_files": True, "source_stores": small.source_stores}
    backup_schema(small.rig, str(other), connection=small.server.url, **options)
    shutil.copy(other / OBJECTS, archive / OBJECTS)
    assert_refused(small, archive, "", tmp_path)


Rows = list[dict[str, Any]]
FORGERIES: dict[str, tuple[Callable[[Rows], object], str]] = {
    "a row less": (list.pop, "rows where the manifest says"),
    "a path upwards": (lambda rows: rows[0].update(path="files/raw/../../x"), "leads out"),
    "an object upwards": (lambda rows: rows[0].update(object="../x"), "leads out"),
    "another object": (lambda rows: rows[0].update(object="movies/x"), "cannot be"),
    "another store": (lambda rows: rows[0].update(store="other"), "cannot be"),
    "no hash": (lambda rows: rows[0].update(blake3="0"), "cannot be"),
    "no value": (lambda rows: rows[0].update(bytes=None), "no column `bytes`"),
    "another size": (lambda rows: rows[0].update(bytes=10**9), "bytes of objects"),
    "another order": (list.reverse, "not in its place"),
    "no column": (lambda rows: [row.pop("store") for row in rows], "no column `store`"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_table_of_objects_is_refused_though_its_hash_is_right(
    small: Small, archive: Path, name: str, tmp_path: Path
) -> None:
    forge, words = FORGERIES[name]
    table = pq.read_table(archive / OBJECTS)
    rows = table.to_pylist()
    forge(rows)
    kept = [field for field in table.schema if field.name in rows[0]]
    types = pa.schema([pa.field(field.name, field.type) for field in kept])
    pq.write_table(pa.Table.from_pylist(rows, schema=types), archive / OBJECTS, compression="zstd")
    data = (archive / OBJECTS).read_bytes()
    said = {"bytes": len(data), "blake3": blake3(data)}
    change(archive, lambda manifest: manifest["objects"].update(said))
    assert_refused(small, archive, words, tmp_path)


# -- archives of before ---------------------------------------------------------------------------


@pytest.fixture
def before(tmp_path: Path) -> Path:
    folder = tmp_path / "before"
    with tarfile.open(BEFORE) as packed:
        packed.extractall(folder, filter="data")
    assert len(json.loads((folder / "manifest.json").read_text())["files"]) == 6
    assert not (folder / OBJECTS).exists()
    return folder


def test_an_archive_that_lists_its_objects_is_read_proved_and_restored(
    mysql: Server, fresh: Fresh, before: Path, tmp_path: Path
) -> None:
    fresh(mysql, BACK, f"{BACK}_restoring")
    checked = check_backup(before)
    assert checked["ok"]
    assert (checked["files"], checked["files_read"], checked["rows"]) == (8, 8, 8)
    there = files_of(before / "files" / "raw")
    options: dict[str, Any] = {"connection": mysql.url, "with_files": True}
    restored = restore_schema(
        str(before), BACK, source_stores=stores(tmp_path / "empty"), **options
    )
    assert (restored["files_restored"], restored["rows_restored"]) == (6, 8)
    assert files_of(tmp_path / "empty") == there
    assert {path.rsplit("/", 1)[-1] for path in there} >= {"m 1.avi", "m 2.avi"}
    known = mysql.sql(f"SELECT COUNT(*) FROM `{BACK}`._recording JOIN `{BACK}`.`~external_raw`"
                      " ON `signal` = `hash`")  # fmt: skip
    assert known == [("2",)]


def test_damage_to_an_archive_that_lists_its_objects_is_found(before: Path) -> None:
    movie = before / "files" / "raw" / "movies" / "m 1.avi"
    movie.write_bytes(b"AVI")
    checked = check_backup(before)
    assert [problem["file"] for problem in checked["problems"]] == ["files/raw/movies/m 1.avi"]
    movie.unlink()
    assert "missing" in check_backup(before)["problems"][0]["problem"]
    change(before, lambda manifest: manifest["files"].pop())
    assert [one["file"] for one in check_backup(before)["problems"]] == ["manifest.json"]


def test_an_object_that_is_there_with_other_contents_stays(
    mysql: Server, before: Path, tmp_path: Path
) -> None:
    target = stores(tmp_path / "empty")
    (tmp_path / "empty" / "movies").mkdir()
    mine = tmp_path / "empty" / "movies" / "m 1.avi"
    mine.write_bytes(b"mine")
    with pytest.raises(ExternalMissing, match="other contents"):
        restore_schema(
            str(before), BACK, connection=mysql.url, with_files=True, source_stores=target
        )
    assert mine.read_bytes() == b"mine"
