"""Answers that were wrong or unclear: names of archives, foreign records, empty schemas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import small as pipelines
from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    backup_schema,
    compare_schemas,
    copy_all_data,
    restore_schema,
)
from datajoint_migrate.call.border import guard
from servers import Server


def test_a_schema_called_archive_is_restored_from_an_archive(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "archive", "sma_lab", "sma_rig")
    pipeline = pipelines.make(mysql, "sma", tmp_path / "store")
    backup_schema(pipeline.lab, str(tmp_path / "archive"), connection=mysql.url)
    done = restore_schema(str(tmp_path / "archive"), "archive", connection=mysql.url)
    assert done["tables_restored"] == 5
    assert pipeline.count("archive", "mouse") == pipelines.MICE


@pytest.mark.parametrize(
    "record",
    [
        "CREATE TABLE sma_old.`~migrate_backup` (id int); INSERT INTO sma_old.`~migrate_backup`"
        " VALUES (1)",
        "CREATE TABLE sma_old.`~migrate_backup` (`kind` varchar(16), `name` varchar(64), `content`"
        " longtext); INSERT INTO sma_old.`~migrate_backup` VALUES ('backup', '', '{}')",
        "CREATE TABLE sma_old.`~migrate_backup` (`kind` varchar(16), `name` varchar(64), `content`"
        " longtext); INSERT INTO sma_old.`~migrate_backup` VALUES ('backup', '', 'nothing')",
        "CREATE TABLE sma_old.`~migrate_backup` (`kind` varchar(16), `name` varchar(64), `content`"
        " longtext); INSERT INTO sma_old.`~migrate_backup` VALUES ('backup', '', '"
        '{"source": 5, "charset": "utf8mb4", "collation": "utf8mb4_bin"}'
        "')",
    ],
    ids=["other columns", "no fields", "no JSON", "other types"],
)
def test_a_record_of_something_else_is_named(record: str, mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "sma_old", "sma_new")
    mysql.sql("CREATE DATABASE sma_old; CREATE TABLE sma_old.t (a int PRIMARY KEY);" + record)
    with pytest.raises(InvalidArgument, match=r"sma_old\.~migrate_backup is no record"):
        restore_schema("sma_old", "sma_new", connection=mysql.url)


def test_an_empty_schema_is_backed_up_and_restored(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(server, "sma_new", "sma_kept", "sma_none")
    server.sql("CREATE DATABASE sma_none CHARACTER SET latin1")
    for name in (str(tmp_path / "archive"), "sma_kept"):
        fresh(server, "sma_new")
        done = backup_schema("sma_none", name, connection=server.url)
        assert (done["tables_backed_up"], done["rows_backed_up"]) == (0, 0)
        done = restore_schema(name, "sma_new", connection=server.url)
        assert done["tables_restored"] == 0
        assert server.sql(
            "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA"
            " WHERE SCHEMA_NAME = 'sma_new'"
        ) == [("latin1",)]


def test_a_value_that_is_no_member_differs_from_an_empty_member(
    server: Server, fresh: Fresh
) -> None:
    fresh(server, "sma_a", "sma_b")
    for name in ("sma_a", "sma_b"):
        server.sql(
            f"SET SESSION sql_mode = ''; CREATE DATABASE {name};"
            f"CREATE TABLE {name}.t (a int PRIMARY KEY, e enum('x','') DEFAULT NULL);"
            f"INSERT INTO {name}.t VALUES (1, 'x'), (2, ''), (3, 0), (4, NULL)"
        )
    assert compare_schemas("sma_a", "sma_b", connection=server.url)["match"]
    server.sql("SET SESSION sql_mode = ''; UPDATE sma_b.t SET e = 0 WHERE a = 2")
    found = compare_schemas("sma_a", "sma_b", connection=server.url)["tables"]["t"]
    assert [one["key"] for one in found["discrepancies"]] == [{"a": "2"}]
    server.sql("DROP DATABASE sma_b; CREATE DATABASE sma_b")
    server.sql("DROP DATABASE sma_b")
    copy_all_data("sma_a", "sma_b", connection=server.url)
    rows = "SELECT a, e + 0 FROM {}.t ORDER BY a"
    assert server.sql(rows.format("sma_b")) == server.sql(rows.format("sma_a"))


def test_what_is_so_for_many_tables_is_one_note() -> None:
    def told() -> dict[str, list[str]]:
        return {"notes": ["a", "b", "a", "a"]}

    assert guard(told)() == {"notes": ["a", "b"]}


def test_a_plan_s_ends_are_followed_and_a_cutover_is_within_one_server(
    mysql: Server, mysql_b: Server, fresh: Fresh, tmp_path: Path
) -> None:
    for server in (mysql, mysql_b):
        fresh(server, "sma_kept", "sma_back", "sma_lab", "sma_rig")
    pipelines.make(mysql, "sma", tmp_path / "store")
    plan = tmp_path / "migration.toml"
    lines = []
    for name, server in (("source", mysql), ("destination", mysql_b)):
        lines += [f"[{name}]", f"host = '{server.host}'", f"port = {server.port}"]
        lines += [f"user = '{server.user}'", f"password = '{server.password}'"]
    plan.write_text("\n".join([*lines, "[schemas]", "sma_lab = 'sma_lab_v20'", ""]))

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name("dj-migrate")
        return subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path)

    said = command("backup", "sma_lab", "sma_kept", "--config", str(plan))
    assert said.returncode == 0, said.stderr
    assert mysql_b.sql("SHOW DATABASES LIKE 'sma_kept'") == [("sma_kept",)]
    assert mysql.sql("SHOW DATABASES LIKE 'sma_kept'") == []
    for verb in ("cutover", "rollback"):
        said = command(verb, str(plan))
        assert said.returncode != 0
        assert "within one server" in " ".join((said.stdout + said.stderr).split())
