"""When a server's word on the last write to a table proves that nobody has written since."""

from __future__ import annotations

import threading
import time

import pytest

from conftest import Fresh
from datajoint_migrate import migrate, sync
from datajoint_migrate.call.marks import Mark, marks, seen
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from in_use import two_of_one_second
from servers import Server

MAP = {"marks": "marks_v20"}


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    found: Server = request.getfixturevalue(request.param)
    fresh(found, *MAP, *MAP.values())
    found.sql(
        "CREATE DATABASE marks; CREATE TABLE marks.mouse (id int NOT NULL PRIMARY KEY);"
        " INSERT INTO marks.mouse VALUES (1)"
    )
    return found


def mouse(server: Server) -> Mark:
    with resolve(server.url).session(read_only=True) as session:
        return marks(session, MAP)["marks", "mouse"]


def test_a_row_of_a_transaction_that_was_begun_in_the_second_of_another_is_not_missed(
    server: Server,
) -> None:
    """MariaDB tells when the transaction of the last write was begun: twice the same time."""
    insert = "INSERT INTO marks.mouse VALUES (%s)"
    assert migrate(MAP, connection=server.url)["match"]
    with two_of_one_second(server, insert) as (first, second):
        first.execute("COMMIT")
        server.rest(*MAP, *MAP.values())
        for _ in range(2):
            assert sync(MAP, connection=server.url)["match"]
            server.rest(*MAP.values())
        second.execute(insert, (2003,))
        second.execute("COMMIT")
    done = sync(MAP, connection=server.url)
    assert (done["rows_inserted"], done["match"]) == (1, True)
    assert server.sql("SELECT COUNT(*) FROM marks_v20.mouse") == [("3",)]


def test_a_table_settles_once_nobody_can_write_to_it_with_the_time_that_it_has(
    server: Server,
) -> None:
    insert = "INSERT INTO marks.mouse VALUES (%s)"
    with two_of_one_second(server, insert) as (first, second):
        first.execute("COMMIT")
        server.rest(*MAP)
        hidden = mouse(server)
        assert hidden.settled == (server.kind == "mysql")
        second.execute(insert, (2003,))
        second.execute("COMMIT")
        server.rest(*MAP)
    now = mouse(server)
    assert now.settled
    # What makes the look at open transactions needed.
    assert (now.created, now.number) == (hidden.created, hidden.number)
    assert (now.updated == hidden.updated) == (server.kind == "mariadb")


@pytest.mark.parametrize("name", ["mouse", "#mouse"])
def test_other_rows_that_leave_both_times_show_in_the_number_of_the_table(
    server: Server, name: str
) -> None:
    """A TRUNCATE on MariaDB; on MySQL, where that takes the time away, rows of another file."""
    server.sql(
        f"CREATE TABLE IF NOT EXISTS marks.`{name}` (id int NOT NULL PRIMARY KEY);"
        f" REPLACE INTO marks.`{name}` VALUES (1)"
    )
    server.rest(*MAP)
    with resolve(server.url).session() as session:
        before = marks(session, MAP)["marks", name]
        assert seen(session, MAP)["marks", name].is_as(before.said)
        if server.kind == "mariadb":
            session.execute(f"TRUNCATE TABLE marks.`{name}`")
        else:
            import_rows(server, session, name)
        after = seen(session, MAP)["marks", name]
        assert (before.created, before.updated) == (after.created, after.updated)
        assert not after.is_as(before.said)
        assert before.over(after) is None
        assert marks(session, MAP)["marks", name].number == after.number


def import_rows(server: Server, session: Session, name: str) -> None:
    """Give a table of MySQL the rows of another by its file."""
    if server.folder is None:
        pytest.skip("the files of this server are somewhere else")
    folder, file = server.folder / "data" / "marks", name.replace("#", "@0023")
    session.execute(f"CREATE TABLE marks.spare LIKE marks.`{name}`")
    session.execute("INSERT INTO marks.spare VALUES (9)")
    session.execute("FLUSH TABLES marks.spare FOR EXPORT")
    kept = {end: (folder / f"spare.{end}").read_bytes() for end in ("ibd", "cfg")}
    session.execute("UNLOCK TABLES")
    session.execute(f"ALTER TABLE marks.`{name}` DISCARD TABLESPACE")
    for end, content in kept.items():
        (folder / f"{file}.{end}").write_bytes(content)
    session.execute(f"ALTER TABLE marks.`{name}` IMPORT TABLESPACE")
    assert session.query(f"SELECT id FROM marks.`{name}`") == [(9,)]


@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    "made",
    [
        "ENGINE=Aria TRANSACTIONAL=0",
        "ENGINE=MyISAM",
        "ENGINE=InnoDB PARTITION BY HASH(id) PARTITIONS 2",
    ],
)
def test_of_other_engines_and_of_parts_of_a_table_no_time_is_believed_on_mariadb(
    server: Server, made: str
) -> None:
    server.sql(
        f"CREATE TABLE marks.other (id int NOT NULL PRIMARY KEY) {made};"
        " INSERT INTO marks.other VALUES (1)"
    )
    server.rest(*MAP)
    with resolve(server.url).session(read_only=True) as session:
        found = marks(session, MAP)
    assert found["marks", "mouse"].settled
    assert not found["marks", "other"].settled


@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
def test_whoever_may_not_see_transactions_believes_no_time_on_mariadb(server: Server) -> None:
    server.sql(
        "DROP USER IF EXISTS marks_reads; CREATE USER marks_reads IDENTIFIED BY 'pw';"
        "GRANT SELECT ON marks.* TO marks_reads"
    )
    server.rest(*MAP)
    url = f"mysql://marks_reads:pw@{server.host}:{server.port}/"
    try:
        with resolve(url).session(read_only=True) as session:
            assert not marks(session, MAP)["marks", "mouse"].settled
        server.sql("GRANT PROCESS ON *.* TO marks_reads")
        with resolve(url).session(read_only=True) as session:
            assert marks(session, MAP)["marks", "mouse"].settled
    finally:
        server.sql("DROP USER marks_reads")


@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
def test_no_time_is_believed_while_the_list_of_transactions_is_an_old_one(server: Server) -> None:
    """MariaDB shows the same list to all as long as somebody reads it ten times a second."""
    stop, began = threading.Event(), threading.Event()

    def read() -> None:
        with resolve(server.url).session(read_only=True) as other:
            while not stop.wait(0.01):
                other.query("SELECT trx_started FROM information_schema.INNODB_TRX")
                began.set()

    server.rest(*MAP)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert began.wait(60)
        assert not mouse(server).settled
    finally:
        stop.set()
        reader.join()
    time.sleep(0.2)
    assert mouse(server).settled


def test_whoever_has_read_already_learns_nothing_of_mariadb(server: Server) -> None:
    server.rest(*MAP)
    with resolve(server.url).session(read_only=True) as session:
        late = marks(session, MAP, since=0.0)["marks", "mouse"]
    assert late.settled == (server.kind == "mysql")
