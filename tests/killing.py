"""Calls in a process of their own that is killed at a statement, and what must be gone then."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import clients
from line import Harm, Packet, line
from places import TESTS
from servers import Server

PROGRAM = TESTS / "killed.py"


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
    process: clients.Talking | None = None

    def rule(packet: Packet) -> Harm:
        if words.encode() not in packet.command or process is None or packet.upward == done:
            return None
        process.kill()
        return "cut"

    with line(server, rule) as proxy:
        what = {"verb": verb, "arguments": arguments, "options": {**options, through: proxy.url}}
        process = clients.Talking([sys.executable, PROGRAM, json.dumps(what)])
        _, said = process.communicate()
    assert process.returncode == -9, said
    deserted(server)


def deserted(server: Server) -> None:
    """Wait until the server has noticed that its client is gone."""
    until = time.monotonic() + 60
    # The one that asks is there; information_schema may fail on a session that is just ending.
    while [row[1] for row in server.sql("SHOW PROCESSLIST")].count("dj") > 1:
        assert time.monotonic() < until
        time.sleep(0.05)


def nothing_hidden(server: Server, *schemas: str) -> None:
    names = ", ".join(f"'{schema}'" for schema in schemas)
    assert not server.sql(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"
        rf" WHERE TABLE_NAME LIKE '~migrate\_%'"
        " AND TABLE_NAME NOT IN ('~migrate_backup', '~migrate_sync')"
        f" AND TABLE_SCHEMA IN ({names})"
    )
