"""Where the servers are: one `Server` from whatever the caller has, and plain sessions on it."""

from __future__ import annotations

import importlib
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, fields
from decimal import Decimal
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import mysql.connector
from mysql.connector.abstracts import MySQLConnectionAbstract

from datajoint_migrate.catalog.connector import Connector
from datajoint_migrate.catalog.refusals import explained
from datajoint_migrate.catalog.silence import judged
from datajoint_migrate.catalog.sql import PARAMETER
from datajoint_migrate.errors import ConnectionFailed, InvalidArgument

SslMode = Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"]
SSL_MODES: tuple[str, ...] = ("disabled", "preferred", "required", "verify_ca", "verify_identity")
INSISTING = ("required", "verify_ca", "verify_identity")

# Zero dates and auto_increment keys of 0 are legal in old pipelines; DataJoint's own mode refuses
# the first and silently renumbers the second.
SQL_MODE = "NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"

BINARY_CHARSET = 63
# How long a table that another session uses is waited for; the server's own default is a year.
LOCK_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """Address and credentials of one MySQL or MariaDB server; its repr holds no secret."""

    host: str = "localhost"
    port: int = 3306
    user: str = ""
    password: str = field(default="", repr=False)
    unix_socket: str | None = None
    ssl_mode: SslMode = "preferred"
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    # Seconds of silence after which the server is asked whether it still works on a statement.
    read_timeout: int = 60

    def __post_init__(self) -> None:
        if self.ssl_mode not in SSL_MODES:
            raise InvalidArgument(
                f"ssl_mode {self.ssl_mode!r} is unknown", hint="use one of " + ", ".join(SSL_MODES)
            )
        if self.ssl_mode in ("verify_ca", "verify_identity") and not self.ssl_ca:
            raise InvalidArgument(
                f"ssl_mode {self.ssl_mode!r} needs a certificate to verify against",
                hint="give ssl_ca, the path of the authority's certificate",
            )
        if bool(self.ssl_cert) != bool(self.ssl_key):
            raise InvalidArgument("ssl_cert and ssl_key belong together", hint="give both, or none")
        if self.unix_socket and self.ssl_mode in INSISTING:
            raise InvalidArgument(
                f"ssl_mode {self.ssl_mode!r} is for TCP, not for a socket of this machine",
                hint="leave out unix_socket, or ssl_mode",
            )

    @property
    def address(self) -> str:
        """`user@host:port`, for messages."""
        return f"{self.user}@{self.unix_socket or f'{self.host}:{self.port}'}"

    def spec(self) -> dict[str, Any]:
        """the same fields as a plain dict, password included, for the engine."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def session(self, read_only: bool = False) -> Session:
        """Connect. `read_only` sessions cannot write and lock no row they read.

        Raises `ConnectionFailed` when the server cannot be reached or refuses the login.
        """
        return Session(self, read_only=read_only)


class Session:
    """One connection: UTC, autocommit, utf8mb4. A context manager; not to be shared by threads."""

    def __init__(self, server: Server, *, read_only: bool = False) -> None:
        self.server = server
        self.read_only = read_only
        self.connector = _connect(server)
        try:
            if read_only:
                # First of all: nothing is said to production by a session that could write.
                self.execute("SET SESSION TRANSACTION READ ONLY")
            banner = str(self.query("SELECT VERSION()")[0][0])
            self.is_mariadb = "mariadb" in banner.lower()
            self.version = tuple(int(part) for part in re.findall(r"\d+", banner)[:3])
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        for name, value in _session_settings(self.is_mariadb, self.version).items():
            self.execute(f"SET SESSION {name} = %s", (value,))
        if self.read_only:
            self.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    @property
    def server_id(self) -> str:
        """What is equal for two sessions exactly when they are on the same server."""
        if self.is_mariadb:
            host, port, folder = self.query("SELECT @@hostname, @@port, @@datadir")[0]
            return f"{host}:{port}:{folder}"
        return str(self.query("SELECT @@server_uuid")[0][0])

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement: text as str, binary as bytes, the rest as Python objects.

        `%s` marks a parameter only when `params` is not empty; otherwise `%` is just a character.
        """
        with explained(self.server, sql), self._judged():
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
        with explained(self.server, sql), self._judged():
            cursor = self.connector.cursor()
            try:
                cursor.execute(self._bound(sql, params))
                return int(cursor.rowcount)
            finally:
                cursor.close()

    def _judged(self) -> AbstractContextManager[None]:
        return judged(self.connector, self.server.read_timeout, lambda: _connect(self.server))

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
        with suppress(mysql.connector.Error):
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


def _session_settings(is_mariadb: bool, version: tuple[int, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "time_zone": "+00:00",
        "sql_mode": SQL_MODE,
        # The DDL reader relies on quoted names.
        "sql_quote_show_create": 1,
        # A session idles here while the engine copies, which may take a night.
        "wait_timeout": 7 * 24 * 3600,
        "lock_wait_timeout": LOCK_SECONDS,
    }
    if not is_mariadb and version >= (8, 0):
        # Row estimates up to a day old would plan the chunks of a table filled this morning
        # wrongly, and refreshing the server's cache of them would be a write.
        settings["information_schema_stats_expiry"] = 0
    if not is_mariadb and version >= (8, 4):
        # Hand-made keys to non-unique parents, legal before 8.4, must still be declarable.
        settings["restrict_fk_on_non_standard_key"] = 0
    return settings


def _connect(server: Server) -> MySQLConnectionAbstract:
    options: dict[str, Any] = {
        "user": server.user,
        "password": server.password,
        "charset": "utf8mb4",
        # The connector's own default collation does not exist on MariaDB.
        "collation": "utf8mb4_general_ci",
        "autocommit": True,
        "connection_timeout": min(10, server.read_timeout),
        "insist": server.ssl_mode in INSISTING,
        "ssl_disabled": server.ssl_mode == "disabled",
    }
    if server.unix_socket:
        options["unix_socket"] = server.unix_socket
    else:
        options |= {"host": server.host, "port": server.port}
    if server.ssl_mode == "preferred" and (server.unix_socket or _is_loopback(server.host)):
        # What never leaves the machine gains nothing from TLS; an account may ask for it though.
        with suppress(mysql.connector.Error):
            return Connector(**options | {"ssl_disabled": True})
    if server.ssl_mode != "disabled":
        options |= {
            name: value
            for name in ("ssl_ca", "ssl_cert", "ssl_key")
            if (value := getattr(server, name))
        }
        options["ssl_verify_cert"] = server.ssl_mode in ("verify_ca", "verify_identity")
        options["ssl_verify_identity"] = server.ssl_mode == "verify_identity"
    with explained(server, "CONNECT"):
        return Connector(**options)


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


# -- what the caller has -----------------------------------------------------------------------

ALIASES = {"passwd": "password", "username": "user", "socket": "unix_socket"}
# What pymysql's `ssl` dict, and so DataJoint's `use_tls`, may say besides its files.
TLS_KEYS = {"ca", "cert", "key", "check_hostname", "verify_mode", "ssl"}


def resolve(connection: Any = None) -> Server:
    """the server a caller means.

    `connection` is a `Server`, a DataJoint connection (0.14 or 2.x), a URL
    `mysql://user:password@host:port/?ssl-mode=required`, a dict with the fields of `Server`, or
    None for DataJoint's own configuration and then DJ_HOST, DJ_USER, DJ_PASS and DJ_PORT.

    `ssl_mode` is that of MySQL's own clients; with `ssl_ca` and no mode it is `verify_ca`.
    DataJoint's `use_tls` keeps its meaning: True encrypts, a dict with `ca` verifies certificate
    and host name too.

    Raises `InvalidArgument` for anything else and `ConnectionFailed` when None finds no user.
    """
    if isinstance(connection, Server):
        return connection
    if connection is None:
        return _from_configuration()
    if isinstance(connection, str):
        return _from_url(connection)
    if isinstance(connection, Mapping):
        return _from_fields(connection)
    info = getattr(connection, "conn_info", None)
    backend = getattr(getattr(connection, "adapter", None), "backend", "mysql")
    if isinstance(info, Mapping) and backend == "mysql":
        return _from_datajoint(info)
    raise InvalidArgument(
        f"a connection cannot be made of a {type(connection).__name__}",
        hint="give a DataJoint connection, a mysql:// URL, a dict, or nothing",
    )


def _from_fields(given: Mapping[str, Any]) -> Server:
    known = {item.name for item in fields(Server)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        name = ALIASES.get(name, name)
        if name == "use_tls":
            values = _tls(value) | values
            continue
        if name not in known:
            close = get_close_matches(name, sorted(known), n=1)
            raise InvalidArgument(
                f"a connection has no field {key!r}",
                hint=f"did you mean {close[0]!r}?"
                if close
                else "fields: " + ", ".join(sorted(known)),
            )
        if value is not None:
            # A password of digits is a number in TOML.
            values[name] = value if name == "port" else str(value)
    if "port" in values:
        values["port"] = _port(values["port"])
    if "read_timeout" in values:
        values["read_timeout"] = _seconds(values["read_timeout"])
    if "ssl_mode" in values:
        values["ssl_mode"] = str(values["ssl_mode"]).lower().replace("-", "_")
    elif values.get("ssl_ca"):
        values["ssl_mode"] = "verify_ca"
    return Server(**values)


def _from_url(url: str) -> Server:
    # The URL may hold a password, so no message repeats it.
    parts = urlsplit(url)
    # After an unescaped / ? or # in a password the rest of it would be taken for the host.
    astray = "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1
    if parts.scheme.split("+")[0] not in ("mysql", "mariadb") or not parts.netloc or astray:
        raise InvalidArgument(
            "a connection URL must look like mysql://user:password@host:3306/",
            hint="characters such as @ and / in the password are written %40 and %2F",
        )
    try:
        port = parts.port
    except ValueError:
        raise InvalidArgument("the port in the connection URL is not a number") from None
    return _from_fields(
        {
            "host": unquote(parts.hostname) if parts.hostname else None,
            "port": port,
            "user": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            **dict(parse_qsl(parts.query)),
        }
    )


def _from_datajoint(info: Mapping[str, Any]) -> Server:
    host, port = str(info.get("host") or "localhost"), ""
    if host.count(":") == 1:  # more of them are an IPv6 address
        host, port = host.split(":")
    values: dict[str, Any] = {
        "host": host,
        "port": _port(port or info.get("port") or 3306),
        "user": info.get("user") or "",
        "password": _secret(info.get("passwd")) or "",
    }
    return Server(**values | _tls(info.get("ssl_input")))


def _tls(wish: Any) -> dict[str, Any]:
    """The fields of `Server` for DataJoint's `use_tls`, as pymysql reads it."""
    if wish is None:
        return {}
    if not isinstance(wish, Mapping):
        return {"ssl_mode": "required" if wish else "disabled"}
    unknown = sorted(set(wish) - TLS_KEYS)
    if unknown:
        raise InvalidArgument(
            f"use_tls has {unknown[0]!r}, which is not read here",
            hint="give ca, cert, key, check_hostname and verify_mode",
        )
    verified = wish.get("verify_mode", True) not in (False, "none", "0", "false", "no")
    mode = "verify_identity" if wish.get("check_hostname", True) else "verify_ca"
    return {
        "ssl_mode": mode if wish.get("ca") and verified else "required",
        **{f"ssl_{key}": wish[key] for key in ("ca", "cert", "key") if wish.get(key)},
    }


def _from_configuration() -> Server:
    config = _datajoint_config()
    found = {
        "host": config.get("host") or os.environ.get("DJ_HOST"),
        "user": config.get("user") or os.environ.get("DJ_USER"),
        "passwd": config.get("password") or os.environ.get("DJ_PASS"),
        "port": config.get("port") or os.environ.get("DJ_PORT"),
        "ssl_input": config.get("use_tls"),
    }
    if not found["user"]:
        raise ConnectionFailed(
            "no connection was given and DataJoint is not configured with a user",
            hint="pass connection='mysql://user:password@host/', or set DJ_HOST, DJ_USER, DJ_PASS",
        )
    return _from_datajoint(found)


def _datajoint_config() -> dict[str, Any]:
    try:
        config = importlib.import_module("datajoint").config
    except Exception:  # noqa: BLE001  (a broken client only means there is nothing to read)
        return {}
    found: dict[str, Any] = {}
    for key in ("host", "user", "password", "port", "use_tls"):
        try:
            found[key] = _secret(config[f"database.{key}"])
        except (KeyError, AttributeError):
            continue
    return found


def _secret(value: Any) -> Any:
    reveal = getattr(value, "get_secret_value", None)
    return reveal() if callable(reveal) else value


def _seconds(value: Any) -> int:
    try:
        seconds = int(value)
    except (TypeError, ValueError):
        seconds = 0
    if seconds < 1:
        raise InvalidArgument(f"read_timeout is {value!r}", hint="give whole seconds, 1 or more")
    return seconds


def _port(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InvalidArgument(f"the port {value!r} is not a number") from None
