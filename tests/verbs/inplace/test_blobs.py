"""Blobs and attachments inside tables: which lack a marker, and how they get one."""

from __future__ import annotations

import re

import pytest

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    analyze_blob_columns,
    analyze_columns,
    check_migration_status,
    generate_migration_sql,
    migrate_blob_columns,
    migrate_columns,
)
from servers import Server

SCHEMA = "blob_lab"

TABLES = f"""CREATE DATABASE `{SCHEMA}`;
CREATE TABLE `{SCHEMA}`.parent (id int NOT NULL AUTO_INCREMENT, PRIMARY KEY (id));
CREATE TABLE `{SCHEMA}`.child (id int NOT NULL, data longblob NOT NULL COMMENT 'it''s "100%"\\\\',
 file longblob COMMENT ':attach:a file', tiny tinyblob COMMENT ':<blob>:done',
 graph longblob COMMENT ':<graph>:adapted', long_ mediumblob COMMENT '{"x" * 1020}',
 out_ binary(16) COMMENT ':blob@raw:out', gone json COMMENT ':<blob@raw>:out',
 u binary(16) COMMENT ':uuid:u', kept float DEFAULT 12.5,
 twice float GENERATED ALWAYS AS (kept * 2) STORED,
 PRIMARY KEY (id), FOREIGN KEY (id) REFERENCES `{SCHEMA}`.parent (id));
CREATE TABLE `{SCHEMA}`.`~jobs` (id int PRIMARY KEY, `key` blob);
INSERT INTO `{SCHEMA}`.parent VALUES (3);
INSERT INTO `{SCHEMA}`.child (id, data) VALUES (3, 'x');"""


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    found: Server = request.getfixturevalue(request.param)
    fresh(found, SCHEMA)
    found.sql(TABLES)
    return found


def ddl(server: Server) -> str:
    return str(server.sql(f"SHOW CREATE TABLE `{SCHEMA}`.child")[0][1])


def test_attachments_of_0146_count_as_not_migrated(server: Server) -> None:
    found = analyze_blob_columns(SCHEMA, connection=server.url)
    assert {column["column_name"]: column["needs_migration"] for column in found} == {
        "data": True, "file": True, "tiny": False, "graph": False, "long_": True,
    }  # fmt: skip
    assert {column["table_name"] for column in found} == {f"{SCHEMA}.child"}
    assert not found[0]["is_nullable"]


def test_the_status_counts_columns_in_stores_too(server: Server) -> None:
    status = check_migration_status(SCHEMA, connection=server.url)
    assert (status["total_blob_columns"], status["migrated"], status["pending"]) == (7, 3, 4)
    pending = {c["column_name"] for c in status["columns"] if c["needs_migration"]}
    assert pending == {"data", "file", "long_", "out_"}


def test_markers_are_written_and_nothing_else_changes(server: Server) -> None:
    def plain(text: str) -> str:
        return re.sub(r"COMMENT '(:(attach|<\w+>):)?(x+)?", "COMMENT '", text)

    before = ddl(server)
    result = migrate_blob_columns(SCHEMA, dry_run=False, connection=server.url)
    assert (result["analyzed"], result["needs_migration"], result["migrated"]) == (5, 3, 3)
    assert [detail["algorithm"] for detail in result["details"]] == ["INSTANT"]
    assert result["details"][0]["comments_cut"] == {"long_": 4}
    after = ddl(server)
    assert plain(after) == plain(before)
    assert """`data` longblob NOT NULL COMMENT ':<blob>:it''s "100%"\\\\'""" in after
    assert "COMMENT ':<attach>:a file'" in after
    assert "COMMENT ':<graph>:adapted'" in after
    again = migrate_blob_columns(SCHEMA, dry_run=False, connection=server.url)
    assert (again["needs_migration"], again["sql_statements"]) == (0, [])


def test_the_statements_are_one_a_table_and_run_as_they_are(server: Server) -> None:
    before = ddl(server)
    statements = generate_migration_sql(SCHEMA, connection=server.url)
    assert ddl(server) == before
    assert len(statements) == 1
    server.sql(statements[0])
    assert generate_migration_sql(SCHEMA, connection=server.url) == []


def test_another_codec_can_be_named(server: Server) -> None:
    statements = generate_migration_sql(SCHEMA, "packed", connection=server.url)
    assert ":<packed>:it" in statements[0]
    assert ":<attach>:" in statements[0]
    with pytest.raises(InvalidArgument, match="name of a codec"):
        generate_migration_sql(SCHEMA, "blob>:'", connection=server.url)


def test_a_table_that_the_server_will_copy_is_named_beforehand(server: Server) -> None:
    """MariaDB copies for the comment of a stored generated column; MySQL never does."""
    plan = migrate_columns(SCHEMA, connection=server.url)
    done = migrate_columns(SCHEMA, dry_run=False, connection=server.url)
    said = {(d["table"], d["column"]): d["algorithm"] for d in plan["details"]}
    assert said == {(d["table"], d["column"]): d["algorithm"] for d in done["details"]}
    copied = {table for (table, _), algorithm in said.items() if algorithm == "COPY"}
    assert copied == ({f"{SCHEMA}.child"} if server.kind == "mariadb" else set())
    assert "DEFAULT 12.5" in ddl(server) or "DEFAULT '12.5'" in ddl(server)
    assert "GENERATED ALWAYS AS" in ddl(server)


def test_a_foreign_key_column_keeps_its_key_and_its_default_value_machinery(
    server: Server,
) -> None:
    migrate_columns(SCHEMA, dry_run=False, connection=server.url)
    parent = str(server.sql(f"SHOW CREATE TABLE `{SCHEMA}`.parent")[0][1])
    assert "AUTO_INCREMENT COMMENT ':int32:'" in parent
    assert "FOREIGN KEY (`id`) REFERENCES `parent` (`id`)" in ddl(server)
    assert analyze_columns(SCHEMA, connection=server.url)["needs_migration"] == []
