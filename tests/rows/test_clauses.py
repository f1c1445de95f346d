"""A caller's condition sees its table's own columns, and is held against them first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import small as pipelines
from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    copy_sample,
    copy_table_data,
    create_parallel_schema,
    scan,
)
from servers import Server
from small import Small

# Names that tracking tables have, too.
SHARED = ("size", "timestamp", "hash", "filepath", "attachment_name", "contents_hash")


@pytest.fixture
def rig(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(server, "cla_lab_v20", "cla_rig_v20", "cla_rig", "cla_lab")
    pipeline = pipelines.make(server, "cla", tmp_path / "store")
    columns = ", ".join(f"ADD COLUMN `{name}` varchar(40) DEFAULT NULL" for name in SHARED)
    values = ", ".join(f"`{name}` = CONCAT(recording_id, '?')" for name in SHARED)
    server.sql(
        f"ALTER TABLE `{pipeline.rig}`._recording {columns};"
        f"UPDATE `{pipeline.rig}`._recording SET {values}"
    )
    return pipeline


def parallel(pipeline: Small) -> dict[str, Any]:
    url = pipeline.server.url
    for old, new in pipeline.map.items():
        create_parallel_schema(
            old, new, schema_map=pipeline.map, external="convert", connection=url
        )
    for table in ("#species", "mouse"):
        copy_table_data(pipeline.lab, pipeline.map[pipeline.lab], table, connection=url)
    return {"connection": url, **pipeline.stores}


@pytest.mark.parametrize("name", ["size", "hash"])
def test_a_column_that_a_tracking_table_has_too_is_the_table_s_own(name: str, rig: Small) -> None:
    options = parallel(rig)
    clause = f"{name} = '3?' OR s.{name} = '1?' -- it's"
    for call in ({"where_clause": clause}, {"where_clause": clause, "closure": True}):
        new = rig.map[rig.rig]
        rig.server.sql(f"DELETE FROM `{new}`._recording")
        done = copy_table_data(rig.rig, new, "Recording", **call, **options)
        assert done["rows_copied"] == 2
        assert rig.server.sql(
            f"SELECT recording_id, `{name}`, JSON_VALID(`signal`) FROM `{new}`._recording"
            " ORDER BY recording_id"
        ) == [("1", "1?", "1"), ("3", "3?", "1")]


def test_a_limit_and_a_condition_on_a_shared_name_go_together(rig: Small) -> None:
    options = parallel(rig)
    new = rig.map[rig.rig]
    copy_table_data(rig.rig, new, "Recording", 2, "size > '1?'", **options)
    rows = rig.server.sql(f"SELECT recording_id FROM `{new}`._recording ORDER BY 1")
    assert rows == [("2",), ("3",)]


@pytest.mark.parametrize(
    ("clause", "said", "hint"),
    [
        ("mouse_di = 1", "mouse_di", "did you mean 'mouse_id'?"),
        ("mouse_id = ?", "syntax", "the columns of"),
        ("mouse_id = 1)", "syntax", "the columns of"),
        ("mouse_id ==== 1", "syntax", "the columns of"),
        ("e0.size = 1", "e0.size", ""),
        ("COUNT(*) > 1", "group function", ""),
    ],
)
def test_a_condition_that_is_none_is_refused_with_its_text_and_a_way_out(
    clause: str, said: str, hint: str, rig: Small
) -> None:
    options = parallel(rig)
    url = options["connection"]
    old, new = rig.rig, rig.map[rig.rig]
    calls: list[Any] = [
        lambda: copy_table_data(old, new, "Recording", where_clause=clause, **options),
        lambda: copy_table_data(
            old, new, "Recording", where_clause=clause, closure=True, **options
        ),
        lambda: scan(old, "Recording", where_clause=clause, connection=url),
        lambda: copy_sample(schema_map=rig.map, restrictions={"Recording": clause}, **options),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument) as refused:
            call()
        assert repr(clause) in refused.value.message
        assert said in refused.value.message
        assert hint in str(refused.value.hint)
    assert rig.count(new, "_recording") == 0


def test_question_marks_in_texts_and_comments_are_characters(rig: Small) -> None:
    clause = "size = '2?' /* why? */ OR `timestamp` LIKE '%4?'"
    stream = scan(rig.rig, "Recording", ["recording_id"], clause, connection=rig.server.url)
    table = pa.RecordBatchReader.from_stream(stream).read_all()
    assert table["recording_id"].to_pylist() == [2, 4]


@pytest.mark.parametrize("nothing", [None, "", "  ", {}, {"where": None}, {"where": " "}])
def test_a_restriction_that_says_nothing_is_refused_and_copies_nothing(
    nothing: Any, rig: Small
) -> None:
    with pytest.raises(InvalidArgument, match="restriction of 'Recording'"):
        copy_sample(
            schema_map=rig.map, restrictions={"Recording": nothing}, connection=rig.server.url
        )
    assert rig.map[rig.rig] not in rig.schemas_there()


def test_a_restriction_that_says_nothing_takes_the_call_s_limit(rig: Small) -> None:
    done = copy_sample(
        schema_map=rig.map,
        restrictions={"Recording": None},
        limit=2,
        connection=rig.server.url,
        **rig.stores,
    )
    assert done["tables"][f"{rig.rig}._recording"] == 2
