"""A small pipeline in the hands of a real client: 0.14.6 fills it and goes on, 2.x reads it.

    venv-0.14.6/bin/python client.py HOST PORT USER PASSWORD SCHEMA FOLDER fill|fetch|work
    venv-2.3.5/bin/python client.py HOST PORT USER PASSWORD SCHEMA FOLDER fetch|parts|insert

Prints one JSON line: what was fetched, or by the name of what was tried, "ok" or what went wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["DJ_SUPPORT_FILEPATH_MANAGEMENT"] = "TRUE"
os.environ["DJ_SUPPORT_ADAPTED_TYPES"] = "TRUE"

MICE = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("host", "port", "user", "password", "schema", "root", "action"):
        parser.add_argument(name)
    chosen = parser.parse_args()
    scratch = tempfile.mkdtemp()
    os.chdir(scratch)
    tempfile.tempdir = scratch
    spec = {"protocol": "file", "location": f"{chosen.root}/store", "stage": f"{chosen.root}/stage"}
    for folder in (spec["location"], spec["stage"]):
        Path(folder).mkdir(parents=True, exist_ok=True)
    database = {"host": chosen.host, "port": int(chosen.port)}
    stores = {"default": "raw", "raw": spec}
    # 2.x looks for its settings only in a file of this name.
    Path("datajoint.json").write_text(json.dumps({"database": database, "stores": stores}))
    warnings.filterwarnings("ignore")
    import datajoint as dj

    old = dj.__version__.startswith("0.")
    settings = {
        "database.host": chosen.host,
        "database.port": int(chosen.port),
        "database.user": chosen.user,
        "database.password": chosen.password,
        "database.use_tls": False,
    }
    if old:
        old_only = {"safemode": False, "loglevel": "ERROR", "stores": {"raw": spec}}
        dj.config.update(settings | old_only)
    else:
        logging.getLogger("datajoint").setLevel("ERROR")
        for key in ("user", "password", "use_tls"):
            dj.config[f"database.{key}"] = settings[f"database.{key}"]
    tables = declared(dj, chosen.schema) if old else {}
    actions: dict[str, Callable[[], Any]] = {
        "fill": lambda: fill(tables),
        "fetch": lambda: fetch(dj, chosen.schema, "Scan"),
        "parts": lambda: fetch(dj, chosen.schema, "Scan", "V2"),
        "work": lambda: work(dj, chosen.schema, tables),
        "insert": lambda: insert(dj, chosen.schema),
    }
    print(json.dumps(actions[chosen.action]()))
    return 0


def declared(dj: Any, name: str) -> dict[str, Any]:
    """The pipeline's classes, for 0.14.6."""
    schema = dj.Schema(name)

    @schema
    class Mouse(dj.Manual):  # type: ignore[misc]
        definition = """
        mouse : int unsigned   # it's one mouse
        """

    @schema
    class Scan(dj.Manual):  # type: ignore[misc]
        definition = """
        -> Mouse
        scan : smallint
        ---
        movie : blob@raw               # the mouse's "film"; a: colon
        paper=null : attach@raw        # written
        source=null : filepath@raw     # raw
        inside : longblob              # in the table
        note=null : attach
        rate=2.5 : float
        """

    @schema
    class Stats(dj.Computed):  # type: ignore[misc]
        definition = """
        -> Scan
        ---
        mean : float
        """

        def make(self, key: dict[str, Any]) -> None:
            self.insert1({**key, "mean": 1.5})

    return {"Mouse": Mouse, "Scan": Scan, "Stats": Stats}


def row(mouse: int, scan: int = 1) -> dict[str, Any]:
    """A row of Scan; the first mouse has no files."""
    import datajoint as dj
    import numpy as np

    values: dict[str, Any] = {
        "mouse": mouse,
        "scan": scan,
        "movie": np.arange(400) + mouse // 2,
        "inside": {"mouse": [mouse, "é"]},
    }
    if mouse:
        paper = Path(f"paper {mouse}.ünï.txt")
        paper.write_text(f"paper of {mouse}")
        source = Path(dj.config["stores"]["raw"]["stage"], f"raw files/s{mouse}.bin")
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(b"%d" % mouse * 9)
        values |= {"paper": str(paper), "source": str(source), "note": str(paper)}
    return values


def fill(tables: dict[str, Any]) -> str:
    for mouse in range(MICE):
        tables["Mouse"].insert1((mouse,))
        tables["Scan"].insert1(row(mouse))
    tables["Stats"].populate({"mouse": 1})
    return "ok"


def plain(value: Any) -> Any:
    """A value as JSON; a file by its name and contents."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if hasattr(value, "read"):
        return ["file", Path(value.path).name, value.read().decode()]
    if isinstance(value, str) and Path(value).is_file():
        return ["file", Path(value).name, Path(value).read_text()]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return repr(value) if isinstance(value, bytes) else value


def fetch(dj: Any, name: str, table: str, part: str | None = None) -> Any:
    """All rows by key, through a virtual module; of a part, joined to its master."""
    classes = dj.VirtualModule("m", name)
    query = getattr(classes, table)
    if part:
        query = query.proj() * getattr(query, part)
    old = dj.__version__.startswith("0.")
    rows = query.fetch(as_dict=True) if old else query.to_dicts()
    return {
        f"{found.pop('mouse')}.{found.pop('scan')}": {key: plain(v) for key, v in found.items()}
        for found in rows
    }


def attempt(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:  # noqa: BLE001  (an error of any kind is an answer)
        return f"{type(error).__name__}: {error}"[:200]
    return "ok"


def work(dj: Any, name: str, tables: dict[str, Any]) -> dict[str, str]:
    """What 0.14.6 clients do all day."""
    mouse, scan = tables["Mouse"], tables["Scan"]
    return {
        "fetch": attempt(lambda: scan.fetch(as_dict=True)),
        "fetch1": attempt(lambda: (scan & {"mouse": 1, "scan": 1}).fetch1("movie")),
        "virtual": attempt(lambda: fetch(dj, name, "Scan")),
        "insert": attempt(lambda: scan.insert1(row(3, scan=2))),
        "update": attempt(lambda: scan.update1({"mouse": 2, "scan": 1, "movie": [7]})),
        "free table": attempt(lambda: dj.FreeTable(dj.conn(), f"`{name}`.`scan`").fetch("KEY")),
        "populate": attempt(lambda: tables["Stats"].populate({"mouse": 2})),
        "delete": attempt((mouse & {"mouse": 4}).delete),
    }


def insert(dj: Any, name: str) -> str:
    """A row written by 2.x into what has been migrated in place."""
    paper = Path("new paper.txt")
    paper.write_text("new")
    scan = dj.VirtualModule("m", name).Scan
    values = {"movie": [1, 2], "paper": str(paper), "inside": {"a": 1}}
    return attempt(lambda: scan.insert1({"mouse": 0, "scan": 9, **values}))


if __name__ == "__main__":
    sys.exit(main())
