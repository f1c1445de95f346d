"""A journal that was found in a destination is not believed: it is read, or refused."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import MigrationError, _core, copy_all_data
from datajoint_migrate.catalog.server import resolve
from servers import Server

JOURNAL = "journal_b.`~migrate_journal`"
# Seconds for which a table has to wait.
HELD = 3.0


@pytest.fixture
def plan(mysql: Server, fresh: Fresh) -> dict[str, Any]:
    """A copy that was done, whose journal is still there."""
    fresh(mysql, "journal_a", "journal_b")
    for name in ("journal_a", "journal_b"):
        mysql.sql(f"CREATE DATABASE {name}; CREATE TABLE {name}.t (id int NOT NULL PRIMARY KEY)")
    mysql.sql("INSERT INTO journal_a.t VALUES (1), (2), (3), (4), (5), (6)")
    server = resolve(mysql.url).spec()
    table = {
        "source_schema": "journal_a",
        "source_table": "t",
        "destination_schema": "journal_b",
        "destination_table": "t",
        "key": ["id"],
        "columns": [{"source": "id", "destination": "id", "kind": "value"}],
    }
    plan = {"source": server, "destination": server, "route": "server", "tables": [table]}
    # Chunks of two rows.
    plan |= {"journal": True, "keep_journal": True, "chunk_bytes": 32}
    assert _core.copy(plan)["rows_copied"] == 6
    assert _core.copy(plan)["rows_copied"] == 0
    return plan


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE {JOURNAL} SET bounds = 'nonsense' WHERE chunk = 1",
        f"UPDATE {JOURNAL} SET bounds = '[]' WHERE chunk = 1",
        f'UPDATE {JOURNAL} SET bounds = \'{{"lower": 7, "upper": null}}\' WHERE chunk = 1',
        f"UPDATE {JOURNAL} SET chunk = 18446744073709551615 WHERE chunk = 1",
        f"UPDATE {JOURNAL} SET done = 7 WHERE chunk = 1",
        f"DELETE FROM {JOURNAL} WHERE chunk = 1",
        f"UPDATE {JOURNAL} SET done = 0,"
        " bounds = REPLACE(bounds, '\"3\"', '\"2\"') WHERE chunk = 1",
        f"UPDATE {JOURNAL} SET done = 0,"
        " bounds = REPLACE(bounds, '\"5\"', '\"5) OR (1=1\"') WHERE chunk = 1",
        f"ALTER TABLE {JOURNAL} MODIFY bounds longtext NULL; UPDATE {JOURNAL} SET bounds = NULL",
        f"ALTER TABLE {JOURNAL} DROP COLUMN bounds",
        f"UPDATE {JOURNAL} SET plan = REPEAT('0', 32)",
    ],
)
def test_a_journal_that_is_not_ours_is_refused_and_changes_nothing(
    change: str, plan: dict[str, Any], mysql: Server
) -> None:
    mysql.sql(change)
    with pytest.raises(MigrationError) as error:
        _core.copy(plan)
    assert error.value.code in ("DJM-1501", "DJM-1202"), error.value
    assert mysql.sql("SELECT COUNT(*), SUM(id) FROM journal_b.t") == [("6", "21")]


@pytest.mark.parametrize("definition", ["KEY `k` (`v`), DROP COLUMN `v`", "COLUMN `w` int", "(("])
def test_a_note_of_postponed_indexes_adds_indexes_and_does_nothing_else(
    definition: str, mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "journal_a", "journal_b")
    for name in ("journal_a", "journal_b"):
        mysql.sql(
            f"CREATE DATABASE {name};"
            f"CREATE TABLE {name}.t (id int NOT NULL PRIMARY KEY, v int, KEY k (v))"
        )
    mysql.sql(
        "INSERT INTO journal_a.t VALUES (1, 1); ALTER TABLE journal_b.t DROP KEY k;"
        "CREATE TABLE journal_b.`~migrate_indexes` (table_name varchar(64), index_name varchar(64),"
        " definition text);"
        f"INSERT INTO journal_b.`~migrate_indexes` VALUES ('t', 'k', '{definition}')"
    )
    with pytest.raises(MigrationError, match="migrate_indexes"):
        copy_all_data("journal_a", "journal_b", connection=mysql.url)
    columns = "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'journal_b'"
    assert mysql.sql(f"{columns} AND TABLE_NAME = 't'") == [("2",)]


def test_a_table_takes_the_time_of_its_own_chunks(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "turns_a", "turns_b")
    for name in ("turns_a", "turns_b"):
        mysql.sql(f"CREATE DATABASE {name}")
        for table in ("one", "two"):
            mysql.sql(f"CREATE TABLE {name}.{table} (id int NOT NULL PRIMARY KEY)")
            mysql.sql(f"INSERT INTO turns_a.{table} VALUES (1)" if name == "turns_a" else "DO 0")
    server = resolve(mysql.url).spec()
    plan = {"source": server, "destination": server, "route": "server", "journal": True}
    plan |= {"keep_journal": True, "lanes": 1}
    plan["tables"] = [
        {
            "source_schema": "turns_a",
            "source_table": table,
            "destination_schema": "turns_b",
            "destination_table": table,
            "key": ["id"],
            "columns": [{"source": "id", "destination": "id", "kind": "value"}],
        }
        for table in ("one", "two")
    ]
    there = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_NAME = '~migrate_journal'"
    there += " AND TABLE_SCHEMA = 'turns_b'"
    planned = "SELECT 1 FROM turns_b.`~migrate_journal` WHERE table_name = 'two'"
    with ThreadPoolExecutor(1) as pool, resolve(mysql.url).session() as session:
        session.execute("START TRANSACTION")
        # The only lane waits at this row, and the next table for the lane.
        session.execute("INSERT INTO turns_b.one VALUES (1)")
        copying = pool.submit(_core.copy, plan)
        while not (mysql.sql(there) and mysql.sql(planned)):
            assert not copying.done(), copying.result()
        time.sleep(HELD)
        session.execute("ROLLBACK")
        one, two = (table["time_taken"] for table in copying.result()["tables"])
    assert two < HELD
    assert one > HELD / 2
