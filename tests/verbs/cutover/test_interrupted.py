"""After an exchange whose call was killed: doubtful tables with external columns are held true."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conftest import Fresh
from datajoint_migrate import NotReady, cutover, migrate
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.cutover.interrupted import prove_exchange
from datajoint_migrate.verbs.cutover.moves import MARKS, Journal
from servers import Server
from small import Small, make

END = ("", "_v20", "_old")


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    """A pipeline with external columns of all kinds, migrated and cut over."""
    fresh(server, *(f"doubt_{name}{end}" for name in ("lab", "rig") for end in END))
    made = make(server, "doubt", tmp_path / "store")
    on: dict[str, Any] = {"connection": server.url, **made.stores}
    done = migrate(made.map, **on)
    assert done["match"], done["issues"]
    over = cutover(made.map, backups="rename", execute=True, end_sessions=True, **on)
    assert over["executed"], over["missing"]
    return made


def prove(small: Small) -> None:
    """As the next call does, where nothing is known of what was written to any table."""
    archives = {name: f"{name}_old" for name in small.map}
    tables = [
        [schema, table, None, None]
        for schema, table in (
            (small.lab, "mouse"),
            (small.lab, "session__trial"),
            (small.rig, "_recording"),
        )
    ]
    journal = cast(Journal, SimpleNamespace(facts={MARKS: tables, "archives": archives}))
    with resolve(small.server.url).session() as session:
        prove_exchange(session, journal, 0.0, None)


def test_tables_with_external_columns_are_equal_under_their_new_names(small: Small) -> None:
    assert small.count(f"{small.rig}_old", "_recording") == small.count(small.rig, "_recording") > 0
    prove(small)


@pytest.mark.parametrize("column", ["signal", "paper", "movie", "rate"])
def test_a_row_that_only_the_archive_has_is_found(small: Small, column: str) -> None:
    """Another pointer as well as another row: a table is named for whatever the new one lacks."""
    archive = f"`{small.rig}_old`._recording"
    if column == "rate":
        small.server.sql(
            f"INSERT INTO {archive} SELECT 900, mouse_id, `signal`, NULL, NULL, 0.5"
            f" FROM {archive} WHERE recording_id = 3"
        )
    else:
        small.server.sql(
            f"UPDATE {archive} AS a JOIN {archive} AS b ON b.recording_id = 6"
            f" SET a.`{column}` = b.`{column}` WHERE a.recording_id = 3"
        )
    with pytest.raises(NotReady, match=r"doubt_rig\._recording was written to"):
        prove(small)


def test_what_only_2x_has_written_is_no_loss(small: Small) -> None:
    new = f"`{small.rig}`._recording"
    small.server.sql(
        f"INSERT INTO {new} SELECT 901, mouse_id, `signal`, paper, movie, 0.5 FROM {new}"
        " WHERE recording_id = 3"
    )
    prove(small)
