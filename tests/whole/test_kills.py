"""The mover is killed amid its statements, wherever a seed says; the same call then finishes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import clients
import small as pipelines
from conftest import SOAK, Fresh
from datajoint_migrate import (
    check_backup,
    compare_schemas,
    copy_all_data,
    create_parallel_schema,
)
from killing import PROGRAM, deserted, nothing_hidden
from line import Harm, Packet, line
from servers import Server
from small import Small

TRIALS = 3000
SEEDS = range(8) if SOAK else range(2)


@dataclass
class Call:
    """What is called and killed, and what must hold when it was called again."""

    verb: str
    arguments: list[Any]
    options: dict[str, Any]
    # The server whose statements count, and the keyword that names it.
    server: Server
    through: str
    proved: Callable[[dict[str, Any]], None]
    # What the call makes, to be gone before the next seed.
    made: list[str]
    before: Callable[[], None] = lambda: None
    # Schemas whose journal tells what a second call need not do again.
    journals: list[str] = field(default_factory=list)

    def words(self, url: str) -> list[str]:
        options = self.options | {self.through: url}
        what = {"verb": self.verb, "arguments": self.arguments, "options": options}
        return [sys.executable, str(PROGRAM), json.dumps(what)]


def filled(server: Server, root: Path) -> Small:
    pipeline = pipelines.make(server, "kil", root)
    pipelines.add_trials(pipeline, TRIALS)
    return pipeline


def gone(server: Server, names: list[str]) -> None:
    drops = "".join(f"DROP DATABASE IF EXISTS `{name}`;" for name in names)
    server.sql("SET foreign_key_checks = 0;" + drops)


def equal(source: Small, dest: Server, schema_map: dict[str, str]) -> None:
    for old, new in schema_map.items():
        found = compare_schemas(old, new, connection=source.server.url, dest_connection=dest.url)
        assert found["match"], found
        assert found["row_count"] > 0
    nothing_hidden(dest, *schema_map.values())


# -- the calls -----------------------------------------------------------------------------------


def migration(source: Small, dest: Server, **options: Any) -> Call:
    def proved(result: dict[str, Any]) -> None:
        assert result["match"], result["issues"]
        assert result["compatible"], result["issues"]
        equal(source, dest, source.map)

    return Call(
        "migrate",
        [source.map],
        {"connection": source.server.url, "dest_connection": dest.url, **source.stores, **options},
        dest,
        "dest_connection",
        proved,
        list(source.map.values()),
        journals=list(source.map.values()),
    )


def inside(source: Small, _other: Server, _folder: Path) -> Call:
    return migration(source, source.server, assume_quiet=True)


def across(source: Small, other: Server, _folder: Path) -> Call:
    return migration(source, other)


def conversion(source: Small, _other: Server, _folder: Path) -> Call:
    dest = source.map[source.rig]
    url = source.server.url

    def before() -> None:
        for old, new in source.map.items():
            create_parallel_schema(old, new, schema_map=source.map, connection=url)
            copy_all_data(old, new, connection=url, **source.stores)

    def proved(_result: dict[str, Any]) -> None:
        for column in ("signal", "paper", "movie"):
            kind = source.value(
                "SELECT DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA ="
                f" '{dest}' AND TABLE_NAME = '_recording' AND COLUMN_NAME = '{column}'"
            )
            assert kind == ("json" if column == "signal" else "binary")
        found = compare_schemas(source.rig, dest, connection=url)
        assert found["match"], found
        nothing_hidden(source.server, dest)

    return Call(
        "migrate_external_to_v20",
        [dest, "Recording", "signal", "external-raw", "raw"],
        {"copy_files": True, "connection": url, **source.stores},
        source.server,
        "connection",
        proved,
        list(source.map.values()),
        before,
    )


def sample(source: Small, other: Server, _folder: Path) -> Call:
    where = "mouse_id < 6"

    def proved(_result: dict[str, Any]) -> None:
        dest = source.map[source.lab]
        rows = other.sql(f"SELECT COUNT(*), SUM(trial) FROM `{dest}`.session__trial")
        assert rows == source.server.sql(
            f"SELECT COUNT(*), SUM(trial) FROM `{source.lab}`.session__trial WHERE {where}"
        )
        assert other.sql(f"SELECT COUNT(*) FROM `{dest}`.mouse") == [("6",)]
        assert other.sql(f"SELECT COUNT(*) FROM `{dest}`.session") == [("6",)]
        assert other.sql(f"SELECT COUNT(*) FROM `{source.map[source.rig]}`._recording") == [("3",)]
        nothing_hidden(other, *source.map.values())

    return Call(
        "copy_sample",
        [],
        {
            "schema_map": source.map,
            "restrictions": {"Session": where, "Recording": "recording_id < 4"},
            "connection": source.server.url,
            "dest_connection": other.url,
            **source.stores,
        },
        other,
        "dest_connection",
        proved,
        list(source.map.values()),
    )


def limited_sample(source: Small, _other: Server, _folder: Path) -> Call:
    call = sample(source, source.server, _folder)

    def proved(_result: dict[str, Any]) -> None:
        dest = source.map[source.lab]
        rows = source.server.sql(f"SELECT COUNT(*) FROM `{dest}`.session__trial")
        # The first thousand of 251 a session, and the rest of the last one's: parts come together.
        assert rows == [("1004",)]
        nothing_hidden(source.server, dest)

    call.options = {
        "restrictions": {"Session.Trial": 1000},
        "connection": source.server.url,
    }
    call.arguments = [source.lab, source.map[source.lab]]
    call.through, call.proved = "connection", proved
    return call


def backup(source: Small, other: Server, _folder: Path) -> Call:
    name = f"{source.lab}_backup"

    def proved(result: dict[str, Any]) -> None:
        assert result["rows_backed_up"] == rows_of(source.server, source.lab)
        found = compare_schemas(
            source.lab, name, connection=source.server.url, dest_connection=other.url
        )
        assert found["match"], found
        nothing_hidden(other, name)

    return Call(
        "backup_schema",
        [source.lab, name],
        {"connection": source.server.url, "dest_connection": other.url},
        other,
        "dest_connection",
        proved,
        [name],
    )


def rows_of(server: Server, schema: str) -> int:
    tables = server.sql(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'"
        f" AND TABLE_SCHEMA = '{schema}'"
    )
    return sum(
        int(str(server.sql(f"SELECT COUNT(*) FROM `{schema}`.`{table}`")[0][0]))
        for (table,) in tables
    )


def archive(source: Small, _other: Server, folder: Path) -> Call:
    def proved(result: dict[str, Any]) -> None:
        assert result["rows_backed_up"] == rows_of(source.server, source.lab)
        checked = check_backup(folder / "archive")
        assert checked["ok"], checked
        assert checked["rows"] == result["rows_backed_up"]

    def before() -> None:
        subprocess.run(["rm", "-rf", str(folder / "archive")], check=True)

    return Call(
        "backup_schema",
        [source.lab, str(folder / "archive")],
        {"connection": source.server.url},
        source.server,
        "connection",
        proved,
        [],
        before,
    )


def restore(source: Small, other: Server, folder: Path) -> Call:
    made = archive(source, other, folder)
    dest = f"{source.lab}_back"

    def before() -> None:
        if not (folder / "archive").exists():
            clients.run(made.words(source.server.url), check=True)

    def proved(result: dict[str, Any]) -> None:
        assert result["rows_restored"] == rows_of(source.server, source.lab)
        found = compare_schemas(
            source.lab, dest, connection=source.server.url, dest_connection=other.url
        )
        assert found["match"], found
        nothing_hidden(other, dest, f"{dest}_restoring")

    return Call(
        "restore_schema",
        [str(folder / "archive"), dest],
        {"connection": other.url},
        other,
        "connection",
        proved,
        [dest, f"{dest}_restoring"],
        before,
    )


CALLS: dict[str, tuple[str, Callable[[Small, Server, Path], Call]]] = {
    "inside one server": ("mysql", inside),
    "LOAD DATA": ("mysql_b", across),
    "INSERT": ("mysql", across),
    "external column": ("mysql", conversion),
    "sample": ("mysql", sample),
    "sample with a limit": ("mysql", limited_sample),
    "backup": ("mysql", backup),
    "archive": ("mysql", archive),
    "restore": ("mysql", restore),
}


# -- the kills -----------------------------------------------------------------------------------


def is_statement(packet: Packet) -> bool:
    # Queries, executions and the data of a load; not preparing, closing and saying goodbye.
    return packet.upward and packet.command[:1] in (b"\x03", b"\x17")


class Killer:
    """What a line is told: it counts statements, and kills a process at one of them."""

    def __init__(self) -> None:
        self.seen = 0
        self.at: int | None = None
        self.process: clients.Talking | None = None

    def __call__(self, packet: Packet) -> Harm:
        if is_statement(packet):
            self.seen += 1
            if self.seen == self.at and self.process:
                self.process.kill()
        return None

    def kill(self, words: list[str], at: int) -> bool:
        """Whether the process came as far as statement `at`, and was killed there."""
        self.seen, self.at = 0, at
        self.process = clients.Talking(words)
        _, said = self.process.communicate()
        assert self.process.returncode in (0, -9), said
        self.at = None
        return self.process.returncode == -9


def journalled(call: Call) -> int | None:
    """Rows of finished chunks, which must be all the rows that are there."""
    done = None
    for schema in call.journals:
        if not call.server.sql(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_NAME = '~migrate_journal'"
            f" AND TABLE_SCHEMA = '{schema}'"
        ):
            continue
        for table, rows in call.server.sql(
            f"SELECT table_name, SUM(row_count) FROM `{schema}`.`~migrate_journal` GROUP BY 1"
        ):
            there = call.server.sql(f"SELECT COUNT(*) FROM `{schema}`.`{table}`")[0][0]
            assert there == rows, table
            done = (done or 0) + int(str(rows))
    return done


@pytest.fixture
def source(name: str, request: pytest.FixtureRequest, fresh: Fresh, tmp_path: Path) -> Small:
    server: Server = request.getfixturevalue(CALLS[name][0])
    fresh(server, "kil_lab_v20", "kil_rig_v20", "kil_lab_backup", "kil_rig", "kil_lab")
    return filled(server, tmp_path / "store")


@pytest.fixture
def other(name: str, request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    other: Server = request.getfixturevalue("mysql_b" if CALLS[name][0] == "mysql" else "mysql")
    names = [
        "kil_lab_v20",
        "kil_rig_v20",
        "kil_lab_backup",
        "kil_lab_back",
        "kil_lab_back_restoring",
    ]
    fresh(other, *names)
    return other


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CALLS)
def test_killed_anywhere_the_same_call_finishes(
    name: str, source: Small, other: Server, tmp_path: Path
) -> None:
    call = CALLS[name][1](source, other, tmp_path)
    killer = Killer()
    with line(call.server, killer) as proxy:
        words = call.words(proxy.url)

        def anew() -> None:
            gone(call.server, call.made)
            call.before()

        anew()
        killer.seen = 0
        clients.run(words, check=True)
        total = killer.seen
        assert total > 20
        for seed in SEEDS:
            anew()
            at = random.Random(f"{name} {seed}").randrange(total // 20, total * 19 // 20)
            # A run asks more often where it waits for something, so none is as long as another.
            while not killer.kill(words, at):
                anew()
                at, total = at * killer.seen // total, killer.seen
            deserted(call.server)
            done = journalled(call)
            finished = clients.run(words)
            assert finished.returncode == 0, f"killed at {at} of {total}: {finished.stderr[-3000:]}"
            result = json.loads(finished.stdout)
            try:
                call.proved(result)
                if done is not None:
                    # What was finished is not done again.
                    assert result["rows_copied"] == user_rows(source) - done
            except AssertionError as error:
                raise AssertionError(f"killed at {at} of {total}: {error}") from error


def user_rows(source: Small) -> int:
    """Rows of the tables that a migration copies."""
    return sum(
        source.count(schema, table)
        for schema, tables in (
            (source.lab, ("#species", "mouse", "session", "session__trial")),
            (source.rig, ("_recording",)),
        )
        for table in tables
    )
