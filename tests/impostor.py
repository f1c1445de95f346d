"""A listener that is no MySQL and wants the password: by any plugin, with TLS and without."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

from certificates import Pair
from talker import CAPABILITIES, Talker, greeting, send

SSL = 0x800
NONCE = b"12345678123456789012"


class Impostor(Talker):
    """Names `plugin` in its greeting, or switches to it, and takes all that it is given.

    `sealed` is what was encrypted with its own key.
    """

    def __init__(self, folder: Path, plugin: str, *, tls: Pair | None, switch: bool) -> None:
        self.plugin, self.tls, self.switch = plugin, tls, switch
        self.sealed: list[bytes] = []
        self.private = folder / "impostor.pem"
        if not self.private.exists():
            _openssl(f"genrsa -out {self.private} 2048")
        self.public = _openssl(f"rsa -in {self.private} -pubout")
        super().__init__()

    def knows(self, password: str) -> bool:
        """True if it has been given the password in any way."""
        if any(password.encode() in packet for packet in self.received):
            return True
        return any(password.encode() in self._opened(packet) for packet in self.sealed)

    def _opened(self, packet: bytes) -> bytes:
        pad = "-pkeyopt rsa_padding_mode:oaep"
        word = _openssl(f"pkeyutl -decrypt -inkey {self.private} {pad}", packet)
        return bytes(byte ^ NONCE[place % len(NONCE)] for place, byte in enumerate(word))

    def talk(self, client: socket.socket) -> None:
        """Asks for the password until it has it."""
        named = "mysql_native_password" if self.switch else self.plugin
        send(client, 0, greeting(NONCE, named, CAPABILITIES | (SSL if self.tls else 0)))
        number, packet = self.read(client)
        if self.tls and len(packet) == 32:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls.cert, self.tls.key)
            client = context.wrap_socket(client, server_side=True)
            number, packet = self.read(client)
        answered = packet.rstrip(b"\0").endswith(self.plugin.encode())
        if self.switch or not answered:
            send(client, number + 1, b"\xfe" + self.plugin.encode() + b"\0" + NONCE + b"\0")
            number, packet = self.read(client)
        if self.plugin == "caching_sha2_password":
            send(client, number + 1, b"\1\4")
            number, packet = self.read(client)
        if packet in (b"\1", b"\2"):
            send(client, number + 1, b"\1" + self.public)
            number, packet = self.read(client)
            self.sealed.append(packet)
        # It has what it wanted.


def _openssl(words: str, text: bytes | None = None) -> bytes:
    done = subprocess.run(["openssl", *words.split()], input=text, check=True, capture_output=True)
    return done.stdout
