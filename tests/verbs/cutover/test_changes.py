"""Was a table written to between two looks?"""

from __future__ import annotations

import time

from conftest import Fresh
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.cutover.changes import look
from servers import Server


def test_a_part_of_a_table_that_is_written_to_under_the_time_of_another_hides_nothing(
    mariadb: Server, fresh: Fresh
) -> None:
    """MariaDB tells of a table the time of its youngest part."""
    fresh(mariadb, "chg")
    mariadb.sql(
        "CREATE DATABASE chg; CREATE TABLE chg.parted (id int PRIMARY KEY)"
        " PARTITION BY HASH (id) PARTITIONS 2; CREATE TABLE chg.other (id int PRIMARY KEY)"
    )
    name = ("chg", "parted")
    with resolve(mariadb.url).session() as early, resolve(mariadb.url).session() as session:
        early.execute("START TRANSACTION")
        early.execute("INSERT INTO chg.other VALUES (1)")
        time.sleep(1.5)
        session.execute("INSERT INTO chg.parted VALUES (1)")
        mariadb.rest("chg")
        first = look(session, ["chg"], first=True)[name]
        early.execute("INSERT INTO chg.parted VALUES (2)")
        early.execute("COMMIT")
        second = look(session, ["chg"])[name]
        assert first.is_like(second)
        assert first.open
        assert not first.proves(second)
        time.sleep(0.2)
        assert look(session, ["chg"], first=True)[name].proves(second)
