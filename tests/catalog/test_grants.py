"""What a user may do is judged as the server judges it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from conftest import Fresh
from datajoint_migrate.catalog.grants import read_grants
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.errors import PermissionMissing
from servers import Server

SCHEMA = "dj_grants"
TRIED = {
    "SELECT": f"SELECT * FROM {SCHEMA}.t",
    "INSERT": f"INSERT INTO {SCHEMA}.t () VALUES ()",
    "DELETE": f"DELETE FROM {SCHEMA}.t",
}
# Lines of the user, lines of its role.
Lines = dict[str, str]
CASES: dict[str, tuple[Lines, Lines]] = {
    "a pattern beside the name": ({r"dj\_%": "SELECT", "dj_grants": "INSERT"}, {}),
    "a pattern beside the exact name": ({r"dj\_%": "SELECT", r"dj\_grants": "INSERT"}, {}),
    "three patterns": ({"dj%": "SELECT", r"dj\_%": "INSERT", "%": "DELETE"}, {}),
    "the role's % line": ({r"dj\_grants": "INSERT"}, {"%": "SELECT"}),
    "two lines of a role": ({}, {"%": "SELECT", r"dj\_grants": "INSERT"}),
    "the same line twice": ({r"dj\_grants": "SELECT"}, {r"dj\_grants": "INSERT"}),
    "patterns of both": ({r"dj\_%": "SELECT"}, {"dj%": "INSERT, DELETE"}),
    "underscores": ({"dj_g%": "SELECT", "%grants": "INSERT"}, {}),
}


@pytest.fixture
def account(server: Server, fresh: Fresh) -> Iterator[Server]:
    fresh(server, SCHEMA)
    server.sql(
        f"CREATE DATABASE {SCHEMA}; CREATE TABLE {SCHEMA}.t (i INT AUTO_INCREMENT PRIMARY KEY);"
        "DROP USER IF EXISTS granted; DROP ROLE IF EXISTS granting;"
        "CREATE USER granted IDENTIFIED BY 'pw'; CREATE ROLE granting"
    )
    yield server
    server.sql("DROP USER granted; DROP ROLE granting")


def allowed(server: Server) -> tuple[set[str], set[str]]:
    """What the server allows the user in the schema, and what we say that it may."""
    may = set()
    with resolve(f"mysql://granted:pw@{server.host}:{server.port}/").session() as session:
        for privilege, sql in TRIED.items():
            with suppress(PermissionMissing):
                session.query(sql)
                may.add(privilege)
        grants = read_grants(session)
    return may, {privilege for privilege in TRIED if grants.has(privilege, SCHEMA)}


@pytest.mark.parametrize("case", CASES)
def test_of_several_lines_the_one_that_the_server_takes_counts(account: Server, case: str) -> None:
    direct, through_role = CASES[case]
    for who, lines in (("granted", direct), ("granting", through_role)):
        for where, what in lines.items():
            account.sql(f"GRANT {what} ON `{where}`.* TO {who}")
    if through_role:
        default = "ALL TO granted" if account.kind == "mysql" else "granting FOR granted"
        account.sql(f"GRANT granting TO granted; SET DEFAULT ROLE {default}")
    may, said = allowed(account)
    assert may
    assert said == may


def test_what_is_revoked_for_one_schema_is_not_held_there(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, SCHEMA)
    mysql.sql(
        f"CREATE DATABASE {SCHEMA}; CREATE TABLE {SCHEMA}.t (i INT AUTO_INCREMENT PRIMARY KEY);"
        "SET GLOBAL partial_revokes = ON; DROP USER IF EXISTS granted;"
        "CREATE USER granted IDENTIFIED BY 'pw'; GRANT SELECT, INSERT ON *.* TO granted;"
        f"REVOKE INSERT ON {SCHEMA}.* FROM granted; GRANT DELETE ON `dj%`.* TO granted"
    )
    try:
        assert allowed(mysql) == ({"SELECT"}, {"SELECT"})
    finally:
        mysql.sql("DROP USER granted; SET GLOBAL partial_revokes = OFF")
