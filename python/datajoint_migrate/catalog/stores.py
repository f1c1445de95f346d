"""The external stores of both sides: where they are configured, and which becomes which."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from datajoint_migrate.catalog.buckets import (
    KEYS,
    NEEDS,
    SCHEMES,
    bucket_of,
    bucket_spec,
    has_credentials,
    host_of,
    odd_slashes,
)
from datajoint_migrate.catalog.client import location_in_bucket
from datajoint_migrate.catalog.configuration import (
    DEST_FILE,
    SOURCE_FILES,
    find_upwards,
    read_json,
)
from datajoint_migrate.catalog.configuration import client_version as _client
from datajoint_migrate.catalog.externals import stores_tracked
from datajoint_migrate.catalog.secrecy import is_secret, sealed
from datajoint_migrate.catalog.tables import Schema
from datajoint_migrate.errors import InvalidArgument, NotFound, StoreMissing

Side = Literal["source", "destination"]

SOURCE_FOLDING = (2, 2)


@dataclass(frozen=True)
class Store:
    """One configured store. `raw` is the whole spec, secrets included, and stays out of the repr.

    `subfolding` is how many characters of the name each folder takes: 0.14.6 folds (2, 2) by
    default, 2.x not at all.
    """

    name: str
    protocol: str
    location: str
    subfolding: tuple[int, ...] = ()
    hash_prefix: str = "_hash"
    stage: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    # 2.x speaks https unless told otherwise, 0.14.6 http.
    secure: bool = False

    @property
    def place(self) -> tuple[str, ...]:
        """Where the store is: equal for two specs that lead to the same objects."""
        if self.protocol == "file":
            return ("file", os.path.realpath(self.location))
        host = host_of(self.protocol, self.raw)
        return (self.protocol, host, bucket_of(self.protocol, self.raw), self.location)

    @property
    def url(self) -> str:
        """Where the store is, for people; holds no secrets."""
        if self.protocol == "file":
            return self.location
        root = f"{SCHEMES.get(self.protocol, self.protocol)}://{bucket_of(self.protocol, self.raw)}"
        return f"{root}/{self.location}" if self.location else root

    @property
    def can_be_read(self) -> bool:
        """Whether its files can be looked at: a folder, or a bucket with credentials."""
        if self.protocol == "file":
            return True
        if self.protocol not in SCHEMES or odd_slashes(self.location):
            return False
        if not all(self.raw.get(key) for key in NEEDS[self.protocol] if key != "location"):
            return False
        return has_credentials(self.protocol, self.raw)

    def __getstate__(self) -> dict[str, Any]:
        # Other processes get the secrets that they need, and no others.
        known = KEYS.get(self.protocol, set())
        raw = {key: one for key, one in self.raw.items() if key in known or not is_secret(key)}
        return {**self.__dict__, "raw": raw}

    def spec(self) -> dict[str, Any]:
        """The store as the engine takes it; holds secrets.

        Raises `StoreMissing` when its folder is not there, `InvalidArgument` for other protocols
        than `file`, `s3`, `gcs` and `azure` and for what their clients would read in two ways.
        """
        if self.protocol == "file":
            if not os.path.isdir(self.location):
                raise StoreMissing(
                    f"the folder {self.location!r} of the store {self.name!r} does not exist",
                    hint="mount it, create it, or correct the location in the configuration",
                    context={"store": self.name, "location": self.location},
                )
            return {"protocol": "file", "name": self.name, "location": self.location}
        if self.protocol not in SCHEMES:
            raise InvalidArgument(
                f"the files of the {self.protocol} store {self.name!r} cannot be copied",
                hint="files are copied between stores of the protocols 'file', 's3', 'gcs' and "
                "'azure'; blobs and filepaths of other stores are migrated in place",
            )
        return bucket_spec(self.name, self.protocol, self.location, self.raw, self.secure)


def source_stores(explicit: Mapping[str, Any] | None = None) -> dict[str, Store]:
    """The 0.14.6 stores by name: `explicit` specs, else those of a 0.14 client's configuration.

    The configuration is that of an importable DataJoint 0.14, else `dj_local_conf.json` in the
    current folder, else `~/.datajoint_config.json`.
    """
    if explicit is not None:
        return _stores(explicit, SOURCE_FOLDING, False)
    if _client().startswith("0."):
        specs = importlib.import_module("datajoint").config.get("stores") or {}
        return _stores(specs, SOURCE_FOLDING, False)
    for name in SOURCE_FILES:
        path = Path(name).expanduser()
        if path.is_file():
            return _stores(read_json(path).get("stores") or {}, SOURCE_FOLDING, False)
    return {}


def dest_stores(explicit: Mapping[str, Any] | None = None) -> dict[str, Store]:
    """The 2.x stores by name: `explicit` specs, else those a 2.x client would find.

    That is the configuration of an already imported DataJoint 2.x, else `datajoint.json` upwards
    from the current folder together with its `.secrets`.
    """
    if explicit is not None:
        return _stores(explicit, (), True)
    # Only a client that is imported already can hold settings that are in no file.
    if "datajoint" in sys.modules and not _client().startswith("0."):
        specs = getattr(sys.modules["datajoint"].config, "stores", None)
        if specs:
            return _stores(specs, (), True)
    path = find_upwards()
    if path is None:
        return {}
    specs = {
        name: dict(spec) if isinstance(spec, Mapping) else spec
        for name, spec in (read_json(path).get("stores") or {}).items()
    }
    for secret in sorted((path.parent / ".secrets").glob("stores.*.*")):
        _, name, attribute = secret.name.split(".", 2)
        if isinstance(specs.get(name), dict):
            # As in the client: what the JSON says wins over the secret file.
            specs[name].setdefault(attribute, secret.read_text(encoding="utf-8").strip())
    return _stores(specs, (), True)


def get_store(stores: Mapping[str, Store], name: str, side: Side) -> Store:
    """The store of that name; raises `StoreMissing`, saying where to configure it."""
    if name in stores:
        return stores[name]
    near = get_close_matches(name, list(stores), n=1)
    guess = f"did you mean {near[0]!r}? Otherwise " if near else ""
    if side == "source":
        where = (
            f'give source_stores={{"{name}": {{"protocol": "file", "location": …}}}}, or run'
            f" where the {SOURCE_FILES[0]} of the 0.14.6 client lies"
        )
    else:
        where = (
            f'give dest_stores={{"{name}": {{"protocol": "file", "location": …}}}}, add'
            f" stores.{name} to {DEST_FILE}, or map it to another store with store_map"
        )
    raise StoreMissing(
        f"the {side} store {name!r} is not configured",
        hint=guess + where,
        context={"store": name, "side": side, "configured": sorted(stores)},
    )


def map_store(name: str, store_map: Mapping[str, str] | None = None) -> str:
    """The 2.x name of a 0.14.6 store; the same name unless `store_map` says otherwise."""
    return (store_map or {}).get(name, name)


def tracked_store(schema: Schema, name: str) -> str:
    """The 0.14.6 store a caller means: `raw`, or `external-raw` as the guide spells it.

    Raises `NotFound` when the schema tracks no such store.
    """
    tracked = list(stores_tracked(schema))
    for spelling in (name, name.removeprefix("external-")):
        if spelling in tracked:
            return spelling
    raise NotFound.among("tracked store", name, tracked, f" in {schema.name}")


def _stores(specs: Mapping[str, Any], folding: tuple[int, ...], secure: bool) -> dict[str, Store]:
    found: dict[str, Store] = {}
    for name, spec in specs.items():
        if isinstance(spec, Store):
            found[name] = spec
            continue
        if not isinstance(spec, Mapping):
            continue  # 2.x keeps `default` and its like beside the stores
        missing = [key for key in ("protocol", "location") if not spec.get(key)]
        if missing and spec.get("protocol") not in SCHEMES:
            raise InvalidArgument(
                f"the store {name!r} lacks {' and '.join(missing)}",
                hint='a store looks like {"protocol": "file", "location": "/data/raw"}',
            )
        found[name] = Store(
            name=name,
            protocol=str(spec.get("protocol")),
            location=_location(spec, of_source=bool(folding)),
            subfolding=tuple(int(width) for width in _or(spec.get("subfolding"), folding)),
            hash_prefix=str(_or(spec.get("hash_prefix"), "_hash")),
            stage=spec.get("stage"),
            raw=sealed(spec),
            secure=bool(_or(spec.get("secure"), secure)),
        )
    return found


def _location(spec: Mapping[str, Any], of_source: bool) -> str:
    location = str(spec.get("location") or "")
    if of_source and spec.get("protocol") == "s3":
        # 0.14.6 makes a path of it, 2.x pastes it in front of one.
        return location_in_bucket(location)
    return location


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def folded(name: str, folds: tuple[int, ...]) -> str:
    """The folders of an object: `ab/cd` for a name folded by (2, 2)."""
    folders = []
    for width in folds:
        folders.append(name[:width])
        name = name[width:]
    return "/".join(folders)
