"""A statement that needs a table for itself waits in slices: nobody queues behind it for long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    add_job_metadata_columns,
    migrate_blob_columns,
    migrate_columns,
    migrate_external,
    populate_v2_columns,
)
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.errors import ServerError
from people import LONGEST, People, long_statement, wait_for
from servers import Server
from small import Small, make

WAITING = (
    "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for%lock'"
    " AND (INFO LIKE 'ALTER%' OR INFO LIKE 'LOCK%' OR INFO LIKE 'CREATE TABLE%')"
)


def _columns(small: Small) -> Any:
    return migrate_columns(small.rig, False, connection=small.server.url)["columns_migrated"]


def _blobs(small: Small) -> Any:
    return migrate_blob_columns(small.lab, dry_run=False, connection=small.server.url)["migrated"]


def _jobs(small: Small) -> Any:
    done = add_job_metadata_columns(small.rig, dry_run=False, connection=small.server.url)
    return done["columns_added"]


def _external(small: Small) -> Any:
    connection = small.server.url
    return migrate_external(small.rig, False, connection=connection, **small.stores)[
        "rows_migrated"
    ]


def _finalize(small: Small) -> Any:
    connection = small.server.url
    done = migrate_external(small.rig, finalize=True, connection=connection, **small.stores)
    return [detail["status"] for detail in done["details"]] == ["finalized"] * 2


def _part(small: Small) -> Any:
    connection = small.server.url
    return populate_v2_columns(
        small.rig, "_recording", "signal", connection=connection, **small.stores
    )["rows"]


CALLS: dict[str, tuple[str, Callable[[Small], Any]]] = {
    "migrate_columns": ("_recording", _columns),
    "migrate_blob_columns": ("session__trial", _blobs),
    "add_job_metadata_columns": ("_recording", _jobs),
    "migrate_external": ("_recording", _external),
    "finalize": ("_recording", _finalize),
    "populate_v2_columns": ("_recording", _part),
}


@pytest.mark.parametrize("name", CALLS)
def test_readers_pass_a_call_that_waits_for_a_long_select(
    server: Server, fresh: Fresh, tmp_path: Path, name: str
) -> None:
    table, call = CALLS[name]
    fresh(server, "gvw_rig", "gvw_lab")
    small = make(server, "gvw", tmp_path / "store")
    if name == "finalize":
        _external(small)
    place = f"`{small.lab if table == 'session__trial' else small.rig}`.`{table}`"
    said: list[Any] = []

    def run() -> None:
        said.append(call(small))

    working = threading.Thread(target=run)
    reading = People(server, lambda _: [f"SELECT COUNT(*) FROM {place}"])
    with long_statement(server, f"SELECT *, SLEEP(1000) FROM {place}") as end, reading as people:
        working.start()
        # MariaDB needs no lock on the table that a new one refers to.
        wait_for(lambda: server.sql(WAITING) != [("0",)] or not working.is_alive())
        before = people.done
        wait_for(lambda: people.done > before + 3)
        assert working.is_alive() or (server.kind, name) == ("mariadb", "populate_v2_columns")
        end()
        working.join()
    assert people.longest < LONGEST
    assert said
    assert said[0]


def test_a_lock_that_never_comes_is_an_error_and_the_session_waits_as_before(
    server: Server, fresh: Fresh
) -> None:
    fresh(server, "gvw")
    server.sql("CREATE DATABASE gvw; CREATE TABLE gvw.t (id INT); INSERT INTO gvw.t VALUES (1)")
    with (
        long_statement(server, "SELECT *, SLEEP(1000) FROM gvw.t"),
        resolve(server.url).session() as session,
    ):
        before = session.query("SELECT @@SESSION.lock_wait_timeout")
        with pytest.raises(ServerError) as caught:
            patiently(session, "ALTER TABLE gvw.t ADD COLUMN x INT", 1)
        assert caught.value.context["errno"] == 1205
        assert session.query("SELECT @@SESSION.lock_wait_timeout") == before
