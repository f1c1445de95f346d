"""Names that a real server can hold, through every verb: back-ticks, quotes, %s, 64 characters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from conftest import Fresh
from datajoint_migrate import (
    backup_schema,
    check_backup,
    compare_query_results,
    compare_schemas,
    copy_sample,
    copy_table_data,
    create_parallel_schema,
    cutover,
    migrate,
    migrate_external_to_v20,
    rename_schema,
    restore_schema,
    rollback,
    scan,
    verify_schema_v20,
)
from datajoint_migrate.verbs.look.inspect import inspect_schemas
from datajoint_migrate.verbs.look.setup import check_setup
from servers import Server

SCHEMA = "h`o's.t\"il %s ü:x? -- {0}"
LONG = "l%s`" + "ö" * 60
STORE = "raw-ü_1"
PARENT = "#sp`ec'ie\"s %s"
CHILD = "mou`se %s :id ?"
RECORDING = "_rec %(a)s;x"
ODD = ("a%sb", "c'd\"e", "`", "``x", "é :b", "q?", "x.y", "%(k)s", "sel/*ect", "\\", "#h", LONG)
COMMENT = 'it\'s "100 %s" `c` 50% :x: \\ ü'


def quote(*names: str) -> str:
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(frozen=True)
class Hostile:
    server: Server
    schema: str
    root: Path

    def named(self, end: str) -> str:
        return self.schema + end

    @property
    def stores(self) -> dict[str, Any]:
        spec = {"protocol": "file", "location": str(self.root)}
        return {"source_stores": {STORE: spec}, "dest_stores": {STORE: spec}}

    @property
    def on(self) -> dict[str, Any]:
        return {"connection": self.server.url}

    def rows(self, schema: str, table: str) -> list[tuple[str | None, ...]]:
        what = f"{quote('i`d %s')}, HEX({quote('si`g %s')})" if table == RECORDING else "*"
        return self.server.sql(f"SELECT {what} FROM {quote(schema, table)} ORDER BY 1")


def make(server: Server, schema: str, root: Path) -> Hostile:
    data = b"mYm\0hostile"
    digest = hashlib.md5(data).hexdigest()
    path = root / schema / digest[:2] / digest[2:4] / digest
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    tracking = quote(schema, f"~external_{STORE}")
    columns = ",".join(
        f"{quote(name)} varchar(90) NOT NULL DEFAULT {text(COMMENT)} COMMENT {text(COMMENT)}"
        for name in ODD
    )
    parent, child, recording = (quote(schema, name) for name in (PARENT, CHILD, RECORDING))
    key, number = quote("na`me %s"), quote("i`d %s")
    server.sql(
        f"SET NAMES utf8mb4; CREATE DATABASE {quote(schema)} CHARACTER SET utf8mb4;"
        f"CREATE TABLE {parent} ({key} varchar(30) NOT NULL COMMENT {text(COMMENT)},"
        f" PRIMARY KEY ({key})) COMMENT {text(COMMENT)};"
        f"CREATE TABLE {child} ({number} int NOT NULL, {key} varchar(30) NOT NULL"
        f" COMMENT {text(COMMENT)}, {columns}, PRIMARY KEY ({number}, {key}),"
        f" UNIQUE KEY {quote('u`nique %s')} ({quote(ODD[0])}, {number}),"
        f" KEY {quote('in?dex %s')} ({quote(LONG)}(5)),"
        f" CONSTRAINT {quote('f`k %s')} FOREIGN KEY ({key}) REFERENCES {parent} ({key})"
        " ON UPDATE CASCADE ON DELETE RESTRICT);"
        f"CREATE TABLE {tracking} (hash binary(16) NOT NULL PRIMARY KEY COMMENT ':uuid:',"
        " size bigint unsigned NOT NULL, attachment_name varchar(255), filepath varchar(1000),"
        " contents_hash binary(16), timestamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP);"
        f"INSERT INTO {tracking} (hash, size) VALUES (x'{digest}', {len(data)});"
        f"CREATE TABLE {recording} ({number} int NOT NULL PRIMARY KEY, {quote('si`g %s')}"
        f" binary(16) NOT NULL COMMENT {text(f':blob@{STORE}:{COMMENT}')},"
        f" CONSTRAINT {quote('e?x %s')} FOREIGN KEY ({quote('si`g %s')})"
        f" REFERENCES {tracking} (hash));"
        f"CREATE VIEW {quote(schema, 'v`iew %s')} AS"
        f" SELECT {number} AS {quote('n %s')} FROM {child};"
        f"CREATE TRIGGER {quote(schema, 'tr`ig %s')} BEFORE INSERT ON {parent} FOR EACH ROW"
        f" SET NEW.{key} = TRIM(NEW.{key});"
        f"INSERT INTO {parent} VALUES ('%s'), ('it''s'), ('`'), ('ü \\\\');"
        f"INSERT INTO {child} ({number}, {key}) VALUES (1, '%s'), (2, 'it''s'), (3, '`'),"
        " (4, 'ü \\\\');"
        f"INSERT INTO {recording} VALUES (1, x'{digest}'), (2, x'{digest}');"
    )
    return Hostile(server, schema, root)


ENDS = ("", "_v20", "_old", "_b", "_2", "_bk", "_sample", "_restoring", "_2_restoring", "_new")


@pytest.fixture(params=["mysql", "mariadb"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path, fresh: Fresh) -> Hostile:
    server: Server = request.getfixturevalue(request.param)
    schema = SCHEMA.format(request.param[:2])
    doubled = schema.replace("`", "``")
    fresh(server, *(doubled + end for end in ENDS))
    return make(server, schema, tmp_path / "store")


def test_migrated_compared_verified_cut_over_and_back(hostile: Hostile) -> None:
    new, saved = hostile.named("_v20"), hostile.named("_b")
    before = {name: hostile.rows(hostile.schema, name) for name in (PARENT, CHILD, RECORDING)}
    seen = inspect_schemas(
        [hostile.schema], source_stores=hostile.stores["source_stores"], **hostile.on
    )
    assert [found["name"] for found in seen["schemas"]] == [hostile.schema]
    assert not seen["schemas"][0]["obstacles"]
    assert check_setup({hostile.schema: new}, **hostile.stores, **hostile.on)["checks"]
    result = migrate({hostile.schema: new}, **hostile.stores, **hostile.on)
    assert result["match"], result["issues"]
    assert result["compatible"], result["issues"]
    assert hostile.rows(new, PARENT) == before[PARENT]
    assert hostile.rows(new, CHILD) == before[CHILD]
    assert compare_schemas(hostile.schema, new, **hostile.on)["match"]
    backup_schema(hostile.schema, saved, **hostile.on)
    exchange = {hostile.schema: new}
    told = cutover(exchange, backups={hostile.schema: saved}, **hostile.on)
    assert not told["missing"], told["missing"]
    cutover(exchange, backups={hostile.schema: saved}, execute=True, **hostile.on)
    assert verify_schema_v20(hostile.schema, **hostile.on)["compatible"]
    assert hostile.rows(hostile.named("_old"), RECORDING) == before[RECORDING]
    rollback(exchange, execute=True, **hostile.on)
    assert {name: hostile.rows(hostile.schema, name) for name in before} == before


def test_the_guides_steps(hostile: Hostile) -> None:
    new = hostile.named("_v20")
    create_parallel_schema(hostile.schema, new, **hostile.on)
    where = f"{quote('na`me %s')} <> 'x%s' -- it's %s"
    for table in (PARENT, CHILD, RECORDING):
        clause = None if table == RECORDING else where
        copy_table_data(hostile.schema, new, table, where_clause=clause, **hostile.on)
    done = migrate_external_to_v20(
        new, RECORDING, "si`g %s", f"external-{STORE}", STORE, **hostile.stores, **hostile.on
    )
    assert done["rows_migrated"] == 2
    for table in (PARENT, CHILD, RECORDING):
        compared = compare_query_results(hostile.schema, new, table, **hostile.on)
        assert (compared["match"], compared["discrepancies"]) == (True, [])
    hostile.server.sql(
        f"SET NAMES utf8mb4; UPDATE {quote(new, CHILD)} SET {quote('%(k)s')} = '%s'"
        f" WHERE {quote('i`d %s')} = 2"
    )
    compared = compare_query_results(hostile.schema, new, CHILD, **hostile.on)
    (difference,) = compared["discrepancies"]
    assert list(difference["columns"]) == ["%(k)s"]
    stream = scan(hostile.schema, CHILD, where_clause=where, **hostile.on)
    assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows == 4


def test_a_sample_and_another_name(hostile: Hostile) -> None:
    sample, new = hostile.named("_sample"), hostile.named("_new")
    restrictions = {quote(hostile.schema, CHILD): f"{quote('na`me %s')} = '%s'", RECORDING: 1}
    taken = copy_sample(hostile.schema, sample, restrictions, **hostile.stores, **hostile.on)
    assert taken["tables"], taken
    assert [row[0] for row in hostile.rows(sample, PARENT)] == ["%s"]
    rows = hostile.rows(hostile.schema, CHILD)
    rename_schema(hostile.schema, new, **hostile.on)
    assert hostile.rows(new, CHILD) == rows


@pytest.mark.parametrize("how", ["schema", "archive"])
def test_a_backup_comes_back(hostile: Hostile, tmp_path: Path, how: str) -> None:
    name = hostile.named("_b") if how == "schema" else str(tmp_path / "it's a `100 %s`")
    back = hostile.named("_2")
    hostile.server.sql(
        f"SET foreign_key_checks = 0; INSERT INTO {quote(hostile.schema, CHILD)}"
        f" ({quote('i`d %s')}, {quote('na`me %s')}) VALUES (5, 'no parent')"
    )
    backup_schema(hostile.schema, name, **hostile.on)
    if how == "archive":
        checked = check_backup(name)
        assert checked["ok"], checked["problems"]
    rows = {table: hostile.rows(hostile.schema, table) for table in (PARENT, CHILD, RECORDING)}
    restore_schema(name, back, **hostile.on)
    assert {table: hostile.rows(back, table) for table in rows} == rows
    restore_schema(name, hostile.schema, overwrite=True, **hostile.on)
    assert {table: hostile.rows(hostile.schema, table) for table in rows} == rows


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_names_of_64_characters_have_no_room_for_endings(
    request: pytest.FixtureRequest, tmp_path: Path, fresh: Fresh, kind: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    lab, new, old, saved = (f"{'x' * 60}{end}" for end in ("_lab", "_new", "_old", "_sav"))
    fresh(server, lab, new, old, saved, f"{lab[:54]}_restoring", f"{lab[:62]}_2")
    long = make(server, lab, tmp_path / "store")
    before = {table: long.rows(lab, table) for table in (PARENT, CHILD, RECORDING)}
    result = migrate({lab: new}, **long.stores, **long.on)
    assert result["match"], result["issues"]
    backup_schema(lab, saved, **long.on)
    (missing,) = cutover({lab: new}, backups={lab: saved}, **long.on)["missing"]
    assert f"{lab}_old" in missing
    assert "archive_map" in missing
    there = {"backups": {lab: saved}, "archive_map": {lab: old}}
    told = cutover({lab: new}, **there, execute=True, **long.on)
    assert told["executed"], told["missing"]
    rollback({lab: new}, execute=True, **long.on)
    restored = restore_schema(saved, lab, overwrite=True, **long.on)
    assert {table: long.rows(lab, table) for table in before} == before
    assert restored["kept"] == f"{lab[:62]}_2"
