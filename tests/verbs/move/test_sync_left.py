"""What a sync leaves that was killed amid an exchange: each verb says so, and sync ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    backup_schema,
    compare_schemas,
    create_parallel_schema,
    cutover,
    migrate,
    status,
    sync,
    verify_schema_v20,
)
from datajoint_migrate.catalog.session import Session
from servers import Server
from small import Small, make

SAID = "call sync again"


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    """A pipeline with its copies."""
    fresh(server, *(f"left_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20", "_bak")))
    made = make(server, "left", tmp_path / "store")
    done = migrate(made.map, connection=server.url, **made.stores)
    assert done["compatible"], done["issues"]
    return made


def run(small: Small, **options: Any) -> dict[str, Any]:
    return sync(small.map, connection=small.server.url, **small.stores, **options)


class Killed(BaseException):
    """The process ends here."""


def killed_at(small: Small, *words: str, done: bool = False) -> None:
    """A sync that ends at a statement that begins with the last of these words, after the others:
    before the server gets it, or when it is done."""
    coming = list(words)
    execute = Session.execute

    def until(session: Session, sql: str, *values: Any) -> Any:
        here = sql.startswith(coming[0])
        if here and len(coming) > 1:
            coming.pop(0)
            here = False
        if here and not done:
            raise Killed
        result = execute(session, sql, *values)
        if here:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "execute", until)
        with pytest.raises(Killed):
            run(small)


def left(small: Small) -> list[str]:
    """Hidden tables that only an exchange has, and those that keys name."""
    return [
        str(row[0])
        for row in small.server.sql(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE 'left%v20'"
            " AND TABLE_NAME REGEXP '^~migrate_(new|old)' UNION"
            " SELECT REFERENCED_TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE"
            " WHERE TABLE_SCHEMA LIKE 'left%' AND REFERENCED_TABLE_NAME REGEXP '^~migrate'"
        )
    ]


def lineage(small: Small) -> dict[tuple[str, str], str]:
    rows = small.server.sql(
        f"SELECT table_name, attribute_name, lineage FROM `{small.lab}_v20`.`~lineage`"
    )
    return {(str(table), str(name)): str(origin) for table, name, origin in rows}


KILLS: dict[str, tuple[tuple[str, ...], bool]] = {
    "before the exchange": (("RENAME TABLE",), False),
    "after the exchange": (("RENAME TABLE",), True),
    "when the old one is gone": (("RENAME TABLE", "DROP TABLE"), True),
}


@pytest.mark.parametrize("name", KILLS)
def test_every_verb_names_what_is_left_until_sync_has_ended_it(small: Small, name: str) -> None:
    words, done = KILLS[name]
    small.server.sql(f"ALTER TABLE `{small.lab}`.mouse ADD COLUMN more int NOT NULL DEFAULT 7")
    killed_at(small, *words, done=done)
    (table,) = left(small)
    url, copy = small.server.url, f"{small.lab}_v20"
    on: dict[str, Any] = {"connection": url}

    for call in (
        lambda: migrate(small.map, **on, **small.stores),
        lambda: create_parallel_schema(small.lab, copy, schema_map=small.map, **on),
        lambda: backup_schema(copy, f"{small.lab}_bak", **on),
        lambda: backup_schema(copy, str(small.root / "archive"), **on),
    ):
        with pytest.raises((DestinationNotEmpty, InvalidArgument), match=SAID) as refused:
            call()
        assert table in str(refused.value)
    assert f"{small.lab}_bak" not in small.schemas_there()
    found = verify_schema_v20(copy, **on)
    assert [issue for issue in found["issues"] if table in issue and SAID in issue]
    structure = compare_schemas(small.lab, copy, **on)["structure"]
    assert [one for one in structure if one["name"] == table]
    assert status(small.map, **on)["next"] == "dj-migrate sync"
    assert table in status(small.map, **on)["schemas"][0]["why"]

    look = cutover(small.map, backups="rename", **on, **small.stores)
    assert [line for line in look["missing"] if table in line and SAID in line]
    look = cutover(small.map, backups="rename", sync=True, **on, **small.stores)
    (check,) = [one for one in look["checks"] if one["name"] == "no unfinished copy"]
    assert check["ok"]
    assert [line for line in check["detail"] if table in line]

    done_now = run(small)
    assert done_now["match"], done_now["issues"]
    assert not left(small)
    assert verify_schema_v20(copy, **on)["compatible"]
    assert compare_schemas(small.lab, copy, **on)["structure_match"]
    look = cutover(small.map, backups="rename", **on, **small.stores)
    assert not [line for line in look["missing"] if SAID in line]


def test_what_was_built_for_a_declaration_that_is_gone_goes_too(small: Small) -> None:
    alone = f"`{small.lab}`.alone"
    small.server.sql(f"CREATE TABLE {alone} (id int PRIMARY KEY); INSERT INTO {alone} VALUES (1)")
    assert run(small)["match"]
    for back in ("DROP COLUMN more", "RENAME TO `left_lab`.other"):
        small.server.sql(f"ALTER TABLE {alone} ADD COLUMN more int")
        killed_at(small, "RENAME TABLE")
        assert left(small)
        small.server.sql(f"ALTER TABLE {alone} {back}")
        done = run(small)
        assert done["match"], done["issues"]
        assert not left(small)


def test_lineage_is_right_whatever_was_killed_before_it_was_written(small: Small) -> None:
    mice, copy = f"`{small.lab}`.mouse (mouse_id)", f"{small.lab}_v20"
    # Of a table that 2.x has declared.
    small.server.sql(
        f"CREATE TABLE `{copy}`.own (mouse_id int unsigned PRIMARY KEY);"
        f"INSERT INTO `{copy}`.`~lineage` VALUES ('own', 'mouse_id', 'a.b.c');"
        f"CREATE TABLE `{small.lab}`.extra (mouse_id int unsigned PRIMARY KEY,"
        f" FOREIGN KEY (mouse_id) REFERENCES {mice})"
    )
    killed_at(small, f"CREATE TABLE `{copy}`.`extra`", done=True)
    assert run(small)["match"]
    small.server.sql(
        f"ALTER TABLE `{small.lab}`.session ADD COLUMN other int unsigned,"
        f" ADD FOREIGN KEY (other) REFERENCES {mice}"
    )
    # Everything but the lineage is done then.
    killed_at(small, "RENAME TABLE", "RENAME TABLE", done=True)
    assert run(small)["match"]
    found = lineage(small)
    assert found["own", "mouse_id"] == "a.b.c"
    assert found["extra", "mouse_id"] == found["session", "other"] == f"{copy}.mouse.mouse_id"
