"""How the sessions on this side log in: scrambles by mysql-connector, the password by our rule.

The engine has the rule of whom a password is given to (`rust/core/src/mysql/trust.rs`). The
connector has none for TLS, cannot encrypt a password, writes every answer into its log, and loads
whatever plugin a server names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mysql.connector.authentication import MySQLAuthenticator
from mysql.connector.errors import InterfaceError, NotSupportedError
from mysql.connector.plugins import MySQLAuthPlugin
from mysql.connector.plugins.caching_sha2_password import MySQLCachingSHA2PasswordAuthPlugin
from mysql.connector.plugins.mysql_native_password import MySQLNativePasswordAuthPlugin

from datajoint_migrate import _core

FULL_AUTHENTICATION = b"\4"
NONCE_BYTES = 20
# By which each plugin asks a server for its public key.
ASK_FOR_KEY = {"caching_sha2_password": b"\2", "sha256_password": b"\1"}
PROVING: dict[str, type[MySQLAuthPlugin]] = {
    "mysql_native_password": MySQLNativePasswordAuthPlugin,
    "caching_sha2_password": MySQLCachingSHA2PasswordAuthPlugin,
}
# What the greeting is answered with when it names another: the server switches where it must.
FIRST = "caching_sha2_password"
ASKING = ("sha256_password", "mysql_clear_password")


class Login(MySQLAuthPlugin):
    """One plugin's part of a login, for all plugins that are known here."""

    def __init__(
        self, plugin: str, server: Mapping[str, Any], username: str, ssl_enabled: bool
    ) -> None:
        super().__init__(username, server["password"], ssl_enabled=ssl_enabled)
        self._plugin = plugin
        self._server = dict(server)
        self.nonce = b""

    @property
    def name(self) -> str:
        return self._plugin

    @property
    def requires_ssl(self) -> bool:
        return False

    def auth_response(self, auth_data: bytes, **kwargs: Any) -> bytes | None:
        if len(auth_data) != NONCE_BYTES:
            # A shorter one means something else to the connector.
            raise InterfaceError("the server's challenge is none")
        self.nonce = auth_data
        proving = PROVING[self._plugin](
            self._username, self._password, ssl_enabled=self._ssl_enabled
        )
        return proving.auth_response(auth_data, **kwargs)

    def auth_switch_response(self, sock: Any, auth_data: bytes, **kwargs: Any) -> bytes:
        self.nonce = auth_data
        if self._plugin in ASKING:
            return self._give(sock)
        # Without a password the answer is empty, and sent.
        sock.send(self.auth_response(auth_data, **kwargs) or b"")
        return bytes(sock.recv())

    def auth_more_response(self, sock: Any, auth_data: bytes, **_: Any) -> bytes:
        if self._plugin == FIRST and auth_data == FULL_AUTHENTICATION:
            return self._give(sock)
        return bytes(sock.recv())

    def _give(self, sock: Any) -> bytes:
        asked = (self._server, self._plugin, self._ssl_enabled, self.nonce)
        given = _core.password_for(*asked, None)
        if given is None:
            sock.send(ASK_FOR_KEY[self._plugin])
            answer = bytes(sock.recv())
            if answer[4:5] != b"\1":
                raise InterfaceError("the server sends no public key")
            given = _core.password_for(*asked, answer[5:])
        sock.send(given)
        return bytes(sock.recv())


class Authenticator(MySQLAuthenticator):
    """The connector's, with our plugins only."""

    def __init__(self, server: Mapping[str, Any]) -> None:
        super().__init__()
        self._server = server
        self._nonce = b""

    def authenticate(self, sock: Any, handshake: Any, *args: Any, **kwargs: Any) -> bytes:
        if handshake.get("auth_plugin") not in PROVING:
            handshake = {**handshake, "auth_plugin": FIRST}
        # Whatever was asked for by name would be loaded by it.
        self._nonce = handshake["auth_data"]
        kwargs |= {"auth_plugin": None, "auth_plugin_class": None}
        return bytes(super().authenticate(sock, handshake, *args, **kwargs))

    def _handle_server_response(self, sock: Any, pkt: bytes) -> bytes | None:
        if not isinstance(self._auth_strategy, Login):
            # The one of the greeting was made by the connector.
            self._switch_auth_strategy(str(self._auth_strategy and self._auth_strategy.name))
            cast(Login, self._auth_strategy).nonce = self._nonce
        return super()._handle_server_response(sock, pkt)

    def _switch_auth_strategy(self, new_strategy_name: str, *_: Any, **__: Any) -> None:
        if new_strategy_name not in (*PROVING, *ASKING):
            raise NotSupportedError(f"a login by {new_strategy_name!r} is not supported")
        self._auth_strategy = Login(
            new_strategy_name, self._server, self._username, self.ssl_enabled
        )
