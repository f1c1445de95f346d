"""Production is only read, by the server's own word, and reading needs no more than SELECT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import small
from conftest import Fresh
from datajoint_migrate import (
    backup_schema,
    check_blobs,
    check_setup,
    check_text,
    compare_schemas,
    copy_all_data,
    create_parallel_schema,
    cutover,
    inspect_schemas,
    migrate,
    scan,
    verify_external_integrity,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.errors import MigrationError, PermissionMissing
from servers import Server
from small import Small

READER = "only_reads"
READ_ONLY = "SET SESSION TRANSACTION READ ONLY"


@pytest.fixture
def pipeline(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    names = small.Small(mysql, "rights", tmp_path / "files")
    fresh(mysql, *names.map.keys(), *names.map.values())
    return small.make(mysql, "rights", tmp_path / "files")


@pytest.fixture
def reader(mysql: Server, pipeline: Small) -> Iterator[str]:
    """A user who may SELECT from production and its copies, and nothing else."""
    mysql.sql(
        f"DROP USER IF EXISTS {READER}; CREATE USER {READER} IDENTIFIED BY 'pw';"
        + "".join(
            f"GRANT SELECT ON `{name}`.* TO {READER};"
            for name in (*pipeline.map, *pipeline.map.values())
        )
    )
    yield f"mysql://{READER}:pw@{mysql.host}:{mysql.port}/"
    mysql.sql(f"DROP USER {READER}")


@pytest.fixture
def log(mysql: Server) -> Iterator[None]:
    """Every statement of every session, in a table of the server."""
    mysql.sql(
        "SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON;"
        "TRUNCATE TABLE mysql.general_log"
    )
    yield
    mysql.sql("SET GLOBAL general_log = OFF; SET GLOBAL log_output = 'FILE'")


def sessions(server: Server) -> dict[str, list[str]]:
    """What each session of the reader said, in its order."""
    said: dict[str, list[str]] = {}
    for thread, argument in server.sql(
        "SELECT thread_id, CONVERT(argument USING utf8mb4) FROM mysql.general_log"
        f" WHERE user_host LIKE '%{READER}%' AND command_type IN ('Query', 'Prepare', 'Execute')"
        " ORDER BY event_time"
    ):
        said.setdefault(str(thread), []).append(str(argument))
    return said


@pytest.mark.usefixtures("log")
def test_whoever_may_only_select_can_do_all_that_reads_production(
    pipeline: Small, reader: str, tmp_path: Path
) -> None:
    mysql = pipeline.server
    unseen = {"unseen": "leave"}
    done = migrate(
        pipeline.map, connection=reader, dest_connection=mysql.url, **pipeline.stores, **unseen
    )
    assert done["match"]
    assert done["compatible"]
    assert any("triggers" in note for note in done["notes"])
    both = {"connection": reader, "dest_connection": mysql.url}
    assert compare_schemas(pipeline.lab, f"{pipeline.lab}_v20", **both)["match"]
    kept = backup_schema(pipeline.lab, tmp_path / "archive", connection=reader, **unseen)
    assert kept["rows_backed_up"]
    stream = scan(pipeline.lab, "mouse", connection=reader)
    assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows == small.MICE
    found = inspect_schemas(list(pipeline.map), connection=reader)
    assert {schema["name"] for schema in found["schemas"]} == set(pipeline.map)
    seen = check_setup(pipeline.map, **both, **pipeline.stores)["checks"]
    assert "unseen" in str([check for check in seen if check["name"].startswith("programs of")])
    assert check_text(pipeline.lab, connection=reader)["ok"]
    assert check_blobs(pipeline.lab, connection=reader)["ok"] is not None
    assert verify_external_integrity(
        pipeline.rig, connection=reader, source_stores=pipeline.source_stores
    )["total_references"]
    told = cutover(pipeline.map, connection=reader)
    assert any("PROCESS" in line for line in told["missing"])

    said = sessions(mysql)
    assert len(said) > 20
    for statements in said.values():
        assert statements[0] == READ_ONLY, statements


def test_the_server_itself_refuses_a_write_of_a_source_session(
    pipeline: Small,
) -> None:
    with (
        resolve(pipeline.server.url).session(read_only=True) as session,
        pytest.raises(MigrationError, match="READ ONLY"),
    ):
        session.execute(f"DELETE FROM `{pipeline.lab}`.session__trial")
    assert pipeline.count(pipeline.lab, "session__trial") == small.MICE


def test_without_a_right_to_lock_the_copy_is_of_one_instant_still_and_says_how(
    pipeline: Small, reader: str, mysql_b: Server, fresh: Fresh
) -> None:
    fresh(mysql_b, f"{pipeline.lab}_v20")
    both = {"connection": reader, "dest_connection": mysql_b.url}
    done = copy_all_data(pipeline.lab, f"{pipeline.lab}_v20", **both)
    assert done["snapshot"] == "single"
    checks = check_setup({pipeline.lab: f"{pipeline.lab}_v20"}, **both)["checks"]
    named = [check for check in checks if "LOCK TABLES" in str(check)]
    assert named, checks


PROGRAMS = """CREATE TRIGGER `{lab}`.shaved BEFORE INSERT ON `{lab}`.session
FOR EACH ROW SET NEW.notes = TRIM(NEW.notes);
CREATE FUNCTION `{lab}`.grams (kilos DOUBLE) RETURNS DOUBLE DETERMINISTIC RETURN kilos * 1000;
CREATE EVENT `{lab}`.nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM `{lab}`.session WHERE FALSE;
CREATE VIEW `{lab}`.heavy AS SELECT * FROM `{lab}`.mouse WHERE weight > 1;"""


@pytest.fixture
def selecting(server: Server, fresh: Fresh, tmp_path: Path) -> Iterator[tuple[Small, str]]:
    """A pipeline with programs, on each kind of server, and a user who may SELECT from it."""
    names = small.Small(server, "selecting", tmp_path / "files")
    fresh(server, *names.map.keys(), *names.map.values())
    made = small.make(server, "selecting", tmp_path / "files")
    server.sql(
        PROGRAMS.format(lab=made.lab)
        + f"DROP USER IF EXISTS {READER}; CREATE USER {READER} IDENTIFIED BY 'pw';"
        + "".join(f"GRANT SELECT ON `{name}`.* TO {READER};" for name in made.map)
    )
    yield made, f"mysql://{READER}:pw@{server.host}:{server.port}/"
    server.sql(f"DROP USER {READER}")


def test_what_cannot_be_seen_is_refused_by_name_before_anything_is_made(
    selecting: tuple[Small, str], mysql_b: Server, tmp_path: Path
) -> None:
    pipeline, reader = selecting
    both = {"connection": reader, "dest_connection": mysql_b.url}
    lab = pipeline.lab
    archive = tmp_path / "archive"
    for call in (
        lambda: migrate(pipeline.map, **both, **pipeline.stores),
        lambda: create_parallel_schema(lab, pipeline.map[lab], **both),
        lambda: backup_schema(lab, archive, connection=reader),
        lambda: backup_schema(
            lab, f"{lab}_kept", connection=reader, dest_connection=pipeline.server.url
        ),
    ):
        with pytest.raises(PermissionMissing) as caught:
            call()
        for word in ("triggers of", "events of", "functions and procedures of", f"{lab}.heavy"):
            assert word in str(caught.value), word
        assert "unseen='leave'" in str(caught.value.hint)
    assert not archive.exists()
    assert not mysql_b.sql(f"SHOW DATABASES LIKE '{pipeline.prefix}%'")
    assert pipeline.schemas_there() == {pipeline.lab, pipeline.rig}
    checks = check_setup(pipeline.map, **both, **pipeline.stores)["checks"]
    assert f"{lab}.heavy" in str(checks)


def test_with_select_alone_keys_are_seen_and_what_stays_behind_is_named(
    selecting: tuple[Small, str], mysql_b: Server, fresh: Fresh, tmp_path: Path
) -> None:
    pipeline, reader = selecting
    fresh(mysql_b, *pipeline.map.values())
    both = {"connection": reader, "dest_connection": mysql_b.url}
    done = migrate(pipeline.map, **both, **pipeline.stores, unseen="leave")
    assert (done["match"], done["compatible"]) == (True, True)
    keys = mysql_b.sql(
        "SELECT COUNT(*) FROM information_schema.REFERENTIAL_CONSTRAINTS"
        f" WHERE CONSTRAINT_SCHEMA LIKE '{pipeline.prefix}%'"
    )
    assert keys == [("4",)]
    notes = " ".join(done["notes"])
    for word in (
        "triggers of",
        "events of",
        "functions and procedures of",
        f"{pipeline.lab}.heavy",
    ):
        assert word in notes, word
    kept = backup_schema(pipeline.lab, tmp_path / "archive", connection=reader, unseen="leave")
    assert f"{pipeline.lab}.heavy" in " ".join(kept["notes"])


def test_whoever_may_see_all_programs_carries_them(
    selecting: tuple[Small, str], mysql_b: Server, fresh: Fresh
) -> None:
    pipeline, reader = selecting
    for name in pipeline.map:
        pipeline.server.sql(
            f"GRANT SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `{name}`.* TO {READER}"
            + (f"; GRANT SELECT ON mysql.proc TO {READER}" * (pipeline.server.kind == "mariadb"))
            + (f"; GRANT SHOW_ROUTINE ON *.* TO {READER}" * (pipeline.server.kind == "mysql"))
        )
    fresh(mysql_b, *pipeline.map.values())
    done = migrate(pipeline.map, connection=reader, dest_connection=mysql_b.url, **pipeline.stores)
    copy = pipeline.map[pipeline.lab]
    for kind, name in (("TRIGGERS", "shaved"), ("EVENTS", "nightly")):
        # What another kind of server does not take is named with its reason.
        notes = [note for note in done["notes"] if name in note and "is not carried over" in note]
        assert mysql_b.sql(f"SHOW {kind} FROM `{copy}`") or notes, done["notes"]
    assert not any("cannot see" in note for note in done["notes"])
