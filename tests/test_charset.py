"""Text of other character sets becomes utf8mb4, or is refused before anything is written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import environments
import servers
from conftest import Fresh, drop
from datajoint_migrate import (
    DestinationNotEmpty,
    InvalidArgument,
    MigrationError,
    Unconvertible,
    compare_schemas,
    copy_all_data,
    create_parallel_schema,
    migrate,
)
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
    create_parallel_schema(
        old.lab, old.map[old.lab], charset="utf8mb4", connection=old.server.url
    )
    for sql in (query, indexes):
        assert old.server.sql(sql.format(old.lab)) == old.server.sql(
            sql.format(old.map[old.lab])
        )


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
        "INSERT INTO `{rig}`.session (mouse, species, day) VALUES ('AÉÉ14', 'RATTE', '2021-01-01')"
    )
    with pytest.raises(Unconvertible, match="'AÉÉ14'.*'aéé14'") as caught:
        _convert(latin, how, dry_run=dry_run)
    (conflict,) = caught.value.context["conflicts"]
    assert conflict["kind"] == "foreign_key"
    assert conflict["table"] == latin.rig + ".session"
    assert [found["parent"] for found in conflict["keys"]] == [
        {"mouse": "aéé14", "species": "Ratte"}
    ]
    assert latin.copies() == 0
