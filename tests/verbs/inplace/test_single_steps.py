"""Single steps have the care of `migrate`: stamps, triggers, chunks, columns of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small as pipelines
from conftest import Fresh
from datajoint_migrate import (
    Unconvertible,
    copy_all_data,
    create_parallel_schema,
    migrate_external,
    migrate_external_to_v20,
    populate_v2_columns,
)
from killing import killed_at
from line import Packet, line
from servers import Server
from small import Small

MANY = 12_000
STAMP = "2019-03-04 05:06:07"


@pytest.fixture
def rig(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    return made(server, fresh, tmp_path)


def made(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    """`_recording` has a column that notes the time of a change."""
    fresh(server, "one_lab_v20", "one_rig_v20", "one_rig", "one_lab")
    pipeline = pipelines.make(server, "one", tmp_path / "store")
    server.sql(
        f"ALTER TABLE `{pipeline.rig}`._recording ADD COLUMN seen timestamp NOT NULL"
        " DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,"
        " ADD COLUMN twice double GENERATED ALWAYS AS (rate * 2) STORED;"
        f"UPDATE `{pipeline.rig}`._recording SET seen = '{STAMP}'"
    )
    return pipeline


def many(pipeline: Small) -> None:
    """Recordings beyond one chunk, all of one signal."""
    is_mysql = pipeline.server.kind == "mysql"
    limit = "cte_max_recursion_depth" if is_mysql else "max_recursive_iterations"
    pipeline.server.sql(
        f"SET SESSION {limit} = {MANY + 1};"
        f"INSERT INTO `{pipeline.rig}`._recording (recording_id, mouse_id, `signal`, seen)"
        " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
        f" WHERE i < {MANY - 1}) SELECT 1000 + i, 1, (SELECT MIN(`hash`) FROM"
        f" `{pipeline.rig}`.`~external_raw` WHERE attachment_name IS NULL AND filepath IS NULL),"
        f" '{STAMP}' FROM n"
    )


def watched(pipeline: Small, schema: str, event: str = "UPDATE") -> None:
    """Two triggers that tell of every change, in an order that matters."""
    for number in (1, 2):
        pipeline.server.sql(
            f"CREATE TRIGGER `{schema}`.told_{number} BEFORE {event} ON `{schema}`._recording"
            f" FOR EACH ROW SET NEW.rate = COALESCE(NEW.rate, 0) * 10 + {number}"
        )


def rest(pipeline: Small, schema: str) -> Any:
    """Everything of the rows that no step is to change, and the triggers."""
    server = pipeline.server
    rows = server.sql(
        f"SELECT recording_id, mouse_id, rate, seen, twice FROM `{schema}`._recording"
        " ORDER BY recording_id"
    )
    triggers = server.sql(
        "SELECT TRIGGER_NAME, ACTION_ORDER, ACTION_STATEMENT, DEFINER FROM"
        f" information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{schema}' ORDER BY 2"
    )
    return rows, triggers


def parallel(pipeline: Small) -> str:
    url = pipeline.server.url
    for old, new in pipeline.map.items():
        create_parallel_schema(old, new, schema_map=pipeline.map, connection=url)
        copy_all_data(old, new, schema_map=pipeline.map, connection=url, **pipeline.stores)
    return pipeline.map[pipeline.rig]


def convert(pipeline: Small, **options: Any) -> dict[str, Any]:
    new = pipeline.map[pipeline.rig]
    options = {"connection": pipeline.server.url, **options}
    return migrate_external_to_v20(
        new, "Recording", "signal", "raw", "raw", **pipeline.stores, **options
    )


def test_a_converted_column_leaves_stamps_and_triggers_as_they_were(rig: Small) -> None:
    watched(rig, rig.rig)
    new = parallel(rig)
    before = rest(rig, new)
    assert {row[3] for row in before[0]} == {STAMP}
    assert len(before[1]) == 2
    done = convert(rig)
    assert done == {"rows_migrated": pipelines.RECORDINGS, "files_copied": 0, "errors": []}
    assert rest(rig, new) == before
    assert rig.server.sql(f"SHOW TABLES FROM `{new}` LIKE '~migrate%'") == []


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "words",
    [
        "CREATE TABLE IF NOT EXISTS `one_rig_v20`.`~migrate_triggers`",
        "DROP TRIGGER IF EXISTS `one_rig_v20`.`told_1`",
        "DROP TRIGGER IF EXISTS `one_rig_v20`.`told_2`",
        "DROP COLUMN `signal`, CHANGE COLUMN",
        "TRIGGER `told_1` BEFORE",
        "DROP TABLE `one_rig_v20`.`~migrate_triggers`",
    ],
    ids=lambda words: words[:12] + words[-8:],
)
def test_a_conversion_killed_anywhere_puts_triggers_back_when_it_is_called_again(
    words: str, done: bool, mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    rig = made(mysql, fresh, tmp_path)
    new = parallel(rig)
    watched(rig, new)
    before = rest(rig, new)
    call = ("migrate_external_to_v20", new, "Recording", "signal", "raw", "raw")
    killed_at(mysql, "connection", words, done, *call, **rig.stores)
    convert(rig)
    assert rest(rig, new) == before
    assert mysql.sql(f"SHOW TABLES FROM `{new}` LIKE '~migrate%'") == []
    assert rig.value(f"SELECT COUNT(*) FROM `{new}`._recording WHERE JSON_VALID(`signal`)") == "6"


def test_columns_filled_in_place_keep_stamps_and_are_filled_in_chunks(rig: Small) -> None:
    many(rig)
    before = rest(rig, rig.rig)
    updates: list[bytes] = []

    def rule(packet: Packet) -> None:
        if packet.upward and packet.payload[1:].startswith(b"UPDATE"):
            updates.append(packet.payload)

    with line(rig.server, rule) as proxy:
        migrate_external(rig.rig, dry_run=False, connection=proxy.url, **rig.stores)
    assert rest(rig, rig.rig) == before
    # One column for 12,000 rows, another one for six.
    assert len(updates) >= 2 * MANY // 5000
    filled = f"SELECT COUNT(signal_v2) FROM `{rig.rig}`._recording"
    assert rig.value(filled) == str(MANY + pipelines.RECORDINGS)


def test_a_trigger_of_production_is_not_fired_and_not_dropped(rig: Small) -> None:
    watched(rig, rig.rig)
    before = rest(rig, rig.rig)
    with pytest.raises(Unconvertible, match="told_1"):
        migrate_external(rig.rig, dry_run=False, connection=rig.server.url, **rig.stores)
    assert rest(rig, rig.rig) == before


def test_a_part_for_2x_is_filled_in_chunks_and_follows_changes(rig: Small) -> None:
    many(rig)
    before = rest(rig, rig.rig)
    inserts: list[bytes] = []

    def rule(packet: Packet) -> None:
        if packet.upward and b"`_recording__v2`" in packet.payload[:80]:
            inserts.append(packet.payload)

    def call() -> dict[str, Any]:
        with line(rig.server, rule) as proxy:
            return populate_v2_columns(
                rig.rig, "Recording", "signal", connection=proxy.url, **rig.stores
            )

    assert call()["rows"] == MANY + pipelines.RECORDINGS
    assert sum(payload[1:].startswith(b"INSERT") for payload in inserts) >= MANY // 5000
    same = (
        f"SELECT COUNT(*) FROM `{rig.rig}`._recording r JOIN `{rig.rig}`._recording__v2 p"
        " USING (recording_id) WHERE p._signal_v2_of = r.`signal` AND p.signal_v2 IS NOT NULL"
    )
    assert rig.value(same) == str(MANY + pipelines.RECORDINGS)
    rig.server.sql(
        f"UPDATE `{rig.rig}`._recording a JOIN `{rig.rig}`._recording b ON b.recording_id = 6"
        " SET a.`signal` = b.`signal`, a.seen = a.seen WHERE a.recording_id = 1"
    )
    assert call()["rows"] == 1
    assert rig.value(same) == str(MANY + pipelines.RECORDINGS)
    assert call()["rows"] == 0
    assert rest(rig, rig.rig) == before
