"""The two ends of a migration: a reading session on the source, a writing one on the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from datajoint_migrate.catalog.connection import Server, Session, resolve
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.steps.moving.throttle import FREE, Throttle


@dataclass(frozen=True)
class Ends:
    """Sessions on both ends; on the `same_server` rows can go from one to the other inside it."""

    source: Session
    destination: Session
    same_server: bool
    throttle: Throttle = FREE

    def specs(self) -> dict[str, Any]:
        """Both servers and what the source is spared, as the engine's plans name them."""
        return {
            "source": self.source.server.spec(),
            "destination": self.destination.server.spec(),
            "throttle": self.throttle.spec(),
        }


@contextmanager
def open_ends(
    connection: Any = None,
    dest_connection: Any = None,
    throttle: Throttle = FREE,
    *,
    looking: bool = False,
) -> Iterator[Ends]:
    """Connect to both ends. Without `dest_connection` both are on the server of `connection`.

    The source session cannot write, nor can the other when the caller is only `looking`. The
    destination session checks no foreign keys, because schemas that refer to each other can be
    made and filled in no order at all; whoever fills them proves the keys afterwards.
    """
    origin = resolve(connection)
    target = origin if dest_connection is None else resolve(dest_connection)
    with (
        origin.session(read_only=True) as source,
        target.session(read_only=looking) as destination,
    ):
        if not looking:
            destination.execute("SET SESSION foreign_key_checks = 0")
        same = dest_connection is None or source.server_id == destination.server_id
        yield Ends(source, destination, same, throttle)


def schema_of(schema: Any, connection: Any = None) -> tuple[str, Server]:
    """Name and server of a schema given by name or as a DataJoint schema object."""
    if isinstance(schema, str):
        return schema, resolve(connection)
    name = getattr(schema, "database", None)
    if not isinstance(name, str):
        raise InvalidArgument(
            f"{schema!r} is not a schema", hint="give its name, or a DataJoint schema object"
        )
    return name, resolve(connection if connection is not None else schema.connection)


def schema_exists(session: Session, name: str) -> bool:
    """Whether the server has a schema of that name (and this user may see it)."""
    return bool(
        session.query("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", (name,))
    )


def read_if_there(session: Session, name: str) -> Schema | None:
    """The schema, or None when the server has none of that name."""
    return read_schema(session, name) if schema_exists(session, name) else None


def whole_map(
    source: str, dest: str, schema_map: dict[str, str] | None, same_server: bool
) -> dict[str, str]:
    """The whole map of a call: `schema_map` with `source` → `dest` added.

    Raises `InvalidArgument` for a map that contradicts the call, sends two schemas to one, or
    names a schema as its own copy on the same server.
    """
    whole = dict(schema_map or {})
    if whole.setdefault(source, dest) != dest:
        raise InvalidArgument(
            f"schema_map sends {source!r} to {whole[source]!r}, the call to {dest!r}",
            hint="leave the schema out of schema_map or give the same name",
        )
    check_names(whole, same_server)
    return whole


def check_names(schema_map: dict[str, str], same_server: bool) -> None:
    """Raises `InvalidArgument` unless the map is one to one and leaves its sources alone."""
    if not schema_map:
        raise InvalidArgument("schema_map is empty", hint="give {'source': 'destination', ...}")
    for source, dest in schema_map.items():
        for name in (source, dest):
            if not name or len(name) > 64 or name != name.strip() or "\0" in name:
                raise InvalidArgument(
                    f"{name!r} cannot be the name of a schema",
                    hint="a name has 1 to 64 characters, no NUL, no space at its ends",
                )
        if same_server and dest in schema_map:
            raise InvalidArgument(
                f"the destination {dest!r} is itself one of the source schemas",
                hint=f"choose another name, such as {source}_v20",
            )
    if len(set(schema_map.values())) < len(schema_map):
        raise InvalidArgument(
            "schema_map sends two schemas to the same destination",
            hint="give every schema a destination of its own",
        )
