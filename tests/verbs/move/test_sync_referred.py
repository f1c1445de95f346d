"""sync leaves no row of the copy without the row it refers to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import compare_schemas, migrate, sync
from datajoint_migrate.verbs.move import sync as syncing
from servers import Server
from small import Small, make


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    names = [f"ref_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")]
    fresh(server, *names, "ref_user")
    made = make(server, "ref", tmp_path / "store")
    done = migrate(made.map, connection=server.url, **made.stores)
    assert done["match"], done["issues"]
    return made


def run(small: Small, **options: Any) -> dict[str, Any]:
    return sync(small.map, **{"connection": small.server.url, **small.stores, **options})


def equal(small: Small) -> bool:
    return all(
        compare_schemas(source, dest, 0, connection=small.server.url)["match"]
        for source, dest in small.map.items()
    )


def delete_a_mouse(small: Small) -> None:
    """Production deletes mouse 8 with all that is hers, and changes mouse 9."""
    small.server.sql(
        f"USE `{small.lab}`; DELETE FROM session__trial WHERE mouse_id = 8;"
        "DELETE FROM session WHERE mouse_id = 8; DELETE FROM mouse WHERE mouse_id = 8;"
        "UPDATE session SET notes = 'new' WHERE mouse_id = 9"
    )


def test_a_child_that_only_2x_has_keeps_what_it_refers_to(small: Small) -> None:
    copy = f"`{small.lab}_v20`"
    small.server.sql(f"INSERT INTO {copy}.session__trial VALUES (8, '2024-01-09', 77, x'aa')")
    delete_a_mouse(small)
    before = run(small, dry_run=True)
    done = run(small)
    assert before["conflicts"] == done["conflicts"]
    named = {(one["table"].rpartition(".")[2], one["key"]["mouse_id"]) for one in done["conflicts"]}
    assert named == {("session__trial", "8"), ("session", "8"), ("mouse", "8")}
    assert not done["match"]
    told = [issue for issue in done["issues"] if "refer to" in issue]
    assert any(f"{small.lab}_v20.session__trial" in issue for issue in told)
    assert any(issue.startswith(f"{small.lab}.mouse: ") for issue in told)
    for table in ("mouse", "session", "session__trial"):
        assert small.value(f"SELECT COUNT(*) FROM {copy}.{table} WHERE mouse_id = 8") != "0"
    done = run(small, on_conflict="production")
    assert done["match"], done["issues"]
    assert equal(small)


def test_a_table_that_only_2x_has_keeps_what_it_refers_to(small: Small) -> None:
    copy = f"`{small.lab}_v20`"
    small.server.sql(
        f"CREATE DATABASE ref_user; CREATE TABLE ref_user.seen (n int PRIMARY KEY, mouse_id"
        f" int unsigned, FOREIGN KEY (mouse_id) REFERENCES {copy}.mouse (mouse_id));"
        "INSERT INTO ref_user.seen VALUES (1, 8), (2, NULL), (3, 2)"
    )
    delete_a_mouse(small)
    for policy in ("stop", "production"):
        done = run(small, on_conflict=policy)
        assert [(one["table"], one["key"], one["kind"]) for one in done["conflicts"]] == [
            (f"{small.lab}.mouse", {"mouse_id": "8"}, "extra")
        ]
        assert not done["match"]
        assert "ref_user.seen" in " ".join(done["issues"])
        assert small.value(f"SELECT COUNT(*) FROM {copy}.mouse WHERE mouse_id = 8") == "1"
        assert done["tables"][f"{small.lab}.session"]["match"], "others go on"
    small.server.sql("DELETE FROM ref_user.seen WHERE n = 1")
    done = run(small)
    assert done["match"], done["issues"]
    assert equal(small)


def test_a_choice_of_tables_leaves_no_orphans(small: Small) -> None:
    delete_a_mouse(small)
    done = run(small, tables=["mouse"])
    assert {one["table"] for one in done["conflicts"]} == {f"{small.lab}.mouse"}
    assert small.count(f"{small.lab}_v20", "mouse") == 12
    done = run(small)
    assert done["match"], done["issues"]
    assert equal(small)


@pytest.fixture
def proved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables whose foreign keys a sync has proved, row by row."""
    found: list[str] = []
    find = syncing.find_orphans

    def told(session: Any, tables: Any) -> Any:
        tables = list(tables)
        found.extend(table.name for table in tables)
        return find(session, tables)

    monkeypatch.setattr(syncing, "find_orphans", told)
    return found


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("INSERT INTO mouse VALUES (100, 'rat', 3.25, NULL)", ["mouse"]),
        ("UPDATE session SET notes = 'new' WHERE mouse_id = 9", ["session"]),
        ("DELETE FROM session__trial WHERE mouse_id = 8", []),
        ("INSERT INTO `#species` VALUES ('vole')", ["#species"]),
    ],
)
def test_keys_are_proved_where_a_row_may_have_lost_its_parent_and_nowhere_else(
    small: Small, proved: list[str], written: str, expected: list[str]
) -> None:
    small.server.sql(f"USE `{small.lab}`; {written}")
    done = run(small)
    assert done["match"], done["issues"]
    assert proved == expected
    proved.clear()
    run(small, final=True)
    assert len(proved) == 5


def test_keys_to_what_was_deleted_are_proved(small: Small, proved: list[str]) -> None:
    delete_a_mouse(small)
    done = run(small)
    assert done["match"], done["issues"]
    assert set(proved) == {"session", "session__trial", "_recording"}


@pytest.mark.parametrize(
    ("written", "table"),
    [
        ("DELETE FROM session WHERE mouse_id = 9", "session__trial"),
        ("INSERT INTO session VALUES (77, '2024-01-01', '')", "session"),
        ("UPDATE mouse SET species = 'elk' WHERE mouse_id = 3", "mouse"),
        ("ALTER TABLE mouse ADD COLUMN more int; DELETE FROM mouse WHERE mouse_id = 9", "session"),
    ],
)
def test_orphans_that_production_itself_has_are_named(
    small: Small, written: str, table: str
) -> None:
    """Of a session that had switched its checks off."""
    small.server.sql(f"USE `{small.lab}`; SET foreign_key_checks = 0; {written}")
    done = run(small)
    assert any(f"{small.lab}_v20.{table}: rows refer to rows" in one for one in done["issues"])


def test_keys_to_columns_beside_the_primary_key_are_proved_after_an_update(
    small: Small, proved: list[str]
) -> None:
    small.server.sql(
        f"USE `{small.lab}`; CREATE TABLE tag (tag_id int PRIMARY KEY, code int NOT NULL UNIQUE);"
        "CREATE TABLE use_of (n int PRIMARY KEY, code int NOT NULL,"
        " FOREIGN KEY (code) REFERENCES tag (code));"
        "INSERT INTO tag VALUES (1, 10), (2, 20); INSERT INTO use_of VALUES (1, 10), (2, 20)"
    )
    assert run(small)["match"]
    proved.clear()
    small.server.sql(
        f"USE `{small.lab}`; SET foreign_key_checks = 0; UPDATE tag SET code = 11 WHERE tag_id = 1"
    )
    done = run(small)
    assert "use_of" in proved
    assert any(f"{small.lab}_v20.use_of: rows refer" in one for one in done["issues"])
