"""A proxy before a MySQL server that knows packets and does harm when it is told to."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from servers import Server

CLIENT_SSL = 0x0800
# What to do with a packet: nothing; end the connection before or after it; end it in the middle
# of it; let nothing pass any more, in either direction; leave it out; give it a wrong number.
Harm = Literal["cut", "cut after", "cut within", "stall", "lose", "misnumber"] | None


@dataclass
class Packet:
    """One packet as it passes."""

    connection: int
    """The how manieth connection to the proxy, from 1."""
    upward: bool
    """From the client to the server."""
    payload: bytes
    command: bytes
    """The statement it belongs to, empty before the first."""
    number: int
    """The how manieth of its direction since that statement, from 1."""


Rule = Callable[[Packet], Harm]


@dataclass
class Line:
    """The proxy: where it listens, what it did."""

    server: Server
    rule: Rule
    # Whether a client may encrypt, and then sends nothing more that the proxy can read.
    tls: bool = False
    harmed: list[Packet] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closed: threading.Event = field(default_factory=threading.Event)
    stalled: bool = False

    def __post_init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.count = 0

    @property
    def url(self) -> str:
        """As `Server.url`, through the proxy."""
        parts = urlsplit(self.server.url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}"))

    def serve(self) -> None:
        while not self.closed.is_set():
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection((self.server.host, self.server.port))
            except OSError:
                # As a port on which nobody listens.
                client.close()
                continue
            self.count += 1
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Connection(self, self.count, client, upstream).start()

    def decide(self, packet: Packet) -> Harm:
        with self.lock:
            harm = self.rule(packet)
            if harm:
                self.harmed.append(packet)
            return harm


class _Connection:
    def __init__(
        self, line: Line, number: int, client: socket.socket, upstream: socket.socket
    ) -> None:
        self.line = line
        self.number = number
        self.ends = {True: client, False: upstream}
        self.command = b""
        self.seen = {True: 0, False: 0}
        self.greeted = False
        self.stalled = threading.Event()

    def start(self) -> None:
        for upward in (True, False):
            threading.Thread(target=self._pump, args=(upward,), daemon=True).start()

    def _pump(self, upward: bool) -> None:
        stream = self.ends[upward].makefile("rb", buffering=1 << 18)
        try:
            while header := _exactly(stream, 4):
                payload = _exactly(stream, int.from_bytes(header[:3], "little"))
                if payload is None or not self._pass(upward, header, payload):
                    break
        except OSError:
            pass
        self._close()

    def _pass(self, upward: bool, header: bytes, payload: bytes) -> bool:
        if not upward and not self.greeted:
            self.greeted = True
            payload = payload if self.line.tls else _without_tls(payload)
        if upward and header[3] == 0:
            self.command = payload
            self.seen = {True: 0, False: 0}
        self.seen[upward] += 1
        packet = Packet(self.number, upward, payload, self.command, self.seen[upward])
        harm = None if self.stalled.is_set() else self.line.decide(packet)
        if harm == "stall":
            self.stalled.set()
        if self.stalled.is_set():
            # The connection stays open and moves nothing, as one through a forgetful firewall.
            self.line.closed.wait()
            return False
        out = self.ends[not upward]
        if harm == "cut":
            return False
        if harm == "cut within":
            out.sendall(header + payload[: len(payload) // 2])
            return False
        if harm == "misnumber":
            header = header[:3] + bytes([(header[3] + 1) % 256])
        if harm != "lose":
            out.sendall(header + payload)
        return harm != "cut after"

    def _close(self) -> None:
        for end in self.ends.values():
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _without_tls(greeting: bytes) -> bytes:
    """The first packet of a server, offering no TLS: what is encrypted has no packets."""
    if greeting[:1] != b"\x0a":
        # A server without room says no more than an error.
        return greeting
    # Version as text, number of the session, half of a challenge and a zero come before the flags.
    at = greeting.index(b"\0") + 1 + 4 + 8 + 1
    (flags,) = struct.unpack_from("<H", greeting, at)
    return greeting[:at] + struct.pack("<H", flags & ~CLIENT_SSL) + greeting[at + 2 :]


def _exactly(stream: object, size: int) -> bytes | None:
    data: bytes = stream.read(size)  # type: ignore[attr-defined]
    return data if len(data) == size else None


@contextmanager
def line(server: Server, rule: Rule, tls: bool = False) -> Iterator[Line]:
    """A proxy before the server, for as long as the block lasts; it offers no TLS unless asked."""
    proxy = Line(server, rule, tls)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closed.set()
        proxy.socket.shutdown(socket.SHUT_RDWR)
        proxy.socket.close()
        thread.join()
