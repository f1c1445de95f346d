"""A server that is after files: whatever it is asked, it asks for one of the client's."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

OK = b"\0\0\0\2\0\0\0"
# PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, LOCAL_FILES, CONNECT_WITH_DB, TRANSACTIONS.
CAPABILITIES = 0x200 | 0x8000 | 0x80000 | 0x80 | 0x8 | 0x2000
UTF8MB4 = 45


class HostileServer:
    """Speaks just enough of the protocol; `received` is every packet that clients sent.

    `answers` gives the answer to a statement, None to ask for `file` instead.
    """

    def __init__(self, file: str, answers: Callable[[bytes], bytes | None]) -> None:
        self.file = file
        self.answers = answers
        self.received: list[bytes] = []
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> HostileServer:
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
        with client:
            try:
                self._greet(client)
                while True:
                    self._answer(client, self._read(client)[1])
            except (OSError, EOFError):
                return

    def _greet(self, client: socket.socket) -> None:
        plugin = b"mysql_native_password\0"
        low, high = CAPABILITIES & 0xFFFF, CAPABILITIES >> 16
        greeting = b"\x0a8.4.0\0" + struct.pack("<I", 7) + b"12345678\0"
        greeting += struct.pack("<HBHHB", low, UTF8MB4, 2, high, 21) + bytes(10)
        _send(client, 0, greeting + b"123456789012\0" + plugin)
        self._read(client)
        _send(client, 2, OK)

    def _answer(self, client: socket.socket, packet: bytes) -> None:
        answer = self.answers(packet)
        if answer is not None:
            _send(client, 1, answer)
            return
        self.asked += 1
        _send(client, 1, b"\xfb" + self.file.encode())
        # Whatever the client says to this would be the file.
        while self._read(client)[1]:
            pass
        _send(client, 3, OK)

    def _read(self, client: socket.socket) -> tuple[int, bytes]:
        head = _exactly(client, 4)
        packet = _exactly(client, int.from_bytes(head[:3], "little"))
        self.received.append(packet)
        return head[3], packet


def _send(client: socket.socket, number: int, packet: bytes) -> None:
    client.sendall(len(packet).to_bytes(3, "little") + bytes([number]) + packet)


def _exactly(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = client.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found
