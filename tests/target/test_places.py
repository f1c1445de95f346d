"""Where a table's files are is a matter of its server: copies are made in the default place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from datajoint_migrate import backup_schema, compare_schemas, migrate, restore_schema
from datajoint_migrate.target.ddl import parse
from datajoint_migrate.target.foreign import in_default_place
from servers import Server

LAB, COPY = "plc_lab", "plc_lab_v20"


@pytest.fixture(params=["mysql", "mariadb"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A schema whose tables lie in a folder of their own, and in a general tablespace."""
    place = tmp_path / "far"
    place.mkdir()
    # MySQL has to know the folder.
    arguments = [f"--innodb-directories={place}"] if request.param == "mysql" else []
    server = servers.start(request.param, arguments=arguments)
    server.sql(
        f"CREATE DATABASE {LAB}; CREATE TABLE {LAB}.mouse (id int NOT NULL PRIMARY KEY)"
        f" DATA DIRECTORY='{place}'; INSERT INTO {LAB}.mouse VALUES (1), (2);"
        f"CREATE TABLE {LAB}.old (id int NOT NULL PRIMARY KEY) ENGINE=MyISAM"
        f" DATA DIRECTORY='{place}' INDEX DIRECTORY='{place}'; INSERT INTO {LAB}.old VALUES (3)"
    )
    if server.kind == "mysql":
        server.sql(
            "CREATE TABLESPACE plc_space ADD DATAFILE 'plc_space.ibd';"
            f"CREATE TABLE {LAB}.cage (id int NOT NULL PRIMARY KEY) TABLESPACE plc_space;"
            f"INSERT INTO {LAB}.cage VALUES (7)"
        )
    yield server
    server.stop()


def shown(server: Server, schema: str) -> str:
    tables = server.sql(f"SHOW TABLES FROM {schema}")
    return "".join(
        str(server.sql(f"SHOW CREATE TABLE {schema}.`{name}`")[0][1])
        for (name,) in tables
        if not str(name).startswith("~")
    )


def noted(server: Server, result: dict[str, Any]) -> None:
    places = [note for note in result["notes"] if "default place" in note]
    assert len(places) == 2
    assert any("DATA DIRECTORY=" in note for note in places)
    if server.kind == "mysql":
        assert any("TABLESPACE `plc_space`" in note for note in places)


def test_copies_backups_and_archives_are_made_in_the_default_place(
    elsewhere: Server, tmp_path: Path
) -> None:
    url = elsewhere.url
    assert "DIRECTORY" in shown(elsewhere, LAB)
    result = migrate({LAB: COPY}, connection=url)
    assert result["match"]
    noted(elsewhere, result)
    noted(elsewhere, backup_schema(LAB, "plc_lab_bak", connection=url))
    backup_schema(LAB, str(tmp_path / "archive"), connection=url)
    noted(elsewhere, restore_schema(str(tmp_path / "archive"), "plc_back", connection=url))
    for name in (COPY, "plc_lab_bak", "plc_back"):
        text = shown(elsewhere, name)
        assert "DIRECTORY" not in text
        assert "TABLESPACE" not in text
        assert compare_schemas(LAB, name, connection=url)["match"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (" ENGINE=InnoDB DATA DIRECTORY='/x/' COMMENT='DATA DIRECTORY=\\'/y\\''",
         " ENGINE=InnoDB COMMENT='DATA DIRECTORY=\\'/y\\''"),
        (" /*!50100 TABLESPACE `a b` */ ENGINE=InnoDB", " /*!50100 */ ENGINE=InnoDB"),
        (" ENGINE=InnoDB\n/*!50100 PARTITION BY HASH (`a`)\n(PARTITION p0 TABLESPACE = `t`"
         " DATA DIRECTORY = '/x' ENGINE = InnoDB) */",
         " ENGINE=InnoDB\n/*!50100 PARTITION BY HASH (`a`)\n(PARTITION p0 ENGINE = InnoDB) */"),
        (" ENGINE=MyISAM DATA DIRECTORY='/x' INDEX DIRECTORY='/y'", " ENGINE=MyISAM"),
        (" ENGINE=InnoDB", " ENGINE=InnoDB"),
    ],
)  # fmt: skip
def test_only_the_place_is_taken_out(options: str, left: str) -> None:
    create = "CREATE TABLE `t` (\n  `a` int NOT NULL\n)"
    text = parse(create + options)
    notes = in_default_place(text, "the table 't'")
    assert text.render() == create + left
    assert bool(notes) == (options != left)
