"""Blob columns that become object storage while their schemas are migrated: one pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import promoting
from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    StoreMissing,
    Unconvertible,
    compare_schemas,
    migrate,
    sync,
    verify_schema_v20,
)
from datajoint_migrate.console.cli import app
from datajoint_migrate.console.settings import Settings, write
from environments import python
from promoting import client, literal, packed, seen
from servers import Server
from small import DATA, MICE, Small, make

COLUMN = "session__trial"


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(server, *(f"way_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(server, "way", tmp_path / "store")


def options(small: Small) -> dict[str, Any]:
    promote = {f"{small.lab}.Session.Trial.data": "npy@raw"}
    return {"promote": promote, "connection": small.server.url, **small.stores}


def test_a_pipeline_is_promoted_while_it_is_migrated(small: Small) -> None:
    new = f"{small.lab}_v20"
    small.server.sql(
        f"UPDATE `{small.lab}`.{COLUMN} SET data = NULL WHERE mouse_id = 3;"
        f"UPDATE `{small.lab}`.{COLUMN} SET data = {literal(packed(7.0))} WHERE mouse_id = 4"
    )
    result = migrate(small.map, **options(small))
    assert result["match"], result["tables"]
    assert result["compatible"], result["issues"]
    # Attachments in stores of 0.14.6 are rewritten, and counted as ever.
    rewritten = sum(path.is_file() for path in (small.root / "_hash").rglob("*"))
    assert result["files_copied"] == MICE - 1 + rewritten
    column = small.server.sql(
        "SELECT DATA_TYPE, COLUMN_COMMENT FROM information_schema.COLUMNS WHERE TABLE_SCHEMA ="
        f" '{new}' AND TABLE_NAME = '{COLUMN}' AND COLUMN_NAME = 'data'"
    )
    assert str(column[0][1]).startswith(":<npy@raw>:")
    found = [
        None if js is None else json.loads(js)
        for (js,) in small.server.sql(f"SELECT data FROM `{new}`.{COLUMN} ORDER BY mouse_id")
    ]
    assert [one is None for one in found].count(True) == 1
    # Files lie below the name that the schema will have.
    assert found[0]["path"].startswith(f"_schema/{small.lab}/{COLUMN}/mouse_id=0/session_date=")
    assert len(list((small.root / "_schema").rglob("*.npy"))) == MICE - 1
    for version in ("2.3.5", "2.0.0"):
        said = client(
            python(version), small.server, new, small.dest_stores, "read", "Session.Trial"
        )
        values = [row[1]["data"] for row in said["rows"]]
        assert values[0] == seen((0.5, 1.5))
        assert values[3:5] == [["NoneType", "None"], seen((7.0,))]
    compared = compare_schemas(small.lab, new, connection=small.server.url)
    assert compared["match"], compared["tables"]
    assert verify_schema_v20(new, connection=small.server.url)["compatible"]
    again = migrate(small.map, **options(small))
    assert (again["match"], again["rows_copied"], again["files_copied"]) == (True, 0, 0)


def test_a_plan_names_the_columns_that_are_promoted(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, new = small.server, f"{small.lab}_v20"
    plan = tmp_path / "migration.toml"
    source = {"host": server.host, "port": server.port, "user": server.user}
    settings = Settings(source=source, **small.stores, promote=options(small)["promote"])
    write(plan, small.map, {}, settings)
    assert "[promote]" in plan.read_text()
    monkeypatch.setenv("DJ_PASS", server.password)
    done = CliRunner().invoke(app, ["run", str(plan), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["result"]["match"]
    found = server.sql(f"SELECT data FROM `{new}`.{COLUMN}")
    paths = {small.root / json.loads(str(js))["path"] for (js,) in found}
    assert paths == set((small.root / "_schema").rglob("*.npy"))
    assert len(paths) == MICE
    read = client(python("2.3.5"), server, new, small.dest_stores, "read", "Session.Trial")
    assert read["rows"][0][1]["data"] == seen((0.5, 1.5))
    compared = CliRunner().invoke(app, ["compare", "--config", str(plan), "--json"])
    assert compared.exit_code == 0, compared.output


def test_the_comparison_sees_an_array_that_is_not_the_blobs(small: Small) -> None:
    new = f"{small.lab}_v20"
    migrate(small.map, **options(small))
    small.server.sql(
        f"UPDATE `{small.lab}`.{COLUMN} SET data = {literal(packed(0.5, 2.5))} WHERE mouse_id = 5"
    )
    compared = compare_schemas(small.lab, new, connection=small.server.url)
    assert not compared["match"]
    (found,) = compared["tables"][COLUMN]["discrepancies"]
    assert found["key"]["mouse_id"] == "5"
    assert list(found["columns"]) == ["data"]
    # All that it says is of its own array, but for the file that it names.
    small.server.sql(
        f"UPDATE `{new}`.{COLUMN} SET data = JSON_SET(data, '$.path', 'another.npy')"
        " WHERE mouse_id = 6"
    )
    compared = compare_schemas(small.lab, new, connection=small.server.url)
    found = compared["tables"][COLUMN]["discrepancies"]
    assert [one["key"]["mouse_id"] for one in found] == ["5", "6"]


def test_a_value_that_cannot_be_promoted_stops_it_before_anything_is_made(small: Small) -> None:
    listed = literal(promoting.kinds()["list of ints"])
    small.server.sql(f"UPDATE `{small.lab}`.{COLUMN} SET data = {listed} WHERE mouse_id = 6")
    with pytest.raises(Unconvertible, match="1 × list") as caught:
        migrate(small.map, **options(small))
    (example,) = caught.value.context["examples"]
    assert example["key"]["mouse_id"] == "6"
    assert small.schemas_there() == {small.lab, small.rig}
    assert not (small.root / "_schema").exists()
    # As objects of their own kind all of them go.
    promote = {f"{small.lab}.{COLUMN}.data": "blob@raw"}
    result = migrate(small.map, **{**options(small), "promote": promote})
    assert (result["match"], result["compatible"]) == (True, True)
    said = client(
        python("2.3.5"),
        small.server,
        f"{small.lab}_v20",
        small.dest_stores,
        "read",
        "Session.Trial",
    )
    assert said["rows"][6][1]["data"] == ["list", "[1, 2]"]
    assert said["rows"][5][1]["data"] == seen((0.5, 1.5))


def test_a_sync_promotes_what_came_since(small: Small) -> None:
    new = f"{small.lab}_v20"
    migrate(small.map, **options(small))
    small.server.sql(
        f"UPDATE `{small.lab}`.{COLUMN} SET data = {literal(packed(8.0))} WHERE mouse_id = 2;"
        f"INSERT INTO `{small.lab}`.{COLUMN} VALUES (2, '2024-01-03', 2, {literal(packed(9.0))})"
    )
    done = sync(small.map, connection=small.server.url, **small.stores)
    assert (done["rows_inserted"], done["rows_updated"], done["match"]) == (1, 1, True)
    assert done["files_copied"] == 2
    said = client(python("2.3.5"), small.server, new, small.dest_stores, "read", "Session.Trial")
    values = [row[1]["data"] for row in said["rows"] if row[0]["mouse_id"] == "2"]
    assert values == [seen((8.0,)), seen((9.0,))]


def test_what_promote_names_wrongly_is_refused(small: Small) -> None:
    def refuse(name: str, to: str, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            migrate(small.map, **{**options(small), "promote": {name: to}})

    refuse("other.session.x", "npy@raw", InvalidArgument, "no column of the schemas")
    refuse(f"{small.lab}.data", "npy@raw", InvalidArgument, "no column of the schemas")
    refuse(f"{small.lab}.{COLUMN}.data", "npy", InvalidArgument, "no type")
    refuse(f"{small.lab}.{COLUMN}.data", "npy@nowhere", StoreMissing, "nowhere")
    refuse(f"{small.lab}.{COLUMN}.data", "attach@raw", Unconvertible, "does not become")
    refuse(f"{small.rig}.Recording.signal", "npy@raw", Unconvertible, "after the migration")
    assert small.schemas_there() == {small.lab, small.rig}
    assert DATA
