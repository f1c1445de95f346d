"""What stands in a destination's way: locks, small packets, a full disk, no writes, clocks."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
import small as pipelines
from conftest import Fresh
from datajoint_migrate import (
    ServerError,
    compare_schemas,
    copy_all_data,
    create_parallel_schema,
    migrate,
)
from datajoint_migrate.catalog import session as connecting
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.limits import LIMITS
from people import connect
from servers import Server
from small import Small, unfinished

PACKET = 1 << 20
DEST = "obs_lab_v20"


@pytest.fixture(scope="module")
def odd() -> Iterator[Server]:
    """A server with little patience, small packets and another time zone."""
    server = servers.start(
        "mysql",
        arguments=[
            f"--max-allowed-packet={PACKET}",
            "--innodb-lock-wait-timeout=1",
            "--default-time-zone=+05:30",
        ],
    )
    yield server
    server.stop()


@pytest.fixture
def small(mysql: Server, odd: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, "obs_rig", "obs_lab")
    fresh(odd, "obs_rig_v20", DEST)
    pipeline = pipelines.make(mysql, "obs", tmp_path)
    pipelines.add_trials(pipeline, 2000)
    return pipeline


def run(small: Small, dest: Server, **options: Any) -> dict[str, Any]:
    options |= small.stores
    return migrate(small.map, connection=small.server.url, dest_connection=dest.url, **options)


def equal(small: Small, dest: Server) -> None:
    for old, new in small.map.items():
        found = compare_schemas(old, new, connection=small.server.url, dest_connection=dest.url)
        assert found["match"], found
        assert not unfinished(dest, new)


class Other:
    """Another session on a server."""

    def __init__(self, server: Server) -> None:
        self.session = connect(server, autocommit=False)
        self.cursor = self.session.cursor()

    def say(self, sql: str) -> None:
        self.cursor.execute(sql)
        self.cursor.fetchall()

    def close(self) -> None:
        self.session.close()


@pytest.fixture
def other(odd: Server) -> Iterator[Other]:
    session = Other(odd)
    yield session
    session.close()


# -- locks ---------------------------------------------------------------------------------------


def prepared(small: Small, odd: Server) -> None:
    """The parallel schemas, empty, so that others can lock something in them."""
    for old, new in small.map.items():
        create_parallel_schema(
            old,
            new,
            external="convert",
            schema_map=small.map,
            connection=small.server.url,
            dest_connection=odd.url,
        )


def test_rows_that_another_session_locks_are_waited_for(
    small: Small, odd: Server, other: Other
) -> None:
    prepared(small, odd)
    other.say("SET foreign_key_checks = 0")
    other.say("START TRANSACTION")
    other.say(f"INSERT INTO {DEST}.session__trial VALUES (3, '2024-01-04', 1, NULL)")
    retries: list[int] = []

    def let_go(event: dict[str, Any]) -> None:
        retries.append(event.get("retries", 0))
        if event.get("retries"):
            other.say("ROLLBACK")

    result = run(small, odd, on_event=let_go)
    assert result["match"], result["issues"]
    assert max(retries) > 0
    equal(small, odd)


def test_locks_that_are_never_released_end_in_an_error_that_says_so(
    small: Small, odd: Server, other: Other
) -> None:
    prepared(small, odd)
    other.say("SET foreign_key_checks = 0")
    other.say("START TRANSACTION")
    other.say(f"INSERT INTO {DEST}.session__trial VALUES (3, '2024-01-04', 1, NULL)")
    with pytest.raises(ServerError, match="Lock wait timeout") as caught:
        run(small, odd)
    assert "session__trial" in str(caught.value)
    assert "another session holds locks" in str(caught.value.hint)
    other.say("ROLLBACK")
    assert run(small, odd)["match"]
    equal(small, odd)


def test_a_deadlock_that_the_copy_loses_is_tried_again(
    small: Small, odd: Server, other: Other
) -> None:
    prepared(small, odd)
    odd.sql(f"SET GLOBAL innodb_lock_wait_timeout = 60; CREATE TABLE {DEST}.`~weight` (i INT KEY)")
    other.say("SET foreign_key_checks = 0")
    other.say("SET innodb_lock_wait_timeout = 60")
    other.say("START TRANSACTION")
    # The server gives up the transaction that has changed less.
    other.say(
        f"INSERT INTO {DEST}.`~weight` WITH RECURSIVE n (i) AS"
        " (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) SELECT i FROM n"
    )
    for _ in range(3):
        other.say(
            f"INSERT INTO {DEST}.`~weight` SELECT i + (SELECT COUNT(*) FROM {DEST}.`~weight`)"
            f" FROM (SELECT i FROM {DEST}.`~weight`) AS w"
        )
    other.say(f"INSERT INTO {DEST}.session__trial VALUES (11, '2024-01-12', 1, NULL)")
    waiting = "SELECT COUNT(*) FROM performance_schema.data_lock_waits"
    crossed = threading.Event()

    def cross() -> None:
        until = time.monotonic() + 60
        while odd.sql(waiting) == [("0",)] and time.monotonic() < until:
            time.sleep(0.1)
        other.say(f"INSERT INTO {DEST}.session__trial VALUES (0, '2024-01-01', 1, NULL)")
        crossed.set()
        other.say("ROLLBACK")

    thread = threading.Thread(target=cross)
    retries: list[int] = []
    try:
        thread.start()
        result = copy_all_data(
            small.lab,
            DEST,
            connection=small.server.url,
            dest_connection=odd.url,
            on_event=lambda event: retries.append(event.get("retries", 0)),
        )
    finally:
        thread.join()
        odd.sql("SET GLOBAL innodb_lock_wait_timeout = 1")
    assert crossed.is_set()
    assert max(retries) > 0
    odd.sql(f"DROP TABLE {DEST}.`~weight`")
    assert result["tables"]["session__trial"] == 2012
    found = compare_schemas(small.lab, DEST, connection=small.server.url, dest_connection=odd.url)
    assert found["match"]


def test_a_table_that_another_session_uses_is_not_waited_for_for_ever(
    small: Small, odd: Server, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = connecting.settle

    def impatient(session: Session, banner: str) -> None:
        patient(session, banner)
        session.execute("SET SESSION lock_wait_timeout = 1")

    monkeypatch.setattr(connecting, "settle", impatient)
    prepared(small, odd)
    other.say("START TRANSACTION")
    other.say("SELECT * FROM obs_rig_v20._recording")
    with pytest.raises(ServerError, match="Lock wait timeout") as caught:
        run(small, odd)
    assert "another session holds locks" in str(caught.value.hint)
    other.say("ROLLBACK")
    assert run(small, odd)["match"]
    equal(small, odd)


# -- packets -------------------------------------------------------------------------------------


def test_a_row_larger_than_a_packet_is_loaded(small: Small, odd: Server) -> None:
    small.server.sql(
        f"UPDATE `{small.lab}`.session__trial SET data = REPEAT(x'00ff5c0a', {PACKET})"
        " WHERE mouse_id = 5 AND trial = 1"
    )
    assert run(small, odd)["match"]
    equal(small, odd)


def test_an_insert_larger_than_a_packet_is_refused_by_name(small: Small, odd: Server) -> None:
    small.server.sql(
        f"UPDATE `{small.lab}`.session__trial SET data = REPEAT('x', {PACKET})"
        " WHERE mouse_id = 5 AND trial = 1"
    )
    odd.sql("SET GLOBAL local_infile = OFF")
    try:
        with pytest.raises(ServerError, match=r"session__trial.*max_allowed_packet") as caught:
            run(small, odd)
        assert "raise max_allowed_packet" in str(caught.value.hint)
    finally:
        odd.sql("SET GLOBAL local_infile = ON")
    assert run(small, odd)["match"]


def test_json_larger_than_a_packet_is_refused_and_not_cut(small: Small, odd: Server) -> None:
    small.server.sql(
        f"CREATE TABLE `{small.lab}`.note (id INT NOT NULL PRIMARY KEY, words JSON);"
        f"INSERT INTO `{small.lab}`.note VALUES (1, JSON_QUOTE(REPEAT('x', {2 * PACKET})))"
    )
    with pytest.raises(ServerError, match=r"note.*max_allowed_packet") as caught:
        run(small, odd)
    assert "raise max_allowed_packet" in str(caught.value.hint)


def test_text_that_outgrows_a_packet_when_it_is_converted_arrives_whole(
    odd: Server, mysql: Server, fresh: Fresh
) -> None:
    fresh(odd, "obs_text")
    fresh(mysql, "obs_text_v20")
    odd.sql(
        "CREATE DATABASE obs_text; CREATE TABLE obs_text.note (id INT NOT NULL PRIMARY KEY,"
        " words LONGTEXT CHARACTER SET latin1);"
        f"INSERT INTO obs_text.note VALUES (1, REPEAT(_latin1 x'e9', {PACKET * 3 // 4}))"
    )
    result = migrate(
        {"obs_text": "obs_text_v20"},
        charset="utf8mb4",
        connection=odd.url,
        dest_connection=mysql.url,
    )
    assert result["match"], result["issues"]
    assert mysql.sql("SELECT LENGTH(words) FROM obs_text_v20.note") == [(str(PACKET * 3 // 2),)]


# -- no writes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["read_only", "super_read_only"])
def test_a_server_that_takes_no_writes_is_refused_before_anything_is_written(
    small: Small, odd: Server, setting: str, tmp_path: Path
) -> None:
    odd.sql(
        "CREATE USER IF NOT EXISTS plain IDENTIFIED BY 'plain'; GRANT ALL ON `obs\\_%`.* TO plain"
    )
    (tmp_path / "new").mkdir()
    options: dict[str, Any] = {
        "connection": small.server.url,
        "source_stores": small.source_stores,
        "dest_stores": {"raw": {"protocol": "file", "location": str(tmp_path / "new")}},
        "copy_files": True,
    }
    plain = f"mysql://plain:plain@{odd.host}:{odd.port}/"
    odd.sql(f"SET GLOBAL {setting} = ON")
    try:
        with pytest.raises(ServerError, match=r"read-only|read_only") as caught:
            migrate(small.map, dest_connection=plain, **options)
        if setting == "super_read_only":
            with pytest.raises(ServerError, match=r"read-only|read_only"):
                migrate(small.map, dest_connection=odd.url, **options)
        assert "takes no writes" in str(caught.value.hint)
        assert not odd.sql("SHOW DATABASES LIKE 'obs%'")
        assert not list((tmp_path / "new").iterdir())
    finally:
        odd.sql("SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")


# -- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """`tiny()` starts a server whose disk has room for itself and a little more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made: list[Server] = []
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=190m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:

        def start() -> Server:
            # Where the server's own files have no room it waits for some and says nothing.
            arguments = ["--innodb-redo-log-capacity=8M", "--innodb-doublewrite=OFF"]
            made.append(servers.start("mysql", arguments=arguments, within=disk))
            return made[0]

        yield start
    finally:
        for server in made:
            server.stop()
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.timeout(180)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_said_to_be_full_and_the_same_call_goes_on_when_there_is_room(
    mysql: Server,
    fresh: Fresh,
    tmp_path: Path,
    tiny: Callable[[], Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LIMITS, "chunk_bytes", 4 << 20)
    dest = tiny()
    assert dest.folder is not None
    fresh(mysql, "obs_rig", "obs_lab")
    small = pipelines.make(mysql, "obs", tmp_path / "store")
    mysql.sql(f"UPDATE `{small.lab}`.session__trial SET data = REPEAT(x'00ff5c0a', {1 << 20})")
    filler = dest.folder / "filler"
    free = shutil.disk_usage(dest.folder).free
    with filler.open("wb") as file:
        file.write(bytes(max(0, free - (20 << 20))))
    began = time.monotonic()
    with pytest.raises(ServerError, match="full") as caught:
        run(small, dest)
    assert time.monotonic() - began < 60
    assert "session__trial" in str(caught.value)
    assert "make room" in str(caught.value.hint)
    filler.unlink()
    assert run(small, dest)["match"]
    equal(small, dest)


# -- clocks --------------------------------------------------------------------------------------


def test_servers_in_other_time_zones_hold_the_same_instants(
    mysql: Server, odd: Server, fresh: Fresh
) -> None:
    fresh(mysql, "obs_time")
    fresh(odd, "obs_time_v20")
    mysql.sql(
        "SET GLOBAL time_zone = '-08:00'; SET SESSION time_zone = '-08:00';"
        "CREATE DATABASE obs_time; CREATE TABLE obs_time.visit (id INT NOT NULL PRIMARY KEY,"
        " seen TIMESTAMP(3) NULL, made TIMESTAMP DEFAULT '1999-01-02 03:04:05', local DATETIME);"
        "INSERT INTO obs_time.visit (id, seen, local) VALUES (1, '2024-03-10 02:30:00.5',"
        " '2024-03-10 02:30:00'), (2, FROM_UNIXTIME(1), '2024-01-01'), (3, NULL, NULL)"
    )
    try:
        result = migrate(
            {"obs_time": "obs_time_v20"}, connection=mysql.url, dest_connection=odd.url
        )
    finally:
        mysql.sql("SET GLOBAL time_zone = 'SYSTEM'")
    assert result["match"], result["issues"]
    what = "SELECT id, UNIX_TIMESTAMP(seen), UNIX_TIMESTAMP(made), local FROM {}.visit ORDER BY id"
    assert odd.sql(what.format("obs_time_v20")) == mysql.sql(what.format("obs_time"))
    # The default is an instant too: what is inserted on either side without one is the same.
    for server, schema in ((mysql, "obs_time"), (odd, "obs_time_v20")):
        server.sql(f"INSERT INTO {schema}.visit (id) VALUES (4)")
    assert odd.sql(what.format("obs_time_v20")) == mysql.sql(what.format("obs_time"))
