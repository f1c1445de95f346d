"""Lines that break, stall or garble between us and a server: an error, and never a wrong row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small as pipelines
from conftest import Fresh
from datajoint_migrate import ConnectionFailed, InternalError, migrate
from datajoint_migrate.limits import LIMITS
from line import Harm, Packet, Rule, line
from people import connect
from servers import Server
from small import Small, unfinished

TRIALS = 4000
# Seconds of silence after which the server is asked; the tests wait for it.
PATIENCE = 2


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones, so that a line breaks between and within them."""
    monkeypatch.setattr(LIMITS, "chunk_bytes", 20_000)


@pytest.fixture
def load() -> str:
    """How rows reach the destination, where it makes no difference."""
    return "LOAD DATA"


both_loads = pytest.mark.parametrize("load", ["LOAD DATA", "INSERT"])


@pytest.fixture
def pair(
    load: str, mysql: Server, mysql_b: Server, fresh: Fresh, tmp_path: Path
) -> tuple[Small, Server]:
    """A pipeline on one server, and the other: the second MySQL refuses LOAD DATA LOCAL."""
    dest, source = (mysql, mysql_b) if load == "LOAD DATA" else (mysql_b, mysql)
    fresh(source, "lin_rig", "lin_lab")
    fresh(dest, "lin_rig_v20", "lin_lab_v20")
    pipeline = pipelines.make(source, "lin", tmp_path)
    pipelines.add_trials(pipeline, TRIALS)
    return pipeline, dest


def run(pipeline: Small, source: str, dest: str, **options: Any) -> dict[str, Any]:
    options |= pipeline.stores
    return migrate(pipeline.map, connection=source, dest_connection=dest, **options)


def finish(pipeline: Small, dest: Server) -> None:
    """The same call over sound lines ends as if nothing had happened."""
    arrived(run(pipeline, pipeline.server.url, dest.url), pipeline, dest)


def arrived(result: dict[str, Any], pipeline: Small, dest: Server) -> None:
    """Every row is there once, and nothing of ours is left."""
    assert result["match"], result["issues"]
    assert result["compatible"], result["issues"]
    for old, new in pipeline.map.items():
        assert not unfinished(dest, new)
        for table in ("mouse", "session", "session__trial") if old == pipeline.lab else ():
            count = f"SELECT COUNT(*) FROM `{{}}`.`{table}`"
            assert dest.sql(count.format(new)) == pipeline.server.sql(count.format(old))


def once(which: Callable[[Packet], bool], harm: Harm, nth: int = 1) -> Rule:
    """Do harm to the nth packet that is meant."""
    seen = 0

    def rule(packet: Packet) -> Harm:
        nonlocal seen
        if not which(packet):
            return None
        seen += 1
        return harm if seen == nth else None

    return rule


def is_row(packet: Packet) -> bool:
    """A row of the large table on its way to us: past the description of its columns."""
    return not packet.upward and packet.command[:1] == b"\x17" and packet.number > 20


def is_load(packet: Packet) -> bool:
    """Rows on their way to the destination."""
    if not packet.upward:
        return False
    if packet.command.startswith(b"\x03LOAD DATA"):
        return packet.number > 1 and len(packet.payload) > 1000
    return packet.command.startswith(b"\x03INSERT INTO `lin_lab_v20`.`session__trial`")


def is_commit(packet: Packet) -> bool:
    return packet.upward and packet.command == b"\x03COMMIT"


# -- the source ----------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["cut", "cut within"])
def test_a_result_that_is_cut_is_a_lost_connection_and_the_same_call_goes_on(
    pair: tuple[Small, Server], harm: Harm
) -> None:
    pipeline, dest = pair
    with line(pipeline.server, once(is_row, harm, 700)) as proxy:
        with pytest.raises(ConnectionFailed, match="snapshot") as caught:
            run(pipeline, proxy.url, dest.url)
        assert len(proxy.harmed) == 1
    assert caught.value.code == "DJM-1103"
    assert "session__trial" in caught.value.message
    assert caught.value.hint is not None
    assert "same call again" in caught.value.hint
    finish(pipeline, dest)


@pytest.mark.parametrize("harm", ["lose", "misnumber"])
def test_a_packet_that_is_lost_or_misnumbered_is_noticed(
    pair: tuple[Small, Server], harm: Harm
) -> None:
    pipeline, dest = pair
    with line(pipeline.server, once(is_row, harm, 700)) as proxy:
        with pytest.raises(InternalError, match=r"packet \d+ where \d+ was due"):
            run(pipeline, proxy.url, dest.url)
        assert len(proxy.harmed) == 1
    finish(pipeline, dest)


def test_a_result_that_stalls_ends_in_bounded_time(pair: tuple[Small, Server]) -> None:
    pipeline, dest = pair
    with line(pipeline.server, once(is_row, "stall", 700)) as proxy:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed, match=f"no byte for {PATIENCE} seconds") as caught:
            run(pipeline, f"{proxy.url}?read_timeout={PATIENCE}", dest.url)
        assert time.monotonic() - began < 20 * PATIENCE
    assert "same call again" in str(caught.value)
    finish(pipeline, dest)


# -- the destination -----------------------------------------------------------------------------


@both_loads
@pytest.mark.parametrize("harm", ["cut", "cut within", "cut after"])
def test_a_load_that_is_cut_is_tried_again(pair: tuple[Small, Server], harm: Harm) -> None:
    pipeline, dest = pair
    retries: list[int] = []
    with line(dest, once(is_load, harm, 4)) as proxy:
        result = run(
            pipeline,
            pipeline.server.url,
            proxy.url,
            on_event=lambda event: retries.append(event.get("retries", 0)),
        )
        assert len(proxy.harmed) == 1
    arrived(result, pipeline, dest)
    assert max(retries) == 1


@pytest.mark.parametrize("harm", ["cut", "cut after"])
def test_a_commit_that_is_cut_is_done_once(pair: tuple[Small, Server], harm: Harm) -> None:
    pipeline, dest = pair
    with line(dest, once(is_commit, harm, 5)) as proxy:
        result = run(pipeline, pipeline.server.url, proxy.url)
        assert len(proxy.harmed) == 1
    arrived(result, pipeline, dest)
    # Rows whose COMMIT was not answered count once, too.
    there = [
        dest.sql(f"SELECT COUNT(*) FROM `{schema}`.`{table}`")[0][0]
        for schema in pipeline.map.values()
        for (table,) in dest.sql(f"SHOW TABLES FROM `{schema}`")
        if not str(table).startswith("~")
    ]
    assert result["rows_copied"] >= sum(int(str(count)) for count in there)


@both_loads
def test_a_commit_still_under_way_is_waited_for(pair: tuple[Small, Server]) -> None:
    """The line breaks while the server holds the commit back; it happens a while later."""
    pipeline, dest = pair
    locker = Locker(dest)
    loads = 0

    def rule(packet: Packet) -> Harm:
        nonlocal loads
        loads += is_load(packet)
        if locker.used or loads < 3 or not is_commit(packet):
            return None
        locker.lock()
        return "cut after"

    with line(dest, rule) as proxy:
        result = run(pipeline, pipeline.server.url, proxy.url, lanes=1)
        assert len(proxy.harmed) == 1
    arrived(result, pipeline, dest)


class Locker:
    """Holds all that writes on a server back for a moment; what has begun must not wait for us."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.used = False

    def lock(self) -> None:
        self.used = True
        ready = threading.Event()
        threading.Thread(target=self._hold, args=(ready,), daemon=True).start()
        ready.wait(10)

    def _hold(self, ready: threading.Event) -> None:
        session = connect(self.server, autocommit=False)
        cursor = session.cursor()
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        ready.set()
        time.sleep(2 * PATIENCE)
        cursor.execute("UNLOCK TABLES")
        session.close()


@both_loads
def test_a_load_that_stalls_ends_in_bounded_time_and_is_tried_again(
    pair: tuple[Small, Server],
) -> None:
    pipeline, dest = pair
    with line(dest, once(is_load, "stall", 4)) as proxy:
        began = time.monotonic()
        result = run(pipeline, pipeline.server.url, f"{proxy.url}?read_timeout={PATIENCE}")
        assert time.monotonic() - began < 20 * PATIENCE
        assert len(proxy.harmed) == 1
    arrived(result, pipeline, dest)


def test_a_slow_statement_is_not_taken_for_a_stalled_line(pair: tuple[Small, Server]) -> None:
    """Rows that wait for a lock longer than a silence lasts are waited for."""
    pipeline, dest = pair
    slow = Locker(dest)
    events: list[dict[str, Any]] = []

    def rule(packet: Packet) -> Harm:
        begins = packet.upward and packet.command == b"\x03START TRANSACTION"
        if begins and packet.connection > 2 and not slow.used:
            slow.lock()
        return None

    with line(dest, rule) as proxy:
        url = f"{proxy.url}?read_timeout={PATIENCE}"
        result = run(pipeline, pipeline.server.url, url, lanes=1, on_event=events.append)
    assert slow.used
    arrived(result, pipeline, dest)
    assert not any(event.get("retries") for event in events)


def test_a_question_about_the_schemas_that_stalls_ends_in_bounded_time(
    pair: tuple[Small, Server],
) -> None:
    pipeline, dest = pair

    def is_answer(packet: Packet) -> bool:
        return not packet.upward and b"SHOW CREATE TABLE" in packet.command

    with line(pipeline.server, once(is_answer, "stall", 3)) as proxy:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed):
            run(pipeline, f"{proxy.url}?read_timeout={PATIENCE}", dest.url)
        assert time.monotonic() - began < 20 * PATIENCE
        assert len(proxy.harmed) == 1


def test_a_server_that_accepts_and_says_nothing_is_given_up(mysql: Server) -> None:
    def rule(packet: Packet) -> Harm:
        return None if packet.upward else "stall"

    with line(mysql, rule) as proxy:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed):
            migrate({"lin_lab": "lin_lab_v20"}, connection=f"{proxy.url}?read_timeout={PATIENCE}")
        assert time.monotonic() - began < 10 * PATIENCE
