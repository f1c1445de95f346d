"""Passwords and keys are said to nobody: not in output, errors, logs, journals, archives, plans."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import small
from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    MigrationError,
    backup_schema,
    check_setup,
    check_store_configuration,
    copy_store,
    migrate,
    scan,
)
from datajoint_migrate.catalog.server import resolve
from s3 import Bucket
from servers import Server
from small import Small

PASSWORD = "Planted:p@ss/w?rd#%&'\"ö"
PIECES = ("Planted", "w?rd", "w%3Frd", "PlantedKey", "PlantedSecret")
USER = "keeper"
PROGRAM = "from datajoint_migrate.console.cli import main; main()"


@pytest.fixture(scope="module")
def server(mysql: Server) -> Iterator[Server]:
    """The server, with a user who has the planted password."""
    told = PASSWORD.replace("'", "''")
    mysql.sql(f"CREATE USER {USER} IDENTIFIED BY '{told}'; GRANT ALL ON *.* TO {USER}")
    yield mysql
    mysql.sql(f"DROP USER {USER}")


@pytest.fixture
def pipeline(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    names = small.Small(server, "secrets", tmp_path / "files")
    fresh(server, *names.map.keys(), *names.map.values())
    return small.make(server, "secrets", tmp_path / "files")


def url(server: Server, password: str = PASSWORD) -> str:
    return f"mysql://{USER}:{quote(password, safe='')}@{server.host}:{server.port}/"


def keyed(spec: dict[str, Any]) -> dict[str, Any]:
    return spec | {"access_key": "PlantedKey", "secret_key": "PlantedSecret"}


def clean(text: str) -> None:
    """Fail if there is a piece of a secret in it."""
    for piece in PIECES:
        assert piece not in text, text[max(0, text.index(piece) - 200) :][:500]


def told(call: Callable[[], Any]) -> str:
    """Everything an error says, its causes and traceback included."""
    with pytest.raises(MigrationError) as caught:
        call()
    error = caught.value
    lines = traceback.format_exception(error)
    return "".join(lines) + repr(error) + str(error) + json.dumps(error.context, default=str)


def test_a_whole_migration_says_no_secret(
    pipeline: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mysql = pipeline.server
    mysql.sql(
        "SET GLOBAL log_output = 'TABLE'; TRUNCATE TABLE mysql.general_log;"
        "SET GLOBAL general_log = ON"
    )
    events: list[dict[str, Any]] = []
    stores = {
        "source_stores": pipeline.source_stores | {"other": keyed(_nowhere("other"))},
        "dest_stores": pipeline.dest_stores | {"other": keyed(_nowhere("other"))},
    }
    try:
        with caplog.at_level(logging.DEBUG):
            where = {"connection": url(mysql)}
            assert check_setup(pipeline.map, **where, **stores)["checks"]
            planned = migrate(pipeline.map, **where, **stores, dry_run=True)
            done = migrate(pipeline.map, **where, **stores, on_event=events.append)
            assert done["match"]
            kept = backup_schema(pipeline.lab, tmp_path / "archive", **where)
            checked = check_store_configuration(
                pipeline.rig, **where, source_stores=stores["source_stores"]
            )
    finally:
        mysql.sql("SET GLOBAL general_log = OFF; SET GLOBAL log_output = 'FILE'")
    clean(caplog.text)
    for said in (planned, done, kept, checked, events):
        clean(json.dumps(said, default=str, ensure_ascii=False))
    files = [file for file in (tmp_path / "archive").rglob("*") if file.is_file()]
    assert files
    for file in files:
        clean(file.read_bytes().decode("latin1"))
    statements = mysql.sql("SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log")
    assert len(statements) > 100
    clean("\n".join(str(argument) for (argument,) in statements))
    server = resolve(url(mysql))
    with server.session() as session:
        clean(repr(server) + str(server) + repr(session))


def _nowhere(name: str) -> dict[str, Any]:
    return {"protocol": "s3", "endpoint": "127.0.0.1:9", "bucket": "b", "location": name}


def test_no_failure_says_a_secret(server: Server, bucket: Bucket, tmp_path: Path) -> None:
    wrong = url(server, PASSWORD + "-wrong")
    refused = f"mysql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:9/"
    for address in (wrong, refused):
        clean(told(lambda address=address: resolve(address).session()))
        clean(told(lambda address=address: scan("mysql", "user", connection=address)))
    source = keyed(bucket.spec("raw"))
    (tmp_path / "folder").mkdir()
    dest = {"protocol": "file", "location": str(tmp_path / "folder")}
    clean(told(lambda: copy_store(source, dest)))
    clean(told(lambda: resolve({"host": "h", "pasword": PASSWORD})))
    clean(told(lambda: resolve(f"mysql://{USER}:{quote(PASSWORD, safe='')}@h:port/")))


@pytest.mark.parametrize("mark", ["@", "/", "?", "#"])
def test_a_password_that_is_not_escaped_is_not_taken_for_a_host(mark: str) -> None:
    with pytest.raises(InvalidArgument, match="%40 and %2F") as error:
        resolve(f"mysql://u:12{mark}Planted@h/")
    clean(str(error.value))


def test_a_password_of_digits_may_be_a_number() -> None:
    assert resolve({"host": "h", "password": 1234}).password == "1234"


def test_the_program_says_no_secret_and_is_given_none_in_its_words(
    pipeline: Small, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    mysql = pipeline.server
    (folder / "lab.toml").write_text(
        f'[source]\nhost = "{mysql.host}"\nport = {mysql.port}\nuser = "{USER}"\n'
        f"password = {json.dumps(PASSWORD, ensure_ascii=False)}\n"
        f'[stores.source.raw]\nprotocol = "file"\nlocation = "{pipeline.root}"\n'
        f'[stores.destination.raw]\nprotocol = "file"\nlocation = "{pipeline.root}"\n'
        '[stores.source.cold]\nprotocol = "s3"\nendpoint = "127.0.0.1:9"\nbucket = "b"\n'
        'location = "x"\naccess_key = "PlantedKey"\nsecret_key = "PlantedSecret"\n'
    )
    environment = {**os.environ, "DJ_PASS": PASSWORD, "COLUMNS": "200", "TERM": "dumb"}

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=folder, env=environment, **pipes)  # type: ignore[call-overload, no-any-return]

    def run(*words: str) -> str:
        out, err = start(*words).communicate()
        clean(out + err)
        return str(out + err)

    config = ("-c", "lab.toml")
    run("inspect", pipeline.lab, "--json", *config)
    run("plan", pipeline.lab, pipeline.rig, *config)
    clean((folder / "migration.toml").read_text())
    run("doctor", "migration.toml", "--json")
    assert "password on the command line" in run("inspect", "--connection", url(mysql))
    run("backup", pipeline.lab, "./archive", "--json", *config)
    run("compare", pipeline.lab, pipeline.rig, "--json", *config)
    # While it works, other users of the machine and of the server see no secret of it.
    (folder / "pause").touch()
    working = start("backup", pipeline.lab, "./paused", "--pause-file", "pause", *config)
    try:
        sessions = f"SELECT * FROM performance_schema.processlist WHERE user = '{USER}'"
        with resolve(mysql.url).session() as watcher:
            while not (seen := watcher.query(sessions)):
                assert working.poll() is None, working.communicate()
        clean(Path(f"/proc/{working.pid}/cmdline").read_bytes().decode("latin1"))
        clean(str(seen))
        (folder / "pause").unlink()
        out, err = working.communicate()
        clean(out + err)
        assert working.returncode == 0, err
    finally:
        working.kill()
