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
    cutover,
    inspect_schemas,
    migrate,
    scan,
    verify_external_integrity,
)
from datajoint_migrate.catalog.connection import resolve
from datajoint_migrate.errors import MigrationError
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
    done = migrate(pipeline.map, connection=reader, dest_connection=mysql.url, **pipeline.stores)
    assert done["match"]
    assert done["compatible"]
    both = {"connection": reader, "dest_connection": mysql.url}
    assert compare_schemas(pipeline.lab, f"{pipeline.lab}_v20", **both)["match"]
    assert backup_schema(pipeline.lab, tmp_path / "archive", connection=reader)["rows_backed_up"]
    stream = scan(pipeline.lab, "mouse", connection=reader)
    assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows == small.MICE
    found = inspect_schemas(list(pipeline.map), connection=reader)
    assert {schema["name"] for schema in found["schemas"]} == set(pipeline.map)
    assert check_setup(pipeline.map, **both, **pipeline.stores)["checks"]
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
        assert READ_ONLY in statements, statements
        begins = statements.index(READ_ONLY)
        # Before it there is what the connector itself says of character set and autocommit.
        assert all(
            statement.upper().startswith(("SET NAMES", "SET @@SESSION.AUTOCOMMIT"))
            for statement in statements[:begins]
        ), statements[: begins + 1]


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
