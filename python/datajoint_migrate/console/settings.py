"""One TOML file says what is migrated, from where to where: the plan, written once, run often."""

from __future__ import annotations

import getpass
import json
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from datajoint_migrate.call.border import check, hints_of
from datajoint_migrate.catalog.secrecy import (
    holds_secret,
    is_secret,
    reveal,
    sealed,
    url_has_secret,
)
from datajoint_migrate.errors import InvalidArgument, MigrationError, NotFound

TABLES = (
    "source", "destination", "schemas", "options", "stores", "adapters", "final_names", "promote",
    "cutover",
)  # fmt: skip
LIMITS = ("max_bytes_per_second", "max_load", "pause_file")
OPTIONS = (
    *("copy_files", "unsigned", "charset", "tolerance", "lanes", "assume_quiet", "unseen"),
    "consistency",
    *("executor", *LIMITS),
)
CUTOVER = {"sync": bool, "backup": str}
PASSWORDS = ("password", "passwd")
STORES = ("source", "destination", "map")
NAMES = Mapping[str, str] | None
SPECS = Mapping[str, Mapping[str, Any]] | None


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
    promote: dict[str, str] | None = None
    cutover: dict[str, Any] = field(default_factory=dict)

    def ends(self) -> dict[str, Any]:
        """The keywords that say where."""
        return {"connection": self.source, "dest_connection": self.destination}

    def limits(self, *said: Any) -> dict[str, Any]:
        """The keywords that spare production: those of the command line, then of the file."""
        return {
            name: self.options.get(name) if value is None else value
            for name, value in zip(LIMITS, said, strict=True)
        }

    @property
    def tolerance(self) -> float:
        """Of floats, as `migrate` has it."""
        return float(self.options.get("tolerance", 1e-6))

    def stores(self) -> dict[str, Any]:
        """The keywords that say where files are."""
        return {
            "source_stores": self.source_stores,
            "dest_stores": self.dest_stores,
            "store_map": self.store_map,
        }

    def cut_over(self) -> list[str]:
        """Schemas of the plan that are 2.x by a cutover of it, and have not been rolled back."""
        from datajoint_migrate.call.exchanges import cut_over
        from datajoint_migrate.catalog.server import resolve

        if self.destination is not None:
            return []
        with resolve(self.source).session(read_only=True) as session:
            return cut_over(session, self.schemas)

    @contextmanager
    def executing(self) -> Iterator[dict[str, Any]]:
        """The keyword that says who copies files and chunks, open for the length of a call."""
        said = self.options.get("executor")
        if said is None:
            yield {}
        elif isinstance(said, int):
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            # Forked processes would have this call's connections, too.
            with ProcessPoolExecutor(said, mp_context=get_context("spawn")) as pool:
                yield {"executor": pool}
        else:
            try:
                from distributed import Client
            except ModuleNotFoundError:
                raise InvalidArgument(
                    f"options.executor is {said!r}, and dask.distributed is not installed",
                    hint="pip install 'datajoint-migrate[dask]', or give a number of processes",
                ) from None
            scheduler: Any = Client
            with scheduler(said) as client:
                yield {"executor": client}

    def job(self) -> dict[str, Any]:
        """Every keyword of `migrate` but those of one run."""
        return {
            "schema_map": self.schemas,
            **self.ends(),
            **self.stores(),
            "adapters": self.adapters,
            "final_names": self.final_names,
            "promote": self.promote,
            **self.options,
        }


def load(path: Path | None, connection: str | None = None) -> Settings:
    """The settings of a file, and of the command line, which wins.

    Raises `NotFound` for a missing file and `InvalidArgument` for anything it cannot mean.
    """
    said: dict[str, Any] = {}
    if path is not None:
        try:
            said = sealed(tomllib.loads(path.read_text()))
        except FileNotFoundError:
            raise NotFound(f"there is no file {path}", hint="dj-migrate plan writes one") from None
        except OSError as error:
            raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{path} is not TOML: {error}") from None
    _known(path, "", said, TABLES)
    options = _table(path, said, "options")
    _known(path, "options.", options, OPTIONS)
    cutover = _table(path, said, "cutover")
    _known(path, "cutover.", cutover, CUTOVER)
    for name, value in cutover.items():
        check(value, CUTOVER[name], f"{path}: cutover.{name}", name)
    stores = _table(path, said, "stores")
    _known(path, "stores.", stores, STORES)
    if options:
        from datajoint_migrate.verbs.move.migrate import migrate

        # A plan is text: so many processes of this machine, or where a Dask scheduler listens.
        hints = {**hints_of(migrate), "executor": int | str}
        for name, value in options.items():
            check(value, hints[name], f"{path}: options.{name}", name)
    for name in ("source", "destination"):
        check(stores.get(name), SPECS, f"{path}: stores.{name}", "stores")
    for place, value in (
        ("schemas", _table(path, said, "schemas")),
        ("stores.map", stores.get("map")),
        ("adapters", said.get("adapters")),
        ("final_names", said.get("final_names")),
        ("promote", said.get("promote")),
    ):
        check(value, NAMES, f"{path}: {place}", place)
    source = _without_secret(connection) if connection else _table(path, said, "source") or None
    ask_password(source)
    return Settings(
        source=source,
        destination=_table(path, said, "destination") or None,
        schemas=_table(path, said, "schemas"),
        options=options,
        source_stores=stores.get("source"),
        dest_stores=stores.get("destination"),
        store_map=stores.get("map"),
        adapters=said.get("adapters"),
        final_names=said.get("final_names"),
        promote=said.get("promote"),
        cutover=cutover,
    )


def ask_password(connection: Any) -> None:
    """Ask a person at a terminal for the password that nothing else gives."""
    if os.environ.get("DJ_PASS") or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    from datajoint_migrate.catalog.server import resolve

    given = isinstance(connection, Mapping) and {"unix_socket", "socket", *PASSWORDS} & {
        *connection
    }
    try:
        server = resolve(connection)
    except MigrationError:
        # Told where the connection is needed.
        return
    if given or server.unix_socket or reveal(server.password) or server.address in _ASKED:
        return
    _ASKED.add(server.address)
    typed = getpass.getpass(f"password of {server.address} (DJ_PASS): ")
    if typed:
        os.environ["DJ_PASS"] = typed


# Accounts without a password are asked for one, once.
_ASKED: set[str] = set()


def _without_secret(url: str) -> str:
    if url_has_secret(url):
        raise InvalidArgument(
            "a password on the command line can be read by every user of this machine",
            hint="set DJ_PASS, or give it in the file of --config, and write --connection "
            "mysql://user@host:3306/",
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
            lines += [_line(key, item) for key, item in value.items() if key not in PASSWORDS]
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
            lines += [_line(key, value) for key, value in spec.items()]
    for name, table in (
        ("stores.map", settings.store_map),
        ("adapters", settings.adapters),
        ("final_names", settings.final_names),
        ("promote", settings.promote),
    ):
        if table:
            lines += ["", f"[{name}]"]
            lines += [f"{_key(key)} = {_toml(value)}" for key, value in table.items()]
    try:
        # Its reader adds passwords, so it is nobody else's from the beginning.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            try:
                file.write("\n".join(lines) + "\n")
                file.flush()
            except OSError:
                # Half a plan would be in the way of the whole one.
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise InvalidArgument(
            f"{path} is there already", hint="remove it, or write to another file with --output"
        ) from None
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror}") from None


def _line(key: str, value: Any) -> str:
    if is_secret(key) or holds_secret(value):
        name = json.dumps(key, ensure_ascii=False)[1:-1]
        return f"# {name} is not written here: give it, or the usual variables or profile"
    return f"{_key(key)} = {_toml(value)}"


def _key(name: str) -> str:
    return (
        name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _toml(name)
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Mapping):
        said = ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items())
        return "{ " + said + " }"
    # A JSON string is a TOML string.
    return json.dumps(value, ensure_ascii=False)
