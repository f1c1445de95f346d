"""Numbers in JSON documents: what MySQL keeps as DECIMAL is not what it reads of the text."""

from __future__ import annotations

from conftest import Fresh
from datajoint_migrate import compare_schemas, migrate
from servers import Server

MAP = {"jsd_lab": "jsd_lab_v20"}


def test_digits_that_a_document_loses_on_its_way_are_a_difference(
    mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, *MAP, *MAP.values())
    decimal = "CAST('12345678901234567890.1234567891' AS DECIMAL(40, 10))"
    mysql.sql(
        "CREATE DATABASE jsd_lab; CREATE TABLE jsd_lab.note (id int PRIMARY KEY, body json);"
        "INSERT INTO jsd_lab.note VALUES (1, '[1e300, 0.1, 123456789012345678901, -0.0]'),"
        f" (2, JSON_OBJECT('x', {decimal})), (3, JSON_OBJECT('x', 1.10))"
    )
    done = migrate(MAP, connection=mysql.url)
    kept = mysql.sql("SELECT body FROM jsd_lab_v20.note WHERE id = 2")
    if "12345678901234567890.1234567891" in str(kept):
        # Inside the server nothing of it is text.
        assert done["match"]
        mysql.sql(
            "UPDATE jsd_lab_v20.note SET body = '{\"x\": 1.2345678901234567e19}' WHERE id = 2"
        )
    else:
        assert not done["match"]
    (found,) = compare_schemas(*next(iter(MAP.items())), connection=mysql.url)["tables"]["note"][
        "discrepancies"
    ]
    assert (found["key"], found["kind"]) == ({"id": "2"}, "differs")
