"""What a server's refusal means: a login, a privilege, a dead server, or the statement itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import mysql.connector

from datajoint_migrate.errors import (
    ConnectionFailed,
    MigrationError,
    NotFound,
    PermissionMissing,
    ServerError,
)

if TYPE_CHECKING:
    from datajoint_migrate.catalog.connection import Server

LOGIN_REFUSED = {1045, 1698, 1862, 3118}
UNREACHABLE = {
    1040, 1053, 1129, 1130, 1203, 1927, 2002, 2003, 2005, 2006, 2012, 2013, 2026, 2055, 4031,
}  # fmt: skip
NEEDS_TLS = 3159
# How TLS fails, in the words of OpenSSL and of the connector.
TLS_MESSAGE = re.compile(r"ssl|tls\b|certificate|password in clear", re.IGNORECASE)
REACH_HINT = "check that the server is running, and host and port"
TLS_HINT = "check ssl_mode, and that ssl_ca is the authority of the server's certificate"
DENIED = {1044, 1142, 1143, 1227, 1370, 1410, 1419}
SAME_CALL = "then start the same call again"
HINTS = {
    1021: f"the disk of that server is full: make room, {SAME_CALL}",
    1114: f"the disk of that server is full: make room, {SAME_CALL}",
    1153: f"raise max_allowed_packet on that server, {SAME_CALL}",
    1301: f"raise max_allowed_packet on that server, {SAME_CALL}",
    1205: f"another session holds locks there: wait until it is done, {SAME_CALL}",
    1213: f"another session works on the same rows: wait until it is done, {SAME_CALL}",
    1290: "the server takes no writes: set read_only and super_read_only OFF, or connect to the "
    "one that it replicates",
    1836: "the server takes no writes: connect to the one that it replicates",
}

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
        raise _explain(server, sql, error) from error
    except OSError as error:
        raise ConnectionFailed(
            f"the server {server.address} cannot be reached: {error}", hint=REACH_HINT
        ) from error


def _explain(server: Server, sql: str, error: mysql.connector.Error) -> MigrationError:
    message = error.msg or str(error)
    context = {"errno": error.errno, "server": server.address}
    if error.errno in LOGIN_REFUSED:
        return ConnectionFailed(
            f"the server refused the login of {server.address}: {message}",
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
            f"ON {_grant_target(place)} TO the user",
            context=context | {"privilege": privilege, "on": place},
        )
    if error.errno == 1049:
        return NotFound(message, hint="check the name of the schema", context=context)
    return ServerError(
        f"the server {server.address} refused a statement: {message}",
        hint=HINTS.get(error.errno, "the statement is in the context of this error"),
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


def _grant_target(place: str) -> str:
    kind, _, name = place.partition(" ")
    if kind in ("schema", "table"):
        return f"`{name.split('.')[0]}`.*"
    return "*.*"
