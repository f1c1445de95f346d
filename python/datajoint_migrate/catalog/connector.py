"""mysql-connector, held to what an operator expects of `ssl_mode`, passwords and files."""

from __future__ import annotations

import select
import ssl
from collections.abc import Mapping
from typing import Any, cast

from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag
from mysql.connector.errors import InterfaceError

from datajoint_migrate.catalog.logins import Authenticator

SSL_ERROR = 2026


class Connector(MySQLConnection):
    """A connection that closes five gaps of its base, three open before the server is known.

    The base tells a server without TLS who logs in before anybody can look whether it was
    encrypted, gives the password to whoever asks for it over TLS, and trusts every authority of
    the system besides the one it was given. It also lets a text be several statements, and some
    of ours come out of archives and journals; and it asks the server before each statement
    whether it is there, which takes one more way to it.
    """

    def __init__(self, *, insist: bool, server: Mapping[str, Any], **options: Any) -> None:
        self._insist = insist
        self._of = server
        one = [-ClientFlag.MULTI_STATEMENTS]
        super().__init__(allow_local_infile=False, client_flags=one, **options)

    def is_connected(self) -> bool:
        """Whether the server has not ended it: until it is asked, it says that and nothing else."""
        line = self._socket.sock if self._socket else None
        if line is None or line.fileno() < 0:
            return False
        heard = select.poll()
        heard.register(line, select.POLLIN)
        return not heard.poll(0)

    def _do_auth(self, *args: Any, **kwargs: Any) -> bool:
        encrypted = bool(self._client_flags & ClientFlag.SSL) and not self._ssl_disabled
        if self._insist and not encrypted:
            raise InterfaceError(
                "the server offers no TLS, but ssl_mode asks for it", errno=SSL_ERROR
            )
        cast(Any, self._socket).build_ssl_context = _context
        self._authenticator = Authenticator(self._of)
        return super()._do_auth(*args, **kwargs)


def _context(**options: Any) -> ssl.SSLContext:
    """Without the authorities of the system: reading them takes longer than the rest of a login."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = bool(options["ssl_verify_identity"])
    made.verify_mode = ssl.CERT_REQUIRED if options["ssl_verify_cert"] else ssl.CERT_NONE
    try:
        if options["ssl_ca"]:
            made.load_verify_locations(options["ssl_ca"])
        if options["ssl_cert"]:
            made.load_cert_chain(options["ssl_cert"], options["ssl_key"])
    except OSError as error:
        raise InterfaceError(f"a certificate cannot be read: {error}", SSL_ERROR) from error
    return made
