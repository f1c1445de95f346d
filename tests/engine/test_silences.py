"""A statement that is silent for long is ended only when its server says that it is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datajoint_migrate import ConnectionFailed, _core
from datajoint_migrate.catalog import refusals
from datajoint_migrate.catalog.server import Server as Address
from datajoint_migrate.catalog.server import resolve
from people import wait_for
from servers import Server


@pytest.fixture
def only(mysql: Server) -> Iterator[Address]:
    """An account with few rights and, on request of the test, one connection."""
    mysql.sql("DROP USER IF EXISTS only@'%'; CREATE USER only@'%' IDENTIFIED BY 'only'")
    yield resolve(f"mysql://only:only@{mysql.host}:{mysql.port}/?read_timeout=1")
    mysql.sql("SET GLOBAL max_connections = 151; DROP USER only@'%'")


@pytest.mark.parametrize(
    ("limit", "number"),
    [
        ("ALTER USER only@'%' WITH MAX_USER_CONNECTIONS 1", 1226),
        ("SET GLOBAL max_connections = 1", 1040),
        ("ALTER USER only@'%' IDENTIFIED BY 'another'", 1045),
        ("ALTER USER only@'%' ACCOUNT LOCK", 3118),
    ],
    ids=["no connection of this user", "no connection", "another password", "locked account"],
)
def test_a_server_that_takes_nobody_else_is_there_and_its_statement_goes_on(
    limit: str, number: int, only: Address, mysql: Server
) -> None:
    if number == 1226:
        # Only sessions that begin after it count.
        mysql.sql(limit)
    with only.session() as session:
        mysql.sql(limit)
        with pytest.raises(ConnectionFailed) as refused:
            only.session()
        assert refused.value.context["errno"] == number
        # With a read_timeout of a second it is judged twice meanwhile.
        assert session.query("SELECT SLEEP(3.5)") == [(0,)]


def test_a_session_that_is_over_or_idle_is_told_from_one_that_works(mysql: Server) -> None:
    server = resolve(mysql.url)
    with server.session() as session, server.session() as other:
        number = session.query("SELECT CONNECTION_ID()")[0][0]
        assert "answer did not arrive" in str(_core.why_broken(server.spec(), number))
        other.execute(f"KILL {number}")
        # It is killed when it notices.
        there = f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {number}"
        wait_for(lambda: not other.query(there))
        assert "ended the session" in str(_core.why_broken(server.spec(), number))
        # Who asks works; and of a number that this server does not give nothing is said.
    nowhere = resolve("mysql://only:only@127.0.0.1:1/")
    assert _core.why_broken(nowhere.spec(), 1)


def test_both_sides_read_the_numbers_of_errors_in_one_table() -> None:
    assert {1045, 3118} <= refusals.LOGIN_REFUSED == frozenset(_core.LOGIN_REFUSED)
    assert frozenset(_core.DENIED) == refusals.DENIED
    assert frozenset(_core.UNREACHABLE) <= refusals.UNREACHABLE
    assert "max_allowed_packet" in str(_core.hint_for(1153))
    assert _core.hint_for(1064) is None
