"""`dj-migrate` as a user runs it: a process in a folder, its output, its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clients
from servers import Server
from small import Small

# What the script that pip installs does.
PROGRAM = """
import sys
from dj_migrate import main
sys.argv[0] = "dj-migrate"
main()
"""


@dataclass
class Program:
    """`dj-migrate` in a folder, with its server and password in the environment."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, *words]
        return clients.run(command, cwd=self.folder, env=self.environment)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Not waited for."""
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs the tests in the background has told its children to ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def program(server: Server, folder: Path) -> Program:
    """In a new folder, with this server."""
    folder.mkdir()
    known = {
        "DJ_HOST": server.host,
        "DJ_PORT": str(server.port),
        "DJ_USER": server.user,
        "DJ_PASS": server.password,
    }
    return Program(folder, {**os.environ, **known, "TERM": "dumb"})


def write_stores(small: Small, file: Path) -> None:
    """A file for `--config` with the stores of the pipeline."""
    file.write_text(
        f'[stores.source.raw]\nprotocol = "file"\nlocation = "{small.root}"\nstage = "/stage"\n'
        f'[stores.destination.raw]\nprotocol = "file"\nlocation = "{small.root}"\n'
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Its JSON lines."""
    return [json.loads(line) for line in done.stdout.splitlines()]
