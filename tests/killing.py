"""Calls in a process of their own that is killed at a statement, and what must be gone then."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import clients
from line import Harm, Packet, line
from places import TESTS
from servers import Server

PROGRAM = TESTS / "killed.py"
# What statements that change something begin with, as they are sent.
CHANGES = (
    *(b"\x03ALTER", b"\x03COMMIT", b"\x03CREATE", b"\x03DELETE", b"\x03DROP", b"\x03INSERT"),
    *(b"\x03LOAD", b"\x03RENAME", b"\x03REPLACE", b"\x03UPDATE"),
)


def killed_at(
    server: Server,
    through: str,
    words: str,
    done: bool,
    verb: str,
    *arguments: Any,
    **options: Any,
) -> None:
    """Kill the call before the server gets the statement that holds `words`, or once it is done."""

    def fatal(packet: Packet) -> bool:
        return words.encode() in packet.command and packet.upward != done

    assert _killed(server, through, fatal, verb, arguments, options)


def killed_before(
    server: Server, number: int, through: str, verb: str, *arguments: Any, **options: Any
) -> bool:
    """Kill the call before the server gets its `number`-th change; whether it came so far."""
    seen = itertools.count(1)

    def fatal(packet: Packet) -> bool:
        changes = packet.upward and packet.payload.startswith(CHANGES)
        return changes and next(seen) == number

    return _killed(server, through, fatal, verb, arguments, options)


def _killed(
    server: Server,
    through: str,
    fatal: Callable[[Packet], bool],
    verb: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> bool:
    def words(url: str) -> list[str]:
        what = {"verb": verb, "arguments": arguments, "options": {**options, through: url}}
        return [sys.executable, str(PROGRAM), json.dumps(what)]

    return killed_on_the_way(server, words, fatal)


def killed_on_the_way(
    server: Server, words: Callable[[str], list[str]], fatal: Callable[[Packet], bool]
) -> bool:
    """Kill a program at the first packet that is fatal; whether it was, or ended well before.

    `words` are those of the program, for the URL by which it reaches the server.
    """
    started: Future[clients.Talking] = Future()

    def rule(packet: Packet) -> Harm:
        if not fatal(packet):
            return None
        # It may be at the statement before this process goes on.
        started.result(60).kill()
        return "cut"

    with line(server, rule) as proxy:
        process = clients.Talking(words(proxy.url))
        started.set_result(process)
        _, said = process.communicate()
    deserted(server)
    assert process.returncode in (0, -9), said
    return process.returncode == -9


def deserted(server: Server) -> None:
    """Wait until the server has noticed that its client is gone."""
    until = time.monotonic() + 60
    # The one that asks is there; information_schema may fail on a session that is just ending.
    while len(there := [row for row in server.sql("SHOW PROCESSLIST") if row[1] == "dj"]) > 1:
        assert time.monotonic() < until, there
        time.sleep(0.05)


def nothing_hidden(server: Server, *schemas: str) -> None:
    names = ", ".join(f"'{schema}'" for schema in schemas)
    assert not server.sql(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"
        rf" WHERE TABLE_NAME LIKE '~migrate\_%'"
        " AND TABLE_NAME NOT IN ('~migrate_backup', '~migrate_sync')"
        f" AND TABLE_SCHEMA IN ({names})"
    )
