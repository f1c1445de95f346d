"""Many schemas of nearly empty tables: what each costs is counted, and no proof is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from operator import le
from pathlib import Path
from typing import Any

import pytest

import many
from conftest import Fresh, drop
from datajoint_migrate import cutover, estimate_migration, inspect_schemas, migrate, rollback, sync
from datajoint_migrate.verbs.look.inspect import schemas_of_old
from datajoint_migrate.verbs.look.prospect import prospect
from program import program
from servers import Server

# Statements a table by which one call may grow: read, declared, locked by a session of its own
# while the snapshot is opened, copied, compared, counted, proved. Measured: 46.5 where the server
# copies by itself, which it may when nobody has written to the tables for a while.
MIGRATE = 48
# What a session says before its first question, and what is asked of the server as a whole.
SESSION = 40
DIGESTS = "performance_schema.events_statements_summary_by_digest"
FEW, MANY = (3, 12), (9, 36)


def statements(server: Server) -> int:
    return int(server.sql("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1] or 0)


def counted(server: Server, call: Callable[[], Any]) -> tuple[int, Any]:
    before = statements(server)
    result = call()
    return statements(server) - before, result


@pytest.fixture
def labs(mysql: Server, fresh: Fresh) -> tuple[many.Many, many.Many]:
    """A small one and one of three times its size, whose difference is what a table costs."""
    made = []
    for prefix, (schemas, tables) in (("few", FEW), ("many", MANY)):
        names = [f"{prefix}_{number:03}" for number in range(schemas)]
        fresh(mysql, *names, *(f"{name}_v20" for name in names))
        made.append(many.make(mysql, prefix, schemas, tables))
    return made[0], made[1]


def test_a_table_costs_no_more_statements_than_its_proofs_need(
    mysql: Server, labs: tuple[many.Many, many.Many]
) -> None:
    # Nobody may be writing: all is copied one way then.
    mysql.rest(*(name for lab in labs for name in lab.schemas))
    # A lock that is asked for again on a busy machine comes on top, so the least of three counts.
    for _ in range(3):
        # A server that has seen many statements keeps no count of new ones.
        mysql.sql(f"TRUNCATE TABLE {DIGESTS}")
        spent = []
        for lab in labs:
            drop(mysql, *lab.map.values())
            count, result = counted(mysql, partial(migrate, lab.map, connection=mysql.url))
            made = (result["rows_copied"], result["match"], result["issues"])
            assert made == (lab.rows, True, [])
            assert all(found["digest"] for found in result["tables"].values())
            spent.append(count)
        if (spent[1] - spent[0]) / (MANY[1] - FEW[1]) < MIGRATE:
            break
    assert (spent[1] - spent[0]) / (MANY[1] - FEW[1]) < MIGRATE
    # By the comparison, on each side; what the server copied by itself is not counted twice.
    names = ", ".join(f"'{name}'" for name in ("performance_schema", "information_schema"))
    rows = mysql.sql(
        f"SELECT SUM(COUNT_STAR) FROM {DIGESTS}"
        " WHERE DIGEST_TEXT LIKE 'SELECT COUNT ( * ) FROM `many!_0%' ESCAPE '!'"
        f" AND COALESCE(SCHEMA_NAME, '') NOT IN ({names})"
    )
    assert int(rows[0][0] or 0) == 2 * labs[1].tables


def test_a_copy_that_proves_itself_counts_each_table_once_on_each_side(
    mysql: Server, mysql_b: Server, labs: tuple[many.Many, many.Many], fresh: Fresh
) -> None:
    lab = labs[0]
    fresh(mysql_b, *lab.map.values())
    for server in (mysql, mysql_b):
        server.sql(f"TRUNCATE TABLE {DIGESTS}")
    done = migrate(lab.map, connection=mysql.url, dest_connection=mysql_b.url)
    assert (done["rows_copied"], done["match"]) == (lab.rows, True)
    for server in (mysql, mysql_b):
        assert said(server, "SELECT COUNT ( * ) FROM `few!_0%") == lab.tables


def test_looking_at_many_schemas_asks_once_for_what_is_the_same_for_all(
    mysql: Server, labs: tuple[many.Many, many.Many]
) -> None:
    for look in (inspect_schemas, estimate_migration, foreseen):
        asked = []
        for lab in labs:
            mysql.sql(f"TRUNCATE TABLE {DIGESTS}")
            look(lab.schemas, connection=mysql.url)
            # What keys, checks and indexes are is told of one table at a time, `~log` included.
            shown = said(mysql, "SHOW CREATE TABLE %")
            assert shown == lab.tables + len(lab.schemas), (look, shown)
            of_server = "%`information!_schema`%", "SELECT @@%", "SHOW GRANTS%"
            asked.append([said(mysql, one) for one in of_server])
        # Three times the schemas ask no more; an estimate samples few tables rather than many.
        few, more = asked
        assert all(map(le, more, few)), (look, asked)
        assert more[0] > 0
    for lab in labs:
        spent, _ = counted(mysql, partial(inspect_schemas, lab.schemas, connection=mysql.url))
        # Beside those, the first rows of each table with blobs.
        assert spent < 2 * lab.tables + len(lab.schemas) + SESSION
    asked_of_all, found = counted(mysql, partial(schemas_of_old, mysql.url))
    assert {*labs[0].schemas, *labs[1].schemas} <= set(found[0])
    # Which they are is told by one statement; the rest is a session's beginning.
    assert asked_of_all < 20


def test_bringing_up_to_date_and_changing_places_ask_once_for_what_is_the_same_for_all(
    mysql: Server, labs: tuple[many.Many, many.Many]
) -> None:
    """Writers wait for the last sync of a cutover and for the exchange."""
    # Beside one a table, for its fence: those of the catalogue that a schema may cost.
    of_schema = {"sync": 0, "cutover": 2, "rollback": 5}
    mysql.rest(*(name for lab in labs for name in lab.schemas))
    asked: dict[str, list[int]] = {}
    for lab in labs:
        migrate(lab.map, connection=mysql.url)
        # What is noted of the copies is settled by this one.
        sync(lab.map, connection=mysql.url)
        there = {"connection": mysql.url, "execute": True}
        for name, call in {
            "sync": partial(sync, lab.map, connection=mysql.url),
            "cutover": partial(cutover, lab.map, backups="rename", sync=True, **there),
            "rollback": partial(rollback, lab.map, bring_back=True, **there),
        }.items():
            mysql.sql(f"TRUNCATE TABLE {DIGESTS}")
            call()
            asked.setdefault(name, []).append(said(mysql, "%`information!_schema`%"))
    schemas, tables = MANY[0] - FEW[0], MANY[1] - FEW[1]
    for name, (few, more) in asked.items():
        fences = 0 if name == "sync" else tables
        assert 0 < few <= more <= few + fences + of_schema[name] * schemas, (name, few, more)


def foreseen(schemas: Iterable[str], connection: str) -> None:
    """What `dj-migrate plan` asks of a server."""
    seen = prospect(
        schemas, source_stores=None, adapters=None, copy_files=False, connection=connection
    )
    assert seen.estimate is not None


def said(server: Server, pattern: str) -> int:
    """Statements since the digests were emptied, whose text is like this."""
    rows = server.sql(
        f"SELECT SUM(COUNT_STAR) FROM {DIGESTS} WHERE DIGEST_TEXT LIKE '{pattern}' ESCAPE '!'"
    )
    return int(rows[0][0] or 0)


def test_of_many_tables_a_screen_names_those_that_differ(
    mysql: Server, labs: tuple[many.Many, many.Many], tmp_path: Path
) -> None:
    lab = labs[1]
    dj = program(mysql, tmp_path / "here")
    assert dj("plan", *lab.schemas).returncode == 0
    done = dj("run")
    assert done.returncode == 0, done.stderr
    assert f"{MANY[1]} tables are equal; -v lists them" in done.stdout
    assert "differences" not in done.stdout
    assert sum(f"{name}." in done.stdout for name in lab.schemas) == 0
    done = dj("-v", "run")
    assert all(f"{name}.session" in done.stdout for name in lab.schemas[1:]), done.stdout
    mysql.sql(f"SET foreign_key_checks = 0; DELETE FROM {lab.schemas[0]}.mouse LIMIT 1")
    done = dj("compare")
    assert done.returncode == 2, done.stdout
    for name in lab.schemas[1:]:
        assert f"{name} and {name}_v20: equal\n" in done.stdout
    assert "mouse mouse_id=0: production does not have this row" in done.stdout
