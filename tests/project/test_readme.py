"""What the README says is so: its table of functions, its limits, what the guide's lines do."""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import clients
import datajoint_migrate
import environments
from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    Unconvertible,
    analyze_columns,
    compare_query_results,
    compare_schemas,
    copy_all_data,
    copy_table_data,
    create_parallel_schema,
    migrate,
    migrate_columns,
    migrate_external_to_v20,
    rebuild_lineage,
    verify_schema_v20,
)
from places import PIPELINES
from printed import ENDS, PAGES
from servers import Server
from small import Small, make

PROGRAMS = PIPELINES / "readme"
CLIENT = "2.3.5"
RELEASES = ("2.3.5", "2.0.0")
TABLE = PAGES["reference/summary.md"]


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"readme_{name}{end}" for name in ("lab", "rig") for end in ENDS))
    return make(mysql, "readme", tmp_path / "store")


def run_by_client(release: str, server: Server, folder: Path, *words: str) -> str:
    """What a program printed that a 2.x client ran in `folder`."""
    account = {"DJ_USER": server.user, "DJ_PASS": server.password}
    done = clients.run(
        [str(environments.python(release)), "-W", "ignore", *words],
        cwd=folder,
        env={**os.environ, **account},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_results_have_the_keys_of_the_table(small: Small) -> None:
    server, lab, copy = small.server.url, small.lab, f"{small.lab}_v20"
    table = dict(re.findall(r"^\| `(\w+)\(.*?\|.*\| (`.*`) \|$", TABLE, re.MULTILINE))
    results = {
        "create_parallel_schema": create_parallel_schema(
            lab, f"{lab}_test", schema_map=small.map | {lab: f"{lab}_test"}, connection=server
        ),
        "copy_table_data": copy_table_data(lab, f"{lab}_test", "Species", connection=server),
        "copy_all_data": copy_all_data(
            lab, f"{lab}_test", tables=["Mouse", "Session"], connection=server
        ),
        "migrate": migrate(small.map, connection=server, **small.stores),
        "compare_query_results": compare_query_results(lab, copy, "Mouse", connection=server),
        "compare_schemas": compare_schemas(lab, copy, connection=server),
        "verify_schema_v20": verify_schema_v20(copy, connection=server),
        "rebuild_lineage": rebuild_lineage(copy, connection=server),
        "analyze_columns": analyze_columns(copy, connection=server),
        "migrate_columns": migrate_columns(copy, connection=server),
    }
    for name, result in results.items():
        assert set(re.findall(r"`(\w+)`", table[name])) == set(result), name


@pytest.mark.parametrize("release", RELEASES)
def test_the_guides_lines_fail_as_the_readme_says(
    mysql: Server, fresh: Fresh, tmp_path: Path, release: str
) -> None:
    raised = try_lines(release, mysql, fresh, tmp_path)
    said = {
        "dj.schema": "has no attribute 'schema'",
        "stores.default": "AttributeError: 'dict' object has no attribute 'default'",
        "stores.test_store": "AttributeError: 'dict' object has no attribute 'test_store'",
        "config.save": "AttributeError: 'Config' object has no attribute 'save'",
        "uint8": "Unsupported attribute type uint8",
        "uint16": "Unsupported attribute type uint16",
        "uint32": "Unsupported attribute type uint32",
        "<blob@>": "Storage '' is requested but not configured in stores",
        "<npy@>": "Storage '' is requested but not configured in stores",
        "migrate_external_to_v20": "ImportError",
        "copy_all_data": "ImportError",
    }
    for line, words in said.items():
        assert words in str(raised[line]), line
    assert re.search(r"1046|1146|doesn't exist|No database", str(raised["RENAME TABLE"]))
    assert raised["<blob@raw>"] is None
    assert set(raised) == {*said, "RENAME TABLE", "<blob@raw>"}


def test_2x_cannot_insert_into_stores_on_mariadb(
    mariadb: Server, fresh: Fresh, tmp_path: Path
) -> None:
    assert "TypeError" in str(try_lines(CLIENT, mariadb, fresh, tmp_path)["<blob@raw>"])


def try_lines(release: str, server: Server, fresh: Fresh, folder: Path) -> dict[str, str | None]:
    """What each line of `guide_lines.py` raises in a 2.x client."""
    fresh(server, "readme_guide")
    (folder / "store").mkdir()
    stores = {"default": "raw", "raw": {"protocol": "file", "location": str(folder / "store")}}
    configure(folder, server, stores)
    program = str(PROGRAMS / "guide_lines.py")
    # The client logs to standard output too.
    printed = run_by_client(release, server, folder, program, "readme_guide").splitlines()[-1]
    raised: dict[str, str | None] = json.loads(printed)
    return raised


def configure(folder: Path, server: Server, stores: dict[str, Any]) -> None:
    """Write the settings of a 2.x client that runs in `folder`."""
    database = {"host": server.host, "port": server.port, "use_tls": False}
    (folder / "datajoint.json").write_text(json.dumps({"database": database, "stores": stores}))


@pytest.mark.parametrize("release", RELEASES)
def test_no_collector_takes_written_objects_for_orphans(
    small: Small, tmp_path: Path, release: str
) -> None:
    store = tmp_path / "new"
    store.mkdir()
    stores = {"raw": {"protocol": "file", "location": str(store)}}
    migrate(
        small.map,
        source_stores=small.source_stores,
        dest_stores=stores,
        copy_files=True,
        connection=small.server.url,
    )
    objects = sorted(store.rglob("*.blob"))
    assert objects
    collect(release, small, tmp_path, stores)
    assert sorted(store.rglob("*.blob")) == objects


def test_the_collector_of_2_0_0_takes_production_for_orphans(small: Small, tmp_path: Path) -> None:
    migrate(small.map, connection=small.server.url, **small.stores)
    assert all(path.exists() for path in small.objects.values())
    collect("2.0.0", small, tmp_path, small.dest_stores)
    assert not all(path.exists() for path in small.objects.values())


def collect(release: str, small: Small, folder: Path, stores: dict[str, Any]) -> None:
    """Run a client's garbage collector for the migrated schemas on the store `raw`."""
    configure(folder, small.server, stores)
    program = str(PROGRAMS / "collect.py")
    run_by_client(release, small.server, folder, program, *small.map.values())


def test_of_stores_of_plugins_only_pointers_are_migrated(small: Small) -> None:
    lakefs = {"protocol": "lakefs", "location": "raw"}
    stores = {"source_stores": {"raw": lakefs}, "dest_stores": {"raw": lakefs}}
    server, copy = small.server.url, f"{small.rig}_v20"
    with pytest.raises(InvalidArgument, match="lakefs store 'raw'"):
        migrate(small.map, connection=server, **stores)
    for source, dest in small.map.items():
        create_parallel_schema(source, dest, True, schema_map=small.map, connection=server)
    for column in ("signal", "movie"):
        made = migrate_external_to_v20(
            copy, "Recording", column, "raw", "raw", connection=server, **stores
        )
        assert made["rows_migrated"] > 0
    with pytest.raises(Unconvertible, match="written anew"):
        migrate_external_to_v20(
            copy, "Recording", "paper", "raw", "raw", connection=server, **stores
        )


def test_a_copy_is_not_brought_up_to_date(small: Small) -> None:
    options = {"connection": small.server.url, **small.stores}
    assert migrate(small.map, **options)["match"]
    small.server.sql(f"INSERT INTO `{small.lab}`.mouse VALUES (999, 'rat', 1, NULL)")
    compared = compare_schemas(small.lab, f"{small.lab}_v20", connection=small.server.url)
    assert [row["kind"] for row in compared["tables"]["mouse"]["discrepancies"]] == ["missing"]
    with pytest.raises(DestinationNotEmpty, match="mouse"):
        migrate(small.map, **options)


def test_views_and_triggers_are_part_of_the_plan(small: Small) -> None:
    small.server.sql(
        f"CREATE VIEW `{small.lab}`.heavy AS SELECT * FROM `{small.lab}`.mouse;"
        f"CREATE TRIGGER `{small.lab}`.tidy BEFORE INSERT ON `{small.lab}`.mouse"
        " FOR EACH ROW SET NEW.weight = 1"
    )
    planned = migrate(small.map, connection=small.server.url, dry_run=True, **small.stores)
    lines = " ".join(planned["plan"])
    assert "heavy" in lines
    assert "tidy" in lines


def test_a_dump_is_no_bit_exact_backup(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "readme_float")
    mysql.sql("CREATE DATABASE readme_float; CREATE TABLE readme_float.t (f float)")
    mysql.sql("INSERT INTO readme_float.t VALUES (0.123456789)")
    stored = "SELECT f * 1e0 FROM readme_float.t"
    before = mysql.sql(stored)
    dump = mysql.client("readme_float", program="mysqldump")
    mysql.client("readme_float", text=dump)
    assert mysql.sql(stored) != before


def test_every_public_function_is_in_the_table() -> None:
    for name in datajoint_migrate.__all__:
        if inspect.isfunction(getattr(datajoint_migrate, name)):
            assert f"| `{name}(" in TABLE, name
