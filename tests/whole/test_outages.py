"""A server that dies amid a call, and comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
import small as pipelines
from conftest import Fresh
from datajoint_migrate import ConnectionFailed, compare_schemas, migrate
from datajoint_migrate.limits import LIMITS, Limits
from line import Harm, Packet, line
from servers import Server
from small import Small, unfinished


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    server = servers.start("mysql")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "chunk_bytes", 20_000)
    # A server that is dead stays dead as long as a test says.
    monkeypatch.setattr(LIMITS, "away_seconds", 2)


def filled(server: Server, fresh: Fresh, folder: Path) -> Small:
    fresh(server, "out_rig", "out_lab")
    pipeline = pipelines.make(server, "out", folder)
    pipelines.add_trials(pipeline, 4000)
    return pipeline


class Away:
    """Cuts the line at one of those statements, and all that come anew for some seconds."""

    def __init__(self, of: bytes, at: int, seconds: float) -> None:
        self.of, self.at, self.seconds = of, at, seconds
        self.seen, self.back, self.last, self.turned_away = 0, 0.0, 0, 0

    def __call__(self, packet: Packet) -> Harm:
        if not self.back:
            self.last = max(self.last, packet.connection)
            if packet.upward and packet.command.startswith(self.of):
                self.seen += 1
                if self.seen == self.at:
                    self.back = time.monotonic() + self.seconds
                    return "cut"
        elif packet.connection > self.last and time.monotonic() < self.back:
            self.turned_away += 1
            return "cut"
        return None


def test_a_server_that_is_away_for_seconds_is_waited_for_and_two_minutes_are_the_limit(
    mysql: Server, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Limits().away_seconds == 120
    pipeline = filled(mysql, fresh, tmp_path)
    for seconds in (2, Limits().away_seconds):
        monkeypatch.setattr(LIMITS, "away_seconds", seconds)
        fresh(mysql, *pipeline.map.values())
        away = Away(b"\x03INSERT INTO `out_lab_v20`.`session__trial`", 9, 9)
        with line(mysql, away) as proxy:
            options: dict[str, Any] = {"assume_quiet": True, **pipeline.stores}
            if seconds == 2:
                with pytest.raises(ConnectionFailed):
                    migrate(pipeline.map, connection=proxy.url, **options)
            else:
                assert migrate(pipeline.map, connection=proxy.url, **options)["match"]
        assert away.turned_away > 2
    equal(pipeline, mysql)


class Death:
    """Kills the server at one of the packets of those statements."""

    def __init__(self, server: Server, of: bytes, at: int) -> None:
        self.server, self.of, self.at, self.seen = server, of, at, 0

    def __call__(self, packet: Packet) -> Harm:
        if packet.command.startswith(self.of):
            self.seen += 1
            if self.seen == self.at:
                self.server.kill()
        return None

    @property
    def came(self) -> bool:
        return self.seen >= self.at


def equal(pipeline: Small, dest: Server) -> None:
    for old, new in pipeline.map.items():
        found = compare_schemas(old, new, connection=pipeline.server.url, dest_connection=dest.url)
        assert found["match"], found
        assert not unfinished(dest, new)


def test_a_destination_that_dies_is_said_to_and_the_same_call_goes_on(
    mysql: Server, mortal: Server, fresh: Fresh, tmp_path: Path
) -> None:
    pipeline = filled(mysql, fresh, tmp_path)
    fresh(mortal, *pipeline.map.values())
    options: dict[str, Any] = {"connection": mysql.url, **pipeline.stores}
    death = Death(mortal, b"\x03LOAD DATA", 12)
    with line(mortal, death) as proxy, pytest.raises(ConnectionFailed) as caught:
        migrate(pipeline.map, dest_connection=proxy.url, **options)
    assert death.came
    assert str(proxy.port) in str(caught.value)
    mortal.restart()
    result = migrate(pipeline.map, dest_connection=mortal.url, **options)
    assert result["match"], result["issues"]
    equal(pipeline, mortal)


def test_production_that_dies_is_said_to_and_the_same_call_goes_on(
    mysql: Server, mortal: Server, fresh: Fresh, tmp_path: Path
) -> None:
    pipeline = filled(mortal, fresh, tmp_path)
    fresh(mysql, *pipeline.map.values())
    options: dict[str, Any] = {"dest_connection": mysql.url, **pipeline.stores}
    death = Death(mortal, b"\x17", 1500)
    with line(mortal, death) as proxy, pytest.raises(ConnectionFailed, match="lost"):
        migrate(pipeline.map, connection=proxy.url, **options)
    assert death.came
    mortal.restart()
    result = migrate(pipeline.map, connection=mortal.url, **options)
    assert result["match"], result["issues"]
    equal(pipeline, mysql)


def test_a_server_that_dies_amid_a_copy_of_its_own_resumes_it(
    mortal: Server, fresh: Fresh, tmp_path: Path
) -> None:
    """Source and destination at once: nothing of it passes through us."""
    pipeline = filled(mortal, fresh, tmp_path)
    fresh(mortal, *pipeline.map.values())
    options: dict[str, Any] = {"assume_quiet": True, **pipeline.stores}
    death = Death(mortal, b"\x03INSERT INTO `out_lab_v20`.`session__trial`", 9)
    with line(mortal, death) as proxy, pytest.raises(ConnectionFailed):
        migrate(pipeline.map, connection=proxy.url, **options)
    assert death.came
    mortal.restart()
    result = migrate(pipeline.map, connection=mortal.url, **options)
    assert result["match"], result["issues"]
    equal(pipeline, mortal)
