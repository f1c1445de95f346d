"""Try lines that 2.x accepts on some servers or on none; print what each raises, as JSON.

Runs with a 2.x client, in a folder with its datajoint.json. One argument: a schema it may make.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import datajoint as dj
import numpy as np


def main() -> int:
    schema = dj.Schema(sys.argv[1])
    declare(schema, "Plain", "plain_id : int unsigned\n---\nx : float")
    tries: dict[str, Callable[[], Any]] = {
        "dj.schema": lambda: dj.schema(sys.argv[1]),
        "stores.default": lambda: set_setting("stores.default", "raw"),
        "stores.test_store": lambda: set_setting("stores.test_store", {"protocol": "file"}),
        "config.save": lambda: dj.config.save("datajoint_v20.json"),
        "uint8": lambda: declare(schema, "Narrow", "narrow_id : uint8\n---\n"),
        "uint16": lambda: declare(schema, "Middle", "middle_id : uint16\n---\n"),
        "uint32": lambda: declare(schema, "Wide", "wide_id : uint32\n---\n"),
        "<blob@>": lambda: insert(schema, "InBlob", "<blob@>"),
        "<npy@>": lambda: insert(schema, "InNpy", "<npy@>"),
        "<blob@raw>": lambda: insert(schema, "InRaw", "<blob@raw>"),
        "RENAME TABLE": lambda: dj.conn().query(f"RENAME TABLE `{sys.argv[1]}` TO `another`"),
        "migrate_external_to_v20": lambda: import_name("migrate_external_to_v20"),
        "copy_all_data": lambda: import_name("copy_all_data"),
    }
    json.dump({line: outcome(attempt) for line, attempt in tries.items()}, sys.stdout)
    return 0


def outcome(attempt: Callable[[], Any]) -> str | None:
    try:
        attempt()
    except Exception as error:  # noqa: BLE001  (which one it is, is the answer)
        return f"{type(error).__name__}: {error}"
    return None


def set_setting(name: str, value: Any) -> None:
    dj.config[name] = value


def declare(schema: Any, name: str, definition: str) -> Any:
    table = schema(type(name, (dj.Manual,), {"definition": definition}))
    table.heading.names  # noqa: B018  (some releases declare a table when it is first used)
    return table


def insert(schema: Any, name: str, codec: str) -> None:
    table = declare(schema, name, f"number : int\n---\nvalue : {codec}")
    table.insert1({"number": 1, "value": np.arange(3.0)})


def import_name(name: str) -> None:
    module = __import__("datajoint.migrate", fromlist=[name])
    if not hasattr(module, name):
        raise ImportError(f"cannot import name {name!r} from 'datajoint.migrate'")


if __name__ == "__main__":
    sys.exit(main())
