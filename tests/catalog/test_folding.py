"""Servers that keep names in small letters, and users who write their schemas in capitals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import servers
from configured import run
from datajoint_migrate import (
    InvalidArgument,
    backup_schema,
    check_backup,
    check_store_configuration,
    compare_schemas,
    cutover,
    inspect_schemas,
    migrate,
    rebuild_lineage,
    rollback,
    sync,
    verify_external_integrity,
    verify_schema_v20,
)
from datajoint_migrate.call.marks import marks
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.tables import read_schemas
from datajoint_migrate.rows.keys import referring
from datajoint_migrate.verbs.cutover import changes
from server_programs import initialise_mysql
from servers import Server

MAP = {"Lab_One": "Lab_One_v20", "LAB_two": "LAB_two_v20"}
FOLDS = "--lower-case-table-names=1"


@pytest.fixture(scope="module", params=["mysql", "mariadb"])
def folding(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that keeps names in small letters, and a log of what is written."""
    template = None
    if request.param == "mysql":
        # MySQL takes the option only with a data folder that was made with it.
        template = tmp_path_factory.mktemp("folding") / "data"
        initialise_mysql(template, FOLDS)
    logs = ["--log-bin=log", "--binlog-format=ROW", "--server-id=7"]
    server = servers.start(request.param, arguments=[FOLDS, *logs], template=template)
    yield server
    server.stop()


FILL = """
    import datajoint as dj, numpy as np, pathlib
    one, two = dj.schema("Lab_One"), dj.schema("LAB_two")
    @one
    class Mouse(dj.Manual):
        definition = '''
        mouse : int
        ---
        far : blob@Raw
        '''
    @one
    class Weight(dj.Imported):
        definition = '''
        -> Mouse
        ---
        grams : float
        '''
    @two
    class Session(dj.Manual):
        definition = '''
        -> Mouse
        session : int
        ---
        paper : attach@Raw
        path : filepath@Raw
        -> [nullable] Mouse.proj(other='mouse')
        '''
    me = pathlib.Path("stage/a.txt"); me.write_text("hello"); me = str(me.absolute())
    for n in range(3):
        Mouse.insert1((n, np.arange(n + 2)))
        Session.insert1(dict(mouse=n, session=1, paper=me, path=me, other=0))
    print("null")
"""

READ = """
    import json, pathlib, datajoint as dj
    one, two = dj.VirtualModule("one", "ONE"), dj.VirtualModule("two", "TWO")
    rows = (one.Mouse * two.Session).to_dicts()
    new = dj.Schema("TWO")
    @new
    class Note(dj.Manual):
        definition = "-> two.Session\\nn : int"
    Note.insert1(dict(mouse=1, session=1, n=1))
    print(json.dumps([[row["mouse"], len(row["far"]), pathlib.Path(row["paper"]).read_text(),
        bytes(row["path"].read()).decode(), len(Note * one.Mouse)] for row in rows]))
"""


OLD = """
    import json, datajoint as dj
    one = dj.create_virtual_module("one", "Lab_One")
    two = dj.create_virtual_module("two", "LAB_two")
    far = sorted(len(x) for x in one.Mouse.fetch("far"))
    print(json.dumps([far, list(two.Session.fetch("paper"))]))
"""


def test_schemas_in_capitals_are_migrated_with_the_files_where_the_client_put_them(
    folding: Server, tmp_path: Path
) -> None:
    url = folding.url
    run("0.14.6", FILL, tmp_path, folding)
    assert (tmp_path / "raw" / "Lab_One").is_dir()
    store = {"protocol": "file", "location": str(tmp_path / "raw")}
    source = {"Raw": {**store, "stage": str(tmp_path / "stage")}}
    both = {"source_stores": source, "dest_stores": {"Raw": store}, "connection": url}
    for name, count in (("Lab_One", 3), ("LAB_two", 2)):
        whole = verify_external_integrity(name, **both)
        assert (whole["missing"], whole["untracked"]) == ([], {})
        assert whole["total_references"] == count
        known = check_store_configuration(name, **both)
        assert [one["store"] for one in known["details"]] == ["Raw"]
    seen = inspect_schemas(list(MAP), source_stores=source, connection=url)
    assert [one["obstacles"] for one in seen["schemas"]] == [[], []]
    assert seen["groups"] == [["Lab_One", "LAB_two"]]
    done = migrate(MAP, **both)
    assert (done["match"], done["compatible"], done["issues"]) == (True, True, [])
    again = migrate(MAP, **both)
    assert (again["match"], again["rows_copied"], again["tables_created"]) == (True, 0, 0)
    for name, copy in MAP.items():
        compared = compare_schemas(name, copy, connection=url)
        assert (compared["match"], compared["structure"]) == (True, [])
        for spelling in (copy, copy.lower(), copy.upper()):
            assert verify_schema_v20(spelling, connection=url)["issues"] == []
    program = READ.replace("ONE", "Lab_One_v20").replace("TWO", "LAB_two_v20")
    expected = [[n, n + 2, "hello", "hello", 1] for n in range(3)]
    assert run("2.3.5", program, tmp_path, folding) == expected
    folding.sql(
        "DROP TABLE lab_two_v20.note; DELETE FROM lab_two_v20.`~lineage` WHERE table_name='note'"
    )
    rebuild_lineage(list(MAP.values()), dry_run=False, connection=url)
    archive = tmp_path / "archive"
    backup_schema("Lab_One", str(archive), connection=url)
    assert check_backup(str(archive))["ok"]
    for name in MAP:
        backup_schema(name, str(tmp_path / name), connection=url)
    archived = {name: str(tmp_path / name) for name in MAP}
    done = cutover(MAP, backups=archived, execute=True, connection=url)
    assert done["executed"], done
    program = READ.replace("ONE", "Lab_One").replace("TWO", "LAB_two")
    assert run("2.3.5", program, tmp_path, folding) == expected
    folding.sql("DROP TABLE lab_two.note; DELETE FROM lab_two.`~lineage` WHERE table_name='note'")
    for name in MAP:
        assert verify_schema_v20(name, connection=url)["issues"] == []
    assert rollback(MAP, execute=True, connection=url)["executed"]
    assert run("0.14.6", OLD, tmp_path, folding) == [[2, 3, 4], ["a.txt"] * 3]
    with pytest.raises(InvalidArgument, match="another case"):
        migrate({"lab_one": "LAB_ONE"}, **both)


CHANGE = """
    import datajoint as dj, numpy as np
    one = dj.create_virtual_module("one", "Far_One")
    one.Mouse.insert1((NEW, np.arange(NEW)))
    (one.Mouse & {"mouse": NEW - 7}).delete_quick()
    print("null")
"""
FAR = {"Far_One": "Far_One_v20", "FAR_two": "FAR_two_v20"}


def test_what_is_written_to_schemas_in_capitals_is_seen_in_the_log_which_has_small_letters(
    folding: Server, tmp_path: Path
) -> None:
    fill = FILL.replace("Lab_One", "Far_One").replace("LAB_two", "FAR_two")
    run("0.14.6", fill, tmp_path, folding)
    store = {"protocol": "file", "location": str(tmp_path / "raw")}
    source = {"Raw": {**store, "stage": str(tmp_path / "stage")}}
    both = {"source_stores": source, "dest_stores": {"Raw": store}, "connection": folding.url}
    assert migrate(FAR, **both)["match"]
    # Before that the log has what made the copy, and is not asked.
    assert sync(FAR, **both)["match"]
    folding.sql("DELETE FROM far_two.session WHERE mouse < 3")
    for new in (8, 9):
        run("0.14.6", CHANGE.replace("NEW", str(new)), tmp_path, folding)
    done = sync(FAR, **both, by="log")
    assert done["tables"]["Far_One.mouse"]["how"] == "log", done["tables"]
    assert (done["rows_inserted"], done["rows_deleted"]) == (2, 5)
    there = folding.sql("SELECT mouse FROM far_one_v20.mouse ORDER BY mouse")
    assert [int(row[0]) for row in there] == [0, 8, 9]
    # And so is what somebody else wrote to the copy.
    folding.sql("INSERT INTO far_one_v20._weight VALUES (9, 1.5)")
    done = sync(FAR, **both, by="log")
    assert [one["key"] for one in done["conflicts"]] == [{"mouse": "9"}], done
    # Under the locks of a cutover, too, tables are known by the names that they were asked for by.
    with resolve(folding.url).session() as session:
        for seen in (changes.look(session, FAR), marks(session, FAR)):
            assert {schema for schema, table in seen if table == "mouse"} == {"Far_One"}
        session.spell(FAR)
        refers = referring(session, ["Far_One"])["Far_One", "mouse"]
    assert {key["schema"] for key in refers} == {"Far_One", "FAR_two"}


def test_a_schema_that_differs_by_an_accent_is_another_one(folding: Server) -> None:
    folding.sql(
        "CREATE DATABASE `cote`; CREATE TABLE `cote`.one (a INT PRIMARY KEY);"
        "CREATE DATABASE `côte`; CREATE TABLE `côte`.other (a INT PRIMARY KEY)"
    )
    with resolve(folding.url).session() as session:
        assert set(marks(session, ["Cote"])) == {("Cote", "one")}
        assert set(changes.look(session, ["cote"])) == {("cote", "one")}
        assert set(read_schemas(session, ["cote"])["cote"].tables) == {"one"}
