"""The connection that is meant when none is given, or not the whole of one: DataJoint's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import clients
import environments
from datajoint_migrate.catalog.server import Server, resolve
from places import ROOT
from servers import Server as Running

TELL = """
import json
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.secrecy import reveal
server = resolve()
print(json.dumps([server.host, server.port, server.user, reveal(server.password)]))
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a home without any configuration."""
    for name in list(os.environ):
        if name.startswith("DJ_"):
            monkeypatch.delenv(name)
    (tmp_path / "here" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))


def save(path: Path, **settings: object) -> None:
    said = {f"database.{key}": value for key, value in settings.items()}
    path.write_text(json.dumps(said))


def told(client: str | None, **variables: str) -> list[object]:
    """Host, port, user and password, where this client is installed or none is."""
    environment = {**os.environ, **variables}
    python = sys.executable
    if client:
        python = str(environments.python(client))
        packages = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
        environment["PYTHONPATH"] = f"{ROOT / 'python'}:{packages}"
    done = clients.run([python, "-W", "ignore", "-c", TELL], env=environment)
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("client", [None, "0.14.6", "2.3.5"])
def test_the_file_of_0146_is_read_whatever_is_installed(client: str | None, tmp_path: Path) -> None:
    save(tmp_path / ".datajoint_config.json", host="home", user="somebody", password="x")
    save(Path("dj_local_conf.json"), host="db.lab", port=3307, user="me", password="file")
    assert told(client) == ["db.lab", 3307, "me", "file"]
    # The variables win, and the port with them.
    named = {"DJ_HOST": "other", "DJ_PORT": "3399", "DJ_USER": "you", "DJ_PASS": "said"}
    assert told(client, **named) == ["other", 3399, "you", "said"]
    assert told(client, DJ_PASS="said") == ["db.lab", 3307, "me", "said"]


@pytest.mark.parametrize("client", [None, "0.14.6", "2.3.5"])
def test_the_port_of_the_variable_is_used(client: str | None) -> None:
    named = {"DJ_HOST": "h", "DJ_PORT": "34200", "DJ_USER": "u", "DJ_PASS": "p"}
    assert told(client, **named) == ["h", 34200, "u", "p"]


@pytest.mark.parametrize("client", [None, "2.3.5"])
def test_the_configuration_of_2x_is_read_with_its_secrets(client: str | None) -> None:
    Path("datajoint.json").write_text(json.dumps({"database": {"host": "new", "port": 3308}}))
    Path(".secrets").mkdir()
    Path(".secrets/database.user").write_text("me\n")
    Path(".secrets/database.password").write_text("hush\n")
    assert told(client) == ["new", 3308, "me", "hush"]


def test_a_file_at_home_counts_where_there_is_none_in_the_folder(tmp_path: Path) -> None:
    save(tmp_path / ".datajoint_config.json", host="home", user="me", password=1234)
    assert resolve() == Server(host="home", user="me", password="1234")


def test_a_connection_without_a_password_takes_the_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("HOST", "h"), ("PORT", "3307"), ("USER", "u"), ("PASS", "p")):
        monkeypatch.setenv(f"DJ_{name}", value)
    assert resolve("mysql://me@db:3308/") == Server("db", 3308, "me", "p")
    # A port belongs to its host.
    assert resolve("mysql://db/") == Server("db", 3306, "u", "p")
    assert resolve({"ssl_mode": "required"}) == Server("h", 3307, "u", "p", ssl_mode="required")
    assert resolve({"host": "db", "passwd": "mine"}) == Server("db", 3306, "u", "mine")
    assert resolve("mysql://me:@db/") == Server("db", 3306, "me", "")
    assert resolve({"unix_socket": "/s", "user": "me"}).port == 3306


def test_the_program_takes_the_password_of_the_variable(mysql: Running, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from datajoint_migrate.console.cli import main; main()"]
    place = f"mysql://{mysql.user}@{mysql.host}:{mysql.port}/"
    plan = tmp_path / "lab.toml"
    plan.write_text(f'[source]\nhost = "{mysql.host}"\nport = {mysql.port}\nuser = "{mysql.user}"')
    for words in (["--connection", place], ["-c", str(plan)]):
        done = subprocess.run(
            [*program, "inspect", "mysql_is_no_pipeline", "--json", *words],
            env={**os.environ, "DJ_PASS": mysql.password},
            capture_output=True,
            text=True,
        )
        # What this server holds besides is other tests' affair: it was reached, which is enough.
        assert "there is no schema" in done.stdout + done.stderr, done.stdout + done.stderr
