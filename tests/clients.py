"""Programs of the real DataJoint clients, and ours, without waiting for libraries to load."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

WARM = Path(__file__).with_name("warm.py")
_doors: dict[str, socket.socket] = {}


def run(
    words: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002  (as subprocess calls it)
    check: bool = False,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Like `subprocess.run` with its output captured as text, for `[environments.python(…), …]`.

    The Python stays between calls (`warm.py`) and forks: each program is a process of its own, in
    its own folder and environment, with DataJoint loaded for it alone.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write((input or "").encode())
        given.seek(0)
        program = _Program(words, (given, out, err), cwd, env, timeout)
        try:
            code = program.wait()
        except BaseException:
            # Nobody would wait for it any more, and it would go on writing.
            program.kill()
            raise
        said, complained = (_text(file) for file in (out, err))
    done = subprocess.CompletedProcess([*map(str, words)], code, said, complained)
    if check:
        done.check_returncode()
    return done


class _Program:
    """A program that runs in the waiting Python's place."""

    def __init__(
        self,
        words: Sequence[str | Path],
        files: Sequence[IO[Any]],
        cwd: Path | None,
        env: Mapping[str, str] | None,
        timeout: float,
    ) -> None:
        self.python, *rest = map(str, words)
        request = {
            "words": rest,
            "folder": str(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
        }
        self.returncode: int | None = None
        self._told, writer = socket.socketpair()
        self._told.settimeout(timeout)
        with writer:
            socket.send_fds(
                _door(self.python),
                [json.dumps(request).encode()],
                [*(file.fileno() for file in files), writer.fileno()],
            )
        try:
            self.number = int(self._line())
        except BaseException:
            self._told.close()
            raise

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._line())
            self._told.close()
        return self.returncode

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def kill(self) -> None:
        """From any thread: another may be waiting."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.number, signal.SIGKILL)

    def _line(self) -> str:
        said = b""
        while not said.endswith(b"\n"):
            more = self._told.recv(1)
            if not more:
                raise RuntimeError(f"{self.python} has ended")
            said += more
        return said.decode()


class Talking(_Program):
    """One that is talked with while it runs, line by line, as with `subprocess.Popen`."""

    def __init__(self, words: Sequence[str | Path], *, cwd: Path | None = None) -> None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self.stdin, self.stdout = open(ours_in, "w"), open(ours_out)  # noqa: SIM115
        with open(theirs_in) as given, open(theirs_out, "w") as out:
            super().__init__(words, (given, out, self._err), cwd, None, 600)

    def communicate(self, text: str = "") -> tuple[str, str]:
        """Say the last; all that it says on both streams until it has ended."""
        with self.stdin, self.stdout, self._err:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(text)
                self.stdin.close()
            said = self.stdout.read()
            self.wait()
            return said, _text(self._err)


def _door(python: str) -> socket.socket:
    """The socket of the waiting Python, which is started when it is first asked for."""
    if python not in _doors:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            size = 1 << 22
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            subprocess.Popen(
                [python, str(WARM), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=clean,
            )
        _doors[python] = ours
    return _doors[python]


def _text(file: IO[Any]) -> str:
    file.seek(0)
    said: bytes = file.read()
    return said.decode()
