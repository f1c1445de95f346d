"""`~lineage` names the origin of every key attribute, over all schemas at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import (
    Unconvertible,
    create_parallel_schema,
    inspect_schemas,
    migrate,
    rebuild_lineage,
)
from datajoint_migrate.catalog.neighbours import with_neighbours
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import read_schema
from datajoint_migrate.errors import NotFound
from datajoint_migrate.target import Lineage, compute
from datajoint_migrate.target.lineage import rows_of
from servers import Server

LAB, EPHYS = "lineage_lab", "lineage_ephys"

TABLES = (
    f"CREATE TABLE {LAB}.`#species` (species varchar(24), PRIMARY KEY (species))",
    f"""CREATE TABLE {LAB}.subject (
  subject_id int unsigned, species varchar(24) NOT NULL, name varchar(9), mother int unsigned,
  _0123_timestamp timestamp DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (subject_id),
  FOREIGN KEY (species) REFERENCES {LAB}.`#species` (species),
  FOREIGN KEY (mother) REFERENCES {LAB}.subject (subject_id))""",
    f"""CREATE TABLE {EPHYS}.__sorting (
  subject_id int unsigned, param int, _secret int, PRIMARY KEY (subject_id, param, _secret),
  FOREIGN KEY (subject_id) REFERENCES {LAB}.subject (subject_id))""",
    f"""CREATE TABLE {LAB}.report (
  who int unsigned, param int, PRIMARY KEY (who, param))""",
    f"CREATE TABLE {LAB}.`~log` (id int, PRIMARY KEY (id))",
    f"""CREATE TABLE {LAB}.loop_a (a int, PRIMARY KEY (a))""",
    f"""CREATE TABLE {LAB}.loop_b (a int, PRIMARY KEY (a),
  FOREIGN KEY (a) REFERENCES {LAB}.loop_a (a))""",
    f"ALTER TABLE {LAB}.loop_a ADD FOREIGN KEY (a) REFERENCES {LAB}.loop_b (a)",
    f"CREATE TABLE {LAB}.`~external_raw` (hash binary(16), PRIMARY KEY (hash))",
    f"""CREATE TABLE {LAB}.picture (id int, b binary(16), PRIMARY KEY (id),
  FOREIGN KEY (b) REFERENCES {LAB}.`~external_raw` (hash))""",
)
CIRCLE = (
    f"ALTER TABLE {LAB}.report ADD CONSTRAINT back FOREIGN KEY (who, param)"
    f" REFERENCES {EPHYS}.__sorting (subject_id, param)"
)


@pytest.fixture
def session(mysql: Any) -> Iterator[Session]:
    with resolve(mysql.url).session() as session:
        session.execute("SET foreign_key_checks = 0")
        for name in (LAB, EPHYS):
            session.execute(f"DROP DATABASE IF EXISTS {name}")
            session.execute(f"CREATE DATABASE {name}")
        for sql in TABLES:
            session.execute(sql)
        yield session
        for name in (LAB, EPHYS):
            session.execute(f"DROP DATABASE {name}")


def write(session: Session, names: list[str], *, dry_run: bool = False) -> list[Lineage]:
    """The rows that `rebuild_lineage` has made, or would make."""
    told = rebuild_lineage(names, dry_run=dry_run, connection=session.server)
    schemas = [read_schema(session, name) for name in names]
    rows = rows_of(with_neighbours(session, schemas), names)
    assert told["lineage_entries"] == len(rows)
    return rows


def _found(session: Session, schema: str) -> dict[tuple[str, str], str]:
    rows = session.query(f"SELECT table_name, attribute_name, lineage FROM {schema}.`~lineage`")
    return {(table, attribute): lineage for table, attribute, lineage in rows}


def test_key_attributes_are_traced_to_where_they_were_defined(session: Session) -> None:
    session.execute(CIRCLE)
    write(session, [LAB, EPHYS])
    assert _found(session, EPHYS) == {
        ("__sorting", "subject_id"): "lineage_lab.subject.subject_id",
        ("__sorting", "param"): "lineage_ephys.__sorting.param",
    }
    lab = _found(session, LAB)
    loops = {(table, "a"): lab.pop((table, "a")) for table in ("loop_a", "loop_b")}
    assert lab == {
        ("#species", "species"): "lineage_lab.#species.species",
        ("subject", "subject_id"): "lineage_lab.subject.subject_id",
        ("subject", "species"): "lineage_lab.#species.species",
        ("subject", "mother"): "lineage_lab.subject.subject_id",
        ("report", "who"): "lineage_lab.subject.subject_id",
        ("report", "param"): "lineage_ephys.__sorting.param",
        ("picture", "id"): "lineage_lab.picture.id",
    }
    # A circle of keys has no origin; what matters is that the two can be joined.
    assert len(set(loops.values())) == 1


def test_a_schema_alone_is_traced_into_schemas_that_are_not_written(session: Session) -> None:
    rows = write(session, [EPHYS])
    origin = Lineage(EPHYS, "__sorting", "subject_id", "lineage_lab.subject.subject_id")
    assert origin in rows
    assert "~lineage" not in read_schema(session, LAB).tables


def test_writing_again_replaces_what_was_there(session: Session) -> None:
    first = write(session, [LAB, EPHYS])
    session.execute(f"INSERT INTO {LAB}.`~lineage` VALUES ('gone', 'gone', 'gone.gone.gone')")
    assert write(session, [LAB, EPHYS]) == first
    assert ("gone", "gone") not in _found(session, LAB)


def test_a_dry_run_counts_and_writes_nothing(session: Session) -> None:
    rows = write(session, [LAB, EPHYS], dry_run=True)
    assert "~lineage" not in read_schema(session, LAB).tables
    assert write(session, [LAB, EPHYS]) == rows


def test_lineage_can_be_computed_under_the_names_schemas_will_have(session: Session) -> None:
    schemas = [read_schema(session, name) for name in (LAB, EPHYS)]
    rows = compute(schemas, {LAB: "lab_v20", EPHYS: "ephys_v20"})
    assert Lineage("ephys_v20", "__sorting", "subject_id", "lab_v20.subject.subject_id") in rows
    assert len(rows) == len(compute(schemas))


def test_an_unknown_schema_is_not_found_and_nothing_is_written(session: Session) -> None:
    with pytest.raises(NotFound, match="did you mean 'lineage_lab'"):
        write(session, [EPHYS, "lineage_lap"])
    assert "~lineage" not in read_schema(session, EPHYS).tables


def test_it_equals_what_the_client_rebuilds_where_the_client_can(
    session: Session, mysql: Any, tmp_path: Path
) -> None:
    for name in ("loop_a", "loop_b", "picture"):
        session.execute(f"DROP TABLE {LAB}.{name}")
    # The client gives up on keys that refer to their own table and on schemas in a circle.
    session.execute(f"ALTER TABLE {LAB}.subject DROP FOREIGN KEY subject_ibfk_2")
    write(session, [LAB, EPHYS])
    ours = _found(session, LAB), _found(session, EPHYS)
    code = (
        "import datajoint as dj\n"
        f"for name in ({LAB!r}, {EPHYS!r}):\n    dj.Schema(name).rebuild_lineage()\n"
    )
    account = {"DJ_HOST": mysql.host, "DJ_USER": mysql.user, "DJ_PASS": mysql.password}
    clients.run(
        [environments.python("2.3.5"), "-c", code],
        cwd=tmp_path,
        env={**os.environ, **account, "DJ_PORT": str(mysql.port), "PYTHONPATH": ""},
        check=True,
    )
    assert (_found(session, LAB), _found(session, EPHYS)) == ours


@pytest.mark.parametrize(("collation", "told"), [("utf8mb4_bin", True), (None, False)])
def test_tables_that_lineage_takes_for_one_are_refused_before_anything_is_made(
    mysql: Server, fresh: Fresh, collation: str | None, told: bool
) -> None:
    fresh(mysql, "alike", "alike_v20")
    mysql.sql(
        f"CREATE DATABASE alike{f' COLLATE {collation}' if collation else ''};"
        "CREATE TABLE alike.mouse (mouse_id int PRIMARY KEY);"
        "CREATE TABLE alike.`Mouse` (mouse_id int PRIMARY KEY);"
        "CREATE TABLE alike.`~log` (id int PRIMARY KEY)"
    )
    looked = inspect_schemas(["alike"], connection=mysql.url)["schemas"][0]["obstacles"]
    if told:
        assert looked == []
        assert migrate({"alike": "alike_v20"}, connection=mysql.url)["match"]
        return
    assert "differ by case only" in looked[0]
    for call in (
        lambda: migrate({"alike": "alike_v20"}, connection=mysql.url),
        lambda: create_parallel_schema("alike", "alike_v20", connection=mysql.url),
    ):
        with pytest.raises(Unconvertible, match="differ by case only") as caught:
            call()
        assert "alike.Mouse" in str(caught.value)
        assert "alike.mouse" in str(caught.value)
        assert "RENAME TABLE `alike`.`" in str(caught.value.hint)
    assert mysql.sql("SHOW DATABASES LIKE 'alike\\_v20'") == []
