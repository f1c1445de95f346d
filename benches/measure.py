"""Taking turns: each contestant runs once a round, and ratios are taken within a round."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent


class Unavailable(Exception):
    """A contestant cannot run here; the message says why."""


@dataclass(frozen=True)
class Taken:
    """One run: seconds, and where they are known the process's own peak memory and CPU seconds."""

    seconds: float
    peak_mib: float | None = None
    cpu_seconds: float | None = None


@dataclass
class Contestant:
    """Something that does a job: `prepare` is not timed, `run` is, `check` says if it was done."""

    name: str
    run: Callable[[], Taken]
    prepare: Callable[[], None] = lambda: None
    check: Callable[[], None] = lambda: None
    taken: list[Taken] = field(default_factory=list)
    unavailable: str | None = None

    @property
    def seconds(self) -> float:
        """The median."""
        return median(taken.seconds for taken in self.taken)

    @property
    def peak_mib(self) -> float | None:
        """The largest of all runs."""
        known = [taken.peak_mib for taken in self.taken if taken.peak_mib is not None]
        return max(known, default=None)

    @property
    def cpu_seconds(self) -> float | None:
        """The median of the process alone; what the server did is not in it."""
        known = [taken.cpu_seconds for taken in self.taken if taken.cpu_seconds is not None]
        return median(known) if known else None


def alternate(contestants: Sequence[Contestant], repeats: int) -> None:
    """Run all in turn, every other round backwards: what one leaves behind must not favour another.

    A contestant that is unavailable is left out of the following rounds.
    """
    for turn in range(repeats):
        for contestant in contestants if turn % 2 == 0 else reversed(contestants):
            if contestant.unavailable is not None:
                continue
            try:
                contestant.prepare()
                taken = contestant.run()
                contestant.check()
            except Unavailable as reason:
                contestant.unavailable = str(reason)
                print(f"  {contestant.name}: not available here: {reason}", file=sys.stderr)
                continue
            contestant.taken.append(taken)
            print(f"  {contestant.name}: {taken.seconds:.2f} s", file=sys.stderr, flush=True)


def ratios(ours: Contestant, peer: Contestant) -> list[float]:
    """How many times longer the peer took, round by round."""
    pairs = zip(ours.taken, peer.taken, strict=True)
    return [theirs.seconds / mine.seconds for mine, theirs in pairs]


def timed(*pipelines: list[list[str]]) -> Taken:
    """Run pipelines of commands side by side; the time until the last of them has ended.

    Raises RuntimeError with the words of a command that failed.
    """
    begun = time.perf_counter()
    started: list[subprocess.Popen[bytes]] = []
    for pipeline in pipelines:
        before = None
        for words in pipeline:
            last = words is pipeline[-1]
            process = subprocess.Popen(
                words,
                stdin=before.stdout if before else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if last else subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            if before is not None and before.stdout is not None:
                before.stdout.close()
            before = process
            started.append(process)
    failed = []
    for process in started:
        # Not communicate(): the standard output belongs to the next command.
        said = process.stderr.read().decode(errors="replace") if process.stderr else ""
        if process.wait():
            failed.append(said.strip()[-2000:])
    seconds = time.perf_counter() - begun
    if failed:
        raise RuntimeError("\n".join(failed))
    return Taken(seconds)


def worker(python: str | Path, script: str, *arguments: Any) -> tuple[Taken, dict[str, Any]]:
    """One of the scripts beside this file in a fresh process: what it measured, what it found."""
    words = [str(python), str(HERE / script)]
    words += [one if isinstance(one, str) else json.dumps(one) for one in arguments]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(words[2:])}:\n{done.stderr.strip()[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Taken(found["seconds"], found.get("peak_mib"), found.get("cpu_seconds")), found


def ours(call: str, **arguments: Any) -> tuple[Taken, dict[str, Any]]:
    """One public function of datajoint_migrate in a fresh process."""
    return worker(sys.executable, "ours.py", call, arguments)
