"""One TOML file says what is migrated, from where to where: the plan, written once, run often."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from datajoint_migrate.errors import InvalidArgument, NotFound

TABLES = ("source", "destination", "schemas", "options", "stores", "adapters", "final_names")
LIMITS = ("max_bytes_per_second", "max_load", "pause_file")
OPTIONS = ("copy_files", "unsigned", "tolerance", "lanes", "assume_quiet", *LIMITS)
STORES = ("source", "destination", "map")
SECRETS = ("access_key", "secret_key", "session_token")


@dataclass(frozen=True)
class Settings:
    """Connections, schemas, stores and options, as the functions of the package take them.

    `source` and `destination` are dicts of a connection's fields; None is DataJoint's own
    configuration for the source, and the source's server for the destination.
    """

    source: dict[str, Any] | str | None = None
    destination: dict[str, Any] | str | None = None
    schemas: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    source_stores: dict[str, Any] | None = None
    dest_stores: dict[str, Any] | None = None
    store_map: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    final_names: dict[str, str] | None = None

    def ends(self) -> dict[str, Any]:
        """The keywords that say where."""
        return {"connection": self.source, "dest_connection": self.destination}

    def limits(self, **said: Any) -> dict[str, Any]:
        """The keywords that spare production: those of the command line, then of the file."""
        kept = {name: self.options.get(name) for name in LIMITS}
        return kept | {name: value for name, value in said.items() if value is not None}

    def stores(self) -> dict[str, Any]:
        """The keywords that say where files are."""
        return {
            "source_stores": self.source_stores,
            "dest_stores": self.dest_stores,
            "store_map": self.store_map,
        }

    def job(self) -> dict[str, Any]:
        """Every keyword of `migrate` but those of one run."""
        return {
            "schema_map": self.schemas,
            **self.ends(),
            **self.stores(),
            "adapters": self.adapters,
            "final_names": self.final_names,
            **self.options,
        }


def load(path: Path | None, connection: str | None = None) -> Settings:
    """The settings of a file, and of the command line, which wins.

    Raises `NotFound` for a missing file and `InvalidArgument` for anything it cannot mean.
    """
    said: dict[str, Any] = {}
    if path is not None:
        try:
            said = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise NotFound(f"there is no file {path}", hint="dj-migrate plan writes one") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{path} is not TOML: {error}") from None
    _known(path, "", said, TABLES)
    options = _table(path, said, "options")
    _known(path, "options.", options, OPTIONS)
    stores = _table(path, said, "stores")
    _known(path, "stores.", stores, STORES)
    return Settings(
        source=_without_secret(connection) if connection else _table(path, said, "source") or None,
        destination=_table(path, said, "destination") or None,
        schemas=_table(path, said, "schemas"),
        options=options,
        source_stores=stores.get("source"),
        dest_stores=stores.get("destination"),
        store_map=stores.get("map"),
        adapters=said.get("adapters"),
        final_names=said.get("final_names"),
    )


def _without_secret(url: str) -> str:
    try:
        secret = urlsplit(url).password
    except ValueError:
        secret = None
    if secret is not None:
        raise InvalidArgument(
            "a password on the command line can be read by every user of this machine",
            hint="set DJ_PASS, or give it in the file of --config",
        )
    return url


def _table(path: Path | None, said: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = said.get(name, {})
    if not isinstance(value, dict):
        raise InvalidArgument(f"{path}: {name} is a {type(value).__name__}, not a [{name}] table")
    return value


def _known(path: Path | None, where: str, said: Mapping[str, Any], names: Iterable[str]) -> None:
    for key in said:
        if key not in names:
            near = get_close_matches(key, list(names), n=1)
            raise InvalidArgument(
                f"{path}: {where}{key} means nothing",
                hint=f"did you mean {where}{near[0]}?" if near else "known: " + ", ".join(names),
            )


def write(
    path: Path, schemas: Mapping[str, str], comments: Mapping[str, str], settings: Settings
) -> None:
    """Write a plan that `load` reads: `schemas`, each with a comment, and what was set already.

    Passwords and keys of stores are left out. Raises `InvalidArgument` when the file is there.
    """
    lines = ["# Run it with: dj-migrate run " + path.name, ""]
    for name, value in (("source", settings.source), ("destination", settings.destination)):
        if isinstance(value, dict):
            lines += [f"[{name}]  # the password comes from DJ_PASS, or from: password = '…'"]
            lines += [f"{key} = {_toml(item)}" for key, item in value.items() if key != "password"]
            lines += [""]
    lines += ["[schemas]"]
    for source, dest in schemas.items():
        said = comments.get(source)
        lines += [f"{_key(source)} = {_toml(dest)}" + (f"  # {said}" if said else "")]
    lines += ["", "[options]"]
    options = {"copy_files": False, "unsigned": "keep", **settings.options}
    lines += [f"{key} = {_toml(value)}" for key, value in options.items()]
    for name, stores in (("source", settings.source_stores), ("destination", settings.dest_stores)):
        for store, spec in (stores or {}).items():
            lines += ["", f"[stores.{name}.{_key(store)}]"]
            lines += [
                f"# {key} is not written here: give it, or the usual AWS variables or profile"
                if key in SECRETS
                else f"{_key(key)} = {_toml(value)}"
                for key, value in spec.items()
            ]
    for name, table in (
        ("stores.map", settings.store_map),
        ("adapters", settings.adapters),
        ("final_names", settings.final_names),
    ):
        if table:
            lines += ["", f"[{name}]"]
            lines += [f"{_key(key)} = {_toml(value)}" for key, value in table.items()]
    try:
        with path.open("x") as file:
            file.write("\n".join(lines) + "\n")
    except FileExistsError:
        raise InvalidArgument(
            f"{path} is there already", hint="remove it, or write to another file with --output"
        ) from None


def _key(name: str) -> str:
    return (
        name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _toml(name)
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # A JSON string is a TOML string.
    return json.dumps(value, ensure_ascii=False)
