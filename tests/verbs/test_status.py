"""Where a migration stands is told by what the servers hold, to whoever asks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    PermissionMissing,
    backup_schema,
    cutover,
    migrate,
    rollback,
    status,
    sync,
)
from datajoint_migrate.console.cli import app
from line import Harm, Packet, line
from pair import make_pair
from servers import Server

MAP = {"stands_a": "stands_a_v20", "stands_b": "stands_b_v20"}
BACKUPS = {"stands_a": "stands_a_bak", "stands_b": "stands_b_bak"}
ALL = [f"{name}{end}" for name in MAP for end in ("", "_v20", "_old", "_bak")]
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def states(server: Server, said: Mapping[str, str] = MAP) -> list[str]:
    return [one["state"] for one in status(said, connection=server.url)["schemas"]]


def test_every_stage_of_a_migration_is_told_with_its_next_command(
    server: Server, fresh: Fresh
) -> None:
    fresh(server, *ALL)
    assert states(server) == ["missing", "missing"]
    make_pair(server, *MAP)
    said = status(MAP, connection=server.url)
    assert [one["state"] for one in said["schemas"]] == ["not begun", "not begun"]
    assert said["next"] == "dj-migrate run"
    assert all(
        one["copied"] is one["cutover"] is one["progress"] is None for one in said["schemas"]
    )

    seen: list[dict[str, Any]] = []

    def stop(event: dict[str, Any]) -> None:
        if event.get("verb") != "copy":
            return
        said = status(MAP, connection=server.url)
        # The first event may come before both copies have begun.
        if {one["state"] for one in said["schemas"]} == {"copying"}:
            seen.append(said)
            raise KeyboardInterrupt

    def hold(packet: Packet) -> Harm:
        """No row comes to the copy: that of so few may be over before it is told of."""
        rows = packet.upward and packet.payload.startswith((b"\x03INSERT", b"\x03LOAD"))
        found = rows and re.search(rb"`stands_(a_v20`.`mouse|b_v20`.`__scan)`", packet.payload)
        return "stall" if found else None

    with line(server, hold) as proxy, pytest.raises(KeyboardInterrupt):
        migrate(MAP, connection=proxy.url, on_event=stop)
    assert all(one["at_work"] for one in seen[0]["schemas"])
    assert states(server) == ["copying", "copying"]
    assert not any(one["at_work"] for one in status(MAP, connection=server.url)["schemas"])

    migrate(MAP, connection=server.url)
    backup_schema("stands_a", "stands_a_bak", connection=server.url)
    first, second = status(MAP, connection=server.url)["schemas"]
    assert (first["state"], second["state"]) == ("copied", "copied")
    assert first["copied"]["tables"] > 0
    assert TIME.fullmatch(first["copied"]["at"])
    (backup,) = first["backups"]
    assert (backup["place"], backup["proved"]) == ("stands_a_bak", True)
    assert backup["rows"] > 0
    assert TIME.fullmatch(backup["at"])
    assert second["backups"] == []
    assert first["compared"] is not None

    backup_schema("stands_b", "stands_b_bak", connection=server.url)
    cutover(MAP, backups=BACKUPS, connection=server.url, execute=True)
    said = status(MAP, connection=server.url)
    assert [one["state"] for one in said["schemas"]] == ["cut over", "cut over"]
    for one in said["schemas"]:
        assert one["cutover"]["archive"] == one["source"] + "_old"
        assert TIME.fullmatch(one["cutover"]["at"])
        assert one["cutover"]["steps_done"] == one["cutover"]["steps"]
        assert one["copied"]["tables"] > 0
    assert said["next"] == "dj-migrate rollback"
    rollback(MAP, connection=server.url, execute=True)
    assert states(server) == ["copied", "copied"]


def test_the_schema_that_is_furthest_behind_names_the_next_command(
    mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, *ALL)
    for name in MAP:
        mysql.sql(f"CREATE DATABASE {name}; CREATE TABLE {name}.mouse (mouse_id int PRIMARY KEY)")
    migrate({"stands_a": "stands_a_v20"}, connection=mysql.url)
    said = status(MAP, connection=mysql.url)
    assert [one["state"] for one in said["schemas"]] == ["copied", "not begun"]
    assert said["next"] == "dj-migrate run"
    with pytest.raises(InvalidArgument):
        status({}, connection=mysql.url)


def test_what_production_has_written_since_is_behind_and_counted_when_asked(
    server: Server, fresh: Fresh
) -> None:
    fresh(server, *ALL)
    one = {"stands_a": "stands_a_v20"}
    server.sql("CREATE DATABASE stands_a; CREATE TABLE stands_a.mouse (mouse_id int PRIMARY KEY)")
    server.sql("INSERT INTO stands_a.mouse VALUES (1), (2)")
    migrate(one, connection=server.url)
    server.sql("INSERT INTO stands_a.mouse VALUES (3)")
    (said,) = status(one, connection=server.url)["schemas"]
    assert said["behind"] == {"tables": ["mouse"], "rows": None}
    assert said["next"] == "dj-migrate sync"
    assert said["compared"] is not None
    (said,) = status(one, connection=server.url, count=True)["schemas"]
    assert said["behind"] == {"tables": ["mouse"], "rows": 1}
    sync(one, connection=server.url)
    (said,) = status(one, connection=server.url, count=True)["schemas"]
    assert said["behind"] == {"tables": [], "rows": 0}


def test_what_cannot_be_counted_names_no_option_that_status_has_not(
    mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, *ALL)
    make_pair(mysql, *MAP)
    migrate(MAP, connection=mysql.url)
    mysql.sql("INSERT INTO stands_a.mouse (mouse_id) VALUES (77)")
    reads = f"mysql://stands_bare:pw@{mysql.host}:{mysql.port}/"
    mysql.sql(
        "DROP USER IF EXISTS stands_bare; CREATE USER stands_bare IDENTIFIED BY 'pw';"
        r"GRANT SELECT ON `stands\_%`.* TO stands_bare"
    )
    for call in (
        lambda: status(MAP, connection=reads, count=True),
        lambda: sync(MAP, connection=reads, dry_run=True),
    ):
        with pytest.raises(PermissionMissing, match="cannot be seen by stands_bare") as caught:
            call()
        assert "GRANT SHOW VIEW, TRIGGER" in str(caught.value.hint)
        assert "unseen" not in str(caught.value.hint)
    mysql.sql("DROP USER stands_bare")


def test_two_servers_tell_as_one_does_and_the_command_says_it(
    mysql: Server, mysql_b: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, *ALL)
    fresh(mysql_b, *ALL)
    make_pair(mysql, *MAP)
    migrate(MAP, connection=mysql.url, dest_connection=mysql_b.url)
    backup_schema("stands_a", "stands_a_bak", connection=mysql.url)
    said = status(MAP, connection=mysql.url, dest_connection=mysql_b.url)
    assert [one["state"] for one in said["schemas"]] == ["copied", "copied"]
    assert [len(one["backups"]) for one in said["schemas"]] == [1, 0]
    plan = tmp_path / "migration.toml"
    plan.write_text(
        "".join(
            f'[{end}]\nhost = "{one.host}"\nport = {one.port}\nuser = "{one.user}"\n'
            f'password = "{one.password}"\n'
            for end, one in (("source", mysql), ("destination", mysql_b))
        )
        + "[schemas]\n"
        + "".join(f'{a} = "{b}"\n' for a, b in MAP.items())
    )
    plan.chmod(0o600)
    done = CliRunner().invoke(app, ["status", str(plan)])
    assert done.exit_code == 0, done.output
    assert "stands_b" in done.output
    assert "next dj-migrate" in done.output
    done = CliRunner().invoke(app, ["status", str(plan), "--json"])
    found = json.loads(done.stdout)["result"]
    assert [one["state"] for one in found["schemas"]] == ["copied", "copied"]


def test_of_a_copy_that_remembers_nothing_it_is_said_to_be_not_known(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    """One of an older release, or one whose notes somebody has taken away."""
    fresh(server, *ALL)
    one = {"stands_a": "stands_a_v20"}
    make_pair(server, *MAP)
    migrate(MAP, connection=server.url)
    server.sql("DROP TABLE stands_a_v20.`~migrate_sync`")
    for count in (False, True):
        (said,) = status(one, connection=server.url, count=count)["schemas"]
        assert (said["state"], said["behind"], said["compared"]) == ("copied", None, None)
    plan = tmp_path / "migration.toml"
    plan.write_text(
        f'[source]\nhost = "{server.host}"\nport = {server.port}\nuser = "{server.user}"\n'
        f'password = "{server.password}"\n[schemas]\nstands_a = "stands_a_v20"\n'
    )
    plan.chmod(0o600)
    done = CliRunner().invoke(app, ["status", str(plan)])
    assert done.exit_code == 0, done.output
    assert "not known" in done.output


DESK = """
import json, sys
from datajoint_migrate import status
said = status(json.loads(sys.argv[2]), connection=sys.argv[1], count=True)
print(json.dumps(said["schemas"], sort_keys=True))
"""


def test_a_second_person_at_another_desk_sees_the_same(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    """At every stage, with an account that may only read, and nothing of the first one's files."""
    fresh(server, *ALL)
    make_pair(server, *MAP)
    reads = f"mysql://stands_reads:pw@{server.host}:{server.port}/"
    server.sql(
        "DROP USER IF EXISTS stands_reads; CREATE USER stands_reads IDENTIFIED BY 'pw';"
        "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE, PROCESS ON *.* TO"
        " stands_reads"
    )

    def both() -> list[str]:
        first = status(MAP, connection=server.url, count=True)["schemas"]
        words = [sys.executable, "-c", DESK, reads, json.dumps(MAP)]
        desk = {**os.environ, "HOME": str(tmp_path)}
        other = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=desk)
        assert other.returncode == 0, other.stderr
        assert json.loads(other.stdout) == json.loads(json.dumps(first))
        return [one["state"] for one in first]

    try:
        assert both() == ["not begun", "not begun"]
        migrate(MAP, connection=server.url)
        for name, backup in BACKUPS.items():
            backup_schema(name, backup, connection=server.url)
        assert both() == ["copied", "copied"]
        server.sql("INSERT INTO stands_a.mouse (mouse_id) VALUES (77)")
        assert both() == ["copied", "copied"]
        sync(MAP, connection=server.url)
        cutover(MAP, backups="rename", connection=server.url, execute=True, sync=True)
        assert both() == ["cut over", "cut over"]
        rollback(MAP, connection=server.url, execute=True)
        assert both() == ["copied", "copied"]
    finally:
        server.sql("DROP USER stands_reads")
