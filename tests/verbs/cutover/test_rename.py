"""rename_schema: a schema with all that belongs to it gets another name, or nothing happens."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from conftest import SOAK, Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    NotFound,
    ServerError,
    rebuild_lineage,
    rename_schema,
    rollback,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover import actions
from pair import make_pair
from places import TESTS
from servers import Server
from snapshot import snapshot

A, B, NEW = "ren_a", "ren_b", "ren_new"
KILLS = TESTS / "kills.py"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    """A server with two schemas that refer to each other, and programs in them."""
    found: Server = request.getfixturevalue(request.param)
    fresh(found, A, B, NEW, "ren_c")
    make_pair(found, A, B)
    return found


def seen(server: Server, *names: str) -> dict[str, Any]:
    with resolve(server.url).session(read_only=True) as session:
        return snapshot(session.query, *(names or (A, B, NEW)))


def value(server: Server, sql: str) -> str | None:
    return server.sql(sql)[0][0]


def test_there_and_back_leaves_no_difference(server: Server) -> None:
    before = seen(server)
    result = rename_schema(A, NEW, connection=server.url)
    assert result["tables_renamed"] == 3
    assert result["programs_moved"] == 5
    there = seen(server)
    assert set(there) == {B, NEW}
    assert set(there[NEW]["tables"]) == {"mouse", "best", "~log"}
    assert rename_schema(NEW, A, connection=server.url)["tables_renamed"] == 3
    back = seen(server)
    # The program in the other schema names this one; it was reported, not rewritten.
    assert back == before


def test_keys_of_both_directions_follow(server: Server) -> None:
    rename_schema(A, NEW, connection=server.url)
    scans = str(server.sql(f"SHOW CREATE TABLE {B}.`__scan`")[0][1])
    assert f"REFERENCES `{NEW}`.`mouse`" in scans
    with pytest.raises(Exception, match=r"1451|foreign key"):
        server.sql(f"DELETE FROM {NEW}.mouse WHERE mouse_id = 1")
    server.sql(f"DROP TRIGGER {B}.count_scans; UPDATE {NEW}.mouse SET mouse_id=9 WHERE mouse_id=3")
    with pytest.raises(Exception, match=r"1452|foreign key"):
        server.sql(f"INSERT INTO {NEW}.best VALUES (2, 99, 0)")


def test_triggers_views_and_routines_work_under_the_new_name(server: Server) -> None:
    rename_schema(A, NEW, connection=server.url)
    server.sql(f"UPDATE {NEW}.mouse SET note = 'new' WHERE mouse_id = 1")
    assert value(server, f"SELECT changes FROM {NEW}.best WHERE mouse_id = 1") == "1"
    assert value(server, f"SELECT t FROM {NEW}.old_mice WHERE mouse_id = 2") == "4"
    # What only looks like a name, in a string, is untouched.
    assert value(server, f"SELECT DISTINCT words FROM {NEW}.a_first") == f"{A}.mouse"
    assert value(server, f"CALL {NEW}.count_mice()") == "3"


def test_what_names_the_schema_elsewhere_is_reported(server: Server) -> None:
    server.sql(f"CREATE DATABASE ren_c; CREATE VIEW ren_c.seen AS SELECT * FROM {A}.mouse")
    notes = " ".join(rename_schema(A, NEW, connection=server.url)["notes"])
    assert f"the view ren_c.seen names {A}" in notes
    assert f"the trigger {B}.count_scans names {A}" in notes


def test_lineage_follows_in_every_schema(server: Server) -> None:
    rebuild_lineage([A, B], dry_run=False, connection=server.url)
    rename_schema(A, NEW, connection=server.url)
    for schema in (NEW, B):
        rows = server.sql(f"SELECT lineage FROM {schema}.`~lineage`")
        assert any(str(row[0]).startswith(NEW + ".") for row in rows)
        assert not any(str(row[0]).startswith(A + ".") for row in rows)
    wanted = seen(server, NEW, B)
    rebuild_lineage([NEW, B], dry_run=False, connection=server.url)
    assert seen(server, NEW, B) == wanted


def test_grants_follow(server: Server) -> None:
    user = "'ren_user'@'%'"
    server.sql(f"DROP USER IF EXISTS {user}; CREATE USER {user} IDENTIFIED BY 'x'")
    try:
        server.sql(f"GRANT SELECT, INSERT ON `ren\\_a`.* TO {user}")
        server.sql(f"GRANT UPDATE ON {A}.mouse TO {user}; GRANT SELECT ON `re%`.* TO {user}")
        result = rename_schema(A, NEW, connection=server.url)
        grants = " ".join(str(row[0]) for row in server.sql(f"SHOW GRANTS FOR {user}"))
        assert "GRANT SELECT, INSERT ON `ren\\\\_new`.*" in grants.replace("\\_", "\\\\_")
        assert f"UPDATE ON `{NEW}`.`mouse`" in grants
        assert "ren\\_a" not in grants
        assert f"`{A}`" not in grants
        assert any("pattern re%" in note for note in result["notes"])
    finally:
        server.sql(f"DROP USER {user}")


def test_charset_and_collation_are_those_of_the_old(server: Server) -> None:
    server.sql(f"ALTER DATABASE {A} CHARACTER SET latin1 COLLATE latin1_bin")
    rename_schema(A, NEW, connection=server.url)
    assert seen(server, NEW)[NEW]["collation"] == "latin1_bin"


def test_a_dry_run_tells_and_changes_nothing(server: Server) -> None:
    before = seen(server)
    plan = rename_schema(A, NEW, connection=server.url, dry_run=True)["plan"]
    assert f"{A}.mouse -> {NEW}.mouse" in plan
    assert f"drop the trigger {A}.count_it" in plan
    assert seen(server) == before


def test_a_schema_in_use_stays_as_it_is(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "rename_lock_seconds", 1)
    before = seen(server)
    with resolve(server.url).session() as other:
        other.execute("START TRANSACTION")
        other.query(f"SELECT * FROM {A}.best")
        with pytest.raises(ServerError, match="everything is as it was before"):
            rename_schema(A, NEW, connection=server.url)
    assert seen(server) == before


def test_names_that_cannot_be_are_refused(server: Server) -> None:
    with pytest.raises(NotFound, match="ren_nosuch"):
        rename_schema("ren_nosuch", NEW, connection=server.url)
    with pytest.raises(DestinationNotEmpty, match="holds __scan"):
        rename_schema(A, B, connection=server.url)
    with pytest.raises(InvalidArgument):
        rename_schema(A, A, connection=server.url)
    with pytest.raises(InvalidArgument):
        rename_schema(A, "n" * 65, connection=server.url)


def test_without_atomic_renames_tables_move_one_by_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server older than MySQL 8 or MariaDB 10.6 needs; the list is cut short here too."""
    before = seen(server)
    monkeypatch.setattr(actions, "renames_atomically", lambda _: False)
    execute = Session.execute
    renames: list[str] = []

    def second_rename_fails(session: Session, sql: str, params: tuple[object, ...] = ()) -> int:
        if sql.startswith("RENAME"):
            renames.append(sql)
            if len(renames) == 2:
                raise KeyboardInterrupt
        return execute(session, sql, params)

    monkeypatch.setattr(Session, "execute", second_rename_fails)
    with pytest.raises(KeyboardInterrupt):
        rename_schema(A, NEW, connection=server.url)
    assert all(sql.count(" TO ") == 1 for sql in renames)
    assert rename_schema(A, NEW, connection=server.url)["tables_renamed"] == 3
    assert len(renames) == 4
    monkeypatch.setattr(Session, "execute", execute)
    rename_schema(NEW, A, connection=server.url)
    assert seen(server) == before


LIES: dict[str, tuple[str, Any]] = {
    "another schema's tables": ("rename", {"pairs": [["ren_c", "secret", NEW]]}),
    "an account's rights": (
        "grants",
        {
            "kind": "grants",
            "old": A,
            "new": NEW,
            "grants": [
                {"to": "'x'@'%'", "table": None, "rights": ["ALL ON *.* TO x -- "], "option": True}
            ],
        },
    ),
    "no step": ("rename", {"kind": "sql", "sql": "DROP DATABASE ren_c"}),
    "a kind that is none": ("drop_program", {"program": {"kind": "database ren_c --"}}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_journal_that_says_what_no_rename_does_is_not_followed(
    server: Server, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    server.sql("CREATE DATABASE ren_c; CREATE TABLE ren_c.secret (id int PRIMARY KEY)")
    monkeypatch.setattr("datajoint_migrate.verbs.cutover.rename.carry_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rename_schema(A, NEW, connection=server.url)
    monkeypatch.undo()
    kind, other = LIES[lie]
    table = f"`{NEW}`.`~rename_journal`"
    for step, payload in server.sql(f"SELECT step, payload FROM {table} WHERE step >= 0"):
        found = json.loads(str(payload))
        if found["kind"] == kind or kind == "grants":
            found = other if "kind" in other else {**found, **other}
            if "program" in other:
                found["program"] = {**json.loads(str(payload))["program"], **other["program"]}
            with resolve(server.url).session() as session:
                session.execute(
                    f"UPDATE {table} SET payload = %s WHERE step = %s", (json.dumps(found), step)
                )
            break
    before = seen(server, A, B, NEW, "ren_c")
    with pytest.raises(InvalidArgument, match="none that this program wrote"):
        rename_schema(A, NEW, connection=server.url)
    with pytest.raises(InvalidArgument, match="none that this program wrote"):
        rollback(NEW, connection=server.url, execute=True)
    # It stands in nobody else's way.
    with pytest.raises(NotFound, match="no journal"):
        rollback({A: "ren_b"}, connection=server.url)
    assert seen(server, A, B, NEW, "ren_c") == before


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.timeout(900)
def test_killed_after_any_statement_it_is_finished_or_undone(server: Server) -> None:
    rebuild_lineage([A, B], dry_run=False, connection=server.url)
    what = {"map": {A: NEW}, "stride": 1 if SOAK else 5}
    words = [sys.executable, str(KILLS), "rename", server.url, json.dumps(what)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 15
