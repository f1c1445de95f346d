"""What a server made up for a test begins with: it listens, and reads and writes packets."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType
from typing import Self

# PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, LOCAL_FILES, CONNECT_WITH_DB, TRANSACTIONS.
CAPABILITIES = 0x200 | 0x8000 | 0x80000 | 0x80 | 0x8 | 0x2000
UTF8MB4 = 45


class Talker:
    """Speaks just enough of the protocol; `received` is every packet that clients sent."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def talk(self, client: socket.socket) -> None:
        """The whole conversation; it may end by EOFError or OSError."""
        raise NotImplementedError

    def read(self, client: socket.socket) -> tuple[int, bytes]:
        """The next packet's number, and the packet."""
        head = _exactly(client, 4)
        packet = _exactly(client, int.from_bytes(head[:3], "little"))
        self.received.append(packet)
        return head[3], packet

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                self.talk(client)
        except (OSError, EOFError):
            return


def greeting(nonce: bytes, plugin: str, capabilities: int = CAPABILITIES) -> bytes:
    """A server's first packet."""
    said = b"\x0a8.4.0\0" + struct.pack("<I", 7) + nonce[:8] + b"\0"
    said += struct.pack("<HBHHB", capabilities & 0xFFFF, UTF8MB4, 2, capabilities >> 16, 21)
    return said + bytes(10) + nonce[8:] + b"\0" + plugin.encode() + b"\0"


def send(client: socket.socket, number: int, packet: bytes) -> None:
    """Sends one packet."""
    client.sendall(len(packet).to_bytes(3, "little") + bytes([number]) + packet)


def _exactly(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = client.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found
