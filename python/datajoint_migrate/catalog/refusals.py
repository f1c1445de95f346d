"""What a server's refusal means: a login, a privilege, a dead server, or the statement itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import mysql.connector

from datajoint_migrate import _core
from datajoint_migrate.errors import (
    ConnectionFailed,
    MigrationError,
    NotFound,
    PermissionMissing,
    ServerError,
)

if TYPE_CHECKING:
    from datajoint_migrate.catalog.server import Server

LOGIN_REFUSED = frozenset(_core.LOGIN_REFUSED)
# The server's own numbers, and those that the connector has for a line that is gone.
UNREACHABLE = frozenset(_core.UNREACHABLE) | {2002, 2003, 2005, 2006, 2012, 2013, 2026, 2055}
# What is said before TLS comes to word.
UNREACHED = {1040, 1129, 1130, 1203, 1226, 2002, 2003, 2005, 3032}
NEEDS_TLS = 3159
# What a server that is there says of itself or of this account.
SAID = {
    1184: "ended the session as it began",
    1203: "has as many connections as it may",
    1226: "gives this account no more",
    3032: "is in offline mode",
}
# What the connector, the server as it leaves, and a MariaDB say of a session that was ended.
ENDED = {4031, 1927}
GONE = "MySQL Connection not available"
ENDED_HINT = (
    "a KILL, a restart of the server, wait_timeout or a firewall ends sessions; if it was none of"
    " yours, start the same call again"
)
# How TLS fails, in the words of OpenSSL and of the connector.
TLS_MESSAGE = re.compile(r"ssl|tls\b|certificate|password in clear", re.IGNORECASE)
REACH_HINT = "check that the server is running, and host and port"
TLS_HINT = "check ssl_mode, and that ssl_ca is the authority of the server's certificate"
DENIED = frozenset(_core.DENIED)

# What a statement needs, where the server's message does not say it.
NEEDED = (
    (r"CREATE\s+(DATABASE|SCHEMA|TABLE)", "CREATE"),
    (r"CREATE\s+(OR\s+REPLACE\s+)?VIEW", "CREATE VIEW"),
    (r"DROP\s", "DROP"),
    (r"RENAME\s", "ALTER, DROP, CREATE and INSERT"),
    (r"(ALTER|INSERT|UPDATE|DELETE|SELECT|REFERENCES)\b", None),
    (r"SHOW\s", "SELECT"),
    (r"USE\s", "SELECT"),
)


@contextmanager
def explained(server: Server, sql: str) -> Iterator[None]:
    """Turn what the connector raises inside into one of this package's errors."""
    try:
        yield
    except mysql.connector.Error as error:
        said = _explain(server, sql, error)
        # What a caller can mend is in the message; the connector's way to it is not.
        raise said from (error if type(said) is ServerError else None)
    except OSError as error:
        raise ConnectionFailed(
            f"the server {server.address} cannot be reached: {error}", hint=REACH_HINT
        ) from None


def _explain(server: Server, sql: str, error: mysql.connector.Error) -> MigrationError:
    message = error.msg or str(error)
    context = {"errno": error.errno, "server": server.address}
    if error.errno in LOGIN_REFUSED:
        return ConnectionFailed(
            f"the server refused the login of {server.address}: {message}",
            code="DJM-1102",
            hint="check user and password, and from which hosts the user may connect",
            context=context,
        )
    if sql == "CONNECT" and (error.errno == NEEDS_TLS or TLS_MESSAGE.search(message)):
        return ConnectionFailed(
            f"no trusted TLS connection to {server.address}: {message}",
            code="DJM-1104",
            hint=TLS_HINT,
            context=context,
        )
    if error.errno in SAID:
        return ConnectionFailed(
            f"the server {server.address} {SAID[error.errno]}: {message}",
            hint=_core.hint_for(error.errno, message),
            context=context,
        )
    if error.errno in ENDED or GONE in message:
        return ConnectionFailed(
            f"a session at {server.address} was ended while nothing was asked of it",
            hint=ENDED_HINT,
            context=context,
        )
    if error.errno in UNREACHABLE or sql == "CONNECT":
        return ConnectionFailed(
            f"the server {server.address} cannot be reached: {message}",
            hint=REACH_HINT,
            context=context,
        )
    if error.errno in DENIED:
        privilege, place = _missing_privilege(sql, message)
        return PermissionMissing(
            f"{server.user} lacks the privilege {privilege} on {place}: {message}",
            hint=f"let an administrator run: GRANT {privilege.replace(' and', ',')} "
            f"ON {_grant_target(place)} TO {_account(server, message)}; or make a role active that"
            " has it (SET DEFAULT ROLE)",
            context=context | {"privilege": privilege, "on": place},
        )
    if error.errno == 1049:
        return NotFound(message, hint="check the name of the schema", context=context)
    return ServerError(
        f"the server {server.address} refused a statement: {message}",
        # The connector has numbers of its own below zero.
        hint=_core.hint_for(max(error.errno or 0, 0), message)
        or "the statement is in the context of this error",
        context=context | {"sql": sql[:4000]},
    )


def _missing_privilege(sql: str, message: str) -> tuple[str, str]:
    """Privilege and place of an access-denied message, from it or from the statement."""
    place = "the server"
    if found := re.search(r"to database '([^']*)'", message):
        place = f"schema {found[1]}"
    elif found := re.search(r"for (table|column|routine) [`']?(.+?)['`]?(?:$|\s+in\b)", message):
        name = found[2].replace("`", "")
        qualified = re.search(r"`([^`]+)`\s*\.\s*`" + re.escape(name) + "`", sql)
        place = f"{found[1]} {qualified[1]}.{name}" if qualified else f"{found[1]} {name}"
    if found := re.search(r"the (.+?) privilege\(s\)", message):
        return found[1], place
    if found := re.match(r"(?:\w+: )?([A-Z][A-Z ,]+) command denied", message):
        return found[1].strip(), place
    for pattern, privilege in NEEDED:
        if match := re.match(pattern, sql.lstrip(), re.IGNORECASE):
            return privilege or match[1].upper(), place
    return "needed for this statement", place


def _account(server: Server, message: str) -> str:
    """Who lacks it, as the server names the account."""
    found = re.search(r"user '([^']*)'@'([^']*)'", message)
    return f"'{found[1]}'@'{found[2]}'" if found else f"'{server.user}'"


def _grant_target(place: str) -> str:
    kind, _, name = place.partition(" ")
    if kind in ("schema", "table"):
        return f"`{name.split('.')[0]}`.*"
    return "*.*"
