"""add_job_metadata_columns: the hidden columns of computed and imported tables."""

from __future__ import annotations

from pathlib import Path

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import InvalidArgument, NotFound, add_job_metadata_columns
from servers import Server

SCHEMA = "jobs_lab"

TABLES = f"""CREATE DATABASE `{SCHEMA}`;
CREATE TABLE `{SCHEMA}`.mouse (id int NOT NULL PRIMARY KEY);
CREATE TABLE `{SCHEMA}`.`#lookup` (id int NOT NULL PRIMARY KEY);
CREATE TABLE `{SCHEMA}`.`_scan` (id int NOT NULL PRIMARY KEY);
CREATE TABLE `{SCHEMA}`.`_scan__field` (id int NOT NULL PRIMARY KEY);
CREATE TABLE `{SCHEMA}`.`__stats` (id int NOT NULL PRIMARY KEY,
 _job_duration float DEFAULT NULL COMMENT ':float32:computation duration in seconds');
INSERT INTO `{SCHEMA}`.`_scan` VALUES (1);"""

NATIVE = """
import os, sys, warnings
warnings.filterwarnings("ignore")
host, port, user, password, schema = sys.argv[1:]
import datajoint as dj
dj.config["database.host"], dj.config["database.port"] = host, int(port)
dj.config["database.user"], dj.config["database.password"] = user, password
dj.config["database.use_tls"] = False
dj.config.jobs.add_job_metadata = True
made = dj.Schema(schema)

@made
class Key(dj.Lookup):
    definition = "id : int32"
    contents = [(1,)]

@made
class Scan(dj.Imported):
    definition = "-> Key"
    def make(self, key): self.insert1(key)
"""


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    found: Server = request.getfixturevalue(request.param)
    fresh(found, SCHEMA)
    found.sql(TABLES)
    return found


def job_columns(server: Server, table: str, schema: str = SCHEMA) -> dict[str, tuple[str, ...]]:
    rows = server.sql(
        "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_COMMENT, COLUMN_DEFAULT FROM"
        f" information_schema.COLUMNS WHERE TABLE_SCHEMA='{schema}' AND TABLE_NAME='{table}'"
        " AND COLUMN_NAME LIKE '\\_job%' ORDER BY ORDINAL_POSITION"
    )
    return {str(row[0]): tuple(str(value) for value in row[1:]) for row in rows}


def test_computed_and_imported_tables_get_what_they_lack_in_one_statement(server: Server) -> None:
    result = add_job_metadata_columns(SCHEMA, dry_run=False, connection=server.url)
    assert (result["tables_analyzed"], result["tables_modified"], result["columns_added"]) == (
        2, 2, 5,
    )  # fmt: skip
    assert [len(detail["sql_statements"]) for detail in result["details"]] == [1, 1]
    assert {detail["algorithm"] for detail in result["details"]} == {"INSTANT"}
    for table in ("_scan", "__stats"):
        assert len(job_columns(server, table)) == 3
    for table in ("mouse", "#lookup", "_scan__field"):
        assert job_columns(server, table) == {}
    assert server.sql(f"SELECT _job_version, _job_duration FROM `{SCHEMA}`._scan") == [("", None)]


def test_a_second_call_finds_nothing_to_do(server: Server) -> None:
    add_job_metadata_columns(SCHEMA, dry_run=False, connection=server.url)
    again = add_job_metadata_columns(SCHEMA, dry_run=False, connection=server.url)
    assert (again["tables_modified"], again["columns_added"]) == (0, 0)
    assert {detail["status"] for detail in again["details"]} == {"already_migrated"}


def test_without_being_told_otherwise_it_only_plans(server: Server) -> None:
    plan = add_job_metadata_columns(SCHEMA, connection=server.url)
    assert plan["columns_added"] == 5
    assert {detail["status"] for detail in plan["details"]} == {"pending"}
    assert job_columns(server, "_scan") == {}


def test_the_columns_are_those_that_235_declares(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, SCHEMA, "jobs_native")
    mysql.sql(TABLES)
    words = [mysql.host, str(mysql.port), mysql.user, mysql.password, "jobs_native"]
    python = str(environments.python("2.3.5"))
    clients.run([python, "-c", NATIVE, *words], check=True)
    add_job_metadata_columns(SCHEMA, dry_run=False, connection=mysql.url)
    native = job_columns(mysql, "_scan", "jobs_native")
    assert len(native) == 3
    assert job_columns(mysql, "_scan") == native


def test_a_table_class_is_a_target_and_something_else_is_not(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, SCHEMA)
    mysql.sql(TABLES)

    class Scan:
        database = SCHEMA
        table_name = "_scan"
        connection = None

    result = add_job_metadata_columns(Scan, dry_run=False, connection=mysql.url)
    assert (result["tables_analyzed"], result["columns_added"]) == (1, 3)
    with pytest.raises(InvalidArgument, match="schema or a table"):
        add_job_metadata_columns(tmp_path, connection=mysql.url)
    with pytest.raises(NotFound):
        add_job_metadata_columns("jobs_lub", connection=mysql.url)
