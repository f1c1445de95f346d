"""SQL of the tests over a private server's socket, without a client program.

A client program takes 60 ms to start, twenty times what its statements take, and tests run more
than a thousand. Standard library only. Each call has a session of its own, as with the program.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

LONG_FLAG, WITH_DATABASE, PROTOCOL_41, TRANSACTIONS = 1 << 2, 1 << 3, 1 << 9, 1 << 13
SECURE, MULTI_STATEMENTS, MULTI_RESULTS, PLUGINS = 1 << 15, 1 << 16, 1 << 17, 1 << 19
CAPABILITIES = (
    1 | LONG_FLAG | PROTOCOL_41 | TRANSACTIONS | SECURE | MULTI_STATEMENTS | MULTI_RESULTS | PLUGINS
)
MORE_RESULTS = 1 << 3
PACKET = 0xFFFFFF
# What the client programs of both servers take for utf8mb4.
COLLATION = {"mysql": 255, "mariadb": 45}

Row = tuple[str | None, ...]


class StatementError(Exception):
    """The server refused the login or a statement; the message is its own."""


@dataclass
class Account:
    """Who asks, and where."""

    kind: str
    socket: str
    user: str
    password: str


def run(account: Account, statements: str, database: str | None = None) -> list[Row]:
    """Run SQL, `DELIMITER` lines included; the rows of all results as text, None for NULL."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(account.socket)
        # The socket stays open as long as its file: an error would keep the session, and its locks.
        with line.makefile("rb") as file:
            session = _Session(line, file)
            session.log_in(account, database)
            try:
                return [row for text in _split(statements) for row in session.query(text)]
            finally:
                session.leave()


def _split(statements: str) -> Iterator[str]:
    """What is sent at once: all that stands under one delimiter; `;` the server splits itself."""
    pieces = re.split(r"(?mi)^[ \t]*DELIMITER[ \t]+(\S+)[ \t]*$", statements)
    delimiters = [";", *pieces[1::2]]
    for delimiter, text in zip(delimiters, pieces[::2], strict=True):
        for each in [text] if delimiter == ";" else text.split(delimiter):
            if each.strip(" \t\r\n;"):
                yield each


class _Session:
    def __init__(self, line: socket.socket, file: BinaryIO) -> None:
        self.line, self.file = line, file
        self.number = 0

    def log_in(self, account: Account, database: str | None) -> None:
        hello = self._read()
        end = hello.index(b"\0", 1)
        challenge = hello[end + 5 : end + 13] + hello[end + 32 : end + 44]
        plugin = hello[end + 45 :].rstrip(b"\0")
        flags = CAPABILITIES | (WITH_DATABASE if database else 0)
        answer = _scramble(plugin, account.password, challenge)
        words = [account.user.encode() + b"\0", bytes([len(answer)]) + answer]
        words += [database.encode() + b"\0"] if database else []
        head = struct.pack("<IIB23x", flags, 1 << 30, COLLATION[account.kind])
        self._write(head + b"".join(words) + plugin + b"\0")
        while True:
            said = self._read()
            if said[:1] == b"\x00":
                return
            if said[:1] == b"\xfe":
                plugin, challenge = said[1:].split(b"\0", 1)
                self._write(_scramble(plugin, account.password, challenge[:20]))
            # The server wants the password itself; over a socket nobody listens.
            elif said == b"\x01\x04":
                self._write(account.password.encode() + b"\0")

    def query(self, text: str) -> list[Row]:
        self.number = 0
        self._write(b"\x03" + text.encode())
        rows: list[Row] = []
        more = True
        while more:
            first = self._read()
            if first[:1] == b"\x00":
                _, at = _length(first, 1)
                _, at = _length(first, at)
                more = bool(int.from_bytes(first[at : at + 2], "little") & MORE_RESULTS)
                continue
            for _ in range(_length(first, 0)[0] + 1):
                self._read()
            while True:
                packet = self._read()
                if packet[:1] == b"\xfe" and len(packet) < 9:
                    more = bool(int.from_bytes(packet[3:5], "little") & MORE_RESULTS)
                    break
                rows.append(tuple(_cells(packet)))
        return rows

    def leave(self) -> None:
        """End it and wait for that: what comes next is not to find it among the server's own."""
        self.number = 0
        with suppress(OSError):
            self._write(b"\x01")
            self.file.read()

    def _read(self) -> bytes:
        whole = b""
        while True:
            head = self.file.read(4)
            size = int.from_bytes(head[:3], "little")
            body = self.file.read(size)
            if len(head) < 4 or len(body) < size:
                raise StatementError("ERROR 2013 (HY000): Lost connection to MySQL server")
            self.number = head[3] + 1
            whole += body
            if size < PACKET:
                break
        if whole[:1] == b"\xff":
            state = whole[4:9].decode() if whole[3:4] == b"#" else "HY000"
            message = whole[9 if whole[3:4] == b"#" else 3 :].decode(errors="replace")
            raise StatementError(
                f"ERROR {int.from_bytes(whole[1:3], 'little')} ({state}): {message}"
            )
        return whole

    def _write(self, body: bytes) -> None:
        while True:
            part, body = body[:PACKET], body[PACKET:]
            head = struct.pack("<I", len(part))[:3] + bytes([self.number % 256])
            self.line.sendall(head + part)
            self.number += 1
            if len(part) < PACKET:
                return


def _scramble(plugin: bytes, password: str, challenge: bytes) -> bytes:
    if not password:
        return b""
    secret = password.encode()
    if plugin == b"mysql_native_password":
        once = hashlib.sha1(secret).digest()
        mask = hashlib.sha1(challenge + hashlib.sha1(once).digest()).digest()
    else:
        once = hashlib.sha256(secret).digest()
        mask = hashlib.sha256(hashlib.sha256(once).digest() + challenge).digest()
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))


def _length(packet: bytes, at: int) -> tuple[int, int]:
    """A length-encoded number and where the next thing begins."""
    first = packet[at]
    wide = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    number = int.from_bytes(packet[at + 1 : at + 1 + wide], "little") if wide else first
    return number, at + 1 + wide


def _cells(packet: bytes) -> Iterator[str | None]:
    at = 0
    while at < len(packet):
        if packet[at] == 0xFB:
            at += 1
            yield None
            continue
        size, at = _length(packet, at)
        yield packet[at : at + size].decode()
        at += size
