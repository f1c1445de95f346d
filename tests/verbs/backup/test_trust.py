"""Backups as somebody may have changed them: nothing of them is run unseen, or as another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from archives import change, table_of
from conftest import Fresh
from datajoint_migrate import (
    ArchiveFailed,
    InvalidArgument,
    MigrationError,
    backup_schema,
    restore_schema,
)
from datajoint_migrate.console import cli
from datajoint_migrate.target.foreign import prove_definition
from servers import Server

LAB, BACK, BACKUP = "tru_lab", "tru_back", "tru_lab_bak"
NAMES = [LAB, BACK, BACKUP, f"{BACK}_restoring", f"{LAB}_restoring", f"{LAB}_before_restore"]

TABLES = """CREATE DATABASE tru_lab;
CREATE TABLE tru_lab.mouse (id int NOT NULL PRIMARY KEY,
 note varchar(20) NOT NULL DEFAULT 'select');
INSERT INTO tru_lab.mouse VALUES (1, 'a');
CREATE VIEW tru_lab.mice AS SELECT id FROM tru_lab.mouse;
CREATE TRIGGER tru_lab.tidy BEFORE INSERT ON tru_lab.mouse FOR EACH ROW SET NEW.note = 'b';
CREATE PROCEDURE tru_lab.one() SELECT 1;
CREATE EVENT tru_lab.nightly ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00'
 DO DELETE FROM tru_lab.mouse WHERE id < 0;"""  # fmt: skip


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    found: Server = request.getfixturevalue(request.param)
    fresh(found, *NAMES)
    found.sql(TABLES)
    return found


@pytest.fixture
def archive(server: Server, tmp_path: Path) -> Path:
    backup_schema(LAB, str(tmp_path / "archive"), connection=server.url)
    return tmp_path / "archive"


def program(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in manifest["programs"] if one["name"] == name)


def restored(server: Server, backup: Path | str, dest: str = BACK, **options: Any) -> Any:
    return restore_schema(str(backup), dest, connection=server.url, **options)


def there(server: Server, schema: str) -> list[str]:
    rows = server.sql(
        f"SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{schema}'"
        " UNION SELECT TRIGGER_NAME FROM information_schema.TRIGGERS"
        f" WHERE TRIGGER_SCHEMA = '{schema}' UNION SELECT ROUTINE_NAME FROM"
        f" information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{schema}' UNION SELECT EVENT_NAME"
        f" FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{schema}' ORDER BY 1"
    )
    return [str(row[0]) for row in rows]


def nothing_made(server: Server, *schemas: str) -> None:
    names = {row[0] for row in server.sql("SHOW DATABASES")}
    assert not names & set(schemas or (BACK, f"{BACK}_restoring"))


# -- tables --------------------------------------------------------------------------------------


DEFINITIONS = {
    "rows of another table": lambda sql: sql + " AS SELECT 1 AS id, user AS note FROM mysql.user",
    "rows without AS": lambda sql: sql + " SELECT 1 AS id",
    "a table of rows": lambda sql: sql + " IGNORE TABLE `mysql`.`user`",
    "rows after partitions": lambda sql: sql + " PARTITION BY HASH (`id`) AS SELECT 1",
    "rows in a comment that is run": lambda sql: sql + " /*!50100 AS SELECT 1 AS id */",
    "rows in a comment of MariaDB": lambda sql: sql + " /*M! AS SELECT 1 AS id */",
    "a comment": lambda sql: sql + " -- AS SELECT 1",
    "another comment": lambda sql: sql + " # it ends here",
    "another engine": lambda sql: sql.replace("InnoDB", "FEDERATED CONNECTION='mysql://u@h/d/t'"),
    "a connection": lambda sql: sql + " CONNECTION='mysql://u@h/d/t'",
    "a union": lambda sql: sql.replace("InnoDB", "MRG_MYISAM UNION=(`mysql`.`user`)"),
    "an engine that reads files": lambda sql: sql.replace("InnoDB", "CONNECT TABLE_TYPE=CSV"),
    "the likeness of another": lambda _sql: "CREATE TABLE `mouse` (LIKE `mysql`.`user`)",
    "another likeness": lambda _sql: "CREATE TABLE `mouse` LIKE `mysql`.`user`",
    "a second statement": lambda sql: sql + "; DROP TABLE tru_lab.mouse",
    "a query in a default": lambda sql: sql.replace("'select'", "(SELECT 1)"),
    "a key in a column": lambda sql: sql.replace(
        "`id` int NOT NULL", "`id` int NOT NULL REFERENCES `tru_lab`.`mouse` (`id`)"
    ),
    "nothing": lambda _sql: "",
}  # fmt: skip
PLAIN = (
    "CREATE TABLE `mouse` (\n  `id` int NOT NULL,\n  `note` varchar(20) NOT NULL DEFAULT 'select',"
    "\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_definition_is_a_tables_own_or_is_refused(name: str) -> None:
    prove_definition(PLAIN, "mouse", "the archive x")
    with pytest.raises(ArchiveFailed, match=r"the archive x.*'mouse'"):
        prove_definition(DEFINITIONS[name](PLAIN), "mouse", "the archive x")


@pytest.mark.parametrize(
    "sql",
    [
        ") ENGINE=MyISAM AUTO_INCREMENT=7 DEFAULT CHARSET=latin1 COLLATE=latin1_bin PACK_KEYS=0"
        " CHECKSUM=1 ROW_FORMAT=FIXED COMMENT='as select; -- # /* it''s'",
        ") ENGINE=Aria DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci PAGE_CHECKSUM=1"
        " TRANSACTIONAL=1",
        ") /*!50100 TABLESPACE `select` */ ENGINE=InnoDB /*!80016 DEFAULT ENCRYPTION='N' */",
        ") ENGINE=InnoDB DATA DIRECTORY='/data/'\n/*!50100 PARTITION BY RANGE (to_days(`d`))\n"
        "(PARTITION `as` VALUES LESS THAN (7) DATA DIRECTORY = '/x' ENGINE = InnoDB,\n"
        " PARTITION p1 VALUES LESS THAN MAXVALUE ENGINE = InnoDB) */",
    ],
)
def test_what_servers_show_is_taken(sql: str) -> None:
    columns = "CREATE TABLE `t` (\n  `a` int NOT NULL COMMENT 'SELECT /* # --',\n  `d` date"
    prove_definition(f"{columns} DEFAULT NULL,\n  PRIMARY KEY (`a`)\n{sql}", "t", "x")


def test_an_archive_with_rows_of_another_table_makes_nothing(server: Server, archive: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        table_of(manifest, "mouse")["create"] += " AS SELECT 1 AS id, user AS note FROM mysql.user"

    change(archive, edit)
    with pytest.raises(ArchiveFailed, match="it holds a SELECT"):
        restored(server, archive, programs=False)
    nothing_made(server)


def test_the_record_of_a_backup_on_the_server_is_believed_no_further(server: Server) -> None:
    backup_schema(LAB, BACKUP, connection=server.url)
    server.sql(
        f"UPDATE {BACKUP}.`~migrate_backup` SET content = REPLACE(content, 'ENGINE=InnoDB',"
        " 'ENGINE=FEDERATED') WHERE kind = 'table'"
    )
    with pytest.raises(ArchiveFailed, match="FEDERATED"):
        restored(server, BACKUP)
    nothing_made(server)


def test_a_character_set_is_a_word(archive: Path, server: Server) -> None:
    change(archive, lambda manifest: manifest.update(charset="utf8mb4 READ ONLY = 1"))
    with pytest.raises(ArchiveFailed, match="is no charset"):
        restored(server, archive)


# -- programs ------------------------------------------------------------------------------------

ROOT = "DEFINER=`root`@`localhost`"
EVIL: dict[str, Callable[[dict[str, Any]], object]] = {
    "event": lambda m: program(m, "nightly").update(
        create=f"CREATE {ROOT} EVENT `nightly` ON SCHEDULE EVERY 1 SECOND DO SET @a = 1"
    ),
    "trigger": lambda m: program(m, "tidy").update(
        create=f"CREATE {ROOT} TRIGGER tidy BEFORE INSERT ON mouse FOR EACH ROW SET @a = 1"
    ),
    "view": lambda m: program(m, "mice").update(
        create=f"CREATE ALGORITHM=MERGE {ROOT} SQL SECURITY DEFINER VIEW `mice` AS SELECT 1 AS id"
    ),
    "procedure": lambda m: program(m, "one").update(
        create="CREATE DEFINER = 'root'@'localhost' PROCEDURE `one`() SELECT 1"
    ),
}


@pytest.mark.parametrize("name", EVIL)
def test_a_program_that_would_run_as_another_is_refused_by_name(
    server: Server, archive: Path, name: str
) -> None:
    change(archive, EVIL[name])
    with pytest.raises(InvalidArgument, match=rf"the {name} tru_lab\.\w+ of root@localhost") as no:
        restored(server, archive)
    assert no.value.context["definers"] == ["root@localhost"]
    assert "programs=False" in str(no.value)
    nothing_made(server)


def test_definers_are_accepted_by_name(server: Server, archive: Path) -> None:
    change(archive, EVIL["procedure"])
    with pytest.raises(InvalidArgument):
        restored(server, archive, definers=["root@%"])
    result = restored(server, archive, definers=["root@localhost"])
    assert any("the procedure tru_lab.one of root@localhost" in note for note in result["notes"])
    found = server.sql(
        "SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'tru_back'"
    )
    assert found == [("root@localhost",)]


def test_without_programs_there_are_rows_alone_and_a_note(server: Server, archive: Path) -> None:
    change(archive, EVIL["event"])
    result = restored(server, archive, programs=False)
    assert result["rows_restored"] == 1
    (note,) = result["notes"]
    assert note.startswith("4 views, triggers, routines or events are left out")
    assert there(server, BACK) == []


def test_the_command_line_says_both(
    server: Server, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(archive, EVIL["procedure"])
    monkeypatch.setenv("DJ_PASS", server.password)
    url = f"mysql://{server.user}@{server.host}:{server.port}/"

    def run(dest: str, *more: str) -> Any:
        words = ["restore", str(archive), dest, "--connection", url, *more]
        return CliRunner().invoke(cli.app, words)

    assert run(BACK).exit_code != 0
    nothing_made(server)
    assert run(BACK, "--no-programs").exit_code == 0
    assert there(server, BACK) == []
    server.sql(f"DROP DATABASE {BACK}")
    assert run(BACK, "--definer", "root@localhost").exit_code == 0
    assert "one" in there(server, BACK)


def test_programs_of_an_archive_are_named_with_their_definers(
    server: Server, archive: Path
) -> None:
    # Production still holds every one of them to the letter: nothing is to be asked.
    assert not any("made as" in note for note in restored(server, archive)["notes"])
    server.sql("DROP DATABASE tru_back; DROP DATABASE tru_lab")
    (note,) = restored(server, archive, LAB)["notes"]
    assert "for dj@%" in note
    assert "the event tru_lab.nightly of dj@%" in note
    assert there(server, LAB) == ["mice", "nightly", "one", "tidy"]


def test_a_program_that_reads_the_servers_own_tables_is_not_made(
    server: Server, archive: Path
) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        create = 'CREATE VIEW `mice` AS SELECT user AS id FROM "mysql"."user"'
        program(manifest, "mice").update(create=create, sql_mode="ANSI")
        create = "CREATE PROCEDURE one() /*!50003 SELECT * FROM */ `mysql` . user"
        program(manifest, "one").update(create=create)

    change(archive, edit)
    notes = restored(server, archive)["notes"]
    (said,) = [note for note in notes if "not made" in note]
    assert "the view tru_lab.mice" in said
    assert "the procedure tru_lab.one" in said
    assert there(server, BACK) == ["tidy"]


def test_a_record_on_the_server_is_believed_where_the_server_holds_the_same(
    server: Server,
) -> None:
    server.sql(
        "DROP USER IF EXISTS tru_owner; CREATE USER tru_owner IDENTIFIED BY 'x';"
        "GRANT ALL ON tru_lab.* TO tru_owner;"
        "CREATE DEFINER=tru_owner@`%` PROCEDURE tru_lab.owned() SELECT 2;"
        "CREATE DEFINER=tru_owner@`%` EVENT tru_lab.weekly ON SCHEDULE EVERY 7 DAY DISABLE"
        " DO DELETE FROM tru_lab.mouse WHERE id < 0"
    )
    try:
        backup_schema(LAB, BACKUP, connection=server.url)
        restored(server, BACKUP, LAB, overwrite=True)
        assert "owned" in there(server, LAB)
        assert "weekly" in there(server, LAB)
        # Events are in the record only: nobody answers for this one any more.
        server.sql("DROP DATABASE tru_lab")
        with pytest.raises(InvalidArgument, match=r"the event tru_lab\.weekly of tru_owner@%"):
            restored(server, BACKUP, LAB)
        restored(server, BACKUP, LAB, definers=["tru_owner@%"])
        assert "weekly" in there(server, LAB)
        row = server.sql(
            f"SELECT name, content FROM {BACKUP}.`~migrate_backup` WHERE content LIKE '%owned%'"
        )
        changed = json.loads(str(row[0][1]))
        changed["create"] = f"CREATE {ROOT} PROCEDURE `owned`() SELECT 3"
        text = json.dumps(changed).replace("\\", "\\\\")
        server.sql(
            f"UPDATE {BACKUP}.`~migrate_backup` SET content = '{text}' WHERE kind = 'program'"
            f" AND name = '{row[0][0]}'"
        )
        with pytest.raises(MigrationError, match=r"the procedure tru_lab\.owned of root@localhost"):
            restored(server, BACKUP, LAB, overwrite=True, definers=["tru_owner@%"])
    finally:
        server.sql("DROP USER tru_owner")
