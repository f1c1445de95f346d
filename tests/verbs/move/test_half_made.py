"""A copy that ends while it makes its destination: the same call makes the rest, and all of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from conftest import SOAK, Fresh
from datajoint_migrate import (
    NotFound,
    compare_schemas,
    copy_all_data,
    copy_sample,
    create_parallel_schema,
    migrate,
    rollback,
    verify_schema_v20,
)
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.verbs.move import copy as copying
from pair import make_pair
from servers import Server
from snapshot import snapshot

A, B = "haf_a", "haf_b"
MAP = {A: "haf_a_v20", B: "haf_b_v20"}
CALLS: dict[str, tuple[Callable[[str], Any], list[str]]] = {
    "copy_all_data": (
        lambda url: copy_all_data(A, MAP[A], schema_map=MAP, connection=url),
        [MAP[A]],
    ),
    "copy_sample": (
        lambda url: copy_sample(schema_map=MAP, limit=2, connection=url),
        [*MAP.values()],
    ),
}  # fmt: skip


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    found: Server = request.getfixturevalue(request.param)
    fresh(found, *MAP.values(), A, B)
    make_pair(found, A, B)
    # A circle of keys through both schemas: the copy of one alone could not be proved.
    found.sql(f"DELETE FROM {A}.best; ALTER TABLE {A}.best DROP FOREIGN KEY best_ibfk_1")
    return found


def seen(server: Server) -> dict[str, Any]:
    return snapshot(server.sql, *MAP.values())


def ended_after(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[str], Any], url: str, statements: int
) -> bool:
    """Run the call until it has made so many statements; whether it was still making a schema.

    Nothing gets through any more then, as when the process is killed.
    """
    execute, count, made = Session.execute, 0, False

    def counted(session: Session, sql: str, params: Any = ()) -> int:
        nonlocal count, made
        if not session.read_only and not sql.startswith(("SET SESSION", "START", "COMMIT")):
            count += 1
        if count > statements:
            raise KeyboardInterrupt
        made = made or (sql.startswith("DROP TABLE") and "~migrate_making" in sql)
        return execute(session, sql, params)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "execute", counted)
        with suppress(KeyboardInterrupt):
            call(url)
    return not made


@pytest.mark.parametrize("name", CALLS)
def test_ended_at_any_statement_the_same_call_makes_all_of_it(
    server: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    call, made = CALLS[name]
    fresh(server, *MAP.values())
    call(server.url)
    whole = seen(server)
    assert all("~lineage" in whole[schema]["tables"] for schema in made)
    statements, more = 0, True
    while more:
        fresh(server, *MAP.values())
        more = ended_after(monkeypatch, call, server.url, statements)
        call(server.url)
        assert seen(server) == whole, statements
        statements += 1 if SOAK else 3
    assert statements > 10


def test_what_another_call_has_begun_is_finished_by_those_that_make_more(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, _ = CALLS["copy_sample"]
    assert ended_after(monkeypatch, call, server.url, 5)
    result = migrate(MAP, connection=server.url)
    assert result["match"]
    assert result["compatible"]
    assert "~migrate_making" not in str(seen(server))
    for old, new in MAP.items():
        assert compare_schemas(old, new, connection=server.url)["match"]
        assert verify_schema_v20(new, connection=server.url)["compatible"]


def test_a_schema_that_somebody_else_has_begun_is_not_taken_for_ours(server: Server) -> None:
    server.sql(f"CREATE DATABASE {MAP[A]}; CREATE TABLE {MAP[A]}.mine (id int PRIMARY KEY)")
    before = seen(server)
    with pytest.raises(NotFound):
        CALLS["copy_all_data"][0](server.url)
    assert seen(server) == before


def test_an_empty_schema_is_filled(server: Server) -> None:
    server.sql(f"CREATE DATABASE {MAP[A]}")
    CALLS["copy_all_data"][0](server.url)
    assert "~lineage" in seen(server)[MAP[A]]["tables"]


def test_a_parallel_schema_half_made_by_its_own_call_is_finished_by_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(url: str) -> Any:
        return create_parallel_schema(A, MAP[A], schema_map=MAP, connection=url)

    call(server.url)
    whole = seen(server)
    for statements in range(0, 9, 2):
        server.sql(f"SET foreign_key_checks = 0; DROP DATABASE {MAP[A]}")
        assert ended_after(monkeypatch, call, server.url, statements)
        call(server.url)
        assert seen(server) == whole


def test_a_parallel_schema_half_filled_by_its_own_call_is_finished_by_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(url: str) -> Any:
        return create_parallel_schema(A, MAP[A], True, schema_map=MAP, connection=url)

    def broken(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # The rows are there, their journal too, and nothing else has happened.
        patch.setattr(copying, "keep_auto_increment", broken)
        patch.setattr(copying, "forget", broken)
        with pytest.raises(KeyboardInterrupt):
            call(server.url)
    assert "~migrate_journal" in seen(server)[MAP[A]]["tables"]
    assert call(server.url)["data_copied"]
    assert "~migrate_journal" not in seen(server)[MAP[A]]["tables"]
    assert server.sql(f"SELECT COUNT(*) FROM {MAP[A]}.mouse") == [("3",)]


def test_a_rollback_that_had_ended_says_that_everything_is_where_it_belongs(
    server: Server,
) -> None:
    migrate(MAP, connection=server.url)
    with pytest.raises(NotFound, match="it had ended") as raised:
        rollback(MAP, connection=server.url, execute=True)
    assert raised.value.context["undone"]
    with pytest.raises(NotFound) as raised:
        rollback({A: "haf_nothing"}, connection=server.url, execute=True)
    assert not raised.value.context["undone"]
