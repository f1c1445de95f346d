"""The two ends of a migration: a reading session on the source, a writing one on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.throttle import FREE, Throttle, Turn
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.server import Server, resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema, read_those_there
from datajoint_migrate.errors import ConnectionFailed, InvalidArgument, MigrationError, NotFound


@dataclass(frozen=True)
class Ends:
    """Sessions on both ends; on the `same_server` rows can go from one to the other inside it."""

    source: Session
    destination: Session
    same_server: bool
    throttle: Throttle = FREE

    @property
    def folds(self) -> bool:
        """Whether the destination takes names of another case for the same."""
        return self.destination.folds

    def spell(self, schema_map: Mapping[str, str]) -> None:
        """Let both sessions write schemas as the caller does, before the first of them is read."""
        for session in (self.source, self.destination):
            session.spell([*schema_map, *schema_map.values()])

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
    on_event: OnEvent = None,
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
        seen = source.reaches(destination)
        if dest_connection is None and seen is False:
            raise ConnectionFailed(
                f"two connections to {origin.address} reached two servers",
                hint="give the address of one server, not of what stands before several",
            )
        Turn.give(source, throttle, on_event)
        same = dest_connection is None if seen is None else seen
        try:
            yield Ends(source, destination, same, throttle)
        except MigrationError as error:
            if gone := _gone(source, error):
                error.message += f"; {gone} was renamed or dropped while this call read it"
                error.context["schema"] = gone
            raise


def _gone(source: Session, error: MigrationError) -> str | None:
    """A schema that was there when the call began to read it, and is there no more."""
    with suppress(MigrationError):
        if isinstance(error, NotFound) or error.context.get("errno") in (1049, 1146):
            return next((name for name in source.reads if not schema_exists(source, name)), None)
    return None


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


def read_if_there(session: Session, name: str) -> Schema | None:
    """The schema, or None when the server has none of that name."""
    return read_those_there(session, [name]).get(name)


def whole_map(
    source: str,
    dest: str,
    schema_map: dict[str, str] | None,
    same_server: bool,
    folds: bool = False,
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
    check_names(whole, same_server, folds)
    return whole


def _folded(name: str, folds: bool) -> str:
    return name.lower() if folds else name


def check_names(schema_map: dict[str, str], same_server: bool, folds: bool = False) -> None:
    """Raises `InvalidArgument` unless the map is one to one and leaves its sources alone.

    On a server that `folds` names the destination `LAB` is production's `lab`.
    """
    if not schema_map:
        raise InvalidArgument("schema_map is empty", hint="give {'source': 'destination', ...}")
    for source, dest in schema_map.items():
        for name in (source, dest):
            if not name or len(name) > 64 or name != name.strip() or "\0" in name:
                raise InvalidArgument(
                    f"{name!r} cannot be the name of a schema",
                    hint="a name has 1 to 64 characters, no NUL, no space at its ends",
                )
        if same_server and _folded(dest, folds) in {_folded(name, folds) for name in schema_map}:
            raise InvalidArgument(
                f"the destination {dest!r} is itself one of the source schemas"
                + (", on a server that takes names of another case for the same" if folds else ""),
                hint=f"choose another name, such as {source}_v20",
            )
    if len({_folded(name, folds) for name in schema_map.values()}) < len(schema_map):
        raise InvalidArgument(
            "schema_map sends two schemas to the same destination",
            hint="give every schema a destination of its own",
        )
