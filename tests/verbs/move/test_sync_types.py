"""sync of every type of column: the copy has bit for bit what production has then."""

from __future__ import annotations

import pytest

from conftest import Fresh
from datajoint_migrate import compare_schemas, migrate, sync
from every_type import TYPES, exact, make_types
from servers import Server

MAP = {"typ_a": "typ_a_v20"}


@pytest.mark.parametrize("by", ["auto", "digest"])
def test_values_of_every_type_come_go_and_change_places(
    logged: Server, fresh: Fresh, by: str
) -> None:
    fresh(logged, *MAP, *MAP.values())
    make_types(logged, "typ_a")
    done = migrate(MAP, connection=logged.url)
    assert done["match"], done["issues"]
    assert sync(MAP, connection=logged.url)["match"]
    # The values at the limits come as another row, into the row of NULL, and go from their own.
    relaxed = "SET time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES'; USE typ_a;"
    logged.sql(
        relaxed
        + "".join(
            f"INSERT INTO t{number} SELECT id + 100, v FROM t{number};"
            f"UPDATE t{number} AS a JOIN t{number} AS b ON b.id = 1 SET a.v = b.v WHERE a.id = 0;"
            f"UPDATE t{number} SET v = NULL WHERE id = 101; DELETE FROM t{number} WHERE id = 1;"
            for number in range(len(TYPES))
        )
    )
    done = sync(MAP, connection=logged.url, by=by)
    assert done["match"], (done["issues"], done["conflicts"])
    rows = sum(1 + len(values) for values in TYPES.values())
    assert done["rows_inserted"] == rows
    assert (done["rows_updated"], done["rows_deleted"]) == (len(TYPES), len(TYPES))
    if by == "auto":
        assert {found["how"] for found in done["tables"].values()} == {"log"}
    for number, type_ in enumerate(TYPES):
        there = exact(logged, "typ_a_v20", f"t{number}", type_)
        assert there == exact(logged, "typ_a", f"t{number}", type_), type_
        assert len(there) == 1 + 2 * len(TYPES[type_])
    assert compare_schemas("typ_a", "typ_a_v20", 0, connection=logged.url)["match"]
    again = sync(MAP, connection=logged.url)
    assert (again["match"], again["rows_inserted"] + again["rows_updated"]) == (True, 0)
