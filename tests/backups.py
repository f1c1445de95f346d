"""The small pipeline backed up and restored, and what two schemas are compared by."""

from __future__ import annotations

from typing import Any

from datajoint_migrate import (
    backup_schema,
    restore_schema,
)
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.backup.proof import prove_backup
from servers import Server
from small import MICE, Small

LAB_ROWS = 2 + 3 * MICE + 1
NAMES = [
    name + end
    for name in ("bak_lab", "bak_rig")
    for end in (
        "", "_b", "_test", "_restoring", "_test_restoring", "_before_restore",
        "_before_restore_2", "_before_restore_3",
    )
]  # fmt: skip


def add_programs(small: Small) -> None:
    """A program of each kind, in the lab; the trigger changes every row that is inserted."""
    lab = small.lab
    with resolve(small.server.url).session() as session:
        session.execute(f"USE `{lab}`")
        for sql in (
            "CREATE FUNCTION doubled (x float) RETURNS float DETERMINISTIC RETURN x * 2",
            f"CREATE PROCEDURE count_mice () SELECT COUNT(*) FROM `{lab}`.mouse",
            f"CREATE VIEW heavy AS SELECT mouse_id, `{lab}`.doubled(weight) AS w FROM mouse",
            "CREATE VIEW heavier AS SELECT mouse_id FROM heavy WHERE w > 1",
            "CREATE TRIGGER grow BEFORE INSERT ON mouse FOR EACH ROW"
            " SET NEW.weight = NEW.weight + 1, NEW.dob = '1999-09-09' /* 100% */",
            "CREATE EVENT clean ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01'"
            f" DO DELETE FROM `{lab}`.`~log`",
        ):
            session.execute(sql)


def programs(small: Small, schema: str) -> dict[str, str]:
    """Name and text of the programs of a schema, its own name written as @."""
    with resolve(small.server.url).session() as session:
        found = read_programs(session, schema)
    return {f"{one.kind} {one.name}": one.create.replace(f"`{schema}`", "@") for one in found}


def backup(small: Small, schema: str) -> dict[str, Any]:
    """A backup of a schema, called `<schema>_b`."""
    return backup_schema(schema, f"{schema}_b", connection=small.server.url)


def restore(small: Small, name: str, dest: str, overwrite: bool = False) -> dict[str, Any]:
    return restore_schema(name, dest, overwrite=overwrite, connection=small.server.url)


def definitions(server: Server, schema: str) -> dict[str, list[str]]:
    """Per table the lines of its definition; keys and indexes have no order."""
    with resolve(server.url).session() as session:
        return {
            name: sorted(
                line.strip(" ,")
                for line in session.query(f"SHOW CREATE TABLE `{schema}`.`{name}`")[0][1].split(
                    "\n"
                )
            )
            for name, kind in session.query(f"SHOW FULL TABLES FROM `{schema}`")
            if kind == "BASE TABLE" and not name.startswith("~migrate")
        }


def rows(server: Server, schema: str) -> dict[str, list[str]]:
    """Every row of every table."""
    names = definitions(server, schema)
    with resolve(server.url).session() as session:
        return {
            name: sorted(map(str, session.query(f"SELECT * FROM `{schema}`.`{name}`")))
            for name in names
        }


def schemas(small: Small) -> set[str]:
    return small.schemas_there()


def problems(small: Small, schema: str, name: str) -> list[str]:
    with resolve(small.server.url).session() as session:
        return prove_backup(session, schema, name)
