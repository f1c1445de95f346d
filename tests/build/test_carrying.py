"""Views, triggers, routines and events of production in its parallel schemas."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    copy_all_data,
    copy_table_data,
    create_parallel_schema,
    migrate,
)
from datajoint_migrate.catalog.names import SYNC
from servers import Server
from small import MICE, Small, make

PROGRAMS = """
CREATE VIEW `{lab}`.heavy AS SELECT m.* FROM `{lab}`.mouse m WHERE m.weight > 1;
CREATE VIEW `{rig}`.signals AS SELECT r.recording_id, r.`signal`, m.species
 FROM `{rig}`._recording r JOIN `{lab}`.mouse m USING (mouse_id);
CREATE TRIGGER `{lab}`.named BEFORE INSERT ON `{lab}`.session FOR EACH ROW
 SET NEW.notes = CONCAT('fired ', NEW.notes);
CREATE TRIGGER `{lab}`.outside AFTER INSERT ON `{lab}`.mouse FOR EACH ROW
 INSERT INTO `{other}`.seen VALUES (NEW.mouse_id);
CREATE FUNCTION `{lab}`.one() RETURNS int DETERMINISTIC RETURN 1;
CREATE EVENT `{lab}`.clean ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01' DO
 DELETE FROM `{lab}`.session WHERE notes = 'enable';
"""


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    ends = ("", "_v20")
    fresh(mysql, *(f"car_{name}{end}" for name in ("lab", "rig", "other") for end in ends))
    made = make(mysql, "car", tmp_path / "store")
    mysql.sql("CREATE DATABASE car_other; CREATE TABLE car_other.seen (id int)")
    for statement in PROGRAMS.strip().split(";\n"):
        mysql.sql(statement.format(lab=made.lab, rig=made.rig, other="car_other"))
    return made


def programs(small: Small, schema: str) -> set[str]:
    """The names of everything in a schema that is no table."""
    return {
        str(row[0])
        for view, name, owner in (
            ("VIEWS", "TABLE_NAME", "TABLE_SCHEMA"),
            ("TRIGGERS", "TRIGGER_NAME", "TRIGGER_SCHEMA"),
            ("ROUTINES", "ROUTINE_NAME", "ROUTINE_SCHEMA"),
            ("EVENTS", "EVENT_NAME", "EVENT_SCHEMA"),
        )
        for row in small.server.sql(
            f"SELECT {name} FROM information_schema.{view} WHERE {owner} = '{schema}'"
        )
    }


def tables(small: Small, schema: str) -> str | None:
    """How many tables the guide counts, without the one that a later sync needs."""
    return small.value(
        f"SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{schema}'"
        f" AND TABLE_NAME <> '{SYNC}'"
    )


def test_migrate_brings_everything_and_fires_nothing(small: Small) -> None:
    result = migrate(small.map, connection=small.server.url, **small.stores)
    assert result["match"], result["issues"]
    lab, rig = small.map[small.lab], small.map[small.rig]
    assert programs(small, lab) == {"heavy", "named", "one", "clean"}
    assert programs(small, rig) == {"signals"}
    assert set(result["notes"]) >= {
        "the trigger car_lab.outside is not carried over: it names car_other, which is not in "
        "schema_map",
        "the event car_lab.clean is carried over disabled; enable it at the cutover",
        "the view car_rig.signals may read car_rig._recording.signal, which is JSON in the copy",
    }
    assert small.value(f"SELECT COUNT(*) FROM `{rig}`.signals") == "6"
    assert (
        small.value("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA='car_lab_v20'")
        == "DISABLED"
    )
    fired = f"SELECT COUNT(*) FROM `{lab}`.session WHERE notes LIKE 'fired%'"
    assert small.value(fired) == "0"
    small.server.sql(f"INSERT INTO `{lab}`.session VALUES (1, '2030-01-01', 'x')")
    assert small.value(fired) == "1"
    assert tables(small, lab) == tables(small, small.lab)
    small.server.sql(f"DELETE FROM `{lab}`.session WHERE session_date = '2030-01-01'")
    again = migrate(small.map, connection=small.server.url, **small.stores)
    assert (again["match"], again["rows_copied"]) == (True, 0)


def test_the_guides_steps_bring_triggers_with_the_rows(small: Small) -> None:
    url = small.server.url
    for source, dest in small.map.items():
        create_parallel_schema(source, dest, schema_map=small.map, connection=url)
        create_parallel_schema(source, dest, schema_map=small.map, connection=url)
    lab = small.map[small.lab]
    assert tables(small, lab) == tables(small, small.lab)
    assert programs(small, lab) == {"heavy", "one", "clean"}
    for name in ("Species", "Mouse", "Session"):
        result = copy_table_data(small.lab, lab, name, connection=url)
        outside = [note for note in result["notes"] if "car_lab.outside" in note]
        assert len(outside) == (name == "Mouse")
    assert programs(small, lab) == {"heavy", "one", "clean", "named"}
    assert small.value(f"SELECT COUNT(*) FROM `{lab}`.session WHERE notes = 'a%'") == str(MICE)
    assert small.value(f"SELECT COUNT(*) FROM `{lab}`.heavy") == small.value(
        f"SELECT COUNT(*) FROM `{small.lab}`.heavy"
    )


def test_a_trigger_of_the_destination_is_not_fired_but_refused(small: Small) -> None:
    url, lab = small.server.url, small.map[small.lab]
    create_parallel_schema(small.lab, lab, connection=url)
    small.server.sql(
        f"CREATE TRIGGER `{lab}`.own BEFORE INSERT ON `{lab}`.mouse FOR EACH ROW SET NEW.weight = 0"
    )
    with pytest.raises(DestinationNotEmpty, match="trigger 'own'"):
        copy_all_data(small.lab, lab, connection=url)
    assert small.count(lab, "mouse") == 0


def test_a_view_that_is_not_productions_is_refused(small: Small) -> None:
    url, lab = small.server.url, small.map[small.lab]
    small.server.sql(f"CREATE DATABASE `{lab}`; CREATE VIEW `{lab}`.mine AS SELECT 1 AS one")
    with pytest.raises(DestinationNotEmpty, match="the view 'mine'"):
        create_parallel_schema(small.lab, lab, connection=url)
    with pytest.raises(DestinationNotEmpty, match="the view 'mine'"):
        migrate(small.map, connection=url, **small.stores)
