"""Promises in seconds, proved on a machine that is busy with other things."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def first_served(*processes: int | None) -> Iterator[None]:
    """Give these processes and this one a processor before all others, where this user may.

    What is promised is about what a program waits for. Other workers of the tests, of which there
    are more than processors, may make it wait for one as long again.
    """
    numbers = [os.getpid(), *(number for number in processes if number is not None)]
    _schedule(numbers, os.SCHED_RR, 1)
    try:
        yield
    finally:
        # Threads that were begun meanwhile have what the one that began them had.
        _schedule(numbers, os.SCHED_OTHER, 0)


def _schedule(processes: list[int], policy: int, priority: int) -> None:
    tasks = [int(task.name) for one in processes for task in Path(f"/proc/{one}/task").glob("*")]
    for task in tasks:
        # It may have ended, or this user may not say so.
        with suppress(ProcessLookupError, PermissionError):
            os.sched_setscheduler(task, policy, os.sched_param(priority))
