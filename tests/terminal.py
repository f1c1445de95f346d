"""A program in a pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from program import PROGRAM, Program

WAIT_SECONDS = 240
ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>]")


class Screen:
    """What a stream of bytes draws: lines of any number, each as wide as the terminal at most."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines: list[str] = [""]
        self.row = self.column = 0
        # Lines that the terminal had to fold.
        self.folded = 0

    def feed(self, text: str) -> None:
        """Draw more."""
        at = 0
        while at < len(text):
            found = ESCAPE.match(text, at)
            if found:
                self._escape(found[1] or "", found[2] or "")
                at = found.end()
                continue
            self._put(text[at])
            at += 1

    def _put(self, letter: str) -> None:
        if letter == "\n":
            self.row += 1
            self.column = 0
        elif letter == "\r":
            self.column = 0
        elif letter == "\b":
            self.column = max(self.column - 1, 0)
        elif letter >= " ":
            if self.column >= self.columns:
                self.folded += 1
                self.row += 1
                self.column = 0
            self._grow()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1
        self._grow()

    def _escape(self, numbers: str, kind: str) -> None:
        first = int(numbers.split(";")[0]) if numbers[:1].isdigit() else 0
        if kind == "A":
            self.row = max(self.row - max(first, 1), 0)
        elif kind == "G":
            self.column = max(first - 1, 0)
        elif kind == "K":
            self._grow()
            kept = "" if first == 2 else self.lines[self.row][: self.column]
            self.lines[self.row] = kept

    def _grow(self) -> None:
        while len(self.lines) <= self.row:
            self.lines.append("")

    @property
    def text(self) -> str:
        """What stands there now."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


class Terminal:
    """`dj-migrate` in a pseudo-terminal."""

    def __init__(self, dj: Program, *words: str, columns: int = 80) -> None:
        self.screen = Screen(columns)
        self.seen = ""
        self._rest = b""
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {k: v for k, v in dj.environment.items() if k not in ("COLUMNS", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=dj.folder,
            env={**environment, "TERM": "xterm-256color"},
            stdin=other,
            stdout=other,
            stderr=other,
            # It is the one that hears Ctrl-C.
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(other)

    def read(self, seconds: float = 0.1) -> bool:
        """Draw what comes within this time; False when the program has ended and all is read."""
        if not select.select([self._main], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._main, 65536)
        except OSError:
            self._draw()
            return False
        self._rest += data
        # A letter or an escape may be cut in two.
        keep = self._rest[-8:] if b"\x1b" in self._rest[-8:] or data[-1] >= 0x80 else b""
        if keep and select.select([self._main], [], [], 0.05)[0]:
            return self.read(seconds)
        self._draw()
        return bool(data)

    def _draw(self) -> None:
        text = self._rest.decode("utf-8", "ignore")
        self._rest = b""
        self.seen += text
        self.screen.feed(text)

    def until(self, words: str, *, ever: bool = False) -> str:
        """Read until the screen shows this (or has `ever` shown it); what it shows then."""
        end = time.monotonic() + WAIT_SECONDS
        while words not in (self.seen if ever else self.screen.text):
            assert time.monotonic() < end, f"{words!r} never came:\n{self.screen.text}"
            assert self.read(), f"it ended without {words!r}:\n{self.screen.text}"
        return self.screen.text

    def line(self, begin: str, words: str) -> str:
        """Read until a line of the screen begins so and has these words; the line."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            for line in self.screen.text.splitlines():
                if line.startswith(begin) and words in line:
                    return line
            assert time.monotonic() < end, f"no line {begin!r} came:\n{self.screen.text}"
            assert self.read(), f"it ended without a line {begin!r}:\n{self.screen.text}"

    def type(self, text: str) -> None:
        """Keys, Ctrl-C among them."""
        os.write(self._main, text.encode())

    def press_ctrl_c(self) -> None:
        """The signal that a terminal sends for it."""
        os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for its end: the exit code, and what the screen shows."""
        end = time.monotonic() + WAIT_SECONDS
        while self.read():
            assert time.monotonic() < end, f"it does not end:\n{self.screen.text}"
            if self.process.poll() is not None and not select.select([self._main], [], [], 0.2)[0]:
                break
        code = self.process.wait(WAIT_SECONDS)
        os.close(self._main)
        return code, self.screen.text


def shown(dj: Program, *words: str, columns: int = 80) -> tuple[int, str]:
    """Exit code and screen of a command."""
    terminal = Terminal(dj, *words, columns=columns)
    code, screen = terminal.end()
    return code, screen
