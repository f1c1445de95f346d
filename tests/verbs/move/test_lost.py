"""Pointers without a tracking row are found before anything is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import Fresh
from datajoint_migrate import _core
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.errors import NotFound, Unconvertible
from servers import Server
from small import TRACKING

SCHEMA = "lost_rig"
# More than one batch of either side.
ROWS = 120_000

Look = Callable[..., tuple[bool, int]]


@pytest.fixture
def look(server: Server, fresh: Fresh) -> Look:
    fresh(server, SCHEMA)
    numbers = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        f" WHERE i < {ROWS}) SELECT LEFT(UNHEX(SHA2(i, 256)), 16) AS h, 0 FROM n"
    )
    depth = "cte_max_recursion_depth" if server.kind == "mysql" else "max_recursive_iterations"
    server.sql(
        f"CREATE DATABASE {SCHEMA};"
        + TRACKING.format(schema=SCHEMA)
        + f"CREATE TABLE {SCHEMA}.recording (id int AUTO_INCREMENT PRIMARY KEY,"
        f" `signal` binary(16), KEY (`signal`)); SET SESSION {depth} = {2 * ROWS};"
        f"INSERT INTO {SCHEMA}.`~external_raw` (hash, size)"
        f" {numbers};"
        f"INSERT INTO {SCHEMA}.recording (`signal`)"
        f" SELECT hash FROM {SCHEMA}.`~external_raw`"
        f" UNION ALL SELECT hash FROM {SCHEMA}.`~external_raw` UNION ALL SELECT NULL;"
    )

    def ask(column: str = "signal") -> tuple[bool, int]:
        plan = {
            "source": resolve(server.url).spec(),
            "schema": SCHEMA,
            "table": "recording",
            "column": column,
            "tracking_schema": SCHEMA,
            "tracking_table": "~external_raw",
        }
        found = _core.lost(plan)
        return found["lost"], found["pointers"]

    return ask


def test_pointers_that_all_have_a_row_are_seen_to(server: Server, look: Look) -> None:
    assert look() == (False, 2 * ROWS)
    # Rows that nothing points to are no loss, and a table of NULLs has nothing to lose.
    server.sql(f"DELETE FROM {SCHEMA}.recording WHERE id > 10 AND `signal` IS NOT NULL")
    assert look() == (False, 10)
    server.sql(f"UPDATE {SCHEMA}.recording SET `signal` = NULL; TRUNCATE {SCHEMA}.`~external_raw`")
    assert look() == (False, 0)


@pytest.mark.parametrize(
    "which", ["ORDER BY hash", "ORDER BY hash DESC", "ORDER BY SHA2(hash, 256)"]
)
def test_one_pointer_without_a_row_is_seen_wherever_it_is(
    server: Server, look: Look, which: str
) -> None:
    server.sql(f"DELETE FROM {SCHEMA}.`~external_raw` {which} LIMIT 1")
    assert look()[0]


def test_an_empty_tracking_table_has_lost_everything(server: Server, look: Look) -> None:
    server.sql(f"TRUNCATE {SCHEMA}.`~external_raw`")
    assert look()[0]


def test_what_cannot_be_looked_at_is_an_error(server: Server, look: Look) -> None:
    with pytest.raises(Unconvertible, match="pointer"):
        look("id")
    server.sql(f"DROP TABLE {SCHEMA}.`~external_raw`")
    with pytest.raises(NotFound, match="external_raw"):
        look()
