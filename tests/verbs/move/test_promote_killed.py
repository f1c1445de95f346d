"""A promotion and its undo end anywhere: clients go on writing, and the same call goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import promoting
from conftest import Fresh
from datajoint_migrate import MigrationError, promote
from environments import python
from killing import killed_at
from promoting import Staying, packed, seen, table
from servers import Server

SCHEMA, OLD = "ended", "_signal_old"
ARGUMENTS = (SCHEMA, "session", "signal", "npy@raw")
VALUES = [float(at) for at in range(5)]
# The key of what the client inserts, and how it is seen.
LATER, THEIRS = "1000", ["float64", [2, 3]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"raw": {"protocol": "file", "location": str(tmp_path_factory.mktemp("raw"))}}


@pytest.fixture(scope="module")
def clients(store: dict[str, Any]) -> Iterator[Callable[[Server], Staying]]:
    """One client of 2.3.5 for each server."""
    found: dict[str, Staying] = {}

    def of(server: Server) -> Staying:
        if server.kind not in found:
            found[server.kind] = Staying(python("2.3.5"), server, SCHEMA, store)
        return found[server.kind]

    yield of
    for client in found.values():
        client.close()


@pytest.fixture
def client(server: Server, clients: Callable[[Server], Staying]) -> Staying:
    return clients(server)


def filled(server: Server, fresh: Fresh, null: str = "NOT NULL") -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, [packed(value) for value in VALUES], null=null)


def nothing_is_left(server: Server, *columns: str) -> None:
    """No trigger, no hidden table, no other column."""
    assert server.sql(f"SHOW TRIGGERS FROM {SCHEMA}") == []
    assert server.sql(f"SHOW TABLES FROM {SCHEMA}") == [("session",)]
    found = server.sql(f"SHOW COLUMNS FROM {SCHEMA}.session")
    assert {one[0] for one in found} == {"id", "signal", *columns}


def reads(client: Staying, *later: str) -> None:
    """The client reads every value, and what it has inserted."""
    found = {row[0]["id"]: row[1]["signal"] for row in client("read")["rows"]}
    assert {key: found.pop(key)[:2] for key in later} == dict.fromkeys(later, THEIRS)
    assert found == {str(at): seen((value,)) for at, value in enumerate(VALUES)}


def goes_on(server: Server, client: Staying, options: dict[str, Any]) -> None:
    """The client inserts, and the same call ends well."""
    assert client("insert")[:2] == THEIRS
    assert promote(*ARGUMENTS, **options)["match"]
    nothing_is_left(server, OLD)
    reads(client, LATER)


def goes_back(server: Server, client: Staying, options: dict[str, Any]) -> None:
    """The same undo ends well; a row that only 2.x has written is named first."""
    later = [LATER]
    try:
        promote(*ARGUMENTS, undo=True, **options)
    except MigrationError as error:
        if error.context.get("keys") != [{"id": 1000}]:
            raise
        server.sql(f"DELETE FROM {SCHEMA}.session WHERE id = 1000")
        promote(*ARGUMENTS, undo=True, **options)
        later = []
    nothing_is_left(server)
    reads(client, *later)


def test_wherever_a_promotion_ends_clients_insert_and_the_same_call_goes_on(
    server: Server, fresh: Fresh, store: dict[str, Any], client: Staying
) -> None:
    options = {"stores": store, "connection": server.url}
    number = 0
    while True:
        number += 1
        filled(server, fresh)
        if promoting.killed(number, list(ARGUMENTS), options) == 0:
            break
        goes_on(server, client, options)
    assert number > 12


def test_wherever_an_undo_ends_clients_insert_and_the_same_call_goes_on(
    server: Server, fresh: Fresh, store: dict[str, Any], client: Staying
) -> None:
    options = {"stores": store, "connection": server.url}
    number = 0
    while True:
        number += 1
        filled(server, fresh)
        promote(*ARGUMENTS, **options)
        if promoting.killed(number, list(ARGUMENTS), {**options, "undo": True}) == 0:
            break
        assert client("insert")[:2] == THEIRS
        goes_back(server, client, options)
    assert number > 8


# Statements of the engine and of the exchange: killed before each, or once it is done.
STEPS = (
    ("IF(LENGTH(s.`signal`)", False),
    (f"CREATE TEMPORARY TABLE `{SCHEMA}`.`~promoted`", True),
    ("LOAD DATA LOCAL", True),
    (f"UPDATE `{SCHEMA}`.`session` AS s", False),
    (f"UPDATE `{SCHEMA}`.`session` AS s", True),
    ("COALESCE(SUM(((s.", False),
    (f"LOCK TABLES `{SCHEMA}`.`session` WRITE, ", True),
    ("DROP TRIGGER", True),
    ("CHANGE COLUMN `signal`", False),
    ("CHANGE COLUMN `signal`", True),
    (f"DROP TABLE `{SCHEMA}`.`~promote", False),
)


@pytest.mark.parametrize(("words", "done"), STEPS)
def test_killed_at_any_statement_the_same_call_ends_well(
    server: Server, fresh: Fresh, store: dict[str, Any], client: Staying, words: str, done: bool
) -> None:
    filled(server, fresh)
    killed_at(server, "connection", words, done, "promote", *ARGUMENTS, stores=store)
    options = {"stores": store, "connection": server.url}
    goes_on(server, client, options)
    goes_back(server, client, options)
