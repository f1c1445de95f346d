"""`dj-migrate demo`: the whole job on a pipeline of its own, on anybody's server."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import record_demo
from conftest import Fresh
from datajoint_migrate import DestinationNotEmpty, InvalidArgument, PermissionMissing
from datajoint_migrate.verbs.demo.demonstrate import PIPELINE, demonstrate, schema_map
from servers import Server

SCHEMAS = (*schema_map(), *schema_map().values())


@pytest.fixture
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    made: Server = request.getfixturevalue(request.param)
    fresh(made, *SCHEMAS)
    return made


@pytest.mark.parametrize("server", ["mysql", "mariadb"], indirect=True)
def test_it_migrates_a_pipeline_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    before = server.sql("SHOW DATABASES")
    account = {"HOST": server.host, "PORT": server.port, "USER": server.user}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dj-migrate")), "demo"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            **{f"DJ_{name}": str(value) for name, value in account.items()},
            "DJ_PASS": server.password,
            "TMPDIR": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"djm_demo_ephys\.recording +12 +0", done.stdout)
    assert "every value is equal" in done.stdout
    assert server.sql("SHOW DATABASES") == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_it_moves_files_and_finds_everything_that_2x_needs(server: Server) -> None:
    result = demonstrate(connection=server.url)
    assert result["match"]
    assert result["compatible"], result["issues"]
    assert result["files_copied"] > 10


@pytest.mark.parametrize("server", ["mysql", "mariadb"], indirect=True)
def test_an_account_with_rights_on_its_own_names_gives_their_prefix(
    server: Server, fresh: Fresh
) -> None:
    named = schema_map("mylab_")
    fresh(server, *named, *named.values())
    server.sql("DROP USER IF EXISTS demo_lab; CREATE USER demo_lab IDENTIFIED BY 'demo_lab'")
    server.sql(r"GRANT ALL ON `mylab\_%`.* TO demo_lab")
    account = f"mysql://demo_lab:demo_lab@{server.host}:{server.port}/"
    with pytest.raises(PermissionMissing, match="privilege CREATE on schema djm_demo_lab") as told:
        demonstrate(connection=account)
    assert "give a prefix of names" in told.value.hint
    result = demonstrate(prefix="mylab_", connection=account)
    assert (result["schemas"], result["match"], result["issues"]) == (named, True, [])
    assert result["files_copied"] > 10
    assert server.sql(r"SHOW DATABASES LIKE 'mylab\_%'") == []
    server.sql("DROP USER demo_lab")


@pytest.mark.parametrize("prefix", ["", "1_", "a`b", "A_", "a" * 41])
def test_a_prefix_that_is_no_name_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidArgument, match="prefix is"):
        demonstrate(prefix=prefix, connection="mysql://nobody@127.0.0.1:1/")


@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_a_schema_that_is_there_is_left_alone(server: Server) -> None:
    server.sql("CREATE DATABASE djm_demo_ephys_v20; CREATE TABLE djm_demo_ephys_v20.mine (a int)")
    with pytest.raises(DestinationNotEmpty, match="djm_demo_ephys_v20"):
        demonstrate(connection=server.url)
    assert server.sql("SHOW TABLES IN djm_demo_ephys_v20") == [("mine",)]
    assert server.sql("SHOW DATABASES LIKE 'djm\\_demo%'") == [("djm_demo_ephys_v20",)]


@pytest.mark.parametrize("server", ["mysql"], indirect=True)
def test_what_comes_along_is_what_0146_declares_and_fills(server: Server, tmp_path: Path) -> None:
    fresh, stored = record_demo.record(server, tmp_path)
    kept = (PIPELINE / "pipeline.sql").read_text(encoding="utf-8")
    assert tables(kept) == tables(fresh)
    assert len(tables(kept)) > 10
    assert inserted(kept) == inserted(fresh)
    with zipfile.ZipFile(io.BytesIO((PIPELINE / "store.zip").read_bytes())) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == stored


def tables(text: str) -> list[str]:
    """The definitions."""
    return re.findall(r"^CREATE TABLE .*?;$", text, re.DOTALL | re.MULTILINE)


def inserted(text: str) -> list[str]:
    """The tables that have rows, but for the log, whose lines come and go with the client."""
    return [
        name for name in re.findall(r"^INSERT INTO `(.*?)`", text, re.MULTILINE) if name != "~log"
    ]
