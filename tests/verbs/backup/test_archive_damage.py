"""Archives that were damaged or forged: what is wrong is named, and nothing is made of them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from archives import archive_lab, blake3, change, declare, table_of
from conftest import Fresh
from datajoint_migrate import (
    ArchiveFailed,
    InvalidArgument,
    NotFound,
    restore_schema,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.backup.archive import (
    check_backup,
    load_archive,
    read_archive,
)
from servers import Server
from small import Small, make

BACK = "dam_back"


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, "dam_rig", "dam_lab", BACK, f"{BACK}_restoring")
    return make(mysql, "dam", tmp_path / "store")


@pytest.fixture
def archive(small: Small, tmp_path: Path) -> Path:
    """The small pipeline's `lab` in an archive."""
    return archive_lab(small, tmp_path / "damhive")


# -- damage --------------------------------------------------------------------------------------

Damage = Callable[[Path, Path], None]


def flip(at: float) -> Damage:
    def damage(file: Path, _: Path) -> None:
        data = bytearray(file.read_bytes())
        data[int(at * (len(data) - 1))] ^= 1
        file.write_bytes(data)

    return damage


def exchange(file: Path, other: Path) -> None:
    mine, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    other.write_bytes(mine)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing": (lambda file, _: file.unlink(), "missing"),
    "cut": (lambda file, _: file.write_bytes(file.read_bytes()[:-7]), "cut short"),
    "longer": (lambda file, _: file.write_bytes(file.read_bytes() + b"x"), "added"),
    "first byte": (flip(0), "BLAKE3"),
    "a byte of the rows": (flip(0.3), "BLAKE3"),
    "last byte": (flip(1), "BLAKE3"),
    "exchanged": (exchange, ""),
    "link": (lambda file, other: (file.unlink(), file.symlink_to(other))[1], "no plain file"),
    "folder": (lambda file, _: (file.unlink(), file.mkdir())[1], "no plain file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_the_file_is_named(small: Small, archive: Path, name: str) -> None:
    damage, word = DAMAGES[name]
    file = archive / "tables" / "mouse" / "000000.parquet"
    damage(file, archive / "tables" / "session" / "000000.parquet")
    checked = check_backup(archive)
    assert not checked["ok"]
    named = {problem["file"]: problem for problem in checked["problems"]}
    problem = named["tables/mouse/000000.parquet"]
    assert problem["table"] == "mouse"
    assert word in problem["problem"]
    archived = read_archive(archive)
    declare(small.server, archived, BACK)
    with pytest.raises(ArchiveFailed, match=r"(mouse|session)/000000\.parquet"):
        load_archive(resolve(small.server.url), archived, BACK)


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a path upwards": lambda m: m["tables"][1]["chunks"][0].update(path="../../etc/passwd"),
    "an absolute path": lambda m: m["tables"][1]["chunks"][0].update(path="/etc/passwd"),
    "a number that is none": lambda m: m["tables"][1].update(rows="many"),
    "an absurd size": lambda m: m["tables"][1]["chunks"][0].update(bytes=2**64 - 1),
    "fewer rows": lambda m: m["tables"][1]["chunks"][0].update(rows=1),
    "a table left out": lambda m: m["tables"].pop(),
    "a later version": lambda m: m.update(version=2),
    "no tables": lambda m: m.pop("tables"),
    "a name that is none": lambda m: m["tables"][1].update(name=""),
}


@pytest.mark.parametrize("name", LIES)
def test_a_manifest_that_cannot_be_true_is_refused(archive: Path, name: str) -> None:
    change(archive, LIES[name])
    with pytest.raises(ArchiveFailed) as caught:
        read_archive(archive)
    assert caught.value.code == "DJM-1406"
    checked = check_backup(archive)
    assert not checked["ok"]
    assert checked["problems"][0]["file"] == "manifest.json"


def test_a_manifest_that_lies_consistently_is_found_out_by_the_rows(archive: Path) -> None:
    """Another table's file under this table's name, all numbers and hashes to match."""
    mouse = archive / "tables" / "mouse" / "000000.parquet"
    shutil.copy(archive / "tables" / "session" / "000000.parquet", mouse)

    def edit(manifest: dict[str, Any]) -> None:
        mice, sessions = table_of(manifest, "mouse"), table_of(manifest, "session")
        manifest["totals"]["bytes"] += sessions["bytes"] - mice["bytes"]
        mice["bytes"] = sessions["bytes"]
        for key in ("bytes", "blake3"):
            mice["chunks"][0][key] = sessions["chunks"][0][key]

    change(archive, edit)
    problems = check_backup(archive)["problems"]
    assert [problem["file"] for problem in problems] == ["tables/mouse/000000.parquet"]
    assert "column" in problems[0]["problem"]


def nonsense(data: bytes, seed: int) -> bytes:
    """Some bytes flipped, most of them in the footer, where a decoder believes what it reads."""
    out = bytearray(data)
    for step in range(1 + seed % 4):
        dice = hashlib.sha256(f"{seed} {step}".encode()).digest()
        where = int.from_bytes(dice[:4], "big")
        at = where % len(out) if seed % 3 == 0 else len(out) - 1 - where % (len(out) // 2)
        out[at] ^= dice[4] or 1
    return bytes(out)


def test_a_file_of_nonsense_never_brings_the_engine_down(archive: Path) -> None:
    """The hash in the manifest is made to match, so that the decoder sees it all."""
    file = archive / "tables" / "mouse" / "000000.parquet"
    variants = [nonsense(file.read_bytes(), seed) for seed in range(300)]
    variants += [b"", b"PAR1", file.read_bytes()[:40] + b"\xff\xff\xff\x7fPAR1"]
    found = 0
    for data in variants:
        file.write_bytes(data)

        def edit(
            manifest: dict[str, Any], size: int = len(data), digest: str = blake3(data)
        ) -> None:
            mice = table_of(manifest, "mouse")
            manifest["totals"]["bytes"] += size - mice["bytes"]
            mice["bytes"] = size
            mice["chunks"][0].update(bytes=size, blake3=digest)

        change(archive, edit)
        problems = check_backup(archive)["problems"]
        assert all(problem["file"] == "tables/mouse/000000.parquet" for problem in problems)
        found += len(problems)
    # What is left are bytes that no reader looks at, such as statistics.
    assert found > len(variants) // 3


def regions(file: Path) -> dict[str, int]:
    """A byte of each kind that a Parquet file has, by where it is."""
    data, group = file.read_bytes(), pq.ParquetFile(file).metadata.row_group(0)
    footer = int.from_bytes(data[-8:-4], "little")
    places = {"first magic": 1, "footer": len(data) - 8 - footer // 2}
    places |= {"footer's length": len(data) - 7, "last magic": len(data) - 1}
    for number in range(group.num_columns):
        column = group.column(number)
        start = column.dictionary_page_offset or column.data_page_offset
        places[f"page header {number}"] = start
        places[f"page {number}"] = start + column.total_compressed_size - 1
    return places


def test_no_byte_of_any_region_may_differ(small: Small, archive: Path) -> None:
    files = sorted(archive.rglob("*.parquet"))
    tried = [(file, name, at) for file in files for name, at in regions(file).items()]
    text = (archive / "manifest.json").stat().st_size
    tried += [(archive / "manifest.json", "manifest", at) for at in range(0, text, text // 25)]
    assert len({name for _, name, _ in tried}) > 8
    for file, name, at in tried:
        whole = file.read_bytes()
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        problems = check_backup(archive)["problems"]
        named = file.relative_to(archive).as_posix()
        assert [problem["file"] for problem in problems] == [named], (name, at)
        if file.name == "manifest.json":
            with pytest.raises(ArchiveFailed, match=r"manifest\.json"):
                restore_schema(str(archive), BACK, connection=small.server.url)
        file.write_bytes(whole)
    assert not small.server.sql(f"SHOW DATABASES LIKE '{BACK}%'")
    assert check_backup(archive)["ok"]


@pytest.mark.parametrize("name", ["page 0", "footer", "first magic"])
def test_a_restore_of_a_damaged_archive_names_the_file_and_makes_nothing(
    small: Small, archive: Path, name: str
) -> None:
    file = archive / "tables" / "mouse" / "000000.parquet"
    data = bytearray(file.read_bytes())
    data[regions(file)[name]] ^= 4
    file.write_bytes(data)
    with pytest.raises(ArchiveFailed, match=r"mouse/000000\.parquet"):
        restore_schema(str(archive), BACK, connection=small.server.url)
    assert not small.server.sql(f"SHOW DATABASES LIKE '{BACK}'")


# -- parts of an archive -------------------------------------------------------------------------


def test_a_subset_reads_its_files_and_looks_for_the_others(archive: Path) -> None:
    whole = check_backup(archive)
    parts = [check_backup(archive, f"{number}/3") for number in (1, 2, 3)]
    assert whole["files_read"] == whole["files"] == sum(part["files_read"] for part in parts)
    assert check_backup(archive, "1%")["files_read"] == 1
    assert check_backup(archive, "1G")["files_read"] == whole["files"]
    (archive / "tables" / "mouse" / "000000.parquet").unlink()
    for number in (1, 2, 3):
        problems = check_backup(archive, f"{number}/3")["problems"]
        assert [problem["table"] for problem in problems] == ["mouse"]


@pytest.mark.parametrize("subset", ["", "0/3", "4/3", "half", "0%", "-5M"])
def test_a_subset_that_is_none_is_refused(archive: Path, subset: str) -> None:
    with pytest.raises(InvalidArgument, match="subset"):
        check_backup(archive, subset)


def test_an_archive_that_is_not_there_is_not_proved(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check_backup(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert not check_backup(tmp_path / "empty")["ok"]
