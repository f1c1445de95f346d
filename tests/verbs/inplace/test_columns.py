"""migrate_columns and analyze_columns: labels in place, nothing else changed."""

from __future__ import annotations

import re

import pytest

from conftest import Fresh
from datajoint_migrate import analyze_columns, migrate_columns
from servers import Server

SCHEMA = "col_lab"

TABLES = f"""CREATE DATABASE `{SCHEMA}`;
CREATE TABLE `{SCHEMA}`.parent (id int NOT NULL AUTO_INCREMENT COMMENT 'it''s 100%',
 big bigint unsigned NOT NULL DEFAULT 7 COMMENT 'unsigned stays', PRIMARY KEY (id));
CREATE TABLE `{SCHEMA}`.child (id int NOT NULL COMMENT 'it''s 100%', weight float DEFAULT 12.5,
 small smallint NOT NULL DEFAULT -3 COMMENT 'ünï "x"', data longblob NOT NULL,
 file longblob COMMENT ':attach:a file', out_ binary(16) COMMENT ':blob@raw:out',
 u binary(16) COMMENT ':uuid:u', done tinyint(1) DEFAULT 1, adapted longblob COMMENT ':<graph>:g',
 twice int GENERATED ALWAYS AS (small * 2) STORED COMMENT 'made', secret int INVISIBLE DEFAULT 5,
 stamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
 PRIMARY KEY (id), FOREIGN KEY (id) REFERENCES `{SCHEMA}`.parent (id));
INSERT INTO `{SCHEMA}`.parent VALUES (3, 8);
INSERT INTO `{SCHEMA}`.child (id, data) VALUES (3, 'x');"""

LABELS = {
    "parent.id": "int32",
    "child.id": "int32",
    "child.weight": "float32",
    "child.small": "int16",
    "child.data": "<blob>",
    "child.file": "<attach>",
    "child.done": "bool",
    "child.twice": "int32",
    "child.secret": "int32",
}


@pytest.fixture
def server(mysql: Server, fresh: Fresh) -> Server:
    fresh(mysql, SCHEMA)
    mysql.sql(TABLES)
    return mysql


def definitions(server: Server, *, plain: bool = False) -> list[str]:
    """Both CREATE statements; `plain` without labels and empty comments."""
    found = []
    for table in ("parent", "child"):
        sql = str(server.sql(f"SHOW CREATE TABLE `{SCHEMA}`.{table}")[0][1])
        if plain:
            sql = re.sub(r"COMMENT ':(attach|[\w<>]+):", "COMMENT '", sql)
            sql = re.sub(r"COMMENT ':[^:']+:", "COMMENT '", sql).replace(" COMMENT ''", "")
        found.append(sql)
    return found


def test_every_label_that_fits_exactly_is_written_and_nothing_else_changes(server: Server) -> None:
    before = definitions(server, plain=True)
    result = migrate_columns(SCHEMA, dry_run=False, connection=server.url)

    assert result["columns_migrated"] == len(LABELS)
    assert len(result["sql_statements"]) == 2
    assert all(detail["status"] == "migrated" for detail in result["details"])
    assert definitions(server, plain=True) == before
    text = "\n".join(definitions(server))
    assert "COMMENT ':int32:it''s 100%'" in text
    assert "COMMENT ':int16:ünï \"x\"'" in text
    assert "COMMENT 'unsigned stays'" in text
    assert "':blob@raw:out'" in text


def test_a_second_call_finds_nothing_to_do(server: Server) -> None:
    migrate_columns(SCHEMA, dry_run=False, connection=server.url)
    again = migrate_columns(SCHEMA, dry_run=False, connection=server.url)
    assert (again["columns_migrated"], again["sql_statements"]) == (0, [])


def test_without_being_told_otherwise_it_only_plans(server: Server) -> None:
    before = definitions(server)
    plan = migrate_columns(SCHEMA, connection=server.url)
    assert {
        f"{d['table'].split('.')[1]}.{d['column']}": d["core_type"] for d in plan["details"]
    } == (LABELS)
    assert all(detail["status"] == "dry_run" for detail in plan["details"])
    assert definitions(server) == before


def test_the_analysis_sorts_columns_as_they_are(server: Server) -> None:
    found = analyze_columns(SCHEMA, connection=server.url)
    columns = {key: {entry["column"] for entry in entries} for key, entries in found.items()}
    assert columns["external_storage"] == {"out_"}
    assert columns["already_migrated"] == {"u", "adapted"}
    assert "big" not in columns["needs_migration"]


def test_a_label_never_pushes_a_comment_over_the_limit(server: Server) -> None:
    server.sql(f"ALTER TABLE `{SCHEMA}`.child MODIFY data longblob COMMENT '{'x' * 1024}'")
    migrate_columns(SCHEMA, dry_run=False, connection=server.url)
    assert "COMMENT ':<blob>:xxx" in definitions(server)[1]
