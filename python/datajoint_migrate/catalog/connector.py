"""mysql-connector, held to what an operator expects of `ssl_mode`, passwords and files."""

from __future__ import annotations

import ssl
from typing import Any, cast

from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag
from mysql.connector.errors import InterfaceError

SSL_ERROR = 2026


class Connector(MySQLConnection):
    """A connection that closes four gaps of its base, three open before the server is known.

    The base tells a server without TLS who logs in before anybody can look whether it was
    encrypted, sends the password in clear to a server that asks for it over a plain connection,
    and trusts every authority of the system besides the one it was given. It also lets a text be
    several statements, and some of ours come out of archives and journals.
    """

    def __init__(self, *, insist: bool, **options: Any) -> None:
        self._insist = insist
        one = [-ClientFlag.MULTI_STATEMENTS]
        super().__init__(allow_local_infile=False, client_flags=one, **options)

    def _do_auth(self, *args: Any, **kwargs: Any) -> bool:
        encrypted = bool(self._client_flags & ClientFlag.SSL) and not self._ssl_disabled
        if self._insist and not encrypted:
            raise InterfaceError(
                "the server offers no TLS, but ssl_mode asks for it", errno=SSL_ERROR
            )
        if not encrypted and not self._unix_socket:
            self._keep_password()
        if self._ssl.get("verify_cert") and self._ssl.get("ca"):
            self._trust_only(str(self._ssl["ca"]))
        return super()._do_auth(*args, **kwargs)

    def _keep_password(self) -> None:
        socket = cast(Any, self._socket)
        send = socket.send
        secret = (self._password or "").encode()

        def guarded(payload: bytes, *args: Any, **kwargs: Any) -> None:
            if secret and bytes(payload).rstrip(b"\0") == secret:
                raise InterfaceError(
                    "the server asks for the password in clear over an unencrypted connection",
                    errno=SSL_ERROR,
                )
            send(payload, *args, **kwargs)

        socket.send = guarded

    def _trust_only(self, authority: str) -> None:
        def context(**options: Any) -> ssl.SSLContext:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            made.minimum_version = ssl.TLSVersion.TLSv1_2
            made.check_hostname = bool(options["ssl_verify_identity"])
            try:
                made.load_verify_locations(authority)
                if options["ssl_cert"]:
                    made.load_cert_chain(options["ssl_cert"], options["ssl_key"])
            except OSError as error:
                raise InterfaceError(f"a certificate cannot be read: {error}", SSL_ERROR) from error
            return made

        cast(Any, self._socket).build_ssl_context = context
