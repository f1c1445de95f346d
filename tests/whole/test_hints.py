"""No advice of ours costs anybody a schema: none says to drop or to empty anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import datajoint_migrate
import servers
from conftest import drop
from datajoint_migrate import (
    DestinationBusy,
    InvalidArgument,
    backup_schema,
    copy_all_data,
    copy_sample,
    copy_table_data,
    create_parallel_schema,
    cutover,
    migrate,
    rename_schema,
    restore_schema,
)
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.server import resolve
from servers import Server

PACKAGE = Path(datajoint_migrate.__file__).parent
# English and SQL alike.
DANGER = re.compile(r"\bdrop(ped)?\b|\bempty it\b|\bempty the\b|\btruncate\b", re.IGNORECASE)


def hints() -> Iterator[tuple[str, str]]:
    """Every hint that the package's text gives, with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            given: list[ast.expr] = []
            if isinstance(node, ast.keyword) and node.arg == "hint":
                given = [node.value]
            if isinstance(node, ast.Assign):
                given = [
                    node.value
                    for target in node.targets
                    if isinstance(target, ast.Attribute) and target.attr == "hint"
                ]
            for value in given:
                said = [
                    part.value
                    for part in ast.walk(value)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                yield f"{path.relative_to(PACKAGE)}:{value.lineno}", " ".join(said)


def test_no_hint_advises_to_drop_or_empty_anything() -> None:
    found = list(hints())
    assert len(found) > 100
    assert [one for one in found if DANGER.search(one[1])] == []


def test_no_message_of_the_engine_does_either() -> None:
    engine = PACKAGE.parents[1] / "rust" / "core" / "src"
    texts = [
        (path.name, text)
        for path in sorted(engine.rglob("*.rs"))
        for text in re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8"))
        # What is said to people, not to the server.
        if " or drop " in text or re.search(r"; (drop|empty|truncate) ", text)
    ]
    assert len(list(engine.rglob("*.rs"))) > 20
    assert texts == []


@pytest.fixture(scope="module")
def folding() -> Iterator[Server]:
    """A server that takes `Lab` and `lab` for one."""
    server = servers.start("mariadb", arguments=["--lower-case-table-names=1"])
    server.sql(
        "CREATE DATABASE z_lab; CREATE TABLE z_lab.mouse (id int NOT NULL PRIMARY KEY);"
        "INSERT INTO z_lab.mouse VALUES (1)"
    )
    yield server
    server.stop()


@pytest.mark.parametrize(
    "call",
    [
        lambda url: migrate({"z_lab": "Z_LAB"}, connection=url),
        lambda url: migrate({"z_lab": "z_new", "z_other": "Z_NEW"}, connection=url),
        lambda url: create_parallel_schema("z_lab", "Z_Lab", connection=url),
        lambda url: copy_all_data("z_lab", "Z_LAB", connection=url),
        lambda url: copy_table_data("z_lab", "Z_LAB", "Mouse", connection=url),
        lambda url: copy_sample("z_lab", "Z_LAB", limit=1, connection=url),
        lambda url: backup_schema("z_lab", "Z_LAB", connection=url),
        lambda url: restore_schema("z_lab", "Z_LAB", connection=url, overwrite=True),
        lambda url: rename_schema("z_lab", "Z_LAB", connection=url),
        lambda url: cutover({"z_lab": "Z_LAB"}, connection=url),
        lambda url: cutover({"z_lab": "z_lab_v20"}, archive_map={"z_lab": "Z_LAB"}, connection=url),
    ],
)
def test_production_under_another_case_is_no_destination(folding: Server, call: object) -> None:
    with pytest.raises(InvalidArgument) as raised:
        call(folding.url)  # type: ignore[operator]
    assert "DROP" not in str(raised.value)
    assert folding.sql("SELECT id FROM z_lab.mouse") == [("1",)]


def test_two_calls_on_one_schema_under_two_cases_do_not_work_at_once(folding: Server) -> None:
    with resolve(folding.url).session() as one, resolve(folding.url).session() as other:
        take_turn(one, ["z_New"])
        with pytest.raises(DestinationBusy, match="Z_NEW"):
            take_turn(other, ["Z_NEW"])


def test_names_of_another_case_are_others_where_the_server_says_so(mysql: Server) -> None:
    drop(mysql, "case_lab", "CASE_LAB")
    mysql.sql("CREATE DATABASE case_lab; CREATE TABLE case_lab.mouse (id int PRIMARY KEY)")
    try:
        assert migrate({"case_lab": "CASE_LAB"}, connection=mysql.url)["match"]
    finally:
        drop(mysql, "case_lab", "CASE_LAB")
