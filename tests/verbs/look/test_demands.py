"""What a server demands is looked at before anything is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import servers
import small
from datajoint_migrate import (
    backup_schema,
    check_setup,
    copy_all_data,
    copy_sample,
    copy_table_data,
    create_parallel_schema,
    migrate,
    restore_schema,
)
from datajoint_migrate.call import connections
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.errors import (
    ConnectionFailed,
    ExternalMissing,
    MigrationError,
    ServerError,
    Unconvertible,
)
from servers import Server
from small import Small

PLAIN = "plain"


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A MySQL with a binary log, whose settings and accounts may be changed at will."""
    server = servers.start("mysql", arguments=["--log-bin", "--server-id=1"])
    yield server
    server.stop()


@pytest.fixture
def pipeline(strict: Server, tmp_path: Path) -> Iterator[Small]:
    """A pipeline, and a user who may do everything with it and nothing else."""
    made = small.make(strict, "demands", tmp_path / "files")
    strict.sql(
        f"DROP USER IF EXISTS {PLAIN}; CREATE USER {PLAIN} IDENTIFIED BY 'pw';"
        f"GRANT ALL ON `demands\\_%`.* TO {PLAIN}"
    )
    yield made
    strict.sql(
        f"DROP USER {PLAIN}; SET foreign_key_checks = 0;"
        + "".join(f"DROP DATABASE `{name}`;" for name in made.schemas_there())
    )


def url(server: Server) -> str:
    return f"mysql://{PLAIN}:pw@{server.host}:{server.port}/"


def run(pipeline: Small, **options: object) -> dict[str, object]:
    both = {"connection": url(pipeline.server), **pipeline.stores, **options}
    return migrate(pipeline.map, **both)  # type: ignore[arg-type]


def refused(pipeline: Small, error: type[MigrationError], *words: str, **options: object) -> str:
    """The hint of the refusal, after which nothing is there."""
    with pytest.raises(error) as caught:
        run(pipeline, **options)
    for word in words:
        assert word in str(caught.value), caught.value
    assert pipeline.schemas_there() == {pipeline.lab, pipeline.rig}
    return str(caught.value.hint)


def test_a_log_of_statements_is_set_aside_or_refused_by_name(pipeline: Small) -> None:
    server = pipeline.server
    server.sql("SET GLOBAL binlog_format = STATEMENT")
    try:
        hint = refused(pipeline, ServerError, "binlog_format = STATEMENT")
        assert "SESSION_VARIABLES_ADMIN" in hint
        checks = check_setup(pipeline.map, connection=url(server), **pipeline.stores)["checks"]
        assert [one["ok"] for one in checks if "binlog_format" in one["detail"]] == [False]
        done = run(pipeline, connection=server.url)
        assert done["match"]
    finally:
        server.sql("SET GLOBAL binlog_format = ROW")


@pytest.mark.parametrize(
    "setting", ["sql_require_primary_key", "sql_generate_invisible_primary_key"]
)
def test_tables_without_a_key_are_named_where_the_server_wants_one(
    pipeline: Small, setting: str
) -> None:
    server = pipeline.server
    server.sql(
        f"CREATE TABLE `{pipeline.lab}`.loose (x INT);"
        f"INSERT INTO `{pipeline.lab}`.loose VALUES (1);"
        f"SET GLOBAL {setting} = ON"
    )
    try:
        refused(pipeline, Unconvertible, setting, f"{pipeline.lab}.loose")
        with pytest.raises(Unconvertible, match="loose"):
            backup_schema(pipeline.lab, f"{pipeline.lab}_kept", connection=url(server))
        assert pipeline.schemas_there() == {pipeline.lab, pipeline.rig}
        if setting == "sql_generate_invisible_primary_key":
            # Whoever may, sets it aside.
            done = run(pipeline, connection=server.url)
            assert (done["match"], done["compatible"]) == (True, True)
            assert not server.sql(f"SHOW COLUMNS FROM `{pipeline.lab}_v20`.loose LIKE 'my_row_id'")
    finally:
        server.sql(f"SET GLOBAL {setting} = OFF")


@pytest.mark.parametrize("lanes", [1, 4])
def test_connections_are_counted_before_anything_is_made(pipeline: Small, lanes: int) -> None:
    server = pipeline.server
    server.sql(f"ALTER USER {PLAIN} WITH MAX_USER_CONNECTIONS 5")
    try:
        hint = refused(
            pipeline, ConnectionFailed, f"lanes={lanes}", "MAX_USER_CONNECTIONS", lanes=lanes
        )
        needed = int(hint.split()[-1])
        # What the refusal asks for is enough.
        server.sql(f"ALTER USER {PLAIN} WITH MAX_USER_CONNECTIONS {needed}")
        assert run(pipeline, lanes=lanes)["match"]
    finally:
        server.sql(f"ALTER USER {PLAIN} WITH MAX_USER_CONNECTIONS 0")


def test_a_connection_that_is_just_ending_keeps_no_call_from_beginning(
    pipeline: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pipeline.server
    server.sql(f"ALTER USER {PLAIN} WITH MAX_USER_CONNECTIONS 5")
    try:
        hint = refused(pipeline, ConnectionFailed, "MAX_USER_CONNECTIONS")
        server.sql(f"ALTER USER {PLAIN} WITH MAX_USER_CONNECTIONS {hint.split()[-1]}")
        ending = resolve(url(server)).session()
        waited: list[float] = []

        def wait(seconds: float) -> None:
            waited.append(seconds)
            ending.close()
            time.sleep(seconds)

        monkeypatch.setattr(connections, "time", Mock(sleep=wait))
        assert run(pipeline)["match"]
        assert waited
    finally:
        server.sql(f"ALTER USER {PLAIN} WITH MAX_USER_CONNECTIONS 0")


def test_connections_of_archives_samples_and_single_tables_are_counted_too(
    pipeline: Small, tmp_path: Path
) -> None:
    server, archive = pipeline.server, str(tmp_path / "archive")
    lab, back = pipeline.lab, f"{pipeline.lab}_v20"
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (backup_schema, (lab, archive)),
        (restore_schema, (archive, back)),
        (copy_table_data, (lab, back, "#species")),
        (copy_sample, (lab, back, {"Mouse": 2})),
    ]
    for call, arguments in calls:
        if call in (copy_table_data, copy_sample):
            server.sql(f"SET foreign_key_checks = 0; DROP DATABASE `{back}`")
        if call is copy_table_data:
            create_parallel_schema(lab, back, connection=server.url)
        before = pipeline.schemas_there()
        server.sql(f"ALTER USER {PLAIN} WITH MAX_USER_CONNECTIONS 4")
        try:
            with pytest.raises(ConnectionFailed, match="MAX_USER_CONNECTIONS") as caught:
                call(*arguments, connection=url(server))
        finally:
            server.sql(f"ALTER USER {PLAIN} WITH MAX_USER_CONNECTIONS 0")
        assert caught.value.code == "DJM-1206", call
        assert pipeline.schemas_there() == before
        assert call is not backup_schema or not Path(archive).exists()
        call(*arguments, connection=url(server))


@pytest.mark.parametrize("copy_files", [False, True])
def test_missing_files_are_named_before_anything_is_made(
    pipeline: Small, tmp_path: Path, copy_files: bool
) -> None:
    (pipeline.root / "movies" / "m 3.avi").unlink()
    (tmp_path / "new").mkdir()
    stores = pipeline.stores | {
        "dest_stores": {"raw": {"protocol": "file", "location": str(tmp_path / "new")}}
    }
    refused(
        pipeline,
        ExternalMissing,
        "m 3.avi",
        copy_files=copy_files,
        **(stores if copy_files else {}),
    )
    assert not list((tmp_path / "new").rglob("*"))


def shorter(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


HARMS = {shorter: "is damaged", longer: "is damaged", folder: "is a folder", pipe: "FIFO"}


@pytest.mark.parametrize("copy_files", [False, True])
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kind", ["m 3.avi", "paper 3.pdf"])
def test_files_that_a_run_would_be_refused_for_are_named_by_all_that_look_before_it(
    pipeline: Small, tmp_path: Path, kind: str, harm: Callable[[Path], None], copy_files: bool
) -> None:
    (file,) = pipeline.root.rglob(f"*{kind}")
    harm(file)
    (tmp_path / "new").mkdir()
    stores = pipeline.stores
    if copy_files:
        place = {"protocol": "file", "location": str(tmp_path / "new")}
        stores = stores | {"dest_stores": {"raw": place}}
    options = {"copy_files": copy_files, **stores}
    for dry_run in (True, False):
        refused(pipeline, ExternalMissing, kind, HARMS[harm], dry_run=dry_run, **options)
        with pytest.raises(ExternalMissing, match=kind):
            copy_all_data(
                pipeline.rig,
                pipeline.map[pipeline.rig],
                schema_map=pipeline.map,
                dry_run=dry_run,
                connection=url(pipeline.server),
                **options,
            )
    assert pipeline.schemas_there() == {pipeline.lab, pipeline.rig}
    looked = check_setup(pipeline.map, connection=url(pipeline.server), **options)
    (said,) = [one["detail"] for one in looked["checks"] if not one["ok"]]
    assert kind in said
    assert HARMS[harm] in said
    assert not list((tmp_path / "new").rglob("*"))


# A call in a process that may read only what it has the right to, whoever it is.
CALL = """
import json, sys
import datajoint_migrate
name, args, named = json.load(sys.stdin)
try:
    done = getattr(datajoint_migrate, name)(*args, **named)
    said = [one["detail"] for one in done["checks"] if not one["ok"]] if "checks" in done else []
except datajoint_migrate.MigrationError as error:
    said = [f"{type(error).__name__}: {error}"]
print(json.dumps(said))
"""


def said_by(name: str, *args: object, **named: object) -> list[str]:
    """What the call is refused for."""
    words = [sys.executable, "-c", CALL]
    if os.geteuid() == 0:
        # The superuser reads everything by two capabilities.
        words = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *words]
    given = json.dumps([name, args, named])
    done = subprocess.run(words, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("kind", ["m 3.avi", "paper 3.pdf"])
def test_files_that_may_not_be_read_are_named_before_anything_is_made_of_them(
    pipeline: Small, tmp_path: Path, kind: str
) -> None:
    (file,) = pipeline.root.rglob(f"*{kind}")
    file.chmod(0)
    new = tmp_path / "new"
    new.mkdir()
    place = {"raw": {"protocol": "file", "location": str(new)}}
    options = {"connection": url(pipeline.server), **pipeline.stores, "dest_stores": place}
    for name, more in (
        ("check_setup", {}),
        ("migrate", {"dry_run": True}),
        ("migrate", {}),
    ):
        (said,) = said_by(name, pipeline.map, copy_files=True, **options, **more)
        assert kind in said
        assert "Permission denied" in said
        assert pipeline.schemas_there() == {pipeline.lab, pipeline.rig}
    assert not list(new.rglob("*"))
    # What is neither copied nor rewritten is not opened: whoever moves rows need not read it.
    if kind == "m 3.avi":
        assert said_by("migrate", pipeline.map, **{**options, **pipeline.stores}) == []


def test_a_wrong_password_is_counted_once(pipeline: Small) -> None:
    server = pipeline.server
    server.sql(f"ALTER USER {PLAIN} FAILED_LOGIN_ATTEMPTS 2 PASSWORD_LOCK_TIME 1")
    wrong = url(server).replace(":pw@", ":no@")
    with pytest.raises(ConnectionFailed, match="refused the login"):
        migrate(pipeline.map, connection=wrong, **pipeline.stores)
    assert migrate(pipeline.map, connection=url(server), **pipeline.stores)["match"]


def test_a_server_in_offline_mode_is_called_that(pipeline: Small) -> None:
    server = pipeline.server
    server.sql("SET GLOBAL offline_mode = ON")
    try:
        with pytest.raises(ConnectionFailed, match="offline mode") as caught:
            run(pipeline)
        assert "offline_mode = OFF" in str(caught.value.hint)
    finally:
        server.sql("SET GLOBAL offline_mode = OFF")
