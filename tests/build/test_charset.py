"""Text of other character sets becomes utf8mb4, or is refused before anything is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
import servers
from conftest import Fresh, drop
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    Unconvertible,
    compare_schemas,
    copy_all_data,
    create_parallel_schema,
    migrate,
)
from datajoint_migrate.catalog.names import SYNC
from old_text import MICE, Old, make
from servers import Server


@pytest.fixture(
    params=["latin1/latin1_swedish_ci", "latin1/latin1_bin", "utf8mb3/utf8mb3_general_ci"]
)
def old(request: pytest.FixtureRequest, mysql: Server, fresh: Fresh) -> Old:
    fresh(mysql, "cs_lab", "cs_rig", "cs_lab_v20", "cs_rig_v20")
    return make(mysql, "cs", *request.param.split("/"))


@pytest.fixture
def latin(mysql: Server, fresh: Fresh) -> Old:
    fresh(mysql, "cs_lab", "cs_rig", "cs_lab_v20", "cs_rig_v20")
    return make(mysql, "cs", "latin1", "latin1_swedish_ci")


def texts(server: Server, schema: str) -> dict[str, tuple[str | None, ...]]:
    """Character set and collation of every text column."""
    rows = server.sql(
        "SELECT CONCAT(TABLE_NAME, '.', COLUMN_NAME), CHARACTER_SET_NAME, COLLATION_NAME"
        f" FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{schema}'"
        f" AND CHARACTER_SET_NAME IS NOT NULL AND TABLE_NAME <> '{SYNC}'"
    )
    return {str(row[0]): row[1:] for row in rows}


def test_a_schema_in_an_old_charset_arrives_in_utf8mb4_with_every_value_equal(old: Old) -> None:
    result = migrate(old.map, charset="utf8mb4", connection=old.server.url)
    assert result["match"], result["issues"]
    assert result["compatible"], result["issues"]
    assert result["rows_copied"] == 3 + 2 * MICE
    for copy in old.map.values():
        found = texts(old.server, copy)
        kept = found.pop("mouse.exact", None)
        assert kept in (None, ("utf8mb4", "utf8mb4_unicode_ci"))
        assert set(found.values()) == {("utf8mb4", "utf8mb4_bin")}
        assert old.server.sql(
            "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME"
            f" FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{copy}'"
        ) == [("utf8mb4", "utf8mb4_bin")]
    for schema, copy in old.map.items():
        for table in ("`#species`", "mouse") if schema == old.lab else ("session",):
            columns = (
                "species, mouse, HEX(CONVERT(mouse USING utf8mb4))"
                if table != "`#species`"
                else "species, HEX(CONVERT(code USING utf8mb4))"
            )
            if table == "mouse":
                columns += ", sex, sex+0, marks, notes, exact, HEX(raw), HEX(scan), shout"
            both = [
                sorted(old.server.sql(f"SELECT {columns} FROM `{name}`.{table}"))
                for name in (schema, copy)
            ]
            assert both[0] == both[1]
    assert migrate(old.map, charset="utf8mb4", connection=old.server.url)["rows_copied"] == 0


def test_defaults_comments_members_and_indexes_come_along(old: Old) -> None:
    query = (
        "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COLUMN_DEFAULT, IS_NULLABLE, COLUMN_COMMENT,"
        " EXTRA FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{}' AND COLUMN_NAME <> 'scan'"
        " AND TABLE_NAME NOT LIKE '~%' ORDER BY 1, 2"
    )
    indexes = (
        "SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART, NON_UNIQUE FROM"
        " information_schema.STATISTICS WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME NOT LIKE '~%'"
        " ORDER BY 1, 2, SEQ_IN_INDEX"
    )
    create_parallel_schema(old.lab, old.map[old.lab], charset="utf8mb4", connection=old.server.url)
    for sql in (query, indexes):
        assert old.server.sql(sql.format(old.lab)) == old.server.sql(sql.format(old.map[old.lab]))


def test_without_being_asked_the_charset_stays(latin: Old) -> None:
    create_parallel_schema(latin.lab, latin.map[latin.lab], connection=latin.server.url)
    here, there = texts(latin.server, latin.lab), texts(latin.server, latin.map[latin.lab])
    assert {name: there[name] for name in here if not name.startswith("~")} == {
        name: value for name, value in here.items() if not name.startswith("~")
    }
    assert here["mouse.mouse"] == ("latin1", "latin1_swedish_ci")


def test_copy_all_data_makes_a_utf8mb4_schema_when_asked(latin: Old) -> None:
    copied = copy_all_data(
        latin.lab, latin.map[latin.lab], charset="utf8mb4", connection=latin.server.url
    )
    assert copied["rows_copied"] == 3 + MICE
    assert texts(latin.server, latin.map[latin.lab])["mouse.notes"][0] == "utf8mb4"
    compared = compare_schemas(latin.lab, latin.map[latin.lab], connection=latin.server.url)
    assert compared["match"]


@pytest.mark.parametrize("how", ["migrate", "create", "copy"])
def test_an_unknown_charset_is_refused(latin: Old, how: str) -> None:
    with pytest.raises(InvalidArgument, match="charset"):
        _convert(latin, how, "utf16")


def _convert(old: Old, how: str, charset: str = "utf8mb4", dry_run: bool = False) -> None:
    options = {"charset": charset, "connection": old.server.url, "dry_run": dry_run}
    if how == "migrate":
        migrate(old.map, **options)  # type: ignore[arg-type]
    elif how == "create":
        create_parallel_schema(old.rig, old.map[old.rig], schema_map=old.map, **options)  # type: ignore[arg-type]
    else:
        copy_all_data(old.rig, old.map[old.rig], schema_map=old.map, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["migrate", "create", "copy"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_key_that_stops_matching_is_named_before_anything_is_written(
    latin: Old, how: str, dry_run: bool
) -> None:
    latin.sql(
        "INSERT INTO `{rig}`.session (mouse, species, day) VALUES ('AÉÉ14', 'KÖTER', '2021-01-01')"
    )
    with pytest.raises(Unconvertible, match=r"'AÉÉ14'.*'aéé14'") as caught:
        _convert(latin, how, dry_run=dry_run)
    (conflict,) = caught.value.context["conflicts"]
    assert conflict["kind"] == "foreign_key"
    assert conflict["table"] == latin.rig + ".session"
    assert [found["parent"] for found in conflict["keys"]] == [
        {"mouse": "aéé14", "species": "Köter"}
    ]
    assert latin.copies() == 0


@pytest.mark.parametrize("first", ["lab", "rig"])
def test_schemas_that_refer_to_each_other_need_the_same_charset(latin: Old, first: str) -> None:
    names = [latin.lab, latin.rig] if first == "lab" else [latin.rig, latin.lab]
    options: dict[str, Any] = {"schema_map": latin.map, "connection": latin.server.url}
    create_parallel_schema(names[0], latin.map[names[0]], **options)
    with pytest.raises(Unconvertible, match=r"would be utf8mb4, .* is latin1.*the same charset"):
        create_parallel_schema(names[1], latin.map[names[1]], charset="utf8mb4", **options)
    assert latin.copies() == 1
    create_parallel_schema(names[1], latin.map[names[1]], **options)


def test_a_schema_begun_in_another_charset_is_not_gone_on_with(latin: Old) -> None:
    create_parallel_schema(latin.lab, latin.map[latin.lab], connection=latin.server.url)
    with pytest.raises(DestinationNotEmpty, match="another definition"):
        create_parallel_schema(
            latin.lab, latin.map[latin.lab], charset="utf8mb4", connection=latin.server.url
        )


KILLED = """
import os, signal
from datajoint_migrate import migrate
from datajoint_migrate.limits import LIMITS
LIMITS.chunk_bytes = 1500
def die(event):
    # Rows are counted when they are read: the last of them may not be committed yet.
    if event["verb"] == "copy" and event["rows"] > 1000:
        os.kill(os.getpid(), signal.SIGKILL)
migrate({map!r}, charset="utf8mb4", lanes=1, connection={url!r}, on_event=die)
"""


@pytest.mark.parametrize("settled", [False, True], ids=["through us", "inside the server"])
def test_a_run_killed_between_chunks_of_text_keys_loses_and_doubles_nothing(
    latin: Old, settled: bool
) -> None:
    names = "CONCAT(CHAR(97 + n % 26), IF(n % 2, 'é', 'E'), CHAR(65 + n % 7), n)"
    latin.sql(
        "SET SESSION cte_max_recursion_depth = 200000;"
        "INSERT INTO `{lab}`.`#species` (species, code) WITH RECURSIVE seq AS (SELECT 1 AS n"
        f" UNION ALL SELECT n + 1 FROM seq WHERE n < 120000) SELECT {names}, 'ß' FROM seq"
    )
    if settled:
        time.sleep(3)
    code = KILLED.format(map=latin.map, url=latin.server.url)
    copy = f"`{latin.map[latin.lab]}`.`#species`"
    died = subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False)
    assert died.returncode == -signal.SIGKILL
    rows = int(latin.server.sql(f"SELECT COUNT(*) FROM {copy}")[0][0] or 0)
    assert 200 < rows < 120_003
    result = migrate(latin.map, charset="utf8mb4", connection=latin.server.url)
    assert result["match"], result["issues"]
    assert result["rows_copied"] > 0
    assert latin.server.sql(f"SELECT COUNT(*), COUNT(DISTINCT species) FROM {copy}") == [
        ("120003", "120003")
    ]


def test_the_notes_tell_where_new_schemas_would_get_another_collation(latin: Old) -> None:
    made = create_parallel_schema(
        latin.lab,
        latin.map[latin.lab],
        charset="utf8mb4",
        dry_run=True,
        connection=latin.server.url,
    )
    assert any("collation-server=utf8mb4_bin" in note for note in made["notes"])
    latin.sql("SET GLOBAL collation_server = utf8mb4_bin")
    try:
        made = create_parallel_schema(
            latin.lab,
            latin.map[latin.lab],
            charset="utf8mb4",
            dry_run=True,
            connection=latin.server.url,
        )
    finally:
        latin.sql("SET GLOBAL collation_server = DEFAULT")
    assert not any("collation" in note for note in made["notes"])


# -- MariaDB ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old_maria() -> Iterator[Server]:
    """A MariaDB whose own default is latin1, as it was compiled."""
    server = servers.start("mariadb", arguments=["--character-set-server=latin1"])
    yield server
    server.stop()


def test_a_latin1_mariadb_arrives_in_utf8mb4_on_mysql(
    old_maria: Server, mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "cm_lab_v20", "cm_rig_v20")
    old = make(old_maria, "cm", "latin1", "latin1_swedish_ci")
    result = migrate(
        old.map, charset="utf8mb4", connection=old_maria.url, dest_connection=mysql.url
    )
    assert result["match"], result["issues"]
    assert result["compatible"], result["issues"]
    found = texts(mysql, "cm_lab_v20")
    assert found["mouse.mouse"] == ("utf8mb4", "utf8mb4_bin")
    assert found["mouse.exact"] == ("utf8mb4", "utf8mb4_unicode_ci")
    drop(old_maria, old.lab, old.rig)


def test_mariadb_itself_can_be_the_destination(mariadb: Server, fresh: Fresh) -> None:
    fresh(mariadb, "cm_lab", "cm_rig", "cm_lab_v20", "cm_rig_v20")
    old = make(mariadb, "cm", "latin1", "latin1_general_cs")
    result = migrate(old.map, charset="utf8mb4", connection=mariadb.url)
    assert result["match"], result["issues"]
    assert texts(mariadb, "cm_rig_v20")["session.who"] == ("utf8mb4", "utf8mb4_bin")


def test_keys_that_collide_are_named_before_anything_is_written(
    old_maria: Server, mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "cm_lab_v20", "cm_rig_v20")
    # The one thing utf8mb4_bin sees less sharply than some old collation: spaces at the end.
    old = make(old_maria, "cm", "latin1", "latin1_nopad_bin")
    old.sql("INSERT INTO `{lab}`.`#species` (species) VALUES ('Hase'), ('Hase  '), ('hase')")
    with pytest.raises(Unconvertible, match=r"'Hase'.*'Hase  '") as caught:
        migrate(old.map, charset="utf8mb4", connection=old_maria.url, dest_connection=mysql.url)
    (conflict,) = caught.value.context["conflicts"]
    assert (conflict["kind"], conflict["table"]) == ("collision", "cm_lab.#species")
    assert not mysql.sql("SHOW DATABASES LIKE 'cm\\_%'")
    drop(old_maria, old.lab, old.rig)


# -- 2.x ----------------------------------------------------------------------------------------

CLIENT = """
import json, sys
import datajoint as dj
host, port, user, password, lab = sys.argv[1:]
dj.config["database.host"] = host
dj.config["database.port"] = int(port)
dj.config["database.user"] = user
dj.config["database.password"] = password
schema = dj.Schema(lab)
schema.make_classes()

@schema
class Cage(dj.Manual):
    definition = '''
    -> Mouse
    cage : varchar(20)
    ---
    remark : varchar(40)
    '''

key = (Mouse & {"mouse": "aéé14"}).fetch1("KEY")
Cage.insert1({**key, "cage": "größer", "remark": "猴"})
remark = (Cage * Mouse).fetch1("remark")
print(json.dumps([len(Mouse()), len(Mouse & {"mouse": "AÉÉ14"}), remark]))
"""


@pytest.mark.parametrize("version", ["2.3.5", "2.0.0"])
def test_2x_declares_children_of_text_keys_in_the_converted_schema(
    latin: Old, version: str, tmp_path: Path
) -> None:
    migrate(latin.map, charset="utf8mb4", connection=latin.server.url)
    server = latin.server
    words = [server.host, str(server.port), server.user, server.password, latin.map[latin.lab]]
    done = clients.run(
        [str(environments.python(version)), "-c", CLIENT, *words],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [MICE, 0, "猴"]
