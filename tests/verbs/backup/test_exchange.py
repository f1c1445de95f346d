"""A restore over a schema that others refer to: no row of theirs loses its parent unseen."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import Mismatch, PermissionMissing, backup_schema, restore_schema
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.verbs.backup import restore
from servers import Server
from snapshot import snapshot

LAB, RIG, BACKUP = "exc_lab", "exc_rig", "exc_lab_bak"
NAMES = [LAB, RIG, BACKUP, "exc_lab_restoring", "exc_lab_before_restore"]

TABLES = """CREATE DATABASE exc_lab; CREATE DATABASE exc_rig;
CREATE TABLE exc_lab.mouse (id int NOT NULL PRIMARY KEY);
INSERT INTO exc_lab.mouse VALUES (1);
CREATE TABLE exc_rig.scan (id int NOT NULL PRIMARY KEY, mouse int, KEY by_mouse (mouse),
 CONSTRAINT whose FOREIGN KEY (mouse) REFERENCES exc_lab.mouse (id));
INSERT INTO exc_rig.scan VALUES (1, 1);
CREATE TRIGGER exc_lab.told BEFORE INSERT ON exc_lab.mouse FOR EACH ROW SET @told = 1;"""


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    found: Server = request.getfixturevalue(request.param)
    fresh(found, *NAMES)
    found.sql(TABLES)
    backup_schema(LAB, BACKUP, connection=found.url)
    found.sql("INSERT INTO exc_lab.mouse VALUES (2), (3)")
    return found


def seen(server: Server) -> dict[str, Any]:
    return snapshot(server.sql, LAB, RIG)


def restored(server: Server, url: str | None = None) -> dict[str, Any]:
    return restore_schema(BACKUP, LAB, connection=url or server.url, overwrite=True)


def refused(server: Server, rows: int) -> None:
    with pytest.raises(Mismatch) as raised:
        restored(server)
    assert f"exc_rig.scan refers to exc_lab.mouse, and the backup lacks the parents of {rows}" in (
        str(raised.value)
    )
    assert raised.value.context["table"] == "exc_rig.scan"
    assert raised.value.context["rows"] == rows


def test_rows_that_would_lose_their_parents_are_counted(server: Server) -> None:
    server.sql("INSERT INTO exc_rig.scan VALUES (2, 2), (3, 3), (4, 3), (5, NULL)")
    before = seen(server)
    refused(server, 3)
    assert seen(server) == before
    server.sql("DELETE FROM exc_rig.scan WHERE mouse > 1")
    restored(server)
    assert server.sql("SELECT id FROM exc_lab.mouse") == [("1",)]


def test_a_row_that_comes_after_the_look_is_found_before_anything_is_exchanged(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = restore.swap
    before = seen(server)

    def late(session: Session, exchange: Any, new: Any) -> None:
        server.sql("INSERT INTO exc_rig.scan VALUES (2, 2), (3, 3)")
        swap(session, exchange, new)

    monkeypatch.setattr(restore, "swap", late)
    refused(server, 2)
    server.sql("DELETE FROM exc_rig.scan WHERE mouse > 1")
    assert seen(server) == before
    monkeypatch.undo()
    restored(server)
    assert seen(server)[RIG] == before[RIG]


def test_from_the_look_to_the_end_the_server_refuses_rows_without_parents(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = Session.execute
    said: list[str] = []

    def written_to(session: Session, sql: str, params: Any = ()) -> int:
        if sql.startswith(("RENAME TABLE", "DROP DATABASE")):
            try:
                server.sql("INSERT INTO exc_rig.scan VALUES (9, 3)")
            except Exception as error:  # noqa: BLE001
                said.append(str(error))
        return execute(session, sql, params)

    monkeypatch.setattr(Session, "execute", written_to)
    restored(server)
    monkeypatch.undo()
    assert len(said) == 2
    assert all("foreign key constraint fails" in one for one in said)
    assert server.sql("SELECT COUNT(*) FROM exc_rig.scan") == [("1",)]
    create = server.sql("SHOW CREATE TABLE exc_rig.scan")[0][1]
    assert "CONSTRAINT `whose` FOREIGN KEY (`mouse`) REFERENCES `exc_lab`.`mouse` (`id`)" in str(
        create
    )
    assert "KEY `by_mouse`" in str(create)


@pytest.mark.parametrize("statement", range(1, 6))
def test_an_exchange_that_ends_amid_its_keys_is_finished_by_the_same_call(
    server: Server, monkeypatch: pytest.MonkeyPatch, statement: int
) -> None:
    before = seen(server)[RIG]
    execute, count = Session.execute, 0

    def broken(session: Session, sql: str, params: Any = ()) -> int:
        nonlocal count
        if "exc_rig" in sql or sql.startswith("RENAME TABLE") or count:
            count += 1
        if count >= statement:
            # Nothing can be put back either, as when the line is cut.
            raise KeyboardInterrupt
        return execute(session, sql, params)

    monkeypatch.setattr(Session, "execute", broken)
    with pytest.raises(KeyboardInterrupt):
        restored(server)
    monkeypatch.undo()
    restored(server)
    assert seen(server)[RIG] == before
    assert server.sql("SELECT id FROM exc_lab.mouse") == [("1",)]


def test_a_schema_that_the_user_may_not_see_and_that_refers_to_it_is_named(server: Server) -> None:
    server.sql(
        "DROP USER IF EXISTS exc_user; CREATE USER exc_user IDENTIFIED BY 'x';"
        "GRANT PROCESS ON *.* TO exc_user; GRANT ALL ON `exc\\_lab%`.* TO exc_user"
    )
    before = seen(server)
    try:
        url = f"mysql://exc_user:x@{server.host}:{server.port}/"
        with pytest.raises(PermissionMissing, match=r"exc_rig\.scan refers to exc_lab\.mouse"):
            restored(server, url)
        assert seen(server) == before
    finally:
        server.sql("DROP USER exc_user")
