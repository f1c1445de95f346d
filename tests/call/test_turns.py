"""Two calls on one destination: the second says who is at work there, and stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import datajoint_migrate as package
import small as pipelines
from conftest import Fresh
from datajoint_migrate import DestinationBusy, migrate, rename_schema
from datajoint_migrate.call import turn
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from servers import Server
from small import Small


@pytest.fixture
def small(mysql: Any, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, "tur_lab_v20", "tur_rig_v20", "tur_lab_b", "tur_rig", "tur_lab")
    return pipelines.make(mysql, "tur", tmp_path)


@contextmanager
def impatient() -> Iterator[None]:
    """Refused at once. Else the turn of a session that is ending is waited for: a server may need
    longer to end it than the next one needs to ask."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LIMITS, "turn_seconds", 0)
        yield


def calls(small: Small) -> dict[str, Callable[[], Any]]:
    """Every verb that writes into a schema of the destination."""
    url, lab, rig = {"connection": small.server.url}, small.lab, small.rig
    new, new_rig = small.map[lab], small.map[rig]
    return {
        "migrate": lambda: package.migrate(small.map, **url, **small.stores),
        "create_parallel_schema": lambda: package.create_parallel_schema(lab, new, **url),
        "copy_all_data": lambda: package.copy_all_data(lab, new, **url),
        "copy_table_data": lambda: package.copy_table_data(lab, new, "Mouse", **url),
        "copy_sample": lambda: package.copy_sample(lab, new, limit=1, **url),
        "migrate_external_to_v20": lambda: package.migrate_external_to_v20(
            new_rig, "Recording", "signal", "raw", "raw", **url, **small.stores
        ),
        "carry_jobs": lambda: package.carry_jobs(small.map, **url),
        "backup_schema": lambda: package.backup_schema(lab, new, **url),
        "restore_schema": lambda: package.restore_schema(lab, new, **url),
        "migrate_columns": lambda: package.migrate_columns(new, dry_run=False, **url),
        "migrate_blob_columns": lambda: package.migrate_blob_columns(new, dry_run=False, **url),
        "migrate_external": lambda: package.migrate_external(
            new_rig, dry_run=False, **url, **small.stores
        ),
        "add_job_metadata_columns": lambda: package.add_job_metadata_columns(
            new, dry_run=False, **url
        ),
        "populate_v2_columns": lambda: package.populate_v2_columns(
            new_rig, "Recording", "signal", **url, **small.stores
        ),
    }


def test_every_verb_stops_where_another_is_at_work_and_says_who(small: Small) -> None:
    for old, new in small.map.items():
        package.create_parallel_schema(old, new, schema_map=small.map, connection=small.server.url)
    with resolve(small.server.url).session() as holder:
        turn.take_turn(holder, small.map.values())
        number = holder.query("SELECT CONNECTION_ID()")[0][0]
        for name, call in calls(small).items():
            with (
                impatient(),
                pytest.raises(DestinationBusy, match=f"connection {number}") as caught,
            ):
                call()
            assert caught.value.code == "DJM-1504", name
            assert "dj@" in caught.value.message, name
            assert caught.value.context["schema"] in small.map.values()
            assert f"KILL {number}" in str(caught.value.hint)
    # The turn ended with the session.
    package.copy_table_data(
        small.lab, small.map[small.lab], "#species", connection=small.server.url
    )


def test_looking_needs_no_turn(small: Small) -> None:
    with resolve(small.server.url).session() as holder:
        turn.take_turn(holder, small.map.values())
        planned = migrate(small.map, dry_run=True, connection=small.server.url, **small.stores)
        assert planned["plan"]


def test_of_two_calls_at_once_one_does_all_and_the_other_nothing(small: Small) -> None:
    inside, finished = threading.Event(), threading.Event()
    results: list[dict[str, Any]] = []

    def first() -> None:
        def wait(_event: dict[str, Any]) -> None:
            inside.set()
            finished.wait(60)

        results.append(
            migrate(small.map, connection=small.server.url, on_event=wait, **small.stores)
        )

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert inside.wait(60)
        with impatient(), pytest.raises(DestinationBusy):
            migrate(small.map, connection=small.server.url, **small.stores)
    finally:
        finished.set()
        thread.join()
    assert results[0]["match"], results[0]["issues"]
    assert results[0]["rows_copied"] == 2 + 3 * pipelines.MICE + pipelines.RECORDINGS


def test_whoever_renames_waits_for_a_reader_that_is_just_ending(
    mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "turn_read", "turn_read_new")
    mysql.sql("CREATE DATABASE turn_read; CREATE TABLE turn_read.spec (id int PRIMARY KEY)")
    reader = resolve(mysql.url).session(read_only=True)
    turn.note_reading(reader, ["turn_read"])
    ends = threading.Timer(0.5, reader.close)
    ends.start()
    rename_schema("turn_read", "turn_read_new", connection=mysql.url)
    ends.join()
    assert mysql.sql("SELECT COUNT(*) FROM turn_read_new.spec") == [("0",)]
