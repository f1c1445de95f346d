"""Samples: chosen rows with everything they refer to, on real servers, read by the real client."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    MigrationError,
    Mismatch,
    copy_sample,
    copy_table_data,
    create_parallel_schema,
)
from full_pipeline import FullPipeline, read_with
from servers import Server
from small import Small, make, replace_paper

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


def test_a_value_that_is_replaced_amid_the_work_comes_with_its_file(small: Small) -> None:
    replaced: list[int] = []

    def on_event(event: dict[str, Any]) -> None:
        if event.get("verb") == "stores" and event.get("finished") and not replaced:
            replaced.append(3)
            replace_paper(small, 3)

    copy_sample(
        schema_map=small.map,
        restrictions={"Recording": "recording_id = 3"},
        connection=small.server.url,
        on_event=on_event,
        **small.stores,
    )
    assert replaced
    paper = small.value(f"SELECT paper FROM `{small.map[small.rig]}`._recording")
    assert (small.root / json.loads(str(paper))["path"]).is_file()


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


# -- the full pipeline -------------------------------------------------------------------------

ADAPTERS = {"lines_file": "filepath@raw", "lines_attach": "attach@flat", "wrapped": "blob@raw"}


def orphans(server: Server, schemas: list[str]) -> dict[str, int]:
    """Rows without their parent, per foreign key, counted without any help from the package."""
    keys: dict[tuple[str, str, str], list[list[str]]] = {}
    names = ", ".join(f"'{schema}'" for schema in schemas)
    for row in server.sql(
        "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA,"
        " REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"
        f" WHERE TABLE_SCHEMA IN ({names}) AND REFERENCED_TABLE_NAME IS NOT NULL"
    ):
        words = [str(word) for word in row]
        keys.setdefault((words[0], words[1], words[2]), []).append(words[3:])
    assert keys
    found = {}
    for (schema, table, name), columns in keys.items():
        parent = f"`{columns[0][1]}`.`{columns[0][2]}`"
        on = " AND ".join(f"p.`{theirs}` = c.`{mine}`" for mine, _, _, theirs in columns)
        there = " AND ".join(f"c.`{mine}` IS NOT NULL" for mine, *_ in columns)
        sql = f"SELECT COUNT(*) FROM `{schema}`.`{table}` c LEFT JOIN {parent} p ON {on}"
        count = server.sql(f"{sql} WHERE {there} AND p.`{columns[0][3]}` IS NULL")[0][0]
        if int(count or 0):
            found[f"{schema}.{table} {name}"] = int(count or 0)
    return found


def keys_there(server: Server, schemas: list[str]) -> dict[str, list[str]]:
    """Every user row of the schemas by its key, as text."""
    found = {}
    for schema in schemas:
        for (table,) in server.sql(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'"
            f" AND TABLE_SCHEMA = '{schema}' AND TABLE_NAME NOT LIKE '~%'"
        ):
            key = server.sql(
                "SELECT GROUP_CONCAT(CONCAT('HEX(`', REPLACE(COLUMN_NAME, '`', '``'), '`)')"
                " ORDER BY ORDINAL_POSITION) FROM information_schema.KEY_COLUMN_USAGE WHERE"
                f" CONSTRAINT_NAME = 'PRIMARY' AND TABLE_SCHEMA = '{schema}'"
                f" AND TABLE_NAME = '{table}'"
            )[0][0]
            if key:
                rows = server.sql(f"SELECT CONCAT_WS('/', {key}) FROM `{schema}`.`{table}`")
                found[f"{schema}.{table}"] = sorted(str(row[0]) for row in rows)
    return found


def whole_masters(server: Server, schema_map: dict[str, str], part: str, key: list[str]) -> None:
    """Each chosen master has the parts it has in production."""
    for old, new in schema_map.items():
        if not server.sql(f"SHOW TABLES FROM `{old}` LIKE '{part}'"):
            continue
        master = part.rsplit("__", 1)[0]
        using = ", ".join(f"`{column}`" for column in key)
        there = server.sql(f"SELECT COUNT(*) FROM `{new}`.`{part}`")[0][0]
        wanted = server.sql(
            f"SELECT COUNT(*) FROM `{old}`.`{part}` JOIN `{new}`.`{master}` USING ({using})"
        )[0][0]
        assert there == wanted, (part, there, wanted)


VISIT = ["animal_id", "visit_date", "visit_number"]
PARTS = {"visit__note": VISIT, "visit__reply": VISIT, "_scan__field": VISIT}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_chosen_every_key_holds_and_the_same_call_takes_the_same_rows(
    full_pipeline_mysql: FullPipeline, mysql: Server, fresh: Fresh, seed: int
) -> None:
    pipeline = full_pipeline_mysql
    chance = random.Random(seed)
    tables = [
        f"{schema}.{row[0]}"
        for schema in pipeline.schemas
        for row in mysql.sql(f"SHOW TABLES FROM `{schema}`")
        if not str(row[0]).startswith("~")
    ]
    restrictions: dict[str, object] = {}
    for table in sorted(chance.sample(tables, chance.randint(1, 5))):
        restrictions[table] = chance.choice(
            [chance.randint(1, 4), {"where": "RAND() < 2", "limit": 2}, "TRUE"]
        )
    children = bool(seed % 2)
    taken = []
    for prefix in (f"sample{seed}a", f"sample{seed}b"):
        schema_map = pipeline.schema_map(prefix)
        fresh(mysql, *schema_map.values())
        planned, result = (
            copy_sample(
                schema_map=schema_map,
                restrictions=restrictions,
                children=children,
                source_stores=pipeline.source_stores,
                dest_stores=pipeline.stores_in_place(),
                adapters=ADAPTERS,
                connection=mysql.url,
                dry_run=dry,
            )
            for dry in (True, False)
        )
        assert planned["tables"] == result["tables"], restrictions
        assert result["rows_copied"] > 0
        dests = list(schema_map.values())
        assert orphans(mysql, dests) == {}, restrictions
        for part, key in PARTS.items():
            whole_masters(mysql, schema_map, part, key)
        found = keys_there(mysql, dests)
        taken.append([(name.split("_", 1)[1], keys) for name, keys in found.items()])
        for table, wanted in restrictions.items():
            if wanted == "TRUE":
                count = mysql.sql(f"SELECT COUNT(*) FROM `{table.replace('.', '`.`')}`")[0][0]
                assert result["tables"][table] == int(count or 0)
    assert taken[0] == taken[1], restrictions


@pytest.mark.parametrize("origin", ["mysql", "mariadb"])
def test_a_sample_on_another_server_is_read_by_2x_value_for_value(
    origin: str,
    request: pytest.FixtureRequest,
    mysql_b: Server,
    fresh: Fresh,
    tmp_path: Path,
) -> None:
    name = "full_pipeline_mysql" if origin == "mysql" else "full_pipeline_maria"
    pipeline: FullPipeline = request.getfixturevalue(name)
    schema_map = pipeline.schema_map("away")
    fresh(mysql_b, *schema_map.values())
    stores = pipeline.stores_elsewhere(tmp_path)
    options: dict[str, Any] = {
        "schema_map": schema_map,
        "restrictions": {"Files": 2, "Cells": 1, "Adapted": 1, "tree": "id = 2"},
        "source_stores": pipeline.source_stores,
        "dest_stores": stores,
        "copy_files": True,
        "adapters": ADAPTERS,
        "connection": pipeline.server.url,
        "dest_connection": mysql_b.url,
    }
    result = copy_sample(**options)
    assert result["files_copied"] > 0
    assert orphans(mysql_b, list(schema_map.values())) == {}
    reading = read_with("2.3.5", pipeline, mysql_b, schema_map, stores, tmp_path, structure=False)
    wrong = [
        difference
        for verdict in reading.verdicts
        for difference in verdict["differences"]
        if difference["found"] != "no such row"
        and not (difference["where"] == "row" and difference["found"] is None)
    ]
    assert not wrong, wrong[:5]
    absent = sum(
        difference["found"] == "no such row"
        for verdict in reading.verdicts
        for difference in verdict["differences"]
    )
    expected = sum(verdict["rows"] for verdict in reading.verdicts if verdict["by"] == "2.x")
    fetched = {verdict["table"] for verdict in reading.verdicts if verdict["by"] == "2.x"}
    assert expected - absent == sum(result["tables"].get(table, 0) for table in fetched) > 0
    with pytest.raises(DestinationNotEmpty):
        copy_sample(**options)


# -- keys that DataJoint seldom makes ----------------------------------------------------------

KNOTS = """CREATE DATABASE knots; USE knots; SET foreign_key_checks = 0;
CREATE TABLE tag (id int NOT NULL PRIMARY KEY, name varchar(20) NOT NULL UNIQUE);
CREATE TABLE team (team varchar(12) NOT NULL PRIMARY KEY, head int DEFAULT NULL,
FOREIGN KEY (head) REFERENCES person (id));
CREATE TABLE person (id int NOT NULL PRIMARY KEY, team varchar(12) NOT NULL, boss int DEFAULT NULL,
label varchar(20) DEFAULT NULL, mood enum('b','a') NOT NULL,
FOREIGN KEY (team) REFERENCES team (team), FOREIGN KEY (boss) REFERENCES person (id),
FOREIGN KEY (label) REFERENCES tag (name));
CREATE TABLE shift (mood enum('b','a') NOT NULL, day date NOT NULL, who int NOT NULL,
PRIMARY KEY (mood, day, who), FOREIGN KEY (who) REFERENCES person (id));
INSERT INTO tag VALUES (1, 'red'), (2, 'blue');
INSERT INTO team VALUES ('käse', 3), ('wine', 40), ('none', NULL);
INSERT INTO person VALUES (3, 'wine', 3, NULL, 'a'), (40, 'käse', NULL, 'blue', 'b'),
(41, 'none', NULL, 'red', 'a');"""


@pytest.mark.parametrize("origin", ["mysql", "mariadb"])
def test_cycles_self_references_and_keys_to_unique_columns_end_complete(
    origin: str, request: pytest.FixtureRequest, mysql_b: Server, fresh: Fresh
) -> None:
    server: Server = request.getfixturevalue(origin)
    fresh(server, "knots")
    fresh(mysql_b, "knots_v20")
    chain = ", ".join(f"({n}, 'none', {n - 1}, NULL, 'a')" for n in range(101, 301))
    days = ", ".join(
        f"('{mood}', '2024-01-{day:02}', {100 + day})" for mood in "ab" for day in range(1, 29)
    )
    server.sql(
        KNOTS + "INSERT INTO person VALUES (100, 'none', NULL, NULL, 'b');"
        f"INSERT INTO person VALUES {chain}; INSERT INTO shift VALUES {days};"
    )

    def take(**restrictions: object) -> dict[str, int]:
        mysql_b.sql("DROP DATABASE IF EXISTS knots_v20")
        result = copy_sample(
            "knots",
            "knots_v20",
            restrictions,
            connection=server.url,
            dest_connection=mysql_b.url,
        )
        assert orphans(mysql_b, ["knots_v20"]) == {}
        return {name.split(".")[1]: rows for name, rows in result["tables"].items()}

    # Each team's head is in the other team: the walk goes round once and ends.
    assert take(team="team = 'käse'") == {"person": 2, "tag": 1, "team": 2}
    assert take(person="id = 300") == {"person": 201, "tag": 0, "team": 1}
    # 'b' is the first of the enumeration, and so of the key.
    assert take(shift=2) == {"person": 3, "shift": 2, "tag": 0, "team": 1}
    assert mysql_b.sql("SELECT DISTINCT mood FROM knots_v20.shift") == [("b",)]


def test_a_row_whose_parent_production_lacks_is_named_and_nothing_stays(small: Small) -> None:
    small.server.sql(
        "SET foreign_key_checks = 0;"
        f"INSERT INTO `{small.lab}`.session VALUES (77, '2024-02-01', 'nobody')"
    )
    with pytest.raises(Mismatch, match="77"):
        copy_sample(
            schema_map=small.map,
            restrictions={"Session": "mouse_id > 9"},
            connection=small.server.url,
            **small.stores,
        )
    assert small.count(small.map[small.lab], "session") == 0


def test_a_condition_that_the_server_refuses_leaves_nothing(small: Small) -> None:
    with pytest.raises(MigrationError, match="no_such_column"):
        copy_sample(
            small.lab,
            small.map[small.lab],
            {"Mouse": "no_such_column = 1"},
            connection=small.server.url,
        )
    assert not set(small.map.values()) & small.schemas_there()


TREE = """CREATE DATABASE tree; USE tree;
CREATE TABLE session (s int NOT NULL PRIMARY KEY);
CREATE TABLE trial (s int NOT NULL, t int NOT NULL, PRIMARY KEY (s, t),
FOREIGN KEY (s) REFERENCES session (s));
CREATE TABLE spike (s int NOT NULL, t int NOT NULL, u int NOT NULL, PRIMARY KEY (s, t, u),
FOREIGN KEY (s, t) REFERENCES trial (s, t));
INSERT INTO session WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 100)
SELECT i FROM n;
INSERT INTO trial SELECT a.s, b.s FROM session a JOIN session b ON b.s <= 40;
INSERT INTO spike SELECT s, t, u FROM trial JOIN (SELECT 1 AS u UNION SELECT 2) AS two;"""


@pytest.mark.parametrize("origin", ["mysql", "mariadb"])
def test_a_sample_that_outgrows_the_servers_memory_lacks_no_row(
    origin: str, request: pytest.FixtureRequest, fresh: Fresh
) -> None:
    server: Server = request.getfixturevalue(origin)
    fresh(server, "tree", "tree_sample")
    server.sql(TREE)
    server.sql("SET GLOBAL tmp_table_size = 20000")
    try:
        result = copy_sample(
            "tree", "tree_sample", {"Session": "s <= 80"}, children=True, connection=server.url
        )
    finally:
        server.sql("SET GLOBAL tmp_table_size = DEFAULT")
    assert result["tables"] == {"tree.session": 80, "tree.trial": 3200, "tree.spike": 6400}


@pytest.mark.parametrize("origin", ["mysql", "mariadb"])
@pytest.mark.parametrize("end", [1, 1500])
def test_a_long_chain_comes_along_whole(
    origin: str, end: int, request: pytest.FixtureRequest, fresh: Fresh
) -> None:
    server: Server = request.getfixturevalue(origin)
    fresh(server, "chain", "chain_sample")
    server.sql(
        "CREATE DATABASE chain; USE chain; SET foreign_key_checks = 0;"
        "CREATE TABLE link (id int NOT NULL PRIMARY KEY, before_it int DEFAULT NULL,"
        " FOREIGN KEY (before_it) REFERENCES link (id));"
        "INSERT INTO link VALUES "
        + ", ".join(f"({n}, {n - 1 if n > 1 else 'NULL'})" for n in range(1, 1501))
    )
    result = copy_sample(
        "chain",
        "chain_sample",
        {"Link": f"id = {end}"},
        children=end == 1,
        connection=server.url,
    )
    assert result["tables"] == {"chain.link": 1500}
