"""The test servers themselves: what the other tests take for granted about them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import servers
from servers import Server, ServerError


def test_rows_come_back_as_they_are(mysql: Server) -> None:
    [row] = mysql.sql("SELECT NULL, 'tab\\tline\\nback\\\\slash', '', '猴🐀'")
    assert row == (None, "tab\tline\nback\\slash", "", "猴🐀")


def test_a_wrong_statement_says_what_is_wrong(mysql: Server) -> None:
    with pytest.raises(ServerError, match="1064"):
        mysql.sql("SELEC 1")


def test_local_infile_is_refused_only_by_the_second_mysql(mysql: Server, mysql_b: Server) -> None:
    assert [mysql.sql("SELECT @@local_infile"), mysql_b.sql("SELECT @@local_infile")] == [
        [("1",)],
        [("0",)],
    ]
    assert mysql.sql("SELECT @@server_uuid") != mysql_b.sql("SELECT @@server_uuid")


def test_dumps_are_made_by_the_programs_of_the_server(mysql: Server, mariadb: Server) -> None:
    for server in (mysql, mariadb):
        assert b"CREATE TABLE" in server.client("mysql", "db", program="mysqldump")


def test_a_server_takes_arguments_and_leaves_nothing_behind() -> None:
    server = servers.start("mariadb", arguments=["--character-set-server=latin1"])
    assert server.sql("SELECT @@character_set_server") == [("latin1",)]
    folder, process = server.folder, server.process
    assert process is not None
    assert folder is not None
    assert folder.is_dir()
    server.stop()
    assert process.poll() is not None
    assert not folder.exists()


def test_run_hands_the_command_a_server_and_its_exit_status() -> None:
    asks = "import os, sys; sys.exit(7 if os.environ['DJM_TEST_MARIADB'] else 1)"
    program = str(Path(servers.__file__))
    words = [sys.executable, program, "run", "mariadb", "--", sys.executable, "-c", asks]
    assert subprocess.run(words).returncode == 7
