"""populate_v2_columns: 0.14.6 works on a table while 2.x reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import inplace_pipeline
from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    NotFound,
    Unconvertible,
    populate_v2_columns,
    rebuild_lineage,
)
from inplace_pipeline import EXTERNAL, Pipeline
from servers import Server
from small import RECORDINGS, Small, make

SCHEMA = "gradual_lab"
WORK = {"fetch", "fetch1", "virtual", "insert", "update", "free table", "populate", "delete"}


@pytest.fixture
def pipeline(mysql: Server, fresh: Fresh, tmp_path: Path) -> Pipeline:
    fresh(mysql, SCHEMA)
    return inplace_pipeline.make(mysql, SCHEMA, tmp_path)


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, "gra_rig", "gra_lab")
    return make(mysql, "gra", tmp_path / "store")


def populate(pipeline: Pipeline) -> int:
    """All external columns, the guide's call."""
    rows = 0
    for attribute in sorted(EXTERNAL):
        result = populate_v2_columns(
            schema=SCHEMA,
            table="Scan",
            attribute=attribute,
            v2_attribute=f"{attribute}_v2",
            source_store="external-raw",
            dest_store="raw",
            connection=pipeline.server.url,
            **pipeline.stores,
        )
        rows += result["rows"]
    return rows


def parts(pipeline: Pipeline, version: str) -> dict[str, Any]:
    """What 2.x reads of the part, under the names of the columns it stands for."""
    rows = pipeline.client(version, "parts")
    return {
        key: {name.removesuffix("_v2"): value for name, value in row.items()}
        for key, row in rows.items()
    }


def test_both_clients_use_one_table_at_the_same_time(pipeline: Pipeline) -> None:
    assert populate(pipeline) == 13
    rebuild_lineage(SCHEMA, dry_run=False, connection=pipeline.server.url)

    wanted = {key: {c: row[c] for c in EXTERNAL} for key, row in pipeline.fetched.items()}
    assert parts(pipeline, "2.3.5") == wanted
    assert parts(pipeline, "2.0.0") == wanted
    assert pipeline.client("0.14.6", "work") == dict.fromkeys(WORK, "ok")

    # Mouse 4 is gone, 3.2 is new, the movie of 2.1 another.
    now = pipeline.client("0.14.6", "fetch")
    assert set(parts(pipeline, "2.3.5")) == set(now) - {"3.2"}
    assert populate(pipeline) == 3 + 1
    assert parts(pipeline, "2.3.5") == {
        key: {c: row[c] for c in EXTERNAL} for key, row in now.items()
    }
    assert parts(pipeline, "2.3.5")["2.1"]["movie"] == [7]
    assert populate(pipeline) == 0


def test_a_marked_column_in_the_table_itself_is_filled_and_its_price_told(
    pipeline: Pipeline,
) -> None:
    pipeline.server.sql(
        f"ALTER TABLE `{SCHEMA}`.scan ADD COLUMN movie_v2 JSON COMMENT ':<blob@raw>:film'"
    )
    result = populate_v2_columns(
        SCHEMA, "scan", "movie", "movie_v2", "external-raw", "raw",
        connection=pipeline.server.url, **pipeline.stores,
    )  # fmt: skip
    assert (result["rows"], result["table"]) == (5, f"{SCHEMA}.scan")
    assert "deletes by 0.14.6" in result["notes"][0]
    read = pipeline.client("2.3.5", "fetch")
    assert {k: r["movie_v2"] for k, r in read.items()} == {
        k: r["movie"] for k, r in pipeline.fetched.items()
    }
    said = pipeline.client("0.14.6", "work")
    assert {name for name in WORK if said[name] != "ok"} == {
        "delete", "free table", "populate",
    }  # fmt: skip
    assert "Declaration context is not set" in said["delete"]


def call(small: Small, **options: Any) -> dict[str, Any]:
    words = {"schema": small.rig, "table": "Recording", "attribute": "signal", **options}
    return populate_v2_columns(**words, connection=small.server.url, **small.stores)


def test_a_dry_run_shows_the_part_and_makes_none(small: Small) -> None:
    result = call(small, dry_run=True)
    assert f"CREATE TABLE `{small.rig}`.`_recording__v2`" in result["sql"][0]
    assert "AUTO_INCREMENT" not in result["sql"][0]
    assert not small.server.sql(f"SHOW TABLES FROM `{small.rig}` LIKE '%v2'")


def test_an_interrupted_call_is_done_by_the_same_call(small: Small) -> None:
    (create,) = call(small, dry_run=True)["sql"]
    small.server.sql(f"{create}; CREATE TABLE `{small.rig}`.`~migrate_pointers` (hash binary(16))")
    assert call(small)["rows"] == RECORDINGS
    assert not small.server.sql(f"SHOW TABLES FROM `{small.rig}` LIKE '~migrate%'")


def test_what_cannot_be_is_refused_by_name(small: Small) -> None:
    with pytest.raises(NotFound, match="'signal'"):
        call(small, attribute="signall")
    with pytest.raises(Unconvertible, match="rate is no external column"):
        call(small, attribute="rate")
    with pytest.raises(NotFound, match="tracked store"):
        call(small, source_store="raww")
    with pytest.raises(DestinationNotEmpty, match="rate is there already"):
        call(small, v2_attribute="rate")
    small.server.sql(f"CREATE TABLE `{small.rig}`._recording__v2 (id int PRIMARY KEY)")
    with pytest.raises(DestinationNotEmpty, match="no part of"):
        call(small)


def test_a_store_the_column_does_not_point_into_is_refused(small: Small) -> None:
    small.server.sql(
        f"CREATE TABLE `{small.rig}`.`~external_arc` LIKE `{small.rig}`.`~external_raw`"
    )
    with pytest.raises(InvalidArgument, match="points into the store 'raw'"):
        call(small, source_store="arc")
