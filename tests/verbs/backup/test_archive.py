"""Archives: a schema in a folder, proved without a server, and back to the last bit."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import environments
import servers
from archives import archive_lab, change, declare
from conftest import Fresh
from datajoint_migrate import (
    ArchiveFailed,
    DestinationNotEmpty,
    ExternalMissing,
    InvalidArgument,
    Mismatch,
    NotFound,
    StoreMissing,
)
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.backup.archive import (
    check_backup,
    is_archive,
    load_archive,
    put_files_back,
    read_archive,
    write_archive,
)
from every_type import TYPES, exact, make_types
from full_pipeline import FullPipeline
from killing import killed_on_the_way
from line import Packet
from pipelines.full import options
from servers import Server
from small import MICE, Small, make

BACK = "arc_back"
TRIALS = 200_000

# What Arrow's own types cannot say, and names and tables out of the ordinary.
ODD = """SET time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES', NAMES utf8mb4;
CREATE DATABASE `{schema}` CHARACTER SET utf8mb3; USE `{schema}`;
CREATE TABLE `#odd ü/..` (`id` int NOT NULL AUTO_INCREMENT, `e` enum('a','','it''s') NOT NULL,
`d` date NOT NULL, `d@mysql` int, `made` int GENERATED ALWAYS AS (`d@mysql` * 2) STORED,
`z` decimal(6,2) unsigned zerofill, `c` varchar(9) CHARACTER SET cp1250,
`u` varchar(9) CHARACTER SET utf16, PRIMARY KEY (`id`)) AUTO_INCREMENT=77;
INSERT INTO `#odd ü/..` (id, e, d, `d@mysql`, z, c, u) VALUES
(1, '', '0000-00-00', 1, 1.5, 'é', 'ü'), (2, 'it''s', '0000-01-01', NULL, 999.99, 'ř', '😀'),
(3, 'a', '2020-02-31', 3, NULL, NULL, NULL);
INSERT IGNORE INTO `#odd ü/..` (id, e, d) VALUES (4, 'none of them', '2024-01-01');
CREATE TABLE `keyless` (`x` double, `b` longblob);
INSERT INTO `keyless` VALUES (-0e0, x'00'), (0, NULL), (-0e0, x'00'), (-0e0, x'00');
CREATE TABLE `empty` (`id` int PRIMARY KEY);
CREATE TABLE `late` (`id` int PRIMARY KEY, `t` datetime NOT NULL, `pad` varchar(80));
SET {depth} = 100000;
INSERT INTO `late` WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90000)
SELECT i, IF(i = 90000, '0000-00-00 00:00:00', '2024-01-01'), REPEAT('x', 80) FROM n;
"""


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, "arc_rig", "arc_lab", BACK, f"{BACK}_restoring")
    return make(mysql, "arc", tmp_path / "store")


@pytest.fixture
def archive(small: Small, tmp_path: Path) -> Path:
    """The small pipeline's `lab` in an archive."""
    return archive_lab(small, tmp_path / "archive")


def make_odd(server: Server, schema: str) -> None:
    depth = "cte_max_recursion_depth" if server.kind == "mysql" else "max_recursive_iterations"
    server.sql(ODD.format(schema=schema, depth=depth))


def there_and_back(server: Server, schema: str, folder: Path, back: str) -> dict[str, int]:
    """The schema into an archive, proved, and out of it into `back`; rows by table."""
    of = resolve(server.url)
    written = write_archive(of, schema, folder)
    checked = check_backup(folder)
    assert checked["ok"], checked["problems"]
    assert checked["rows"] == written["rows_backed_up"]
    assert written["bytes"] == sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    archived = read_archive(folder)
    declare(server, archived, back)
    loaded = load_archive(of, archived, back)
    assert loaded == written["tables"]
    assert not server.sql(f"SHOW TABLES FROM `{back}` LIKE '~migrate%'")
    return loaded


def checksums(server: Server, schema: str, tables: dict[str, int]) -> dict[str, str | None]:
    """The server's own sum over all bytes of each table."""
    return {
        table: server.sql(f"CHECKSUM TABLE `{schema}`.`{table}` EXTENDED")[0][1] for table in tables
    }


# -- to the last bit -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_every_type_comes_back_bit_for_bit(
    request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path, kind: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, "arc_types", BACK)
    make_types(server, "arc_types")
    there_and_back(server, "arc_types", tmp_path / "archive", BACK)
    for number, type_ in enumerate(TYPES):
        back = exact(server, BACK, f"t{number}", type_)
        assert back == exact(server, "arc_types", f"t{number}", type_), type_


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_what_arrow_has_no_value_for_comes_back_all_the_same(
    request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path, kind: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, "arc_odd", BACK)
    make_odd(server, "arc_odd")
    tables = there_and_back(server, "arc_odd", tmp_path / "archive", BACK)
    assert tables == {"#odd ü/..": 4, "keyless": 4, "empty": 0, "late": 90_000}
    assert checksums(server, BACK, tables) == checksums(server, "arc_odd", tables)
    sql = "SELECT id, e + 0, d, made, z, HEX(c), HEX(u) FROM `{}`.`#odd ü/..` ORDER BY id"
    found = server.sql(sql.format(BACK))
    assert found == server.sql(sql.format("arc_odd"))
    assert found[0][:3] == ("1", "2", "0000-00-00")
    assert found[3][1] == "0"
    names = [path.name for path in (tmp_path / "archive" / "tables").iterdir()]
    assert "%23odd%20%c3%bc%2f%2e%2e" in names


@pytest.mark.parametrize("pipeline", ["full_pipeline_mysql", "full_pipeline_maria"])
def test_a_pipeline_with_everything_in_it_comes_back_bit_for_bit(
    request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path, pipeline: str
) -> None:
    full: FullPipeline = request.getfixturevalue(pipeline)
    for name, schema in zip(options.SCHEMAS, full.schemas, strict=True):
        fresh(full.server, BACK)
        tables = there_and_back(full.server, schema, tmp_path / name, BACK)
        assert len(tables) > 2
        assert checksums(full.server, BACK, tables) == checksums(full.server, schema, tables)


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_an_archive_says_where_the_log_of_the_server_stood(tmp_path: Path, kind: str) -> None:
    arguments = ["--log-bin=binlog", "--server-id=1"]
    if kind == "mysql":
        arguments += ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]
    server = servers.start(kind, arguments=arguments)
    try:
        small = make(server, "arc", tmp_path / "store")
        write_archive(resolve(server.url), small.lab, tmp_path / "archive")
        show = "SHOW BINARY LOG STATUS" if kind == "mysql" else "SHOW MASTER STATUS"
        file, position, *_ = server.sql(show)[0]
        gtid = "GLOBAL.gtid_executed" if kind == "mysql" else "gtid_binlog_pos"
        snapshot = read_archive(tmp_path / "archive").snapshot
        assert snapshot["kind"] == "shared"
        assert (snapshot["binlog_file"], str(snapshot["binlog_position"])) == (file, position)
        assert snapshot["gtid"] == server.sql(f"SELECT @@{gtid}")[0][0]
        assert snapshot["time"].endswith("Z")
    finally:
        server.stop()


def test_files_of_the_stores_come_along_on_request(small: Small, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    small.server.sql(
        f"INSERT INTO `{small.rig}`.`~external_raw` (hash, size) VALUES (REPEAT('x', 16), 1)"
    )
    options: dict[str, Any] = {"with_files": True, "source_stores": small.source_stores}
    written = write_archive(resolve(small.server.url), small.rig, folder, **options)
    # The first recording has no paper and no movie, though there are files of that name.
    pointed = {
        path for path in small.objects.values() if not path.name.endswith((" 1.pdf", " 1.avi"))
    }
    assert written["files_backed_up"] == len(pointed) == len(set(small.objects.values())) - 2
    for path in pointed:
        copied = folder / "files" / "raw" / path.relative_to(small.root)
        assert copied.read_bytes() == path.read_bytes()
    assert check_backup(folder)["ok"]
    # They go back where they are missing, and nowhere else.
    lost = sorted(pointed)[::2]
    for path in lost:
        path.unlink()
    there = {path: path.stat().st_mtime_ns for path in pointed if path.exists()}
    assert put_files_back(read_archive(folder), small.source_stores) == len(lost)
    for path in pointed:
        copied = folder / "files" / "raw" / path.relative_to(small.root)
        assert copied.read_bytes() == path.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in there} == there
    lost[0].write_bytes(b"another")
    with pytest.raises(ExternalMissing, match="other contents"):
        put_files_back(read_archive(folder), small.source_stores)
    assert lost[0].read_bytes() == b"another"
    with pytest.raises(StoreMissing, match="'raw'"):
        put_files_back(read_archive(folder), {})
    some = next(folder.glob("files/raw/movies/*.avi"))
    some.write_bytes(some.read_bytes()[:-1] + b"X")
    checked = check_backup(folder)
    assert [problem["file"] for problem in checked["problems"]] == [str(some.relative_to(folder))]


def test_a_file_that_is_missing_or_damaged_in_its_store_is_named(
    small: Small, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"with_files": True, "source_stores": small.source_stores}
    movie = small.root / "movies" / "m 3.avi"
    kept = movie.read_bytes()
    movie.unlink()
    with pytest.raises(ExternalMissing, match=r"m 3\.avi"):
        write_archive(resolve(small.server.url), small.rig, tmp_path / "archive", **options)
    movie.write_bytes(kept[:-1] + b"X")
    with pytest.raises(ExternalMissing, match="damaged"):
        write_archive(resolve(small.server.url), small.rig, tmp_path / "archive", **options)
    movie.write_bytes(kept)
    write_archive(resolve(small.server.url), small.rig, tmp_path / "archive", **options)
    assert check_backup(tmp_path / "archive")["ok"]
    options["source_stores"] = {}
    with pytest.raises(StoreMissing, match="'raw'"):
        write_archive(resolve(small.server.url), small.rig, tmp_path / "other", **options)


# -- for people ----------------------------------------------------------------------------------

READ = """
import json, sys
from pathlib import Path
import duckdb, pandas, pyarrow.parquet
odd, late, keyless = sys.argv[1:]
frame = pandas.read_parquet(odd)
files = f"read_parquet('{late}/*.parquet', union_by_name=true)"
zero = 'SELECT count(*), count(t), min("t@mysql") FROM ' + files
table = pyarrow.parquet.read_table(keyless)
print(json.dumps({
    "enum": frame["e"].fillna("NULL").tolist(),
    "zero": [str(value) for value in duckdb.sql(zero).fetchall()[0]],
    "doubles": [value.hex() for value in table["x"].to_pylist()],
    "type": frame["d"].astype(str).tolist()[3],
}))
"""


def test_pandas_duckdb_and_pyarrow_read_it_without_us(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "arc_odd")
    make_odd(mysql, "arc_odd")
    write_archive(resolve(mysql.url), "arc_odd", tmp_path / "archive")
    tables = tmp_path / "archive" / "tables"
    places = [str(next(tables.glob("%23odd*"))), str(tables / "late"), str(tables / "keyless")]
    words = [str(environments.python("readers")), "-c", READ, *places]
    said = subprocess.run(words, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["enum"] == ["", "it's", "a", "NULL"]
    assert found["zero"] == ["90000", "89999", "b'0000-00-00 00:00:00'"]
    assert sorted(found["doubles"]) == ["-0x0.0p+0"] * 3 + ["0x0.0p+0"]
    assert found["type"] == "2024-01-01"


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_views_triggers_and_routines_come_along_as_text(
    request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path, kind: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, "arc_rig", "arc_lab")
    small = make(server, "arc", tmp_path / "store")
    server.sql(
        f"USE `{small.lab}`; CREATE VIEW heavy AS SELECT * FROM mouse WHERE weight > 1;"
        "CREATE TRIGGER tidy BEFORE INSERT ON mouse FOR EACH ROW SET NEW.species = 'rat';"
        "CREATE PROCEDURE nothing() SELECT 'é'"
    )
    write_archive(resolve(server.url), small.lab, tmp_path / "archive")
    with resolve(server.url).session(read_only=True) as session:
        assert read_archive(tmp_path / "archive").programs == read_programs(session, small.lab)
    assert len(read_archive(tmp_path / "archive").programs) == 3
    for lie in ({"kind": "user"}, {"schema": "mysql"}, {"more": 1}, {"create": 7}):
        change(tmp_path / "archive", lambda m, lie=lie: m["programs"][0].update(lie))
        with pytest.raises(ArchiveFailed, match=r"manifest\.json"):
            read_archive(tmp_path / "archive")


# -- interrupted ---------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.backup import archive
from datajoint_migrate.call.throttle import Throttle
url, name, location, rows = sys.argv[1:]
# Slow on purpose: a fast machine would be done before it is seen at work.
slow = Throttle(max_bytes_per_second=30_000_000)
def die(event):
    if event["rows"] >= int(rows):
        os.kill(os.getpid(), signal.SIGKILL)
archive.write_archive(resolve(url), name, location, lanes=1, throttle=slow, on_event=die)
"""
LOAD = """
import sys
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.backup import archive
url, name, location = sys.argv[1:]
archive.load_archive(resolve(url), archive.read_archive(location), name, lanes=1)
"""


def killed(small: Small, folder: Path) -> None:
    """A backup in a process of its own, killed when it has moved 90,000 rows."""
    words = [sys.executable, "-c", KILLED, small.server.url, small.lab, str(folder), "90000"]
    assert subprocess.run(words).returncode == -9


def many_trials(small: Small) -> None:
    small.server.sql(
        f"SET cte_max_recursion_depth=400000; INSERT INTO `{small.lab}`.session__trial"
        f" WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {TRIALS - 1})"
        " SELECT i DIV 60000, '2024-01-01' + INTERVAL i DIV 60000 DAY, i % 60000 + 2,"
        " REPEAT('x', 400) FROM n; ANALYZE TABLE `" + small.lab + "`.session__trial"
    )


def test_a_killed_backup_goes_on_and_is_of_one_instant(small: Small, tmp_path: Path) -> None:
    many_trials(small)
    folder = tmp_path / "archive"
    killed(small, folder)
    finished = sorted(folder.rglob("*.parquet"))
    assert finished
    assert not (folder / "manifest.json").exists()
    with pytest.raises(ArchiveFailed, match="unfinished"):
        read_archive(folder)
    before = {file: file.stat().st_mtime_ns for file in finished}
    # What was written already is of an earlier instant than this.
    small.server.sql(
        f"UPDATE `{small.lab}`.session__trial SET data = 'new' WHERE mouse_id = 0 AND trial = 9"
    )
    # And whatever killed the run may have damaged a file.
    finished[-1].write_bytes(finished[-1].read_bytes()[:1000])
    tables = there_and_back(small.server, small.lab, folder, BACK)
    assert checksums(small.server, BACK, tables) == checksums(small.server, small.lab, tables)
    kept = [file for file in finished if file.stat().st_mtime_ns == before[file]]
    assert 0 < len(kept) < len(finished)
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "journal.jsonl").exists()


def test_a_killed_restore_goes_on(small: Small, tmp_path: Path) -> None:
    many_trials(small)
    folder = tmp_path / "archive"
    server = resolve(small.server.url)
    written = write_archive(server, small.lab, folder)
    declare(small.server, read_archive(folder), BACK)
    loads = itertools.count(1)

    def third(packet: Packet) -> bool:
        trials = packet.upward and packet.payload.startswith(b"\x03LOAD DATA")
        return trials and b"`session__trial`" in packet.payload and next(loads) == 3

    def words(url: str) -> list[str]:
        return [sys.executable, "-c", LOAD, url, BACK, str(folder)]

    assert killed_on_the_way(small.server, words, third)
    assert 0 < small.count(BACK, "session__trial") < TRIALS + MICE
    seen: list[dict[str, Any]] = []
    loaded = load_archive(server, read_archive(folder), BACK, on_event=seen.append)
    assert loaded == written["tables"]
    assert checksums(small.server, BACK, loaded) == checksums(small.server, small.lab, loaded)
    # What was there already counts as what is loaded now: as in the files.
    assert (seen[-1]["rows"], seen[-1]["bytes"]) == (sum(loaded.values()), written["bytes"])


def test_a_restore_counts_the_bytes_of_the_files(small: Small, archive: Path) -> None:
    archived = read_archive(archive)
    declare(small.server, archived, BACK)
    seen: list[dict[str, Any]] = []
    loaded = load_archive(resolve(small.server.url), archived, BACK, on_event=seen.append)
    size = sum(file.stat().st_size for file in archive.rglob("*.parquet"))
    assert (seen[-1]["rows"], seen[-1]["bytes"]) == (sum(loaded.values()), size)


def test_a_definition_that_changed_between_two_runs_is_written_anew(
    small: Small, tmp_path: Path
) -> None:
    many_trials(small)
    folder = tmp_path / "archive"
    killed(small, folder)
    small.server.sql(f"ALTER TABLE `{small.lab}`.session__trial ADD more int DEFAULT 7")
    tables = there_and_back(small.server, small.lab, folder, BACK)
    assert checksums(small.server, BACK, tables) == checksums(small.server, small.lab, tables)


def test_writers_go_on_while_a_backup_runs(small: Small, tmp_path: Path) -> None:
    many_trials(small)
    waits: list[int] = []

    def write(event: dict[str, Any]) -> None:
        if not event.get("rows"):
            return  # the snapshot may not be open yet
        number = 1000 + len(waits)
        values = f"({number}, 'rat', 1, NULL)"
        small.server.sql(f"INSERT INTO `{small.lab}`.mouse VALUES {values}")
        waits.append(number)

    written = write_archive(
        resolve(small.server.url), small.lab, tmp_path / "archive", on_event=write
    )
    assert waits
    assert written["tables"]["mouse"] == MICE
    assert small.count(small.lab, "mouse") == MICE + len(waits)


# -- refusals ------------------------------------------------------------------------------------


def test_what_is_a_path_and_what_is_a_schema() -> None:
    assert is_archive("/backups/lab")
    assert is_archive("./lab")
    assert is_archive("s3://bucket/lab")
    assert is_archive(Path("lab"))
    assert not is_archive("lab_backup")


@pytest.mark.parametrize("url", ["gs://bucket/lab", "s3://bucket", "s3://me:hush@bucket/lab"])
def test_a_url_that_is_no_place_in_a_bucket_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidArgument, match="s3://bucket/prefix") as refused:
        check_backup(url)
    assert "hush" not in str(refused.value)


def test_a_folder_in_use_is_left_alone(small: Small, archive: Path, tmp_path: Path) -> None:
    server = resolve(small.server.url)
    with pytest.raises(DestinationNotEmpty, match="finished archive"):
        write_archive(server, small.lab, archive)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(DestinationNotEmpty, match="no archive"):
        write_archive(server, small.lab, tmp_path / "photos")
    with pytest.raises(NotFound, match="arc_lob"):
        write_archive(server, "arc_lob", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_rows_are_never_merged(small: Small, archive: Path) -> None:
    archived = read_archive(archive)
    server = resolve(small.server.url)
    with pytest.raises(NotFound, match=BACK):
        load_archive(server, archived, BACK)
    declare(small.server, archived, BACK)
    small.server.sql(f"INSERT INTO {BACK}.`#species` VALUES ('cat')")
    with pytest.raises(DestinationNotEmpty, match="#species"):
        load_archive(server, archived, BACK)
    small.server.sql(f"DELETE FROM {BACK}.`#species`; DROP TABLE {BACK}.session__trial")
    with pytest.raises(NotFound, match="session__trial"):
        load_archive(server, archived, BACK)


def test_a_row_that_did_not_arrive_as_it_was_is_found(small: Small, archive: Path) -> None:
    archived = read_archive(archive)
    declare(small.server, archived, BACK)
    small.server.sql(
        f"CREATE TRIGGER {BACK}.meddle BEFORE INSERT ON {BACK}.mouse FOR EACH ROW"
        " SET NEW.weight = NEW.weight + 1e-3"
    )
    with pytest.raises(Mismatch, match=r"arc_back\.mouse"):
        load_archive(resolve(small.server.url), archived, BACK)
