"""mysql-connector, held to what an operator expects of `ssl_mode`, passwords and files."""

from __future__ import annotations

import select
import ssl
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag
from mysql.connector.errors import InterfaceError

from datajoint_migrate.catalog.logins import Authenticator

SSL_ERROR = 2026
# More servers than one process meets; so many keep their tickets.
SERVERS = 64


class Connector(MySQLConnection):
    """A connection that closes six gaps of its base, three open before the server is known.

    The base tells a server without TLS who logs in before anybody can look whether it was
    encrypted, gives the password to whoever asks for it over TLS, and trusts every authority of
    the system besides the one it was given. It also lets a text be several statements, and some
    of ours come out of archives and journals. It asks the server before each statement whether it
    is there, which takes one more way to it; and it sets two of the settings that a session is set
    to anyway, before anybody can say that it will only read.
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
        cast(Any, self._socket).build_ssl_context = self._context
        self._authenticator = Authenticator(self._of)
        done = super()._do_auth(*args, **kwargs)
        line = self._socket.sock if self._socket else None
        # One is redeemed as long as the server takes it: Python takes a millisecond to copy it.
        if isinstance(line, ssl.SSLSocket) and not line.session_reused:
            cast(_Shared, line.context).ticket = line.session
        return done

    def _post_connection(self) -> None:
        """What the base sets is in the list of settings."""

    def _context(self, **options: Any) -> _Shared:
        files = [options[name] for name in ("ssl_ca", "ssl_cert", "ssl_key")]
        verified = bool(options["ssl_verify_cert"]), bool(options["ssl_verify_identity"])
        try:
            # By what the files say now, for they may be exchanged; one of them holds a secret.
            said = [sha256(Path(name).read_bytes()).digest() if name else b"" for name in files]
            known = (self._of["host"], self._of["port"], verified, *files, *said)
            found = _shared.get(known) or _trusting(files, *verified)
        except OSError as error:
            raise InterfaceError(f"a certificate cannot be read: {error}", SSL_ERROR) from error
        if len(_shared) >= SERVERS:
            _shared.clear()
        _shared[known] = found
        return found


class _Shared(ssl.SSLContext):
    """What the sessions of this process with one server share: whom they trust, and a ticket.

    The ticket of one spares the next the proof of who answers; only who has proved it before can
    redeem it.
    """

    ticket: ssl.SSLSession | None = None

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **kwargs | {"session": self.ticket})


_shared: dict[tuple[Any, ...], _Shared] = {}


def _trusting(files: list[str | None], signed: bool, named: bool) -> _Shared:
    """Without the authorities of the system: reading them takes longer than the rest of a login."""
    made = _Shared(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = named
    made.verify_mode = ssl.CERT_REQUIRED if signed else ssl.CERT_NONE
    authorities, certificate, key = files
    if authorities:
        made.load_verify_locations(authorities)
    if certificate:
        made.load_cert_chain(certificate, key)
    return made
