"""A cutover of tables whose engine keeps the server from locking them."""

from __future__ import annotations

import pytest

from conftest import Fresh
from datajoint_migrate import NotReady, cutover, migrate
from servers import Server

MAP = {"eng_lab": "eng_lab_v20"}


@pytest.mark.parametrize("engine", ["MyISAM", "MEMORY"])
def test_tables_that_the_server_does_not_lock_together_are_named_before_anything_is_done(
    logged_mysql: Server, fresh: Fresh, engine: str
) -> None:
    """With GTIDs the locks on tables with and without transactions are refused."""
    fresh(logged_mysql, "eng_lab", "eng_lab_v20", "eng_lab_old")
    logged_mysql.sql(
        "CREATE DATABASE eng_lab; USE eng_lab; CREATE TABLE mouse (mouse_id int PRIMARY KEY);"
        f"CREATE TABLE odd (id int PRIMARY KEY) ENGINE={engine};"
        "INSERT INTO mouse VALUES (1); INSERT INTO odd VALUES (1)"
    )
    assert migrate(MAP, connection=logged_mysql.url)["match"]
    over = {"backups": "rename", "sync": True, "connection": logged_mysql.url}
    (found,) = [line for line in cutover(MAP, **over)["missing"] if "lock" in line]
    assert "eng_lab.odd" in found
    assert "ALTER TABLE `eng_lab`.`odd` ENGINE=InnoDB" in found
    with pytest.raises(NotReady, match=r"eng_lab\.odd"):
        cutover(MAP, **over, execute=True)
    logged_mysql.sql("ALTER TABLE `eng_lab`.`odd` ENGINE=InnoDB")
    assert cutover(MAP, **over, execute=True)["executed"]
    assert logged_mysql.sql("SELECT id FROM eng_lab.odd") == [("1",)]
