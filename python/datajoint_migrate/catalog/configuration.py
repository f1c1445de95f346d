"""The connection that DataJoint itself would use: its configuration, installed or not.

Nothing given means, field by field, the first of
1. DJ_HOST, DJ_USER, DJ_PASS, DJ_PORT, which win over files as with DataJoint;
2. the configuration of an installed DataJoint (what a program has set in it wins over 1., DJ_PORT
   excepted, which 0.14.6 does not know);
3. `dj_local_conf.json` of 0.14.6 in the current folder, else `~/.datajoint_config.json`;
4. `datajoint.json` of 2.x, upwards from the current folder, with its `.secrets`.
Of 2., 3. and 4. the first that names a user is taken whole. A port belongs to its host, and a
password to its user: where a variable names another host or user than the file, the file's port or
password is not taken. What is put together of variables and a file is told as a warning.
A connection that is given without a user or a password takes DJ_USER and DJ_PASS, and without a
host DJ_HOST and DJ_PORT.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from datajoint_migrate.errors import InvalidArgument

logger = logging.getLogger("datajoint_migrate")

ADDRESS = ("host", "port", "user")
BELONGS = {"host": "port", "user": "password"}
DEFAULT_PORT = 3306
FIELDS = ("host", "user", "password", "port", "use_tls")
VARIABLES = {"host": "DJ_HOST", "user": "DJ_USER", "password": "DJ_PASS", "port": "DJ_PORT"}
SOURCE_FILES = ("dj_local_conf.json", "~/.datajoint_config.json")
DEST_FILE = "datajoint.json"
SECRETS = ".secrets"


def configured(installed: dict[str, Any]) -> dict[str, Any]:
    """What a call without a connection means: the fields that are found, password included.

    `installed` is what an installed DataJoint is configured with.
    """
    said = environment()
    place, found = next(((place, one) for place, one in _files() if one.get("user")), ("", {}))
    if installed.get("user"):
        # It has read file and variables itself, field by field.
        place = place or "DataJoint's configuration"
        whole = {**installed, **{key: said[key] for key in ("port",) if key in said}}
        for of, what in BELONGS.items():
            if of in said and what not in said and found.get(of) not in (None, said[of]):
                whole = {k: v for k, v in whole.items() if (k, v) != (what, found.get(what))}
    else:
        base = found or installed
        foreign = {
            what
            for of, what in BELONGS.items()
            if of in said and base.get(of) not in (None, said[of])
        }
        whole = {**{key: one for key, one in base.items() if key not in foreign}, **said}
    _tell_of_a_mixture(whole, said, place)
    return whole


def _tell_of_a_mixture(whole: Mapping[str, Any], said: Mapping[str, str], place: str) -> None:
    """A server that nobody named is not reached silently."""
    named = {key for key in ADDRESS if key in said and str(whole.get(key)) == said[key]}
    by_variable = [VARIABLES[key] for key in ADDRESS if key in named]
    by_file = [
        key
        for key in ADDRESS
        if key not in named and whole.get(key) not in (None, DEFAULT_PORT if key == "port" else "")
    ]
    if by_variable and by_file:
        logger.warning(
            "the connection is put together: %s as set, %s of %s",
            ", ".join(by_variable),
            ", ".join(f"{key} {whole[key]}" for key in by_file),
            place,
        )


def environment() -> dict[str, str]:
    """The fields that DataJoint's variables set."""
    found = {key: os.environ.get(name) for key, name in VARIABLES.items()}
    return {key: value for key, value in found.items() if value}


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """A connection that somebody gave, with what it leaves to DataJoint's variables."""
    said = environment()
    if given.get("host") is not None or given.get("unix_socket") is not None:
        # The port belongs to the host: one of each would be a server that nobody named.
        said = {key: value for key, value in said.items() if key not in ("host", "port")}
    return {**said, **{key: value for key, value in given.items() if value is not None}}


def client_version() -> str:
    """The version of the installed DataJoint; empty if there is none."""
    try:
        return version("datajoint")
    except PackageNotFoundError:
        return ""


def of_installed() -> dict[str, Any]:
    """The connection that an installed DataJoint is configured with; nothing without one."""
    try:
        config = importlib.import_module("datajoint").config
    except Exception:  # noqa: BLE001  (a broken client only means there is nothing to read)
        return {}
    found: dict[str, Any] = {}
    for key in FIELDS:
        try:
            found[key] = _plain(config[f"database.{key}"])
        except (KeyError, AttributeError):
            continue
    return {key: value for key, value in found.items() if value is not None}


def _files() -> Iterator[tuple[str, dict[str, Any]]]:
    """The file and its fields, in the order of their rank."""
    for name in SOURCE_FILES:
        path = Path(name).expanduser()
        if path.is_file():
            said = read_json(path)
            yield name, _fields({key: said.get(f"database.{key}") for key in FIELDS})
            break
    path_2x = find_upwards()
    if path_2x is not None:
        section = read_json(path_2x).get("database")
        said = section if isinstance(section, dict) else {}
        for key in ("user", "password"):
            secret = path_2x.parent / SECRETS / f"database.{key}"
            if said.get(key) is None and secret.is_file():
                said[key] = secret.read_text(encoding="utf-8").strip()
        yield str(path_2x), _fields(said)


def _fields(said: Mapping[str, Any]) -> dict[str, Any]:
    variables = environment()
    found = {key: said[key] for key in FIELDS if said.get(key) is not None}
    # A file may leave the user to the variable.
    return {"user": variables["user"], **found} if found and "user" in variables else found


def _plain(value: Any) -> Any:
    reveal = getattr(value, "get_secret_value", None)
    return reveal() if callable(reveal) else value


def find_upwards() -> Path | None:
    """2.x's configuration of the current folder."""
    folder = Path.cwd()
    for place in (folder, *folder.parents):
        if (place / DEST_FILE).is_file():
            return place / DEST_FILE
        # The client stops at the root of a repository, so must whoever predicts it.
        if (place / ".git").exists() or (place / ".hg").exists():
            return None
    return None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a configuration file; raises `InvalidArgument` for what is no JSON."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidArgument(f"{path} is not valid JSON: {error}") from error
    return content if isinstance(content, dict) else {}
