"""What hangs on production's programs, and their text to the letter, outlast every change of place.

Programs are written here as people write them: names without back-ticks, in several character
sets and modes, for several definers, with comments, and with rights that others have on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    ServerError,
    backup_schema,
    cutover,
    migrate,
    rename_schema,
    restore_schema,
    rollback,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.verbs.backup.proof import prove_backup
from servers import Server
from snapshot import snapshot

LAB, COPY = "put_lab", "put_lab_v20"
NAMES = [LAB, COPY, "put_lab_old", "put_lab_bak", "put_lab_before_restore", "put_lab_restoring"]
USERS = ("put_caller", "put_owner")

TABLES = """CREATE DATABASE put_lab CHARACTER SET latin1 COLLATE latin1_german1_ci;
CREATE TABLE put_lab.mouse (id int NOT NULL PRIMARY KEY, told varchar(80) NOT NULL DEFAULT '')
 CHARACTER SET utf8mb4;
CREATE TABLE put_lab.`~log` (id int NOT NULL PRIMARY KEY);
INSERT INTO put_lab.mouse (id) VALUES (1), (2);"""

# Character set, collation and mode of the session, and what it made.
PROGRAMS = (
    ("utf8mb4", "utf8mb4_general_ci", "", "CREATE PROCEDURE put_lab.plain(x  INT)  COMMENT 'a b'\n"
     "BEGIN -- put_lab.mouse\n  SELECT   COUNT(*) FROM put_lab.mouse ;\nEND"),
    ("latin1", "latin1_german1_ci", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
     'CREATE PROCEDURE put_lab."Large"() SELECT \'über\\\' AS "größe", "id" FROM put_lab.mouse'),
    ("utf8mb4", "utf8mb4_bin", "", "CREATE DEFINER=put_owner@`%` FUNCTION put_lab.Owned(x int)"
     " RETURNS varchar(20) DETERMINISTIC SQL SECURITY INVOKER RETURN CONCAT('ä', x)"),
    ("cp1251", "cp1251_general_ci", "",
     "CREATE TRIGGER put_lab.zz BEFORE INSERT ON put_lab.mouse FOR EACH ROW"
     " SET NEW.told = CONCAT(NEW.told, 'Мышь', (SELECT COUNT(*) FROM put_lab.mouse))"),
    ("utf8mb4", "utf8mb4_general_ci", "PIPES_AS_CONCAT",
     "CREATE TRIGGER put_lab.aa BEFORE INSERT ON put_lab.mouse FOR EACH ROW FOLLOWS zz"
     " SET NEW.told = NEW.told || '+'"),
    ("utf8mb4", "utf8mb4_general_ci", "", "CREATE EVENT put_lab.nightly ON SCHEDULE EVERY 1 DAY"
     " STARTS '2037-01-01 03:00:00' ON COMPLETION PRESERVE COMMENT 'nächtlich'"
     " DO DELETE FROM put_lab.mouse WHERE id < 0"),
    ("latin1", "latin1_swedish_ci", "",
     "CREATE VIEW put_lab.seen AS SELECT id AS `größe`, 'ü' AS u FROM put_lab.mouse"),
)  # fmt: skip


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Iterator[Server]:
    found: Server = request.getfixturevalue(request.param)
    fresh(found, *NAMES, "put_lab_2")
    found.sql("".join(f"DROP USER IF EXISTS {user}@'%';" for user in USERS))
    found.sql("".join(f"CREATE USER {user}@'%' IDENTIFIED BY 'x';" for user in USERS))
    found.sql(TABLES)
    for charset, collation, mode, program in PROGRAMS:
        with resolve(found.url).session() as session:
            session.execute("USE put_lab")
            session.execute("SET SESSION sql_mode = %s, time_zone = '+02:00'", (mode,))
            session.execute(
                f"SET NAMES utf8mb4, character_set_client = {charset},"
                f" collation_connection = {collation}"
            )
            codec = {"latin1": "cp1252", "cp1251": "cp1251"}.get(charset, "utf8")
            session.execute_bytes(program.encode(codec), program)
    found.sql(
        "GRANT SELECT ON put_lab.seen TO put_caller;"
        "GRANT EXECUTE ON PROCEDURE put_lab.plain TO put_caller;"
        "GRANT EXECUTE, ALTER ROUTINE ON FUNCTION put_lab.owned TO put_caller WITH GRANT OPTION"
    )
    yield found
    found.sql("".join(f"DROP USER {user}@'%';" for user in USERS))


def seen(server: Server, *names: str) -> dict[str, Any]:
    """Everything about the schemas, with the order of triggers and all rights."""
    with resolve(server.url).session(read_only=True) as session:
        found: dict[str, Any] = snapshot(session.query, *(names or (LAB, COPY, "put_lab_old")))
        for each in found.values():
            # When a trigger was made is nothing of its own.
            each["programs"] = [
                (*one[:2], one[2][:5]) if one[0] == "trigger" else one for one in each["programs"]
            ]
        found["order"] = session.query(
            "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_ORDER FROM information_schema.TRIGGERS"
            f" WHERE TRIGGER_SCHEMA = '{LAB}' ORDER BY 1, 2"
        )
    found["rights"] = rights(server)
    return found


def rights(server: Server) -> list[Any]:
    return [server.sql(f"SHOW GRANTS FOR {user}@'%'") for user in USERS]


def called(server: Server) -> None:
    """The user calls what they have always called."""
    url = f"mysql://put_caller:x@{server.host}:{server.port}/"
    with resolve(url).session() as session:
        assert session.query("CALL put_lab.plain(1)") == [(2,)]
    with resolve(url).session() as session:
        assert session.query("SELECT put_lab.owned(7)") == [("ä7",)]
        assert len(session.query("SELECT * FROM put_lab.seen")) == 2


def changed(server: Server, **options: Any) -> dict[str, Any]:
    return cutover(
        {LAB: COPY},
        backups={LAB: "put_lab_bak"},
        connection=server.url,
        execute=True,
        **options,
    )


def prepared(server: Server, charset: Any = "keep") -> None:
    migrate({LAB: COPY}, connection=server.url, charset=charset)
    backup_schema(LAB, "put_lab_bak", connection=server.url)


def test_a_cutover_that_fails_puts_every_program_back_to_the_letter(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(server)
    before = seen(server)
    execute = Session.execute

    def refused(session: Session, sql: str, params: Any = ()) -> int:
        if sql.startswith("RENAME TABLE") and "_old" in sql:
            raise ServerError("somebody holds a table")
        return execute(session, sql, params)

    monkeypatch.setattr(Session, "execute", refused)
    with pytest.raises(ServerError, match="everything is as it was before"):
        changed(server)
    monkeypatch.undo()
    assert seen(server) == before
    called(server)
    with resolve(server.url).session(read_only=True) as session:
        assert prove_backup(session, LAB, "put_lab_bak") == []


@pytest.mark.parametrize("charset", ["keep", "utf8mb4"])
def test_after_cutover_and_rollback_rights_are_those_of_the_name(
    server: Server, charset: str
) -> None:
    prepared(server, charset)
    before = seen(server)
    changed(server)
    assert rights(server) == before["rights"]
    called(server)
    order = server.sql(
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'put_lab'"
        " ORDER BY ACTION_ORDER"
    )
    assert order == [("zz",), ("aa",)]
    result = rollback({LAB: COPY}, connection=server.url, execute=True)
    assert not [note for note in result["notes"] if "as it was" in note or "put back" in note]
    assert seen(server) == before
    called(server)
    with resolve(server.url).session(read_only=True) as session:
        assert prove_backup(session, LAB, "put_lab_bak") == []


def test_rights_given_since_the_cutover_outlast_the_rollback(server: Server) -> None:
    prepared(server)
    changed(server)
    server.sql(
        "REVOKE EXECUTE ON PROCEDURE put_lab.plain FROM put_caller;"
        "GRANT EXECUTE ON PROCEDURE put_lab.plain TO put_owner"
    )
    since = rights(server)
    rollback({LAB: COPY}, connection=server.url, execute=True)
    assert rights(server) == since


def test_a_right_without_a_successor_is_named_beforehand(server: Server) -> None:
    prepared(server)
    server.sql("DROP PROCEDURE put_lab_v20.plain")
    before = seen(server)
    notes = cutover({LAB: COPY}, backups={LAB: "put_lab_bak"}, connection=server.url)["notes"]
    assert [note for note in notes if "put_caller" in note and "procedure put_lab.plain" in note]
    changed(server)
    rollback({LAB: COPY}, connection=server.url, execute=True)
    assert seen(server) == before


def test_rights_on_routines_follow_a_rename(server: Server) -> None:
    result = rename_schema(LAB, "put_lab_2", connection=server.url)
    assert not [note for note in result["notes"] if "rights on the routine" in note]
    said = str(rights(server))
    assert "FUNCTION `put_lab_2`.`owned`" in said
    assert "PROCEDURE `put_lab_2`.`plain`" in said
    assert "`put_lab`" not in said


def test_an_operator_who_cannot_see_rights_on_routines_is_told(server: Server) -> None:
    server.sql(
        "DROP EVENT put_lab.nightly; DROP FUNCTION put_lab.owned; DROP TRIGGER put_lab.zz;"
        "DROP USER IF EXISTS put_blind; CREATE USER put_blind IDENTIFIED BY 'x';"
        r"GRANT ALL ON `put\_lab%`.* TO put_blind;"
    )
    if server.kind == "mysql":
        server.sql("GRANT SHOW_ROUTINE, SET_ANY_DEFINER ON *.* TO put_blind")
    else:
        server.sql("GRANT SET USER ON *.* TO put_blind; GRANT SELECT ON mysql.proc TO put_blind")
    try:
        url = f"mysql://put_blind:x@{server.host}:{server.port}/"
        notes = rename_schema(LAB, "put_lab_2", connection=url, dry_run=True)["notes"]
        assert [note for note in notes if "mysql.procs_priv" in note]
    finally:
        server.sql("DROP USER put_blind")


def test_what_cannot_be_put_back_is_told_with_its_text(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(server)
    execute = Session.execute

    def refused(session: Session, sql: str, params: Any = ()) -> int:
        if sql.startswith("RENAME TABLE") or ("TRIGGER" in sql and sql.startswith("CREATE")):
            raise ServerError("not now")
        return execute(session, sql, params)

    monkeypatch.setattr(Session, "execute", refused)
    with pytest.raises(ServerError) as raised:
        changed(server)
    assert "everything is as it was before" not in str(raised.value)
    said = str(raised.value)
    assert said.count("the trigger put_lab.aa could not be put back; its text: CREATE") == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_restore_over_production_leaves_the_rights_on_routines(
    server: Server, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    backup_schema(LAB, "put_lab_bak", connection=server.url)
    before = seen(server, LAB)
    if fails:
        execute = Session.execute

        def refused(session: Session, sql: str, params: Any = ()) -> int:
            if sql.startswith("RENAME TABLE"):
                raise ServerError("somebody holds a table")
            return execute(session, sql, params)

        monkeypatch.setattr(Session, "execute", refused)
        with pytest.raises(ServerError, match="holds a table"):
            restore_schema("put_lab_bak", LAB, connection=server.url, overwrite=True)
        monkeypatch.undo()
        assert seen(server, LAB) == before
        called(server)
    restore_schema("put_lab_bak", LAB, connection=server.url, overwrite=True)
    assert seen(server, LAB) == before
    called(server)


def test_rights_that_a_copy_does_not_have_are_named(server: Server) -> None:
    notes = migrate({LAB: COPY}, connection=server.url)["notes"]
    said = [note for note in notes if "not given on the copy" in note]
    assert len(said) == 2
    assert "procedure put_lab.plain" in " ".join(said)
    assert "'put_caller'@'%' (alter routine, execute, grant)" in " ".join(said)
    backup_schema(LAB, "put_lab_bak", connection=server.url)
    notes = restore_schema("put_lab_bak", "put_lab_2", connection=server.url)["notes"]
    assert len([note for note in notes if "is not given on put_lab_2" in note]) == 2
