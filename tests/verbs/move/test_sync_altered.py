"""sync: a table that production has altered is built beside its copy and takes its place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import compare_schemas, migrate, sync
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.limits import LIMITS
from line import Harm, Packet, line
from servers import Server
from small import MICE, Small, make


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few hundred rows are many chunks."""
    monkeypatch.setattr(LIMITS, "chunk_bytes", 4096)


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    names = [f"alt_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")]
    fresh(server, *names, "alt_user")
    made = make(server, "alt", tmp_path / "store")
    tags = ", ".join(f"({i}, {i % MICE}, 'tag {i}', {i})" for i in range(300))
    server.sql(
        f"CREATE TABLE `{made.lab}`.tag (tag_id int NOT NULL, mouse_id int unsigned NOT NULL,"
        " note varchar(20) NOT NULL, above int, PRIMARY KEY (tag_id),"
        f" CONSTRAINT of_mouse FOREIGN KEY (mouse_id) REFERENCES `{made.lab}`.mouse (mouse_id),"
        " CONSTRAINT positive CHECK (tag_id >= 0),"
        f" FOREIGN KEY (above) REFERENCES `{made.lab}`.tag (tag_id));"
        f"SET foreign_key_checks = 0; INSERT INTO `{made.lab}`.tag VALUES {tags}"
    )
    done = migrate(made.map, connection=server.url, **made.stores)
    assert done["match"], done["issues"]
    # Of a 2.x user: their table refers to the copy, and must go on doing so.
    server.sql(
        f"CREATE DATABASE alt_user; CREATE TABLE alt_user.seen (mouse_id int unsigned NOT NULL"
        f" PRIMARY KEY, FOREIGN KEY (mouse_id) REFERENCES `{made.lab}_v20`.mouse (mouse_id));"
        "INSERT INTO alt_user.seen VALUES (1)"
    )
    return made


def run(small: Small, **options: Any) -> dict[str, Any]:
    return sync(small.map, **{"connection": small.server.url, **small.stores, **options})


def equal(small: Small) -> bool:
    return all(
        compare_schemas(source, dest, 0, connection=small.server.url)["match"]
        for source, dest in small.map.items()
    )


def keys(small: Small) -> set[tuple[str | None, ...]]:
    """Which table of the copies refers to which."""
    return set(
        small.server.sql(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA,"
            " REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM"
            " information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL"
            f" AND TABLE_SCHEMA IN ('{small.lab}_v20', '{small.rig}_v20', 'alt_user')"
        )
    )


def left_over(small: Small) -> list[tuple[str | None, ...]]:
    """Tables and lines of the state that only an exchange has."""
    schemas = f"'{small.lab}_v20', '{small.rig}_v20'"
    return small.server.sql(
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({schemas})"
        " AND (TABLE_NAME LIKE '~migrate_new%' OR TABLE_NAME LIKE '~migrate_old%');"
        f"SELECT table_name FROM `{small.lab}_v20`.`~migrate_sync`"
        " WHERE table_name LIKE '~migrate%'"
    )


def alter(small: Small, column: str) -> None:
    """Production alters a parent, its child, and one that refers to itself."""
    small.server.sql(
        "".join(
            f"ALTER TABLE `{small.lab}`.{table} ADD COLUMN {column} int NOT NULL DEFAULT 7;"
            for table in ("mouse", "session", "tag")
        )
        + f"UPDATE `{small.lab}`.tag SET {column} = tag_id"
    )


def test_who_reads_the_copy_sees_an_altered_table_whole_all_the_time(small: Small) -> None:
    before, seen = keys(small), set()

    def rule(packet: Packet) -> Harm:
        if packet.upward and packet.number == 1:
            seen.add(
                tuple(
                    small.server.sql(f"SELECT COUNT(*) FROM `{small.lab}_v20`.{table}")[0][0]
                    for table in ("mouse", "tag")
                )
            )
        return None

    alter(small, "more")
    with line(small.server, rule) as through:
        done = run(small, dest_connection=f"{through.url}?ssl-mode=disabled")
    assert done["match"], done["issues"]
    assert seen == {(str(MICE), "300")}
    assert {done["tables"][f"{small.lab}.{name}"]["how"] for name in ("mouse", "tag")} == {
        "rebuilt"
    }
    assert equal(small)
    assert keys(small) == before
    assert not left_over(small)
    again = run(small)
    assert again["match"], again["issues"]
    assert again["tables_rebuilt"] == again["rows_inserted"] == again["rows_updated"] == 0


def test_a_key_whose_type_changes_is_exchanged_with_its_children(small: Small) -> None:
    before = keys(small)
    small.server.sql(
        f"USE `{small.lab}`; ALTER TABLE session__trial DROP FOREIGN KEY session__trial_ibfk_1;"
        "ALTER TABLE session MODIFY session_date datetime NOT NULL;"
        "ALTER TABLE session__trial MODIFY session_date datetime NOT NULL,"
        " ADD CONSTRAINT session__trial_ibfk_1 FOREIGN KEY (mouse_id, session_date)"
        " REFERENCES session (mouse_id, session_date) ON UPDATE CASCADE"
    )
    done = run(small)
    assert done["match"], done["issues"]
    assert done["tables_rebuilt"] == 2
    assert equal(small)
    assert keys(small) == before
    assert not left_over(small)


def test_what_2x_writes_while_its_table_is_built_anew_stays(small: Small) -> None:
    copy, before = f"`{small.lab}_v20`.mouse", keys(small)
    wrote: list[str] = []

    def rule(packet: Packet) -> Harm:
        if packet.upward and b"RENAME TABLE" in packet.payload[:32] and not wrote:
            wrote.append("now")
            small.server.sql(f"UPDATE {copy} SET weight = 99 WHERE mouse_id = 1")
        return None

    alter(small, "more")
    with line(small.server, rule) as through:
        done = run(small, dest_connection=f"{through.url}?ssl-mode=disabled")
    assert wrote
    assert not done["match"]
    assert [issue for issue in done["issues"] if "somebody wrote to" in issue and ".mouse" in issue]
    assert small.value(f"SELECT weight FROM {copy} WHERE mouse_id = 1") == "99"
    assert keys(small) == before
    again = run(small)
    assert small.value(f"SELECT weight FROM {copy} WHERE mouse_id = 1") == "99"
    assert again["tables"][f"{small.lab}.tag"]["how"] == "rebuilt"
    assert again["tables"][f"{small.lab}.tag"]["match"], "others go on"
    small.server.sql(
        f"UPDATE {copy}, `{small.lab}`.mouse AS p SET {copy}.weight = p.weight"
        f" WHERE {copy}.mouse_id = 1 AND p.mouse_id = 1"
    )
    last = run(small)
    assert last["match"], (last["issues"], last["tables"])
    assert equal(small)
    assert keys(small) == before
    assert not left_over(small)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(number: int, when: str) -> Iterator[list[str]]:
    """A process that ends before or after its so manieth statement that begins an exchange."""
    said: list[str] = []
    execute = Session.execute

    def count(session: Session, sql: str, *values: Any) -> Any:
        words = ("RENAME TABLE", "UPDATE", "DELETE", "DROP TABLE", "COMMIT")
        counts = sql.startswith(words[0]) or (said and sql.startswith(words))
        if counts:
            said.append(sql)
        if counts and len(said) == number and when == "before":
            raise Killed
        done = execute(session, sql, *values)
        if counts and len(said) >= number:
            raise Killed
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "execute", count)
        yield said


def test_killed_at_any_statement_of_an_exchange_the_same_call_ends_it(small: Small) -> None:
    before = keys(small)
    for number in itertools.count(1):
        small.server.sql(
            f"ALTER TABLE `{small.lab}`.mouse ADD COLUMN more_{number} int NOT NULL DEFAULT 7"
        )
        try:
            with killed_at(number, "before" if number % 2 else "after") as said:
                done = run(small)
        except Killed:
            assert small.count(f"{small.lab}_v20", "mouse") == MICE, said[-1]
            done = run(small)
        assert done["match"], (said[-1], done["issues"], done["conflicts"])
        assert keys(small) == before, said[-1]
        assert not left_over(small), said[-1]
        if len(said) < number:
            break
    assert number > 6
    assert equal(small)
