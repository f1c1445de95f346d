"""0.14.6's `dj_local_conf.json` as 2.x's `datajoint.json`, with what is secret in `.secrets`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datajoint_migrate.catalog.buckets import KEYS
from datajoint_migrate.catalog.client import location_in_bucket
from datajoint_migrate.catalog.configuration import SOURCE_FILES
from datajoint_migrate.catalog.secrecy import holds_secret, is_secret, reveal
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, NotFound
from datajoint_migrate.results import ConfigResult

NAME, SECRETS = "datajoint.json", ".secrets"
# 0.14.6's setting, and 2.x's section and setting.
SAME = {
    "database.host": ("database", "host"),
    "database.port": ("database", "port"),
    "database.reconnect": ("database", "reconnect"),
    "database.use_tls": ("database", "use_tls"),
    "connection.charset": ("connection", "charset"),
    "display.limit": ("display", "limit"),
    "display.width": ("display", "width"),
    "display.show_tuple_count": ("display", "show_tuple_count"),
    "loglevel": (None, "loglevel"),
    "safemode": (None, "safemode"),
    "download_path": (None, "download_path"),
    "query_cache": (None, "query_cache"),
}
SECRET = ("database.user", "database.password")
# What 0.14.6 writes into every file, and 2.x always does or no more.
ALWAYS = {
    "fetch_format": "array",
    "enable_python_native_blobs": True,
    "add_hidden_timestamp": False,
    "connection.init_function": None,
    "filepath_checksum_size_limit": None,
}
NO_STAGE = (
    "2.x copies nothing out of a stage, and would keep the path of the staged file: put files "
    "into the store, and insert their paths within it"
)
LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}


@dataclass
class _New:
    config: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def migrate_config(
    source: str | os.PathLike[str] | None = None,
    dest: str | os.PathLike[str] = ".",
    *,
    execute: bool = False,
) -> ConfigResult:
    """Write 2.x's configuration from 0.14.6's.

    `source` is 0.14.6's file, by default `dj_local_conf.json` here or `~/.datajoint_config.json`;
    it stays as it is. `dest` is the folder of the new one: `datajoint.json`, and user, password and
    keys of stores as files of their own in `.secrets` (0600 in 0700), which 2.x reads. Nothing is
    written without `execute=True`, and nothing that is there is written over.

    Returns `source`, `config` (what `datajoint.json` holds; no secret is in it), `secrets` (names),
    `left` (settings that 2.x has not, or spells otherwise), `files`, `executed`. Raises `NotFound`,
    `InvalidArgument` for a file that is no configuration, `DestinationNotEmpty`.
    """
    path = _source(source)
    new = _converted(_read(path))
    folder = Path(dest)
    files = [folder / NAME, *(folder / SECRETS / name for name in new.secrets)]
    if execute:
        _refuse_used(folder, files)
        try:
            _write_all(folder, new)
        except OSError as error:
            where = error.filename or folder
            raise InvalidArgument(f"{where} cannot be written: {error.strerror}") from None
    return {
        "source": str(path),
        "config": new.config,
        "secrets": list(new.secrets),
        "left": new.left,
        "files": [str(file) for file in files],
        "executed": execute,
    }


def _source(given: Any) -> Path:
    places = [Path(given)] if given is not None else [Path(p).expanduser() for p in SOURCE_FILES]
    for place in places:
        if place.is_file():
            return place
    raise NotFound(
        f"there is no {' and no '.join(map(str, places))}",
        hint="give the path of 0.14.6's configuration",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise InvalidArgument(f"{path} is no configuration of 0.14.6")
    return found


def _refuse_used(folder: Path, files: list[Path]) -> None:
    there = [str(file) for file in files if os.path.lexists(file)]
    if there:
        raise DestinationNotEmpty(
            f"{', '.join(there)} is there already",
            hint="move it away, or name another folder",
            context={"folder": str(folder)},
        )


def _write_all(folder: Path, new: _New) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if new.secrets:
        (folder / SECRETS).mkdir(mode=0o700, exist_ok=True)
        if (folder / SECRETS).is_symlink():
            raise InvalidArgument(
                f"{folder / SECRETS} is a link, and secrets are written to no other place",
                hint="make it a folder",
            )
    for name, value in new.secrets.items():
        _write(folder / SECRETS / name, value, 0o600)
    # Last, because 2.x looks for secrets beside it.
    _write(folder / NAME, json.dumps(new.config, indent=2) + "\n", 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _converted(old: Mapping[str, Any]) -> _New:
    new = _New()
    for name, value in old.items():
        if name in SECRET:
            if value is not None:
                new.secrets[name] = str(value)
        elif name == "stores":
            _stores(new, value if isinstance(value, Mapping) else {})
        elif name in SAME:
            _setting(new, name, value)
        elif name == "cache":
            new.left.append("cache: 2.x keeps no cache of external objects")
        elif name not in ALWAYS or value != ALWAYS[name]:
            new.left.append(f"{name}: 2.x has no such setting")
    return new


def _setting(new: _New, name: str, value: Any) -> None:
    section, key = SAME[name]
    if value is None or value == "":
        return
    if name == "loglevel":
        value = str(value).upper()
        if value not in LEVELS:
            new.left.append(f"loglevel: 2.x has no level {value}")
            return
    if name == "database.use_tls" and not isinstance(value, bool):
        new.left.append("database.use_tls: 2.x takes true or false, no certificates")
        return
    host, _, port = str(value).partition(":") if name == "database.host" else (value, "", "")
    where = new.config if section is None else new.config.setdefault(section, {})
    where[key] = host if port else value
    if port.isdigit():
        where["port"] = int(port)


def _stores(new: _New, stores: Mapping[str, Any]) -> None:
    made = new.config.setdefault("stores", {})
    for name, spec in stores.items():
        if not isinstance(spec, Mapping):
            new.left.append(f"stores.{name}: is no store")
            continue
        known = KEYS.get(str(spec.get("protocol")))
        made[name] = {}
        for key, value in spec.items():
            if key == "stage":
                new.left.append(f"stores.{name}.stage: {NO_STAGE}")
            elif known is not None and key not in known:
                new.left.append(f"stores.{name}.{key}: 2.x refuses it")
            elif not is_secret(key) and not holds_secret(value):
                made[name][key] = value
            elif isinstance(value, str | int):
                new.secrets[f"stores.{name}.{key}"] = reveal(value)
            elif value is not None:
                new.left.append(f"stores.{name}.{key}: is secret, and no text for a file")
        if spec.get("protocol") == "s3":
            # 2.x speaks https unless told otherwise, 0.14.6 http.
            made[name].setdefault("secure", False)
            # And it takes a location as it is written.
            if isinstance(spec.get("location"), str):
                made[name]["location"] = location_in_bucket(spec["location"])
