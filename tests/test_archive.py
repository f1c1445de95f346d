"""Archives: a schema in a folder, proved without a server, and back to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate.catalog.connection import resolve
from datajoint_migrate.steps.archive import (
    Archived,
    check_backup,
    is_archive,
    load_archive,
    read_archive,
    write_archive,
)
from servers import Server
from small import Small, make

BACK = "arc_back"


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, "arc_rig", "arc_lab", BACK)
    return make(mysql, "arc", tmp_path / "store")


def declare(server: Server, archived: Archived, schema: str) -> None:
    """The archive's tables under another schema's name, empty."""
    server.sql(
        "SET foreign_key_checks = 0;"
        f"CREATE DATABASE `{schema}` CHARACTER SET {archived.charset}"
        f" COLLATE {archived.collation}; USE `{schema}`;"
        + ";".join(table.create for table in archived.tables.values())
    )


def test_what_is_a_path_and_what_is_a_schema() -> None:
    assert is_archive("/backups/lab")
    assert is_archive("./lab")
    assert is_archive("s3://bucket/lab")
    assert is_archive(Path("lab"))
    assert not is_archive("lab_backup")


def test_an_archive_comes_back(small: Small, tmp_path: Path) -> None:
    server = resolve(small.server.url)
    written = write_archive(server, small.lab, tmp_path / "archive")
    assert written["tables_backed_up"] == len(written["tables"])
    checked = check_backup(tmp_path / "archive")
    assert checked["ok"], checked
    archived = read_archive(tmp_path / "archive")
    declare(small.server, archived, BACK)
    assert load_archive(server, archived, BACK) == written["tables"]
    assert written["tables"]["session__trial"] == small.count(BACK, "session__trial")
