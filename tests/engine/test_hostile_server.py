"""No server gets a file of this machine, whenever it asks for one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import MigrationError, _core
from datajoint_migrate.catalog.server import resolve
from hostile_server import OK, HostileServer
from servers import Server

SECRET = "nobody-may-have-this"
COM_QUERY, COM_PREPARE, COM_EXECUTE = 3, 0x16, 0x17
UNKNOWN = b"\xff" + (1193).to_bytes(2, "little") + b"#HY000Unknown system variable"


def never(_: bytes) -> bytes | None:
    """Ask for the file at once."""
    return None


def at_the_first_query(packet: bytes) -> bytes | None:
    """Let the session be set up, then ask."""
    return OK if packet[0] == COM_QUERY and packet[1:4].upper() == b"SET" else None


def settled(packet: bytes) -> bytes:
    """What lets a session be set up: no setting of it can be read back, because none is known."""
    return UNKNOWN if b"SELECT CONCAT_WS" in packet else OK


def at_a_prepared_statement(packet: bytes) -> bytes | None:
    """Answer everything but what reads rows."""
    return None if packet[0] in (COM_PREPARE, COM_EXECUTE) else settled(packet)


def at_execution(packet: bytes) -> bytes | None:
    """Prepare a statement, and ask when it is to give its rows."""
    if packet[0] == COM_PREPARE:
        return b"\0\1\0\0\0" + bytes(7)
    return None if packet[0] == COM_EXECUTE else settled(packet)


WAYS = [never, at_the_first_query, at_a_prepared_statement, at_execution]


@pytest.mark.parametrize(
    ("client", "way"),
    # Python's sessions prepare no statements.
    [("engine", way) for way in WAYS] + [("session", way) for way in WAYS[:2]],
)
def test_a_server_that_asks_for_a_file_gets_nothing(
    client: str, way: Callable[[bytes], bytes | None], tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    with HostileServer(str(file), way) as hostile:
        server = resolve(f"mysql://u:p@127.0.0.1:{hostile.port}/")
        if client == "session":
            with pytest.raises(MigrationError):
                server.session(read_only=True).query("SELECT 1")
        else:
            plan: dict[str, Any] = {"source": server.spec(), "schema": "s", "table": "t"}
            with pytest.raises(MigrationError, match="asked for a file"):
                _core.scan({**plan, "columns": ["a"]})
        assert hostile.asked
        assert not [packet for packet in hostile.received if SECRET.encode() in packet]


class Meddler:
    """Stands before a real server and lets its request for rows ask for a file instead."""

    def __init__(self, server: Server, file: Path) -> None:
        self.server, self.sent, self.meddled = server, bytearray(), 0
        name = str(file).encode()
        self.forged = (len(name) + 1).to_bytes(3, "little") + b"\1\xfb" + name
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection((self.server.host, self.server.port))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(*pair, client), daemon=True).start()

    def _carry(self, here: socket.socket, there: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := here.recv(1 << 16):
                if here is client:
                    self.sent += data
                elif b"\5\0\0\1\xfbrows" in data:
                    self.meddled += 1
                    data = data.replace(b"\5\0\0\1\xfbrows", self.forged)
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)


def test_a_load_that_is_asked_for_another_file_sends_none(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, "load_a", "load_b")
    for name in ("load_a", "load_b"):
        mysql.sql(f"CREATE DATABASE {name}; CREATE TABLE {name}.t (id int NOT NULL PRIMARY KEY)")
    mysql.sql("INSERT INTO load_a.t VALUES (1), (2)")
    file = tmp_path / "secret"
    file.write_text(SECRET)
    meddler = Meddler(mysql, file)
    source = resolve(f"{mysql.url}?ssl_mode=disabled").spec()
    column = {"source": "id", "destination": "id", "kind": "value"}
    table = {"source_schema": "load_a", "source_table": "t", "key": ["id"], "columns": [column]}
    table |= {"destination_schema": "load_b", "destination_table": "t"}
    plan = {"source": source, "destination": {**source, "port": meddler.port}, "tables": [table]}
    with pytest.raises(MigrationError, match="asked for a file"):
        _core.copy({**plan, "route": "river", "load": "infile"})
    meddler.listener.close()
    assert meddler.meddled
    assert SECRET.encode() not in meddler.sent
    assert mysql.sql("SELECT COUNT(*) FROM load_b.t") == [("0",)]
