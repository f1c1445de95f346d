"""Estimates before a migration: what is read for them, and that nothing is written."""

from __future__ import annotations

import pytest

from conftest import Fresh
from datajoint_migrate import MigrationError, NotFound, estimate_migration
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.limits import LIMITS
from servers import Server

KEYS = {
    "id": ("binary(16)", "UNHEX(LEFT(SHA2(i, 256), 32))"),
    "day": ("date", "'2024-01-01' + INTERVAL i DIV 7 DAY"),
    "word": ("varchar(30)", "CONCAT('it''s \\\\ ', i DIV 3, '%s')"),
    "amount": ("decimal(20,3)", "i / 8 - 10"),
    "kind": ("enum('z','a','m')", "1 + i % 3"),
    "at": ("datetime(6)", "'2024-01-01' + INTERVAL i MICROSECOND"),
}


@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_the_sample_is_the_first_rows_whatever_the_key_is_made_of(
    kind: str, request: pytest.FixtureRequest, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Server = request.getfixturevalue(kind)
    fresh(server, "estimate_lab")
    server.sql("CREATE DATABASE estimate_lab")
    numbers = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199)"
    names = list(KEYS)
    for turn in range(len(names)):
        # Each column is first in one of the keys.
        key = names[turn:] + names[:turn]
        columns = ", ".join(f"`{name}` {KEYS[name][0]} NOT NULL" for name in key)
        values = ", ".join(KEYS[name][1] for name in key)
        server.sql(
            f"CREATE TABLE estimate_lab.t{turn} ({columns}, PRIMARY KEY ({', '.join(key)}));"
            f"INSERT INTO estimate_lab.t{turn} {numbers} SELECT {values} FROM n;"
            f"ANALYZE TABLE estimate_lab.t{turn}",
            database="estimate_lab",
        )
    monkeypatch.setattr(LIMITS, "sample_rows", 50)
    monkeypatch.setattr(LIMITS, "sample_tables", len(names))
    found = estimate_migration(["estimate_lab"], connection=server.url)
    assert {sample["rows"] for sample in found["samples"]} == {50}
    assert len(found["samples"]) == len(names)
    assert found["rows"] == pytest.approx(200 * len(names), rel=0.2)
    assert found["file_bytes"] == 0
    low, high = found["copy_seconds"]
    assert 0 < found["compare_seconds"] <= low < high


def test_nothing_to_move_takes_no_guess(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "estimate_empty")
    mysql.sql("CREATE DATABASE estimate_empty; CREATE TABLE estimate_empty.t (a int PRIMARY KEY)")
    found = estimate_migration(["estimate_empty"], connection=mysql.url)
    assert (found["compare_seconds"], found["copy_seconds"], found["samples"]) == (None, None, [])
    with pytest.raises(NotFound, match="estimate_none"):
        estimate_migration(["estimate_none"], connection=mysql.url)


def test_no_session_of_an_estimate_can_write(
    mysql: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh(mysql, "estimate_lab")
    mysql.sql("CREATE DATABASE estimate_lab; CREATE TABLE estimate_lab.t (id int PRIMARY KEY)")
    refused: list[int | None] = []
    closed = Session.close

    def tried(session: Session) -> None:
        try:
            session.execute("INSERT INTO estimate_lab.t VALUES (1)")
            refused.append(None)
        except MigrationError as error:
            refused.append(error.context.get("errno"))
        closed(session)

    monkeypatch.setattr(Session, "close", tried)
    estimate_migration(["estimate_lab"], connection=mysql.url)
    assert refused
    # Cannot execute statement in a READ ONLY transaction.
    assert set(refused) == {1792}
    assert mysql.sql("SELECT COUNT(*) FROM estimate_lab.t") == [("0",)]
