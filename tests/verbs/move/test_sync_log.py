"""sync by the binary log: only what lies around changed keys is read, and nothing is missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import InvalidArgument, compare_schemas, migrate, sync
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows.log import log_position
from servers import Server
from small import Small, add_trials, make

TRIALS = 400


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few hundred rows are many chunks."""
    monkeypatch.setattr(LIMITS, "chunk_bytes", 4096)


def made_on(server: Server, fresh: Fresh, store: Path) -> Small:
    fresh(server, *(f"log_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    made = make(server, "log", store)
    add_trials(made, TRIALS)
    tags = ", ".join(f"({i}, {i}, 'tag {i}')" for i in range(300))
    server.sql(
        f"CREATE TABLE `{made.lab}`.tag (tag_id int NOT NULL, code int NOT NULL,"
        " note varchar(20) NOT NULL, PRIMARY KEY (tag_id), UNIQUE KEY (code));"
        f"INSERT INTO `{made.lab}`.tag VALUES {tags};"
        f"ANALYZE TABLE `{made.lab}`.tag"
    )
    done = migrate(made.map, connection=server.url, **made.stores)
    assert done["match"], done["issues"]
    return made


@pytest.fixture
def small(logged: Server, fresh: Fresh, tmp_path: Path) -> Small:
    made = made_on(logged, fresh, tmp_path / "store")
    # Until both sides were quiet for long enough nothing but the log of the copy can be trusted,
    # and that begins with the copy's own making.
    assert run(made)["match"]
    return made


def run(small: Small, **options: Any) -> dict[str, Any]:
    return sync(small.map, connection=small.server.url, **{**small.stores, **options})


def equal(small: Small) -> bool:
    return all(
        compare_schemas(source, dest, 0, connection=small.server.url)["match"]
        for source, dest in small.map.items()
    )


def position(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = log_position(resolve(server.url))["position"]
    return found


def counts(done: dict[str, Any]) -> tuple[int, int, int]:
    return done["rows_inserted"], done["rows_updated"], done["rows_deleted"]


def trials(small: Small, done: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = done["tables"][f"{small.lab}.session__trial"]
    return found


def test_only_what_lies_around_the_changed_keys_is_read(small: Small) -> None:
    lab = small.lab
    small.server.sql(
        f"INSERT INTO `{lab}`.mouse VALUES (100, 'rat', 3.25, NULL);"
        f"UPDATE `{lab}`.session__trial SET data = x'00ff' WHERE mouse_id = 3 AND trial = 5;"
        f"DELETE FROM `{lab}`.session__trial WHERE mouse_id = 3 AND trial = 7;"
        f"INSERT INTO `{lab}`.session__trial VALUES (3, '2024-01-04', 999, NULL)"
    )
    before = run(small, dry_run=True)
    done = run(small, by="log")
    assert counts(before) == counts(done) == (2, 1, 1)
    assert done["match"], done["issues"]
    found = trials(small, done)
    assert found["how"] == "log", found["why"]
    assert 0 < found["rows_read"] < found["rows"] / 2
    rows = small.value(f"SELECT COUNT(*) FROM `{lab}`.session__trial")
    assert found["rows"] == int(rows or 0)
    assert equal(small)
    again = run(small)
    assert counts(again) == (0, 0, 0)
    assert again["match"]


@pytest.mark.parametrize("logged", ["mysql"], indirect=True)
def test_a_table_that_nobody_wrote_to_needs_no_log_of_that_time(small: Small) -> None:
    server, tag = small.server, f"{small.lab}.tag"
    server.rest(*small.map, *small.map.values())
    run(small)
    server.sql("FLUSH BINARY LOGS")
    assert run(small)["tables"][tag]["how"] == "skipped"
    server.sql(f"PURGE BINARY LOGS TO '{position(server)['file']}'")
    server.sql(f"UPDATE {tag} SET note = 'late' WHERE tag_id = 7")
    done = run(small)
    found = done["tables"][tag]
    assert (found["how"], found["updated"], done["match"]) == ("log", 1, True), found["why"]


def test_a_table_whose_log_is_gone_sends_no_other_to_be_read(small: Small) -> None:
    """A conflict that nobody settles keeps its table at the position of when it was equal."""
    server, tag = small.server, f"{small.lab}.tag"
    server.sql(
        f"UPDATE {tag} SET note = 'new' WHERE tag_id = 5;"
        f"UPDATE `{small.lab}_v20`.tag SET note = '2x' WHERE tag_id = 5"
    )
    assert run(small)["tables"][tag]["conflicts"] == 1
    server.sql("FLUSH BINARY LOGS")
    run(small)
    last = position(server)["file"]
    # MariaDB keeps a file until what was written to it has reached the tables.
    while server.sql("SHOW BINARY LOGS")[0][0] != last:
        server.sql(f"PURGE BINARY LOGS TO '{last}'")
    server.sql(
        f"UPDATE `{small.lab}`.session__trial SET data = x'00ff' WHERE mouse_id = 3 AND trial = 5"
    )
    done = run(small)
    assert (trials(small, done)["how"], trials(small, done)["updated"]) == ("log", 1)
    left = done["tables"][tag]
    assert (left["how"], left["conflicts"]) == ("digest", 1)
    assert "was purged" in left["why"]


def test_what_2x_wrote_is_found_by_the_log_of_the_copy(small: Small) -> None:
    copy = f"`{small.lab}_v20`.session__trial"
    small.server.sql(f"UPDATE {copy} SET data = x'bb' WHERE mouse_id = 2 AND trial = 3")
    small.server.sql(
        f"UPDATE `{small.lab}`.session__trial SET data = x'cc' WHERE mouse_id = 9 AND trial = 2"
    )
    done = run(small)
    assert trials(small, done)["how"] == "log", trials(small, done)["why"]
    assert [(c["kind"], c["key"]["mouse_id"]) for c in done["conflicts"]] == [("differs", "2")]
    assert not done["match"]
    done = run(small, on_conflict="production")
    assert done["match"], done["issues"]
    assert equal(small)


def test_rows_that_stand_far_apart_are_looked_up_by_their_keys(small: Small) -> None:
    """Not the chunks that they stand in, and again when what we wrote ourselves is in the log."""
    table = f"`{small.lab}`.session__trial"
    for number in (1, 2):
        small.server.sql(
            f"UPDATE {table} SET data = x'0{number}' WHERE mouse_id = 1 AND trial = 9;"
            f"DELETE FROM {table} WHERE mouse_id = 5 AND trial = {10 + number};"
            f"INSERT INTO {table} VALUES (9, '2024-01-10', {900 + number}, NULL)"
        )
        expected = (1, 1, 1)
        assert counts(run(small, dry_run=True)) == expected
        done = run(small)
        assert counts(done) == expected
        assert done["match"], done["issues"]
        found = trials(small, done)
        assert found["how"] == "log", found["why"]
        assert (found["rows_read"], found["copy_rows_read"]) == (2, 2)
        assert found["rows"] == small.count(small.lab, "session__trial")
        assert equal(small)


def test_a_row_that_came_and_went_and_one_whose_key_moved_are_not_missed(small: Small) -> None:
    table = f"`{small.lab}`.session__trial"
    small.server.sql(
        f"INSERT INTO {table} VALUES (2, '2024-01-03', 800, NULL);"
        f"DELETE FROM {table} WHERE trial = 800;"
        f"UPDATE {table} SET trial = 801 WHERE mouse_id = 2 AND trial = 3;"
        f"UPDATE {table} SET data = x'09' WHERE mouse_id = 8 AND trial = 3"
    )
    done = run(small, by="log")
    assert done["match"], done["issues"]
    assert counts(done) == (1, 1, 1)
    assert equal(small)


def test_who_wrote_what_is_known_after_rows_were_looked_up(small: Small) -> None:
    """By the log and by reading: a line that was told from its rows is as good as any other."""
    table, copy = (f"`{name}`.session__trial" for name in (small.lab, f"{small.lab}_v20"))
    small.server.sql(f"UPDATE {table} SET data = x'01' WHERE mouse_id = 3 AND trial = 20")
    assert trials(small, run(small))["rows_read"] == 1
    for by, trial in (("log", 4), ("digest", 6)):
        small.server.sql(
            f"UPDATE {copy} SET data = x'aa' WHERE mouse_id = 3 AND trial = {trial};"
            f"UPDATE {table} SET data = x'bb' WHERE mouse_id = 3 AND trial = {trial + 1}"
        )
        done = run(small, by=by)
        named = [(one["kind"], one["key"]["trial"]) for one in done["conflicts"]]
        assert named == [("differs", str(trial))]
        assert run(small, by=by, on_conflict="production")["match"]
        assert equal(small)


def test_unique_values_of_rows_that_stand_far_apart_are_exchanged(small: Small) -> None:
    table = f"`{small.lab}`.tag"
    small.server.sql(
        f"UPDATE {table} SET code = -1 WHERE tag_id = 3;"
        f"UPDATE {table} SET code = 3 WHERE tag_id = 90;"
        f"UPDATE {table} SET code = 90 WHERE tag_id = 3"
    )
    done = run(small, by="log")
    assert counts(done) == (0, 2, 0)
    assert done["match"], done["issues"]
    assert done["tables"][f"{small.lab}.tag"]["rows_read"] == 2
    assert equal(small)
    done = run(small, by="digest")
    assert (counts(done), done["match"]) == ((0, 0, 0), True)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("TRUNCATE session__trial", "definition"),
        ("SET SESSION binlog_format = 'STATEMENT'; DELETE FROM session__trial WHERE trial = 9", ""),
    ],
)
def test_what_the_log_cannot_tell_is_read_whole_and_said(
    small: Small, statement: str, why: str
) -> None:
    small.server.sql(statement, small.lab)
    done = run(small)
    assert done["match"], done["issues"]
    found = trials(small, done)
    assert found["how"] == "digest"
    assert found["why"].startswith(why or "statement")
    assert equal(small)


def test_children_of_a_renamed_key_follow(small: Small) -> None:
    small.server.sql(
        f"UPDATE `{small.lab}`.session SET session_date = '2031-01-01' WHERE mouse_id = 4"
    )
    done = run(small)
    assert done["match"], done["issues"]
    assert done["tables"][f"{small.lab}.session"]["how"] == "log"
    if small.server.kind == "mariadb":
        assert trials(small, done)["why"].startswith("cascade")
    else:
        assert trials(small, done)["how"] == "log"
    assert equal(small)


def test_a_log_that_was_begun_anew_is_not_asked(small: Small) -> None:
    small.server.sql(f"DELETE FROM `{small.lab}`.session__trial WHERE mouse_id = 1")
    maria = small.server.kind == "mariadb"
    small.server.sql("RESET MASTER" if maria else "RESET BINARY LOGS AND GTIDS")
    done = run(small)
    assert done["match"], done["issues"]
    assert trials(small, done)["how"] == "digest"
    assert trials(small, done)["why"]
    assert equal(small)


def test_a_server_without_a_log_is_read_and_says_why(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    small = made_on(server, fresh, tmp_path / "store")
    with pytest.raises(InvalidArgument, match="keeps no binary log"):
        run(small, by="log")
    small.server.sql(f"DELETE FROM `{small.lab}`.session__trial WHERE mouse_id = 1")
    done = run(small)
    assert (trials(small, done)["how"], done["match"]) == ("digest", True)
    assert "keeps no binary log" in trials(small, done)["why"]
