"""cutover and rollback: production and its parallel schemas change places, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import SOAK, Fresh, drop
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    NotFound,
    NotReady,
    ServerError,
    backup_schema,
    compare_schemas,
    cutover,
    migrate,
    restore_schema,
    rollback,
    verify_schema_v20,
)
from datajoint_migrate.catalog.names import SYNC
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover import occupants
from datajoint_migrate.verbs.cutover.watch import Watch
from full_pipeline import ADAPTERS, FullPipeline, fill, read_with, work_with
from in_use import two_of_one_second
from pair import make_pair
from places import PIPELINES, TESTS
from servers import Server
from small import Small, make
from snapshot import snapshot

KILLS = TESTS / "kills.py"
OLD_CLIENT = PIPELINES / "fence" / "old_client.py"
READ_014 = PIPELINES / "full" / "read_014.py"
MAP = {"cut_a": "cut_a_v20", "cut_b": "cut_b_v20"}
BACKUPS = {"cut_a": "cut_a_bak", "cut_b": "cut_b_bak"}
ALL = [f"{name}{end}" for name in MAP for end in ("", "_v20", "_old", "_bak", "_v20_2")]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    """A server with two schemas that refer to each other, migrated and backed up."""
    found: Server = request.getfixturevalue(request.param)
    fresh(found, *ALL, "cut_c")
    make_pair(found, *MAP)
    result = migrate(MAP, connection=found.url)
    assert result["compatible"], result["issues"]
    for schema, backup in BACKUPS.items():
        backup_schema(schema, backup, connection=found.url)
    return found


def ready(server: Server, **options: Any) -> dict[str, Any]:
    """The cutover of both schemas."""
    return cutover(MAP, backups=BACKUPS, connection=server.url, **options)


def seen(server: Server) -> dict[str, Any]:
    with resolve(server.url).session(read_only=True) as session:
        return snapshot(session.query, *(name for name in ALL if not name.endswith("_bak")))


def test_without_execute_nothing_changes(server: Server) -> None:
    before = seen(server)
    result = ready(server)
    assert not result["executed"]
    assert result["missing"] == []
    assert all(check["ok"] for check in result["checks"])
    assert "cut_a_v20.mouse -> cut_a.mouse" in result["plan"]
    assert result["archives"] == {"cut_a": "cut_a_old", "cut_b": "cut_b_old"}
    assert seen(server) == before


def test_all_schemas_change_places_and_back(server: Server) -> None:
    before = seen(server)
    result = ready(server, execute=True)
    assert result["executed"]
    # What a sync remembers of a copy stays where it is.
    assert result["tables_renamed"] == len(
        [table for schema in before.values() for table in schema["tables"] if table != SYNC]
    )
    there = seen(server)
    for name, parallel in MAP.items():
        assert set(there[parallel]["tables"]) == {SYNC}
        assert set(there[name]["tables"]) == set(before[parallel]["tables"]) - {SYNC}
        assert verify_schema_v20(name, connection=server.url)["issues"] == []
        assert compare_schemas(f"{name}_old", name, connection=server.url)["match"]
    assert "`cut_a_v20`" not in str(there)
    again = rollback(MAP, connection=server.url, execute=True)
    assert again["executed"]
    assert again["rows_written"] == {}
    assert seen(server) == before


def test_programs_work_under_the_final_names(server: Server) -> None:
    ready(server, execute=True)
    for a, b in (("cut_a", "cut_b"), ("cut_a_old", "cut_b_old")):
        server.sql(f"UPDATE {a}.mouse SET note = 'new' WHERE mouse_id = 1")
        server.sql(f"UPDATE {b}.`__scan` SET data = NULL WHERE mouse_id = 1")
        assert server.sql(f"SELECT changes FROM {a}.best") == [("11",)]
        assert server.sql(f"SELECT t FROM {a}.old_mice WHERE mouse_id = 2") == [("4",)]
        assert server.sql(f"CALL {a}.count_mice()") == [("3",)]


def test_what_2x_writes_afterwards_is_counted_and_kept(server: Server) -> None:
    before = seen(server)
    ready(server, execute=True)
    server.sql(
        "INSERT INTO cut_a.mouse (mouse_id, note) VALUES (7, 'seven'), (8, 'eight');"
        "DELETE FROM cut_b.`__scan` WHERE mouse_id = 2;"
        "CREATE TABLE cut_a.cage (cage int NOT NULL PRIMARY KEY, mouse_id int unsigned,"
        " FOREIGN KEY (mouse_id) REFERENCES cut_a.mouse (mouse_id));"
        "INSERT INTO cut_a.cage VALUES (1, 7);"
        "CREATE TRIGGER cut_a.fill_cage BEFORE INSERT ON cut_a.cage FOR EACH ROW"
        " SET NEW.mouse_id = (SELECT MAX(mouse_id) FROM cut_a.mouse);"
        "INSERT INTO cut_a.`~lineage` VALUES ('cage', 'cage', 'cut_a.cage.cage')"
    )
    told = rollback(MAP, connection=server.url)
    assert not told["executed"]
    result = rollback(MAP, connection=server.url, execute=True)
    assert result["rows_written"] == {"cut_a_v20.mouse": 2, "cut_b_v20.__scan": -1}
    assert result["tables_new"] == ["cut_a_v20.cage"]
    after = seen(server)
    assert {name: after[name] for name in MAP} == {name: before[name] for name in MAP}
    assert set(after) == set(before)
    server.sql("INSERT INTO cut_a_v20.cage VALUES (2, NULL)")
    assert server.sql("SELECT mouse_id FROM cut_a_v20.cage ORDER BY cage") == [("7",), ("8",)]
    lineage = server.sql("SELECT lineage FROM cut_a_v20.`~lineage` WHERE table_name = 'cage'")
    assert lineage == [("cut_a_v20.cage.cage",)]


def test_parallel_schemas_filled_anew_are_in_the_way_of_a_rollback(server: Server) -> None:
    ready(server, execute=True)
    server.sql("CREATE TABLE cut_a_v20.mouse (x int PRIMARY KEY)")
    with pytest.raises(DestinationNotEmpty, match=r"^cut_a_v20 \(holds mouse\) was filled anew"):
        rollback(MAP, connection=server.url, execute=True)
    server.sql("CREATE TABLE cut_b_v20.scan (x int PRIMARY KEY)")
    with pytest.raises(DestinationNotEmpty) as refused:
        rollback(MAP, connection=server.url, execute=True)
    assert refused.value.message.startswith(
        "cut_a_v20 (holds mouse), cut_b_v20 (holds scan) were filled anew"
    )
    assert "rename_schema('cut_b_v20', 'cut_b_v20_2')" in str(refused.value.hint)


def test_the_second_call_says_that_it_is_done(server: Server) -> None:
    first = ready(server, execute=True)
    again = ready(server, execute=True)
    assert again["executed"]
    assert again["tables_renamed"] == first["tables_renamed"]
    assert again["journal"] == "cut_a_old"
    with pytest.raises(InvalidArgument, match="another cutover"):
        cutover({"cut_a": "cut_a_v20"}, connection=server.url)


def test_a_rollback_of_nothing_is_an_error(server: Server) -> None:
    with pytest.raises(NotFound, match="nothing can be undone"):
        rollback(MAP, connection=server.url, execute=True)


# -- what the checks find ------------------------------------------------------------------------


def refused(server: Server, check: str, **options: Any) -> str:
    """What that one check, and no other, finds missing; and that nothing is changed."""
    before = seen(server)
    settings = {"backups": BACKUPS, "connection": server.url, **options}
    result = cutover(MAP, **settings)
    failed = [one["name"] for one in result["checks"] if not one["ok"]]
    assert failed == [check]
    with pytest.raises(NotReady) as raised:
        cutover(MAP, execute=True, **settings)
    assert len(raised.value.context["missing"]) == len(result["missing"])
    assert seen(server) == before
    return " ".join(result["missing"])


def test_a_backup_is_asked_for_and_proved(server: Server) -> None:
    assert "backups={'cut_b': ...}" in refused(server, "backup", backups={"cut_a": "cut_a_bak"})
    server.sql("DELETE FROM cut_a_bak.best")
    assert "cut_a.best" in refused(server, "backup")


def test_a_backup_may_be_an_archive(server: Server, tmp_path: Path) -> None:
    archive = str(tmp_path / "cut_a")
    backup_schema("cut_a", archive, connection=server.url)
    backups = {**BACKUPS, "cut_a": archive}
    assert cutover(MAP, backups=backups, connection=server.url)["missing"] == []
    server.sql("DELETE FROM cut_a.best; DELETE FROM cut_a_v20.best")
    found = cutover(MAP, backups=backups, connection=server.url)["missing"]
    assert any(line.startswith("backup: cut_a.best") for line in found)


def test_what_production_has_and_the_copy_has_not_is_noted(server: Server) -> None:
    server.sql("DROP TRIGGER cut_a_v20.count_it")
    notes = " ".join(ready(server)["notes"])
    assert "the trigger cut_a.count_it has no equal in cut_a_v20" in notes


def test_a_row_that_differs_is_found(server: Server) -> None:
    server.sql("UPDATE cut_a_v20.mouse SET note = 'other' WHERE mouse_id = 2")
    assert "cut_a.mouse" in refused(server, "comparison")


def test_a_schema_that_2x_cannot_read_is_found(server: Server) -> None:
    server.sql("DELETE FROM cut_a_v20.`~lineage` WHERE table_name = 'best'")
    assert "best.mouse_id" in refused(server, "2.x ready")


def test_a_reserved_job_is_found(server: Server) -> None:
    server.sql("INSERT INTO cut_b.`~jobs` VALUES ('__scan', 'x', 'reserved')")
    server.sql("DROP DATABASE cut_b_bak")
    backup_schema("cut_b", "cut_b_bak", connection=server.url)
    assert "cut_b.~jobs holds 1 reserved" in refused(server, "jobs")


def test_a_schema_that_would_stay_behind_is_found(server: Server) -> None:
    server.sql(
        "CREATE DATABASE cut_c; CREATE TABLE cut_c.child (mouse_id int unsigned PRIMARY KEY,"
        " FOREIGN KEY (mouse_id) REFERENCES cut_a.mouse (mouse_id))"
    )
    assert "cut_c refers to cut_a" in refused(server, "schemas together")
    server.sql("DROP DATABASE cut_c")


def test_a_key_whose_charset_is_not_its_parents_is_found(mysql: Server, fresh: Fresh) -> None:
    """MariaDB and number types refuse to become so."""
    fresh(mysql, "cut_k", "cut_k_v20", "cut_k_old")
    mysql.sql(
        "CREATE DATABASE cut_k; CREATE TABLE cut_k.`#kind` (kind varchar(20) PRIMARY KEY);"
        "CREATE TABLE cut_k.thing (kind varchar(20) PRIMARY KEY,"
        " FOREIGN KEY (kind) REFERENCES cut_k.`#kind` (kind))"
    )
    migrate({"cut_k": "cut_k_v20"}, connection=mysql.url)
    mysql.sql(
        "SET foreign_key_checks = 0;"
        "ALTER TABLE cut_k_v20.thing MODIFY kind varchar(20) CHARACTER SET latin1 NOT NULL"
    )
    missing = cutover({"cut_k": "cut_k_v20"}, connection=mysql.url)["missing"]
    keys = [line for line in missing if line.startswith("foreign keys")]
    assert "cut_k_v20.thing.kind is varchar latin1" in keys[0]


def test_a_used_archive_is_found(server: Server) -> None:
    server.sql("CREATE DATABASE cut_b_old; CREATE TABLE cut_b_old.mine (x int PRIMARY KEY)")
    assert "holds mine" in refused(server, "archives")


def test_names_that_are_too_long_are_found(server: Server) -> None:
    assert "66 characters" in refused(server, "names", archive_map={"cut_a": "x" * 66})


def test_other_sessions_are_named_with_what_they_run(server: Server) -> None:
    with resolve(server.url).session() as other:
        other.query("SELECT * FROM cut_a.mouse")
        number = occupants.session_id(other)
        other.execute("START TRANSACTION")
        other.query("SELECT * FROM cut_b.__scan")
        said = refused(server, "sessions")
    assert f"session {number} of dj@" in said
    assert "transaction" in said
    if server.kind == "mysql":
        assert "cut_b.__scan" in said
    assert ready(server)["missing"] == []


def test_a_user_who_cannot_see_sessions_is_told_so(server: Server) -> None:
    server.sql(
        "DROP USER IF EXISTS 'cut_user'@'%'; CREATE USER 'cut_user'@'%' IDENTIFIED BY 'x';"
        "GRANT ALL ON `cut\\_%`.* TO 'cut_user'@'%'"
    )
    try:
        url = f"mysql://cut_user:x@{server.host}:{server.port}/"
        missing = cutover(MAP, backups=BACKUPS, connection=url)["missing"]
        assert any("lacks PROCESS" in line for line in missing)
        assert any("belongs to dj@%" in line and "DEFINER" in line for line in missing)
        if server.kind == "mysql":
            server.sql("GRANT PROCESS ON *.* TO 'cut_user'@'%'")
            with resolve(server.url).session() as other:
                other.query("SELECT 1")
                missing = cutover(MAP, backups=BACKUPS, connection=url)["missing"]
            said = [line for line in missing if "performance_schema" in line]
            assert said
            # It is the one who looks that lacks it.
            assert all("cut_user lacks SELECT on performance_schema" in line for line in said)
    finally:
        server.sql("DROP USER 'cut_user'@'%'")


def test_who_comes_in_between_makes_it_fail_wholly(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything done so far, and dropped programs, are put back."""
    monkeypatch.setattr(LIMITS, "rename_lock_seconds", 1)
    before = seen(server)
    with resolve(server.url).session() as other:
        other.execute("START TRANSACTION")
        other.query("SELECT * FROM cut_b.__scan")
        monkeypatch.setattr(occupants, "sessions_now", lambda *_: ([], []))
        with pytest.raises(ServerError, match="everything is as it was before"):
            ready(server, execute=True)
    assert seen(server) == before


def test_a_transaction_that_ends_after_the_comparison_is_seen_whatever_time_it_leaves(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, ended = Watch.end_sessions, []
    insert = "INSERT INTO cut_a.mouse (mouse_id) VALUES (%s)"
    with two_of_one_second(server, insert) as (first, second):
        first.execute("COMMIT")
        server.sql("INSERT INTO cut_a_v20.mouse (mouse_id) VALUES (2002)")
        backup_again(server)
        server.rest(*MAP)

        def late(watch: Watch) -> None:
            second.execute(insert, (2003,))
            second.execute("COMMIT")
            ended.append(server.sql("SELECT COUNT(*) FROM cut_a.mouse WHERE mouse_id > 2000"))
            end(watch)

        monkeypatch.setattr(Watch, "end_sessions", late)
        with pytest.raises(NotReady, match=r"cut_a\.mouse was written to since the comparison"):
            ready(server, execute=True, end_sessions=True)
    assert ended == [[("2",)]]
    assert server.sql("SELECT COUNT(*) FROM cut_a.mouse WHERE mouse_id > 2000") == [("2",)]


def backup_again(server: Server) -> None:
    for schema, backup in BACKUPS.items():
        drop(server, backup)
        backup_schema(schema, backup, connection=server.url)


# -- the fence -----------------------------------------------------------------------------------


@pytest.fixture(params=["mysql", "mariadb"])
def small(request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path) -> Small:
    """The small pipeline with its store, migrated and backed up."""
    found: Server = request.getfixturevalue(request.param)
    ends = ("", "_v20", "_old", "_bak")
    fresh(found, *(f"fen_{name}{end}" for name in ("lab", "rig") for end in ends))
    pipeline = make(found, "fen", tmp_path / "store")
    result = migrate(pipeline.map, connection=found.url, **pipeline.stores)
    assert result["compatible"], result["issues"]
    for schema in pipeline.map:
        backup_schema(schema, f"{schema}_bak", connection=found.url)
    return pipeline


def old_client(small: Small, *, wait: bool = False) -> clients.Talking:
    """A 0.14.6 client that tries every way to write."""
    stores = small.root / "stores.json"
    stores.write_text(json.dumps({"raw": {"protocol": "file", "location": str(small.root)}}))
    words = [str(environments.python("0.14.6")), str(OLD_CLIENT), "--port", str(small.server.port)]
    words += ["--stores", str(stores), "--lab", small.lab, "--rig", small.rig]
    return clients.Talking([*words, *(["--wait"] if wait else [])])


def ways(client: clients.Talking) -> dict[str, str]:
    said, complained = client.communicate("\n")
    assert said, complained
    found: dict[str, str] = json.loads(said)
    assert len(found) == 10
    return found


def test_a_0146_client_is_kept_out_and_let_in_again(small: Small) -> None:
    backups = {schema: f"{schema}_bak" for schema in small.map}
    cutover(small.map, backups=backups, connection=small.server.url, execute=True)
    refusals = ways(old_client(small))
    assert all("Unknown attribute type" in said for said in refusals.values()), refusals
    rollback(small.map, connection=small.server.url, execute=True)
    assert set(ways(old_client(small)).values()) == {"ok"}


def test_a_0146_client_that_is_still_open_is_named(small: Small) -> None:
    """It has read its headings and would not notice the fence."""
    backups = {schema: f"{schema}_bak" for schema in small.map}
    client = old_client(small, wait=True)
    assert client.stdout.readline() == "ready\n"
    missing = cutover(small.map, backups=backups, connection=small.server.url)["missing"]
    assert [line for line in missing if line.startswith("sessions: session ")]
    client.kill()
    client.communicate()


# -- whole pipelines -----------------------------------------------------------------------------


@pytest.fixture(params=["mysql", "mariadb"])
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FullPipeline]:
    """A full pipeline of one's own, migrated and backed up."""
    found: Server = request.getfixturevalue(request.param)
    names = [f"whole_{name}{end}" for name in ("colony", "imaging", "altered")
             for end in ("", "_v20", "_old", "_bak")]  # fmt: skip
    drop(found, *names)
    yield fill(found, "whole", tmp_path_factory.mktemp("whole"))
    drop(found, *names)


def test_2x_reads_everything_under_the_old_name_then_0146_does(
    full: FullPipeline, tmp_path: Path
) -> None:
    server, stores = full.server, full.stores_in_place()
    schema_map = {name: f"{name}_v20" for name in full.schemas}
    result = migrate(
        schema_map,
        source_stores=full.source_stores,
        dest_stores=stores,
        connection=server.url,
        adapters=ADAPTERS,
    )
    assert result["compatible"], result["issues"]
    backups = {name: f"{name}_bak" for name in full.schemas}
    for name, backup in backups.items():
        backup_schema(name, backup, connection=server.url)
    there = [*schema_map, *schema_map.values(), *(f"{name}_old" for name in schema_map)]
    before = snapshot(server.sql, *there)
    # A reserved job of the pipeline: the check finds it; it is given up.
    server.sql(f"DELETE FROM {full.prefix}_imaging.`~jobs` WHERE status = 'reserved'")
    server.sql(f"DELETE FROM {full.prefix}_imaging_bak.`~jobs` WHERE status = 'reserved'")
    before = snapshot(server.sql, *there)
    done = cutover(
        schema_map, backups=backups, connection=server.url, adapters=ADAPTERS, execute=True
    )
    assert done["executed"]
    final = {name: name for name in schema_map}
    for client in ("2.3.5", "2.0.0"):
        reading = read_with(client, full, server, final, stores, tmp_path, structure=False)
        assert reading.equal, f"DataJoint {client}: {reading.different()[:5]}"
    rollback(schema_map, connection=server.url, execute=True)
    assert snapshot(server.sql, *there) == before
    reach = ["--port", str(server.port), "--dump", str(full.dump)]
    reach += ["--stores", str(full.root / "stores_014.json")]
    read = clients.run([str(environments.python("0.14.6")), str(READ_014), *reach])
    assert read.returncode == 0, read.stdout + read.stderr[-2000:]


def test_2x_clients_work_behind_the_fence_as_on_their_own(
    mysql: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Insert, update, populate, declare children, delete: fenced key columns and all."""
    ends = ("", "_v20", "_old", "_bak")
    names = [f"behind_{name}{end}" for name in ("colony", "imaging", "altered") for end in ends]
    drop(mysql, *names)
    pipeline = fill(mysql, "behind", tmp_path_factory.mktemp("behind"))
    # It refers to itself, and then 2.3.5 deletes nothing that it can reach.
    drop(mysql, "behind_altered")
    schema_map = {name: f"{name}_v20" for name in pipeline.schemas[:2]}
    mysql.sql("DELETE FROM behind_imaging.`~jobs` WHERE status = 'reserved'")
    backups = {name: f"{name}_bak" for name in schema_map}
    for name, backup in backups.items():
        backup_schema(name, backup, connection=mysql.url)
    for client in ("2.3.5", "2.0.0"):
        root = tmp_path_factory.mktemp("stores")
        stores = pipeline.stores_elsewhere(root)
        drop(mysql, *schema_map.values())
        result = migrate(
            schema_map,
            source_stores=pipeline.source_stores,
            dest_stores=stores,
            copy_files=True,
            connection=mysql.url,
            adapters=ADAPTERS,
        )
        assert result["compatible"], result["issues"]
        cutover(schema_map, backups=backups, connection=mysql.url, adapters=ADAPTERS, execute=True)
        well, said = work_with(client, mysql, "behind", stores, root)
        assert well, said
        undone = rollback(schema_map, connection=mysql.url, execute=True)
        assert undone["rows_written"]
    drop(mysql, *names)


def test_the_guides_phase_5_with_what_to_write_instead(server: Server, fresh: Fresh) -> None:
    fresh(server, "cut_a_backup_20250114", "cut_a_restore_test")
    result = backup_schema(
        schema="cut_a", backup_name="cut_a_backup_20250114", connection=server.url
    )
    assert result["tables_backed_up"] == 3
    restore_schema(backup="cut_a_backup_20250114", dest="cut_a_restore_test", connection=server.url)
    # The guide: RENAME TABLE `my_pipeline` TO `my_pipeline_old`, and then the other one.
    with pytest.raises(Exception, match=r"1046|1146|No database|doesn't exist"):
        server.sql("RENAME TABLE `cut_a` TO `cut_a_old`;")
    backups = {"cut_a": "cut_a_backup_20250114", "cut_b": "cut_b_bak"}
    drop(server, "cut_a_restore_test")
    assert cutover(MAP, backups=backups, connection=server.url, execute=True)["executed"]
    assert verify_schema_v20("cut_a", connection=server.url)["compatible"]


@pytest.mark.timeout(3600)
def test_killed_after_any_statement_it_is_finished_or_undone(server: Server) -> None:
    what = {"map": MAP, "stride": 1 if SOAK else 13}
    words = [sys.executable, str(KILLS), "cutover", server.url, json.dumps(what)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 30
