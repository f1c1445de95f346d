"""Text of other character sets becomes utf8mb4, or is refused before anything is written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
from datajoint_migrate.catalog import read_schema, resolve
from datajoint_migrate.target import declare
from servers import Server

# What DataJoint 0.13 to 0.14 made on servers of their time, and what people made of it by hand.
LAB = """CREATE DATABASE `{lab}` CHARACTER SET {charset} COLLATE {collation};
CREATE TABLE `{lab}`.`#species` (`species` varchar(24) NOT NULL COMMENT 'Gattung: größer, 100%',
`code` char(3) NOT NULL DEFAULT 'ä''b', PRIMARY KEY (`species`)) COMMENT 'Tiere: größer';
CREATE TABLE `{lab}`.`mouse` (`mouse` varchar(30) NOT NULL, `species` varchar(24) NOT NULL,
`sex` enum('männlich','weiblich','?') NOT NULL DEFAULT '?', `marks` set('ä','b','c') DEFAULT NULL,
`notes` text, `shout` varchar(30) GENERATED ALWAYS AS (upper(`mouse`)) STORED,
`exact` varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci DEFAULT NULL,
`raw` varbinary(8) DEFAULT NULL, `scan` longblob NOT NULL, `n` int unsigned NOT NULL DEFAULT '3',
PRIMARY KEY (`mouse`,`species`), UNIQUE KEY `both` (`species`,`sex`,`mouse`),
KEY `short` (`notes`(20)), FOREIGN KEY (`species`) REFERENCES `{lab}`.`#species` (`species`)
ON UPDATE CASCADE ON DELETE RESTRICT);
CREATE TABLE `{lab}`.`~log` (`id` int unsigned NOT NULL AUTO_INCREMENT,
`event` varchar(255) NOT NULL DEFAULT '', PRIMARY KEY (`id`));"""

RIG = """CREATE DATABASE `{rig}` CHARACTER SET {charset} COLLATE {collation};
CREATE TABLE `{rig}`.`session` (`mouse` varchar(30) NOT NULL, `species` varchar(24) NOT NULL,
`day` date NOT NULL, `who` varchar(40) NOT NULL DEFAULT 'Müller',
PRIMARY KEY (`mouse`,`species`,`day`), CONSTRAINT `of_mouse` FOREIGN KEY (`mouse`,`species`)
REFERENCES `{lab}`.`mouse` (`mouse`,`species`) ON UPDATE CASCADE);"""

MICE = 300


@dataclass(frozen=True)
class Old:
    """A pair of schemas in an old character set."""

    server: Server
    prefix: str

    @property
    def lab(self) -> str:
        return f"{self.prefix}_lab"

    @property
    def rig(self) -> str:
        return f"{self.prefix}_rig"

    @property
    def map(self) -> dict[str, str]:
        return {self.lab: f"{self.lab}_v20", self.rig: f"{self.rig}_v20"}

    def sql(self, text: str) -> list[tuple[str | None, ...]]:
        return self.server.sql(text.format(lab=self.lab, rig=self.rig))

    def copies(self) -> int:
        return len(self.server.sql(f"SHOW DATABASES LIKE '{self.prefix}\\_%\\_v20'"))


def make(server: Server, prefix: str, charset: str, collation: str) -> Old:
    old = Old(server, prefix)
    names = {"lab": old.lab, "rig": old.rig, "charset": charset, "collation": collation}
    server.sql((LAB + RIG).format(**names))
    # Names in an order that collations and bytes do not agree on.
    mice = [f"{'aBcÄöZß'[n % 7]}{'é' * (n % 3)}{n}" for n in range(MICE)]
    rows = [
        f"('{name}', '{('Maus', 'Ratte', 'Köter')[n % 3]}', {n % 3 + 1}, {n % 8}, "
        f"'größer {'ü' * n}', '猴', x'00ff', x'6d596d00ff')"
        for n, name in enumerate(mice)
    ]
    sessions = [
        f"('{name}', '{('Maus', 'Ratte', 'Köter')[n % 3]}', '2020-01-01')"
        for n, name in enumerate(mice)
    ]
    old.sql(
        "INSERT INTO `{lab}`.`#species` (species) VALUES ('Maus'), ('Ratte'), ('Köter');"
        "INSERT INTO `{lab}`.mouse (mouse, species, sex, marks, notes, exact, raw, scan) VALUES "
        + ",".join(rows)
        + ";INSERT INTO `{rig}`.session (mouse, species, day) VALUES "
        + ",".join(sessions)
    )
    return old


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
        " AND CHARACTER_SET_NAME IS NOT NULL"
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


def _refused(old: Old, sql: str) -> list[dict[str, object]]:
    """What is said about one more table in the lab, made by `sql`."""
    old.sql(sql)
    with pytest.raises(Unconvertible) as caught:
        create_parallel_schema(
            old.lab, old.map[old.lab], charset="utf8mb4", connection=old.server.url
        )
    assert old.copies() == 0
    conflicts: list[dict[str, object]] = caught.value.context["conflicts"]
    assert str(conflicts[0]["why"]) in str(caught.value)
    return conflicts


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("`a` varchar(769) NOT NULL, PRIMARY KEY (`a`))", "primary key of .* 3076 bytes"),
        ("`i` int PRIMARY KEY, `a` varchar(1000), KEY `wide` (`a`))", "'wide' .* 4000 bytes"),
        ("`a` varchar(400), `b` varchar(369), PRIMARY KEY (`a`,`b`))", "is 3076 bytes long"),
        ("`i` int PRIMARY KEY, `t` text, UNIQUE KEY `u` (`t`(769)))", "'u' .* 3076 bytes"),
        ("`i` int PRIMARY KEY, `a` varchar(16384))", "at most 16383 characters"),
        ("`i` int PRIMARY KEY, `a` varchar(9000), `b` varchar(9000))", "72009 bytes a row"),
        ("`a` varchar(192) PRIMARY KEY) ROW_FORMAT=COMPACT", "768 bytes .* 767 with ROW"),
    ],
    ids=["key", "index", "both", "prefix", "varchar", "row", "compact"],
)
def test_what_is_too_long_in_utf8mb4_is_refused_by_name(latin: Old, body: str, said: str) -> None:
    (conflict,) = _refused(latin, f"CREATE TABLE `{{lab}}`.`wide` ({body}")
    assert conflict["kind"] == "limit"
    assert re.search(said, str(conflict["why"])), conflict["why"]


@pytest.mark.parametrize(
    "body",
    [
        "`a` varchar(768) NOT NULL, PRIMARY KEY (`a`))",
        "`a` varchar(767), `b` int, PRIMARY KEY (`a`,`b`))",
        "`a` varchar(760), `b` datetime(6), `d` decimal(11,3), `e` enum('a','b'), `f` date, "
        "`g` tinyint unsigned, `h` year, PRIMARY KEY (`a`,`b`,`d`,`e`,`f`,`g`,`h`))",
        "`i` int PRIMARY KEY, `t` text, UNIQUE KEY `u` (`t`(768)))",
        "`i` int PRIMARY KEY, `a` varchar(16000) NOT NULL, `b` varchar(380) NOT NULL)",
        "`a` varchar(191) PRIMARY KEY) ROW_FORMAT=COMPACT",
    ],
)
def test_what_just_fits_is_made_as_it_was(latin: Old, body: str) -> None:
    latin.sql(f"CREATE TABLE `{{lab}}`.`wide` ({body}")
    create_parallel_schema(
        latin.lab, latin.map[latin.lab], charset="utf8mb4", connection=latin.server.url
    )
    columns = (
        "SELECT COLUMN_NAME, COLUMN_TYPE, COLUMN_KEY FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = 'wide' ORDER BY 1"
    )
    prefixes = (
        "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS"
        " WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = 'wide' ORDER BY 1, SEQ_IN_INDEX"
    )
    for sql in (columns, prefixes):
        assert latin.server.sql(sql.format(latin.lab)) == latin.server.sql(
            sql.format(latin.map[latin.lab])
        )


EDGES = {
    "row": (
        "`i` int NOT NULL, `a` varchar({}) NOT NULL, `b` char(90), `c` varchar(63),"
        " `d` varchar(225) NOT NULL, `e` decimal(11,3), `f` longblob, `g` timestamp(3) NULL,"
        " `h` enum('x','y'), `j` set('a','b'), `k` tinytext, `l` binary(9), `m` bit(9),"
        " `n` varbinary(300), PRIMARY KEY (`i`)",
        range(15_906, 15_926),
    ),
    "key": (
        "`i` int NOT NULL, `a` varchar({}) NOT NULL, `b` char(9) NOT NULL, `e` decimal(11,3),"
        " `g` timestamp(3) NULL, `h` enum('x','y'), `l` binary(9), `m` double,"
        " UNIQUE KEY (`a`,`b`,`e`,`g`,`h`,`l`,`m`), PRIMARY KEY (`i`)",
        range(742, 762),
    ),
}


@pytest.mark.parametrize("edge", EDGES)
def test_the_limits_are_the_servers_own_to_the_byte(latin: Old, edge: str) -> None:
    body, sizes = EDGES[edge]
    made = "".join(f"CREATE TABLE `{latin.lab}`.`t{size}` ({body.format(size)});" for size in sizes)
    latin.server.sql(made)
    with resolve(latin.server.url).session(read_only=True) as session:
        tables = read_schema(session, latin.lab).tables
    verdicts = []
    for size in sizes:
        refused = declare(tables[f"t{size}"], dest_schema="cs_lab_v20", charset="utf8mb4").excesses
        drop(latin.server, "cs_lab_v20")
        latin.server.sql("CREATE DATABASE cs_lab_v20 CHARACTER SET utf8mb4")
        try:
            latin.server.sql(f"CREATE TABLE cs_lab_v20.t ({body.format(size)})")
            taken = True
        except servers.ServerError:
            taken = False
        assert taken == (not refused), (size, refused)
        verdicts.append(taken)
    assert set(verdicts) == {True, False}


@pytest.mark.parametrize(
    ("column", "counts"),
    [
        ("varchar(9)", range(216, 220)),
        ("varchar(10) NOT NULL", range(195, 198)),
        ("char(10)", range(195, 198)),
        ("varchar(79) DEFAULT NULL", range(194, 198)),
    ],
)
def test_a_table_of_too_many_columns_is_refused_where_the_server_refuses(
    latin: Old, column: str, counts: range
) -> None:
    verdicts = []
    for count in counts:
        columns = "".join(f"`c{at}` {column}, " for at in range(count - 1))
        body = (
            f"`i` int NOT NULL, {columns}`t` tinytext CHARACTER SET latin1, `b` blob,"
            " `v` varchar(9) GENERATED ALWAYS AS (`t`) VIRTUAL, PRIMARY KEY (`i`)"
        )
        drop(latin.server, "cs_x", "cs_y")
        latin.server.sql("CREATE DATABASE cs_x CHARACTER SET utf8mb4")
        latin.server.sql("CREATE DATABASE cs_y CHARACTER SET latin1")
        try:
            latin.server.sql(f"CREATE TABLE cs_x.t ({body})")
            taken = True
        except servers.ServerError:
            taken = False
        try:
            latin.server.sql(f"CREATE TABLE cs_y.t ({body})")
        except servers.ServerError:
            break  # too many in latin1 too
        with resolve(latin.server.url).session(read_only=True) as session:
            table = read_schema(session, "cs_y").tables["t"]
        refused = declare(table, dest_schema="cs_lab_v20", charset="utf8mb4").excesses
        assert taken == (not refused), (count, refused)
        verdicts.append(taken)
    drop(latin.server, "cs_x", "cs_y")
    assert True in verdicts


def test_a_text_that_outgrows_its_column_is_named(latin: Old) -> None:
    (conflict,) = _refused(
        latin,
        "CREATE TABLE `{lab}`.`tiny` (`i` int PRIMARY KEY, `t` tinytext, `u` tinytext);"
        "INSERT INTO `{lab}`.`tiny` VALUES (1, REPEAT('x', 255), NULL),"
        " (2, REPEAT('ü', 127), 'ü'), (3, 'a', REPEAT('ü', 128))",
    )
    assert (conflict["kind"], conflict["keys"]) == ("overflow", [{"i": 3}])


def test_a_generated_column_with_another_value_is_named(latin: Old) -> None:
    conflicts = _refused(
        latin,
        "CREATE TABLE `{lab}`.`made` (`i` int PRIMARY KEY, `t` varchar(9), `n` int GENERATED ALWAYS"
        " AS (length(`t`)) VIRTUAL, `ok` varchar(20) GENERATED ALWAYS AS (concat(`t`,'é')) STORED,"
        " `same` tinyint GENERATED ALWAYS AS (`t` = 'abc') STORED,"
        " CONSTRAINT `small` CHECK (`t` <> 'qq' or `i` < 9));"
        "INSERT INTO `{lab}`.`made` (i, t) VALUES (1, 'abc'), (2, 'é'), (3, 'ABC'), (4, NULL)",
    )
    assert [(found["kind"], found["keys"]) for found in conflicts] == [
        ("generated", [{"i": 2}]),
        ("generated", [{"i": 3}]),
    ]


def test_a_check_that_would_fail_is_named(latin: Old) -> None:
    (conflict,) = _refused(
        latin,
        "CREATE TABLE `{lab}`.`sure` (`i` int PRIMARY KEY, `t` varchar(9),"
        " CONSTRAINT `known` CHECK (`t` in ('on','off')));"
        "INSERT INTO `{lab}`.`sure` VALUES (1, 'on'), (2, 'OFF')",
    )
    assert (conflict["kind"], conflict["keys"]) == ("check", [{"i": 2}])


def test_an_expression_with_a_collation_of_its_own_is_refused(latin: Old) -> None:
    latin.sql(
        "CREATE TABLE `{lab}`.`coll` (`i` int PRIMARY KEY, `t` varchar(9),"
        " `g` tinyint GENERATED ALWAYS AS (`t` = _latin1'a' COLLATE latin1_bin) VIRTUAL)"
    )
    with pytest.raises(Unconvertible, match="'g' compares by latin1_bin"):
        create_parallel_schema(
            latin.lab, latin.map[latin.lab], charset="utf8mb4", connection=latin.server.url
        )
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
import sys
from datajoint_migrate import migrate
from datajoint_migrate.steps import plan
plan.CHUNK_BYTES = 4000
migrate({map!r}, charset="utf8mb4", connection={url!r})
"""


@pytest.mark.parametrize("settled", [False, True], ids=["through us", "inside the server"])
def test_a_run_killed_between_chunks_of_text_keys_loses_and_doubles_nothing(
    latin: Old, settled: bool
) -> None:
    names = "CONCAT(CHAR(97 + n % 26), IF(n % 2, 'é', 'E'), CHAR(65 + n % 7), n)"
    latin.sql(
        "SET SESSION cte_max_recursion_depth = 20000;"
        "INSERT INTO `{lab}`.`#species` (species, code) WITH RECURSIVE seq AS (SELECT 1 AS n"
        f" UNION ALL SELECT n + 1 FROM seq WHERE n < 12000) SELECT {names}, 'ß' FROM seq"
    )
    if settled:
        time.sleep(3)
    code = KILLED.format(map=latin.map, url=latin.server.url)
    copy = f"`{latin.map[latin.lab]}`.`#species`"
    died = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    try:
        until = time.monotonic() + 60
        while died.poll() is None and time.monotonic() < until:
            # The table is not there from the start.
            with contextlib.suppress(servers.ServerError):
                if int(latin.server.sql(f"SELECT COUNT(*) FROM {copy}")[0][0] or 0) > 500:
                    break
    finally:
        died.send_signal(signal.SIGKILL)
    assert died.wait() == -signal.SIGKILL
    rows = int(latin.server.sql(f"SELECT COUNT(*) FROM {copy}")[0][0] or 0)
    assert 500 < rows < 12_003
    result = migrate(latin.map, charset="utf8mb4", connection=latin.server.url)
    assert result["match"], result["issues"]
    assert result["rows_copied"] > 0
    assert latin.server.sql(f"SELECT COUNT(*), COUNT(DISTINCT species) FROM {copy}") == [
        ("12003", "12003")
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
    done = subprocess.run(
        [str(environments.python(version)), "-c", CLIENT, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [MICE, 0, "猴"]
