"""Samples: chosen rows with everything they refer to, on real servers, read by the real client."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from datajoint_migrate import InvalidArgument, copy_sample, copy_table_data, create_parallel_schema
from servers import Server
from small import Small, make

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    made = Small(mysql, "part", tmp_path)
    fresh(mysql, *made.map, *made.map.values())
    return make(mysql, "part", tmp_path)


def test_a_row_brings_its_parents_and_a_master_its_parts(small: Small) -> None:
    result = copy_sample(
        schema_map=small.map,
        restrictions={"Session": "mouse_id IN (3, 5) -- odd ones"},
        connection=small.server.url,
        **small.stores,
    )
    lab = small.lab
    assert {name: rows for name, rows in result["tables"].items() if rows} == {
        f"{lab}.#species": 1,
        f"{lab}.mouse": 2,
        f"{lab}.session": 2,
        f"{lab}.session__trial": 2,
    }
    assert result["rows_copied"] == 7
    assert result["files_copied"] == 0


def test_a_part_brings_its_master_and_a_second_sample_adds_only_what_is_missing(
    small: Small,
) -> None:
    def take(where: str, **options: bool) -> dict[str, int]:
        result = copy_sample(
            schema_map=small.map,
            restrictions={"Session.Trial": where},
            connection=small.server.url,
            **small.stores,
            **options,
        )
        return {name.split(".")[1]: rows for name, rows in result["tables"].items()}

    assert take("mouse_id < 2") == {"#species": 1, "mouse": 2, "session": 2, "session__trial": 2}
    wanted = {"#species": 0, "mouse": 1, "session": 1, "session__trial": 1}
    assert take("mouse_id < 3", dry_run=True) == wanted
    assert take("mouse_id < 3") == wanted
    assert set(take("mouse_id < 3").values()) == {0}
    assert small.count(small.map[small.lab], "session__trial") == 3


def test_only_the_files_of_the_sample_are_copied(small: Small, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    result = copy_sample(
        schema_map=small.map,
        restrictions={"Recording": 2},
        connection=small.server.url,
        source_stores=small.source_stores,
        dest_stores={"raw": {"protocol": "file", "location": str(other)}},
        copy_files=True,
    )
    # Recording 1 has a signal alone; recording 2 has a signal, a paper and a movie.
    assert result["files_copied"] == 4
    assert len([path for path in other.rglob("*") if path.is_file()]) == 4
    paths = small.server.sql(
        f"SELECT JSON_UNQUOTE(`signal` ->> '$.path') FROM `{small.map[small.rig]}`._recording"
    )
    assert all((other / str(row[0])).is_file() for row in paths)


def test_a_closed_table_finds_the_copies_of_its_parents_by_itself(small: Small) -> None:
    for source, dest in small.map.items():
        create_parallel_schema(source, dest, schema_map=small.map, connection=small.server.url)
    common = {"connection": small.server.url, **small.stores}
    copy_table_data(small.lab, small.map[small.lab], "Species", **common)
    result = copy_table_data(
        small.rig, small.map[small.rig], "Recording", limit=3, closure=True, **common
    )
    assert result["rows_copied"] == 3
    assert result["tables"] == {
        f"{small.lab}.#species": 0,
        f"{small.lab}.mouse": 3,
        f"{small.rig}._recording": 3,
    }


def test_children_come_along_on_request(small: Small) -> None:
    result = copy_sample(
        schema_map=small.map,
        restrictions={"Mouse": "mouse_id = 4"},
        children=True,
        connection=small.server.url,
        **small.stores,
    )
    assert {name: rows for name, rows in result["tables"].items() if rows} == {
        f"{small.lab}.#species": 1,
        f"{small.lab}.mouse": 1,
        f"{small.lab}.session": 1,
        f"{small.lab}.session__trial": 1,
        f"{small.rig}._recording": 1,
    }


@pytest.mark.parametrize(
    "restrictions",
    [None, {"Mouse": -1}, {"Mouse": True}, {"Mouse": {"were": "x"}}, {"~log": 1}],
    ids=["nothing", "negative", "a bool", "a wrong word", "a hidden table"],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    small: Small, restrictions: dict[str, object] | None
) -> None:
    with pytest.raises(InvalidArgument):
        copy_sample(schema_map=small.map, restrictions=restrictions, connection=small.server.url)
    assert not set(small.map.values()) & small.schemas_there()
