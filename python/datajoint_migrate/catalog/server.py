"""Where the servers are: one `Server` from whatever the caller has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from datajoint_migrate.catalog.configuration import completed, configured
from datajoint_migrate.catalog.configuration import of_installed as _datajoint_config
from datajoint_migrate.catalog.secrecy import Secret, reveal
from datajoint_migrate.catalog.session import INSISTING, Session
from datajoint_migrate.errors import ConnectionFailed, InvalidArgument

SslMode = Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"]
SSL_MODES: tuple[str, ...] = ("disabled", "preferred", "required", "verify_ca", "verify_identity")


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
    # Gives the password to a server that has not proved who it is.
    trust_server: bool = False
    # The server's public key (PEM), for a password without TLS.
    server_public_key_path: str | None = None
    # Lets accounts log in by mysql_clear_password, over an encrypted connection.
    enable_cleartext_plugin: bool = False
    # Seconds of silence after which the server is asked whether it still works on a statement.
    read_timeout: int = 60

    def __post_init__(self) -> None:
        object.__setattr__(self, "password", Secret(reveal(self.password)))
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


ALIASES = {
    "passwd": "password",
    "username": "user",
    "socket": "unix_socket",
    # As MySQL's own clients say it, who give a password over TLS without being asked.
    "get_server_public_key": "trust_server",
}
FLAGS = ("trust_server", "enable_cleartext_plugin")
# What pymysql's `ssl` dict, and so DataJoint's `use_tls`, may say besides its files.
TLS_KEYS = {"ca", "cert", "key", "check_hostname", "verify_mode", "ssl"}


def resolve(connection: Any = None) -> Server:
    """the server a caller means.

    `connection` is a `Server`, a DataJoint connection (0.14 or 2.x), a URL
    `mysql://user:password@host:port/?ssl-mode=required`, a dict with the fields of `Server`, or
    None for DataJoint's own configuration and DJ_HOST, DJ_USER, DJ_PASS and DJ_PORT
    (`catalog/configuration.py` says in which order). A user and a password that are not given are
    those of DJ_USER and DJ_PASS; an empty password that is given is one (`mysql://me:@host/`).

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


def _field(key: object) -> str:
    name = str(key).replace("-", "_")
    return ALIASES.get(name, name)


def _from_fields(given: Mapping[str, Any]) -> Server:
    known = {item.name for item in fields(Server)}
    values: dict[str, Any] = {}
    named = {_field(key): value for key, value in given.items()}
    for key, value in completed(named).items():
        name = key
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
            values[name] = value if name == "port" else reveal(value)
    for name in FLAGS:
        if name in values:
            values[name] = _flag(name, values[name])
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
            "password": None if parts.password is None else unquote(parts.password),
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
        "password": _word(info.get("passwd")) or "",
    }
    return Server(**values | _tls(info.get("ssl_input")))


def _word(value: Any) -> str:
    """A password as text: some clients wrap it, and one of digits is a number in JSON."""
    wrapped = getattr(value, "get_secret_value", None)
    value = wrapped() if callable(wrapped) else value
    return "" if value is None else reveal(value)


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
    found = configured(_datajoint_config())
    if not found.get("user"):
        raise ConnectionFailed(
            "no connection was given and DataJoint is not configured with a user",
            hint="pass connection='mysql://user:password@host/', or set DJ_HOST, DJ_USER, DJ_PASS",
        )
    return _from_datajoint(
        {**found, "passwd": found.get("password"), "ssl_input": found.get("use_tls")}
    )


def _flag(name: str, value: Any) -> bool:
    said = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in said:
        raise InvalidArgument(f"{name} is {value!r}", hint="say true or false")
    return said[str(value).lower()]


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
