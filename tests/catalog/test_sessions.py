"""The list of a server's sessions, as it is asked for."""

from __future__ import annotations

import pytest

from conftest import Fresh
from datajoint_migrate import ServerError
from datajoint_migrate.catalog.server import resolve
from servers import Server


@pytest.mark.parametrize(("failures", "told"), [(3, True), (30, False)])
def test_a_session_that_is_just_ending_hides_no_other(
    mysql: Server, fresh: Fresh, failures: int, told: bool
) -> None:
    """MySQL fails on what is left of it with error 3854; nobody can make that happen at will."""
    fresh(mysql, "ending")
    mysql.sql(
        "CREATE DATABASE ending;\nDELIMITER //\n"
        "CREATE FUNCTION ending.half() RETURNS int NO SQL BEGIN"
        " SET @asked = COALESCE(@asked, 0) + 1;"
        f" IF @asked <= {failures} THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 3854,"
        " MESSAGE_TEXT = 'Cannot convert string'; END IF;"
        " RETURN @asked; END//\nDELIMITER ;\n"
    )
    with resolve(mysql.url).session() as session:
        me = session.query("SELECT CONNECTION_ID()")
        asked = (
            "SELECT ID, ending.half() FROM information_schema.PROCESSLIST"
            " WHERE ID = CONNECTION_ID()"
        )
        if told:
            assert session.query(asked) == [(*me[0], failures + 1)]
        else:
            with pytest.raises(ServerError, match="Cannot convert string"):
                session.query(asked)
        # Of any other statement it is an error at once.
        session.query("SET @asked = 0")
        with pytest.raises(ServerError, match="Cannot convert string"):
            session.query("SELECT ending.half()")
        assert session.query("SELECT @asked") == [(1,)]
