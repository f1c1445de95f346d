"""sync of tables by every kind of key: text, another collation, none."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import compare_schemas, migrate, sync
from datajoint_migrate.limits import LIMITS
from servers import Server

SOURCE, COPY = "skey_lab", "skey_lab_v20"
ROWS = 400


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few hundred rows are many chunks."""
    monkeypatch.setattr(LIMITS, "chunk_bytes", 4096)


def made(server: Server, fresh: Fresh, declared: str, rows: list[str], **options: Any) -> None:
    fresh(server, SOURCE, COPY)
    server.sql(
        f"CREATE DATABASE {SOURCE}; CREATE TABLE {SOURCE}.spec ({declared});"
        f"INSERT INTO {SOURCE}.spec VALUES {', '.join(rows)};"
        # Chunks are planned by the server's statistics, which come when they like.
        f"ANALYZE TABLE {SOURCE}.spec"
    )
    done = migrate({SOURCE: COPY}, connection=server.url, **options)
    assert done["match"], done["issues"]


def run(server: Server, **options: Any) -> dict[str, Any]:
    return sync({SOURCE: COPY}, connection=server.url, **options)


def counts(done: dict[str, Any]) -> tuple[int, int, int]:
    return done["rows_inserted"], done["rows_updated"], done["rows_deleted"]


def is_equal(server: Server) -> bool:
    return compare_schemas(SOURCE, COPY, 0, connection=server.url)["match"]


@pytest.mark.parametrize("charset", ["keep", "utf8mb4"])
def test_a_text_key_follows_whatever_the_collations(
    server: Server, fresh: Fresh, charset: str
) -> None:
    # In the one collation ä is between a and b, in the other behind z.
    names = ["a", "B", "ä", "z", "Z''x", "Ö\\\\", "%_"]
    rows = [f"('{names[i % 7]}{i:04}', {i % 3}, REPEAT('x', 60))" for i in range(ROWS)]
    made(
        server,
        fresh,
        "name varchar(20) CHARACTER SET latin1 COLLATE latin1_german2_ci NOT NULL,"
        " part int NOT NULL, note varchar(80) CHARACTER SET latin1 NOT NULL,"
        " PRIMARY KEY (name, part)",
        rows,
        charset=charset,
    )
    server.sql(
        f"USE {SOURCE}; UPDATE spec SET note = 'ü' WHERE name = 'ä0002';"
        "UPDATE spec SET name = 'ß-new' WHERE name = 'z0003'; DELETE FROM spec WHERE"
        " name IN ('Z\\'x0004', 'B0001'); INSERT INTO spec VALUES ('é', 1, ''), ('a', 2, 'first')"
    )
    before = run(server, dry_run=True)
    done = run(server)
    assert done["match"], (done["issues"], done["conflicts"])
    assert counts(done) == counts(before) == (3, 1, 3)
    assert is_equal(server)
    assert counts(run(server)) == (0, 0, 0)
    server.sql(f"UPDATE {COPY}.spec SET note = 'theirs' WHERE name = 'z0010'")
    server.sql(f"UPDATE {SOURCE}.spec SET note = 'ours' WHERE name = 'a0000'")
    done = run(server)
    assert [conflict["key"]["name"] for conflict in done["conflicts"]] == ["z0010"]
    done = run(server, on_conflict="production")
    assert done["match"]
    assert is_equal(server)


def test_a_table_without_a_key_follows_rows_that_are_alike_included(
    server: Server, fresh: Fresh
) -> None:
    rows = [f"({i % 50}, REPEAT('x', 60))" for i in range(ROWS)]
    made(server, fresh, "n int DEFAULT NULL, note varchar(80) NOT NULL", rows)
    server.sql(
        f"DELETE FROM {SOURCE}.spec WHERE n = 7 LIMIT 3; UPDATE {SOURCE}.spec SET n = NULL"
        f" WHERE n = 9 LIMIT 2; INSERT INTO {SOURCE}.spec VALUES (1, 'x'), (1, 'x'), (NULL, '')"
    )
    done = run(server)
    assert done["match"], (done["issues"], done["conflicts"])
    assert server.sql(f"SELECT COUNT(*) FROM {COPY}.spec") == [(str(ROWS),)]
    alike = "SELECT COUNT(*) FROM {0}.spec WHERE n = 7 OR n IS NULL OR note = 'x'"
    assert server.sql(alike.format(COPY)) == server.sql(alike.format(SOURCE)) == [("10",)]
    assert counts(run(server)) == (0, 0, 0)
    server.sql(f"INSERT INTO {COPY}.spec VALUES (5, 'by 2.x')")
    server.sql(f"INSERT INTO {SOURCE}.spec VALUES (6, 'by 0.14')")
    done = run(server)
    assert done["conflicts"]
    assert not done["match"]
    assert server.sql(f"SELECT COUNT(*) FROM {COPY}.spec WHERE note = 'by 2.x'") == [("1",)]
    assert run(server, on_conflict="production")["match"]
    assert counts(run(server)) == (0, 0, 0)
