"""A server that is after files: whatever it is asked, it asks for one of the client's."""

from __future__ import annotations

import socket
from collections.abc import Callable

from talker import Talker, greeting, send

OK = b"\0\0\0\2\0\0\0"
NONCE = b"12345678123456789012"


class HostileServer(Talker):
    """`answers` gives the answer to a statement, None to ask for `file` instead."""

    def __init__(self, file: str, answers: Callable[[bytes], bytes | None]) -> None:
        self.file = file
        self.answers = answers
        self.asked = 0
        super().__init__()

    def talk(self, client: socket.socket) -> None:
        """Lets everybody in, then answers for as long as it is asked."""
        send(client, 0, greeting(NONCE, "mysql_native_password"))
        self.read(client)
        send(client, 2, OK)
        while True:
            self._answer(client, self.read(client)[1])

    def _answer(self, client: socket.socket, packet: bytes) -> None:
        answer = self.answers(packet)
        if answer is not None:
            send(client, 1, answer)
            return
        self.asked += 1
        send(client, 1, b"\xfb" + self.file.encode())
        # Whatever the client says to this would be the file.
        while self.read(client)[1]:
            pass
        send(client, 3, OK)
