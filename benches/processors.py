"""Processor seconds of servers, for jobs that servers do for us."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from measure import Taken
from servers import Server

TICK = os.sysconf("SC_CLK_TCK")


def spent(*servers: Server) -> float:
    """Processor seconds of private servers since they were started."""
    ticks = 0
    for server in servers:
        # The name in brackets may hold blanks; behind it user and system time are 12th and 13th.
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def with_servers(run: Callable[[], Taken], *servers: Server) -> Taken:
    """What `run` took, the processor seconds of these servers meanwhile among its own."""
    before = spent(*servers)
    taken = run()
    return replace(taken, cpu_seconds=(taken.cpu_seconds or 0) + spent(*servers) - before)


def of_servers(run: Callable[[], Taken], *servers: Server) -> Taken:
    """What `run` took, with the processor seconds of these servers instead of its own."""
    return with_servers(lambda: replace(run(), cpu_seconds=None), *servers)
