"""Sessions on a server: plain statements, bound values, one at a time."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from decimal import Decimal
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import mysql.connector
from mysql.connector.abstracts import MySQLConnectionAbstract

from datajoint_migrate import _core
from datajoint_migrate.catalog.connector import Connector
from datajoint_migrate.catalog.refusals import UNREACHED, explained
from datajoint_migrate.catalog.secrecy import reveal
from datajoint_migrate.catalog.settling import settle
from datajoint_migrate.catalog.silence import judged
from datajoint_migrate.catalog.sql import PARAMETER
from datajoint_migrate.errors import PermissionMissing, ServerError

if TYPE_CHECKING:
    from datajoint_migrate.catalog.server import Server

INSISTING = ("required", "verify_ca", "verify_identity")

# What the converter must know of the sql_mode of the list of settings: how backslashes are read.
SQL_MODE = "NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"

BINARY_CHARSET = 63
# MySQL tells in its list of sessions what is left of one that is just ending, which may be no text.
HALF_ENDED, LOOKS = 3854, 10


class Session:
    """One connection: UTC, autocommit, utf8mb4. A context manager; not to be shared by threads."""

    def __init__(self, server: Server, *, read_only: bool = False) -> None:
        self.server = server
        self.read_only = read_only
        # Schemas that a call reads as long as this session lasts.
        self.reads: list[str] = []
        # Statements of this session that changed comments and nothing else.
        self.commented: list[str] = []
        # What this session is to spare its server, as the engine's plans name it, and what waits
        # for that before each statement.
        self.spared: dict[str, Any] = {}
        self.wait: Callable[[], None] | None = None
        self._spelt: dict[str, str] = {}
        self._cut = False
        self.connector = _connect(server)
        try:
            if read_only:
                # First of all: nothing is said to production by a session that could write.
                self.execute("SET SESSION TRANSACTION READ ONLY")
            self.execute(_core.FREE)
            self.banner = str(self.query("SELECT VERSION()")[0][0])
            self.is_mariadb = "mariadb" in self.banner.lower()
            self.version = tuple(int(part) for part in re.findall(r"\d+", self.banner)[:3])
            settle(self, self.banner)
        except BaseException:
            self.close()
            raise

    def reaches(self, other: Session) -> bool | None:
        """Whether both sessions are on one server; None where the servers do not tell.

        Told by an act: a lock that only this session can have taken is seen by the other.
        Whatever a server says of itself may be said by a copy of it, too.
        """
        name = f"datajoint_migrate {secrets.token_hex(20)}"
        try:
            if self.query("SELECT GET_LOCK(%s, 0)", (name,))[0][0] != 1:
                return None
            try:
                return bool(other.query("SELECT IS_USED_LOCK(%s) IS NOT NULL", (name,))[0][0])
            finally:
                self.query("SELECT RELEASE_LOCK(%s)", (name,))
        except (ServerError, PermissionMissing):
            return None

    @cached_property
    def folds(self) -> bool:
        """Whether the server takes `Lab` and `lab` for one schema."""
        return bool(self.query("SELECT @@lower_case_table_names")[0][0])

    def folded(self, schema: str) -> str:
        """The name by which the server knows a schema from others."""
        return schema.lower() if self.folds else schema

    def spell(self, schemas: Iterable[str]) -> None:
        """Remember how the caller writes schemas, on a server that keeps them in small letters.

        0.14.6 names folders of stores as the user's code names the schema, and 2.x does so with
        lineages; the server does not know it.
        """
        if self.folds:
            self._spelt.update({name.lower(): name for name in schemas})

    def spelt(self, schema: str) -> str:
        """A schema's name as the caller writes it."""
        return self._spelt.get(schema.lower(), schema) if self._spelt else schema

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement: text as str, binary as bytes, the rest as Python objects.

        `%s` marks a parameter only when `params` is not empty; otherwise `%` is just a character.
        """
        self._turn()
        with explained(self.server, sql), self._judged(), self._whole():
            for looks_left in reversed(range(LOOKS if "PROCESSLIST" in sql else 1)):
                try:
                    return self._rows(sql, params)
                except mysql.connector.DatabaseError as error:
                    if not looks_left or error.errno != HALF_ENDED:
                        raise
        return []

    def _rows(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        cursor = self.connector.cursor()
        try:
            cursor.execute(self._bound(sql, params))
            if not cursor.description:
                return []
            binary = [_is_binary(column) for column in cursor.description]
            rows = cast("list[tuple[Any, ...]]", cursor.fetchall())
            return [tuple(map(_plain, row, binary)) for row in rows]
        finally:
            cursor.close()

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run a statement that gives no rows; returns the number of rows it changed."""
        self._turn()
        with explained(self.server, sql), self._judged(), self._whole():
            cursor = self.connector.cursor()
            try:
                cursor.execute(self._bound(sql, params))
                return int(cursor.rowcount)
            finally:
                cursor.close()

    def execute_bytes(self, statement: bytes, sql: str) -> None:
        """Run a statement in the character set that the session said it speaks; `sql` is its text,
        for messages."""
        self._turn()
        with explained(self.server, sql), self._judged(), self._whole():
            cursor = self.connector.cursor()
            try:
                cursor.execute(cast(Any, statement))
            finally:
                cursor.close()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A statement and its answer; a session that was interrupted between them says no more."""
        if self._cut:
            raise KeyboardInterrupt
        try:
            yield
        except KeyboardInterrupt:
            # The answer may still come, and would be taken for that of the next statement.
            self._cut = True
            with suppress(mysql.connector.Error, OSError):
                self.connector.shutdown()
            raise

    def _turn(self) -> None:
        if self.wait is not None:
            self.wait()

    def _judged(self) -> AbstractContextManager[None]:
        return judged(self.connector, self.server.read_timeout, self.server)

    def _bound(self, sql: str, params: Sequence[Any]) -> Any:
        """The statement with its values, of which the connector would put some into names.

        With values it is bytes, which the connector takes though its types do not say so.
        """
        if not params:
            return sql
        converter = cast(Any, self.connector.converter)
        values = [_literal(converter, value) for value in params]
        values.reverse()

        def put(match: re.Match[bytes]) -> bytes:
            return match[0] if match["value"] is None else values.pop()

        bound = PARAMETER.sub(put, sql.encode())
        if values:
            raise ValueError(f"{len(values)} values have no place in {sql!r}")
        return bound

    def close(self) -> None:
        """End the connection; closing twice is harmless."""
        # A server that is gone already is what was wanted.
        with suppress(mysql.connector.Error, OSError):
            self.connector.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Session({self.server.address})"


def _connect(server: Server) -> MySQLConnectionAbstract:
    options: dict[str, Any] = {
        "user": server.user,
        "password": reveal(server.password),
        "connection_timeout": min(10, server.read_timeout),
        "insist": server.ssl_mode in INSISTING,
        "server": server.spec(),
        "ssl_disabled": server.ssl_mode == "disabled",
    }
    if server.unix_socket:
        options["unix_socket"] = server.unix_socket
    else:
        options |= {"host": server.host, "port": server.port}
    local = server.ssl_mode == "preferred" and _is_loopback(server.host)
    if server.ssl_mode == "preferred" and server.unix_socket:
        options["ssl_disabled"] = True
    elif server.ssl_mode != "disabled":
        options |= {
            name: value
            for name in ("ssl_ca", "ssl_cert", "ssl_key")
            if (value := getattr(server, name))
        }
        options["ssl_verify_cert"] = server.ssl_mode in ("verify_ca", "verify_identity")
        options["ssl_verify_identity"] = server.ssl_mode == "verify_identity"
    with explained(server, "CONNECT"):
        try:
            return Connector(**options)
        except mysql.connector.Error as error:
            # TLS comes first, also within the machine: an account may ask for it in the words of a
            # wrong password, and servers count refused logins. So what the server refused is not
            # tried again, only TLS that could not be begun with a server of this machine.
            number = error.errno or 0
            refused = number in UNREACHED or (number >= 1000 and not 2000 <= number < 3000)
            if not local or server.unix_socket or refused:
                raise
        return Connector(**options | {"ssl_disabled": True})


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _literal(converter: Any, value: Any) -> bytes:
    # The connector remembers the sql_mode of its first statement, which was the server's default.
    plain = converter.escape(converter.to_mysql(value), SQL_MODE)
    return bytes(plain if isinstance(value, Decimal) else converter.quote(plain))


def _is_binary(column: Sequence[Any]) -> bool:
    # DESCRIPTION is the connector's nine-tuple; its last item is the character set of the column.
    return len(column) > 8 and column[8] == BINARY_CHARSET


def _plain(value: Any, binary: bool) -> Any:
    if isinstance(value, bytes | bytearray):
        return bytes(value) if binary else value.decode("utf-8", "replace")
    return value
