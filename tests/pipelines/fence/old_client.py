"""What a DataJoint 0.14.6 client can do with a pipeline of `small.py`: every way to write.

    venv-0.14.6/bin/python old_client.py --port 3306 --stores stores.json --lab s_lab --rig s_rig

Prints JSON: way → "ok", or what the client said. With --wait it opens everything, prints "ready",
and goes on when a line comes in. Stdlib and DataJoint only.
"""

# ruff: noqa: ARG001  (every way is given both schemas)
from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "full"))

import client_014
import options

WAYS: dict[str, Callable[[Any, Any, Any], Any]] = {}


def way(function: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    WAYS[function.__name__.replace("_", " ")] = function
    return function


@way
def insert_a_lookup(dj: Any, lab: Any, rig: Any) -> None:
    lab.Species.insert1({"species": "hamster"})


@way
def insert_into_a_plain_table(dj: Any, lab: Any, rig: Any) -> None:
    lab.Mouse.insert1({"mouse_id": 900, "species": "rat", "weight": 1.5, "dob": "2024-01-01"})


@way
def insert_only_a_key(dj: Any, lab: Any, rig: Any) -> None:
    lab.Session.insert1({"mouse_id": 1, "session_date": "2025-05-05"})


@way
def insert_a_blob(dj: Any, lab: Any, rig: Any) -> None:
    key = {"mouse_id": 1, "session_date": "2024-01-02", "trial": 77}
    lab.Session.Trial.insert1({**key, "data": [1, 2, 3]})


@way
def insert_into_a_store(dj: Any, lab: Any, rig: Any) -> None:
    row = {"recording_id": 900, "mouse_id": 1, "signal": [1, 2, 3]}
    rig.Recording.insert1(row, allow_direct_insert=True)


@way
def update_a_value(dj: Any, lab: Any, rig: Any) -> None:
    lab.Mouse.update1({"mouse_id": 2, "weight": 77.0})


@way
def delete_a_row(dj: Any, lab: Any, rig: Any) -> None:
    (lab.Session & {"mouse_id": 1, "session_date": "2025-05-05"}).delete(safemode=False)
    (lab.Species & {"species": "mouse"}).delete(safemode=False)


@way
def fetch(dj: Any, lab: Any, rig: Any) -> None:
    assert len(lab.Mouse.fetch())


@way
def declare_a_child(dj: Any, lab: Any, rig: Any) -> None:
    schema = dj.Schema(lab.schema.database)

    @schema
    class Weighing(dj.Manual):  # type: ignore[misc]
        definition = """
        -> lab.Species
        ---
        grams : float
        """

    Weighing.insert1({"species": "rat", "grams": 1.0})


@way
def populate(dj: Any, lab: Any, rig: Any) -> None:
    schema = dj.Schema(lab.schema.database)

    @schema
    class Analysis(dj.Computed):  # type: ignore[misc]
        definition = """
        -> lab.Species
        ---
        result : longblob
        """

        def make(self, key: Any) -> None:
            self.insert1({**key, "result": [1, 2]})

    Analysis.populate(reserve_jobs=True, max_calls=1)
    assert len(Analysis())


def main() -> int:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--lab", required=True)
    parser.add_argument("--rig", required=True)
    parser.add_argument("--wait", action="store_true")
    chosen = parser.parse_args()
    specs = json.loads(chosen.stores.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        client_014.configure(chosen, specs)
        import datajoint as dj

        lab = dj.create_virtual_module("lab", chosen.lab)
        rig = dj.create_virtual_module("rig", chosen.rig)
        if chosen.wait:
            for table in (lab.Species, lab.Mouse, lab.Session, lab.Session.Trial, rig.Recording):
                assert len(table.heading.attributes)
            print("ready", flush=True)
            sys.stdin.readline()
        said = {}
        for name, function in WAYS.items():
            try:
                function(dj, lab, rig)
                said[name] = "ok"
            except Exception as error:  # noqa: BLE001  (any refusal is an answer)
                said[name] = f"{type(error).__name__}: {error}"[:300]
        os.chdir("/")
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
