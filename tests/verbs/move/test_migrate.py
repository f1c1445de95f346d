"""migrate: whole schemas in one call, resumed after whatever happened."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from conftest import Fresh
from datajoint_migrate import (
    ConnectionFailed,
    DestinationNotEmpty,
    Event,
    ExternalMissing,
    ForeignKeyLeavesMap,
    InvalidArgument,
    MigrationError,
    NotFound,
    PermissionMissing,
    StoreMissing,
    Unconvertible,
    compare_schemas,
    migrate,
    verify_schema_v20,
)
from line import Harm, Packet, line
from servers import Server
from small import MICE, RECORDINGS, Small, make

KEYS = {
    "schemas", "tables_created", "rows_copied", "files_copied", "match", "compatible", "issues",
    "time_taken",
}  # fmt: skip
ROWS = 2 + 3 * MICE + RECORDINGS


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"mig_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "mig", tmp_path / "store")


def run(small: Small, schema_map: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
    """The whole pipeline in one call."""
    settings = {"connection": small.server.url, **small.stores, **options}
    return migrate(small.map if schema_map is None else schema_map, **settings)


@pytest.mark.quick
def test_one_call_does_everything(small: Small) -> None:
    result = run(small)
    assert set(result) >= KEYS
    assert result["match"]
    assert result["compatible"], result["issues"]
    assert result["rows_copied"] == ROWS
    assert result["files_copied"] == RECORDINGS - 1
    assert result["tables_created"] == 8
    small.server.sql(
        f"DELETE FROM `{small.rig}`._recording; DELETE FROM `{small.lab}`.session__trial"
    )


def test_a_second_call_does_nothing_but_say_so(small: Small) -> None:
    run(small)
    again = run(small)
    assert (again["tables_created"], again["rows_copied"], again["files_copied"]) == (0, 0, 0)
    assert again["match"]
    assert again["compatible"]


def test_files_are_copied_to_another_folder(small: Small, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    elsewhere = {"raw": {"protocol": "file", "location": str(tmp_path / "new")}}
    with pytest.raises(StoreMissing, match="copy_files=True"):
        run(small, dest_stores=elsewhere)
    result = run(small, dest_stores=elsewhere, copy_files=True)
    assert result["compatible"], result["issues"]
    # Two objects belong to no row any more.
    assert result["files_copied"] == len(small.objects) - 2
    names = small.server.sql(f"SELECT `signal`->>'$.path' FROM `{small.map[small.rig]}`._recording")
    # The name after the cutover, and one no release's collector takes for an orphan.
    assert all(str(name[0]).startswith(f"_hash/{small.rig}/") for name in names)
    assert all(str(name[0]).endswith(".blob") for name in names)
    assert all((tmp_path / "new" / str(name[0])).is_file() for name in names)


def test_files_are_copied_by_other_processes(small: Small, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    elsewhere = {"raw": {"protocol": "file", "location": str(tmp_path / "new")}}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        executor = Mock(wraps=pool)
        result = run(small, dest_stores=elsewhere, copy_files=True, executor=executor)
    assert executor.submit.call_count > 0
    assert result["files_copied"] == len(small.objects) - 2
    assert result["match"]
    assert result["compatible"], result["issues"]
    copied = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert len(copied) == len(small.objects) - 2


def test_stores_may_get_other_names(small: Small) -> None:
    result = run(small, dest_stores={"main": small.dest_stores["raw"]}, store_map={"raw": "main"})
    assert result["compatible"], result["issues"]
    store = f"SELECT DISTINCT `signal`->>'$.store' FROM `{small.map[small.rig]}`._recording"
    assert small.value(store) == "main"


def test_a_dry_run_can_be_read_and_writes_nothing(small: Small) -> None:
    plan = run(small, dry_run=True)
    assert any("mig_lab -> mig_lab_v20" in line for line in plan["plan"])
    assert any("CREATE TABLE" in statement for statement in plan["ddl"])
    assert small.schemas_there() == {small.lab, small.rig}


@pytest.mark.quick
def test_two_servers(small: Small, mysql_b: Server) -> None:
    try:
        result = run(small, dest_connection=mysql_b.url)
        assert result["match"]
        assert result["rows_copied"] == ROWS
        for dest in small.map.values():
            assert verify_schema_v20(dest, connection=mysql_b.url)["compatible"]
    finally:
        for dest in small.map.values():
            mysql_b.sql(f"SET foreign_key_checks=0; DROP DATABASE IF EXISTS `{dest}`")


def test_production_goes_on_while_it_is_copied(small: Small) -> None:
    stop, began = threading.Event(), threading.Event()

    def write() -> None:
        number = 1000
        while not stop.is_set():
            number += 1
            small.server.sql(
                f"INSERT INTO `{small.lab}`.mouse VALUES ({number}, 'rat', 1, NULL);"
                f"INSERT INTO `{small.lab}`.session VALUES ({number}, '2024-01-01', '')"
            )
            began.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert began.wait(60)
        result = run(small)
    finally:
        stop.set()
        writer.join()
    # One instant: no session without its mouse, whatever was written since.
    assert not any("refer to rows" in issue for issue in result["issues"])
    # And compared with that instant: what came later is no difference.
    assert result["match"], result["issues"]
    assert result["snapshot"] in ("shared", "single")


KILLED = """
import os, sys, json
import datajoint_migrate
arguments = json.loads(sys.argv[1])
def die(event):
    if event["verb"] == "copy" and event["rows"] >= int(sys.argv[2]):
        os._exit(9)
datajoint_migrate.migrate(arguments.pop("schema_map"), on_event=die, **arguments)
"""


@pytest.mark.parametrize("rows_there", [1, 100_000, 300_000])
def test_a_killed_run_is_resumed(small: Small, rows_there: int) -> None:
    small.server.sql(
        f"SET cte_max_recursion_depth=400000; INSERT INTO `{small.lab}`.session__trial"
        " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299999)"
        " SELECT i DIV 60000, '2024-01-01' + INTERVAL i DIV 60000 DAY, i % 60000 + 2,"
        " REPEAT('x', 100) FROM n"
    )
    arguments = {"schema_map": small.map, "connection": small.server.url, **small.stores}
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(arguments), str(rows_there)])
    result = run(small)
    assert result["match"], result["issues"]
    assert result["compatible"], result["issues"]
    rows = small.count(small.map[small.lab], "session__trial")
    assert rows == small.count(small.lab, "session__trial")
    assert killed.returncode == 9


def test_tables_made_by_a_killed_run_are_taken_over(small: Small) -> None:
    run(small)
    dest = small.map[small.lab]
    small.server.sql(
        f"SET foreign_key_checks=0; TRUNCATE `{dest}`.mouse; DROP TABLE `{dest}`.session__trial;"
        f"DROP DATABASE `{small.map[small.rig]}`"
    )
    result = run(small)
    assert result["match"]
    assert result["rows_copied"] == 2 * MICE + RECORDINGS


@pytest.mark.parametrize("to", ["mysql", "mysql_b"])
def test_a_copy_is_proved_bit_by_bit_whatever_the_tolerance(
    mysql: Server, fresh: Fresh, to: str, request: pytest.FixtureRequest
) -> None:
    dest: Server = request.getfixturevalue(to)
    fresh(mysql, "mig_bit", "mig_bit_v20")
    fresh(dest, "mig_bit_v20")
    mysql.sql(
        "CREATE DATABASE mig_bit; USE mig_bit; CREATE TABLE a (id INT PRIMARY KEY, v DOUBLE);"
        "CREATE TABLE b LIKE a; INSERT INTO a VALUES (1, 0.25), (2, 0.5);"
        "INSERT INTO b SELECT * FROM a;"
        # A rebuild leaves tables that nobody has written to for long: a copy inside a server
        # is of those.
        "ALTER TABLE a FORCE; ALTER TABLE b FORCE"
    )
    nudged = threading.Event()

    def rule(packet: Packet) -> Harm:
        fills = packet.command.startswith((b"\x03INSERT INTO", b"\x03LOAD DATA"))
        second = packet.upward and fills and b"`mig_bit_v20`.`b`" in packet.command[:200]
        if second and not nudged.is_set():
            nudged.set()
            # The first table is filled by then, and not proved yet.
            dest.sql("UPDATE mig_bit_v20.a SET v = v + 1e-9 WHERE id = 1")
        return None

    with line(dest, rule) as proxy:
        both = {"connection": mysql.url, "dest_connection": proxy.url}
        result = migrate({"mig_bit": "mig_bit_v20"}, lanes=1, tolerance=1e-6, **both)
    assert nudged.is_set()
    both["dest_connection"] = dest.url
    if dest is mysql:
        # What a copy inside a server got wrong, it does again.
        assert result["match"], result["issues"]
        assert compare_schemas("mig_bit", "mig_bit_v20", 0, **both)["match"]
    else:
        assert not result["match"]
        assert "mig_bit.a: 1 difference," in result["issues"][0]


# -- bad input ----------------------------------------------------------------------------------


def nothing_was_made(small: Small) -> bool:
    """Whether the destinations do not exist."""
    return small.schemas_there() == {small.lab, small.rig}


def test_a_wrong_schema_is_named_with_its_near_misses(small: Small) -> None:
    with pytest.raises(NotFound, match="mig_lab"):
        run(small, {"mig_labs": "mig_labs_v20"})


def test_a_key_leaving_the_map_names_the_schema_to_add(small: Small) -> None:
    with pytest.raises(ForeignKeyLeavesMap, match="add 'mig_lab' to schema_map"):
        run(small, {small.rig: small.map[small.rig]})
    assert nothing_was_made(small)


def test_a_destination_with_other_rows_is_refused(small: Small) -> None:
    run(small)
    small.server.sql(f"UPDATE `{small.map[small.lab]}`.mouse SET weight = 99")
    with pytest.raises(DestinationNotEmpty, match="mouse"):
        run(small)


def test_a_destination_with_another_table_is_refused(small: Small) -> None:
    dest = small.map[small.lab]
    small.server.sql(f"CREATE DATABASE `{dest}`; CREATE TABLE `{dest}`.mine (id int PRIMARY KEY)")
    with pytest.raises(DestinationNotEmpty, match="mine"):
        run(small)


def test_a_store_that_is_not_configured_is_named(small: Small) -> None:
    with pytest.raises(StoreMissing, match="'raw'"):
        run(small, source_stores={}, dest_stores={})
    assert nothing_was_made(small)


def test_a_missing_file_is_named_and_no_row_is_copied(small: Small) -> None:
    (small.root / "movies" / "m 3.avi").unlink()
    with pytest.raises(ExternalMissing, match=r"movies/m 3\.avi"):
        run(small)
    (small.root / "movies" / "m 3.avi").write_bytes(b"avi" * 3)
    assert run(small)["match"]


def test_a_missing_tracking_row_is_named(small: Small) -> None:
    small.server.sql(
        "SET foreign_key_checks=0;"
        f"DELETE FROM `{small.rig}`.`~external_raw` WHERE filepath = 'movies/m 2.avi'"
    )
    with pytest.raises(ExternalMissing, match="movie"):
        run(small)


def test_a_value_too_big_to_widen_stops_before_anything_is_made(small: Small) -> None:
    small.server.sql(
        f"CREATE TABLE `{small.lab}`.big (id bigint unsigned NOT NULL PRIMARY KEY);"
        f"INSERT INTO `{small.lab}`.big VALUES (18446744073709551615)"
    )
    with pytest.raises(Unconvertible, match=r"big\.id"):
        run(small, unsigned="widen")
    assert nothing_was_made(small)


def test_widening_takes_keys_along(small: Small) -> None:
    result = run(small, unsigned="widen")
    assert result["match"]
    assert result["compatible"], result["issues"]


def test_a_missing_privilege_is_named_and_nothing_is_made(small: Small) -> None:
    small.server.sql(
        "CREATE USER IF NOT EXISTS 'mig_reader'@'%' IDENTIFIED BY 'x';"
        "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `mig_lab`.* TO 'mig_reader'@'%';"
        "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `mig_rig`.* TO 'mig_reader'@'%';"
        "GRANT ALL ON `mig_lab_v20`.* TO 'mig_reader'@'%'"
    )
    reader = {"host": "127.0.0.1", "port": small.server.port, "user": "mig_reader", "password": "x"}
    try:
        with pytest.raises(PermissionMissing, match="CREATE"):
            run(small, connection=reader)
    finally:
        small.server.sql("DROP USER 'mig_reader'@'%'")
    assert nothing_was_made(small)


def test_production_that_goes_away_under_a_call_is_named(small: Small) -> None:
    def drop(event: Event) -> None:
        if event["event"] == "plan":
            small.server.sql(f"SET foreign_key_checks = 0; DROP DATABASE IF EXISTS `{small.lab}`")

    words = f"{small.lab} was renamed or dropped while this call read it"
    with pytest.raises(MigrationError, match=words):
        run(small, on_event=drop)


def test_a_dead_server_is_said_to_be_one(small: Small) -> None:
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1"):
        run(small, connection="mysql://dj:dj@127.0.0.1:1/")


@pytest.mark.parametrize(
    ("schema_map", "options"),
    [
        ({}, {}),
        ({"mig_lab": "mig_lab"}, {}),
        ({"mig_lab": "x_v20", "mig_rig": "x_v20"}, {}),
        ({"mig_lab": "mig_lab_v20"}, {"unsigned": "maybe"}),
        ({"mig_lab": "mig_lab_v20"}, {"tolerance": -1}),
        ({"mig_lab": "mig_lab_v20"}, {"final_names": {"mig_lab_v2": "mig_lab"}}),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(
    small: Small, schema_map: dict[str, str], options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        run(small, schema_map, **options)
