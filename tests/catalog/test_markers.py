"""Types in capitals: what 0.14.6 wrote as it was spelt is read whatever its spelling."""

from __future__ import annotations

from pathlib import Path

from configured import run
from conftest import Fresh
from datajoint_migrate import (
    analyze_blob_columns,
    analyze_columns,
    check_blobs,
    check_store_configuration,
    compare_schemas,
    migrate,
    verify_external_integrity,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from servers import Server

FILL = """
    import datajoint as dj, numpy as np, pathlib, sys, uuid
    class Graph(dj.AttributeAdapter):
        attribute_type = "BLOB@Raw"
        def put(self, value): return list(value)
        def get(self, value): return tuple(value)
    graph = Graph()
    schema = dj.schema("capital_lab")
    @schema
    class Base(dj.Manual):
        definition = '''
        who : UUID   # who : it is
        '''
    @schema
    class Mixed(dj.Manual):
        definition = '''
        -> Base
        day : DATE
        ---
        inner : LONGBLOB
        small = null : TinyBlob
        paper : Attach   # a note
        far : BLOB@Raw
        far_paper = null : ATTACH@Raw
        path = null : FilePath@Raw
        net : <graph>
        other = null : Uuid
        '''
    me = pathlib.Path("stage/sub/a b.txt"); me.parent.mkdir(parents=True); me.write_text("hello")
    one = uuid.UUID(int=5)
    Base.insert1((one,))
    me = str(me.absolute())
    Mixed.insert1(dict(who=one, day="2020-02-02", inner=np.arange(4), small={"a": 1}, paper=me,
        far=np.ones(5), far_paper=me, path=me, net=(1, 2), other=uuid.UUID(int=7)))
    print("null")
"""

READ = """
    import json, pathlib, uuid
    import datajoint as dj
    class Graph(dj.Codec):
        name = "graph"
        def get_dtype(self, is_store): return "<blob>"
        def encode(self, value, *, key=None, store_name=None): return list(value)
        def decode(self, stored, *, key=None): return tuple(stored)
    lab = dj.VirtualModule("lab", "capital_v20")
    row = lab.Mixed.to_dicts()[0]
    @dj.Schema("capital_v20")
    class Job(dj.Computed):
        definition = "-> lab.Mixed"
        def make(self, key): self.insert1(key)
    Job.populate(reserve_jobs=True)
    print(json.dumps({
        "who": row["who"] == uuid.UUID(int=5) and row["other"] == uuid.UUID(int=7),
        "inner": list(map(int, row["inner"])), "small": row["small"], "far": list(row["far"]),
        "paper": pathlib.Path(row["paper"]).read_text(),
        "far_paper": pathlib.Path(row["far_paper"]).read_text(),
        "path": bytes(row["path"].read()).decode(), "net": list(row["net"]), "jobs": len(Job()),
    }))
"""


def test_types_in_capitals_are_migrated_like_any_other(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "capital_lab", "capital_v20")
    run("0.14.6", FILL, tmp_path, mysql)
    store = {"protocol": "file", "location": str(tmp_path / "raw")}
    source = {"Raw": {**store, "stage": str(tmp_path / "stage")}}
    checked = check_blobs("capital_lab", connection=mysql.url)
    assert checked["ok"]
    by_column = {one["column"]: one["formats"] for one in checked["columns"]}
    assert by_column["paper"] == {"attach": 1}
    whole = verify_external_integrity(
        "capital_lab", source_stores=source, dest_stores={"Raw": store}, connection=mysql.url
    )
    assert (whole["missing"], whole["untracked"], whole["total_references"]) == ([], {}, 4)
    known = check_store_configuration(
        "capital_lab", source_stores=source, dest_stores={}, connection=mysql.url
    )
    assert [one["store"] for one in known["details"]] == ["Raw"]
    labels = analyze_columns("capital_lab", connection=mysql.url)
    wanted = {one["column"]: one["core_type"] for one in labels["needs_migration"]}
    assert wanted == {
        "inner": "<blob>",
        "small": "<blob>",
        "paper": "<attach>",
        "who": "uuid",
        "other": "uuid",
    }
    pointers = {one["column"] for one in labels["external_storage"]}
    assert pointers == {"far", "far_paper", "path", "net"}
    inner = analyze_blob_columns("capital_lab", connection=mysql.url)
    assert {one["column_name"]: one["needs_migration"] for one in inner} == {
        "inner": True,
        "small": True,
        "paper": True,
    }
    done = migrate(
        {"capital_lab": "capital_v20"},
        source_stores=source,
        dest_stores={"Raw": store},
        connection=mysql.url,
    )
    assert (done["match"], done["compatible"], done["issues"]) == (True, True, [])
    again = compare_schemas("capital_lab", "capital_v20", connection=mysql.url)
    assert again["match"]
    with resolve(mysql.url).session() as session:
        assert markers(session, "capital_v20", "mixed") == {
            "who": ":uuid:who : it is",
            "inner": ":<blob>:",
            "small": ":<blob>:",
            "paper": ":<attach>:a note",
            "far": ":<blob@Raw>:",
            "far_paper": ":<attach@Raw>:",
            "path": ":<filepath@Raw>:",
            "net": ":<graph@Raw>:",
            "other": ":uuid:",
        }
    assert run("2.3.5", READ, tmp_path, mysql) == {
        "who": True,
        "inner": [0, 1, 2, 3],
        "small": {"a": 1},
        "far": [1.0] * 5,
        "paper": "hello",
        "far_paper": "hello",
        "path": "hello",
        "net": [1, 2],
        "jobs": 1,
    }


def markers(session: Session, schema: str, table: str) -> dict[str, str]:
    """The comments of a table's columns that begin with a marker."""
    rows = session.query(
        "SELECT COLUMN_NAME, COLUMN_COMMENT FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND COLUMN_COMMENT LIKE ':%%'",
        (schema, table),
    )
    return {str(name): str(comment) for name, comment in rows}
