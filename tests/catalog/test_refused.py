"""What a server refuses is told as what it is, with what helps against that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    ConnectionFailed,
    MigrationError,
    NotFound,
    _core,
    copy_all_data,
    copy_table_data,
    inspect_schemas,
    migrate,
    status,
    sync,
)
from datajoint_migrate.catalog.server import resolve
from killing import deserted
from servers import Server

SCHEMA, COPY, WHO, ROLE = "refusing", "refusing_v20", "refused", "refusing_role"
MAP = {SCHEMA: COPY}


@pytest.fixture
def account(server: Server, fresh: Fresh) -> Iterator[str]:
    """A user who may do everything with the schema and its copy, and nothing else."""
    fresh(server, SCHEMA, COPY)
    server.sql(
        f"CREATE DATABASE {SCHEMA}; CREATE TABLE {SCHEMA}.t (i INT PRIMARY KEY);"
        f"INSERT INTO {SCHEMA}.t VALUES (1), (2); DROP USER IF EXISTS {WHO};"
        f"CREATE USER {WHO} IDENTIFIED BY 'pw'; GRANT ALL ON {SCHEMA}.* TO {WHO};"
        f"GRANT ALL ON {COPY}.* TO {WHO}; DROP ROLE IF EXISTS {ROLE}; CREATE ROLE {ROLE}"
    )
    yield f"mysql://{WHO}:pw@{server.host}:{server.port}/"
    server.sql(f"SET GLOBAL init_connect = ''; DROP USER {WHO}; DROP ROLE {ROLE}")


def of_migrate(account: str) -> None:
    migrate(MAP, connection=account)


def of_the_engine(account: str) -> None:
    _core.log_position({"server": resolve(account).spec()})


def twice(call: Callable[[str], None], account: str) -> None:
    call(account)
    call(account)


HOURLY = {
    "queries": ("MAX_QUERIES_PER_HOUR 2", of_migrate),
    "updates": ("MAX_UPDATES_PER_HOUR 3", of_migrate),
    "connections": ("MAX_CONNECTIONS_PER_HOUR 1", of_migrate),
    "queries of the engine": ("MAX_QUERIES_PER_HOUR 2", of_the_engine),
    "connections of the engine": ("MAX_CONNECTIONS_PER_HOUR 1", of_the_engine),
}


@pytest.mark.parametrize("case", HOURLY)
def test_a_limit_of_the_hour_is_told_from_one_of_connections_at_once(
    server: Server, account: str, case: str
) -> None:
    limit, call = HOURLY[case]
    server.sql(f"ALTER USER {WHO} WITH {limit}")
    with pytest.raises(MigrationError, match="has exceeded") as caught:
        twice(call, account)
    assert caught.value.context.get("errno", 1226) == 1226
    assert limit.split()[0] in str(caught.value.hint)
    assert "MAX_USER_CONNECTIONS" not in str(caught.value.hint)
    assert "as many connections" not in str(caught.value)


@pytest.mark.parametrize("call", [of_migrate, of_the_engine])
def test_a_failing_init_connect_is_called_that(server: Server, account: str, call: Any) -> None:
    server.sql("SET GLOBAL init_connect = 'SELECT * FROM nowhere.there'")
    with pytest.raises(ConnectionFailed, match="init_connect") as caught:
        call(account)
    assert "cannot be reached" not in str(caught.value)
    assert "@@GLOBAL.init_connect" in str(caught.value.hint)


READERS = {
    "migrate": lambda url: migrate(MAP, connection=url),
    "copy_all_data": lambda url: copy_all_data(SCHEMA, COPY, connection=url),
    "copy_table_data": lambda url: copy_table_data(SCHEMA, COPY, "T", connection=url),
    "sync": lambda url: sync(MAP, connection=url),
    "inspect": lambda url: inspect_schemas([SCHEMA], connection=url),
}


@pytest.mark.parametrize("call", READERS)
def test_a_schema_that_was_never_seen_is_not_called_gone(
    server: Server, account: str, call: str
) -> None:
    server.sql(
        f"CREATE DATABASE {COPY}; REVOKE ALL ON {SCHEMA}.* FROM {WHO};"
        f"GRANT ALL ON {SCHEMA}.* TO {ROLE}; GRANT {ROLE} TO {WHO}"
    )
    with pytest.raises(NotFound, match=f"no schema '{SCHEMA}'") as caught:
        READERS[call](account)
    assert "renamed or dropped" not in str(caught.value)
    assert f"not active: {ROLE} (SET DEFAULT ROLE" in str(caught.value.hint)
    (one,) = status(MAP, connection=account)["schemas"]
    assert (one["state"], one["why"]) == ("missing", "this user sees no such schema in production")
    # What the hint says is what helps.
    to = f"ALL TO {WHO}" if server.kind == "mysql" else f"{ROLE} FOR {WHO}"
    server.sql(f"SET DEFAULT ROLE {to}")
    assert inspect_schemas([SCHEMA], connection=account)["schemas"]
    # Nor is one that nobody has.
    server.sql(f"DROP DATABASE {SCHEMA}")
    with pytest.raises(NotFound) as caught:
        READERS[call](account)
    assert "renamed" not in str(caught.value)
    assert "role" not in str(caught.value.hint)


def test_a_session_that_was_ended_is_called_that(server: Server) -> None:
    with resolve(server.url).session() as session:
        (number,) = session.query("SELECT CONNECTION_ID()")[0]
        server.sql(f"KILL {number}")
        # It is ended by itself, when it notices.
        deserted(server)
        with pytest.raises(ConnectionFailed, match="was ended while nothing was asked") as caught:
            session.query("SELECT 1")
    assert caught.value.code == "DJM-1101"
    assert "wait_timeout" in str(caught.value.hint)
    assert "start the same call again" in str(caught.value.hint)
