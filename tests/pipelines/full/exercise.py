"""Work on the migrated full pipeline with DataJoint 2.x as people do: it changes the schemas.

    venv-2.3.5/bin/python exercise.py --port 3306 --prefix new --stores stores_2x.json

Describes, joins, inserts, updates, declares a child, populates and deletes; prints a line for each
step; exit status 0 only when all of them did what they should.
"""

# ruff: noqa: ARG001  (every step is given both schemas)
from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import options
from read import connect

STEPS: list[Callable[[Any, Any], None]] = []
Step = Callable[[Any, Any], None]


def step(function: Step) -> Step:
    STEPS.append(function)
    return function


def main() -> int:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--prefix", required=True, help="the new schemas' prefix")
    parser.add_argument("--step", action="append", help="only this one, by its function's name")
    chosen = parser.parse_args()
    specs = json.loads(chosen.stores.read_text())
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        tempfile.tempdir = scratch
        connect(chosen, specs)
        import datajoint as dj

        dj.config["safemode"] = False
        dj.config["download_path"] = tempfile.mkdtemp()
        colony = dj.VirtualModule("colony", f"{chosen.prefix}_colony")
        imaging = dj.VirtualModule("imaging", f"{chosen.prefix}_imaging")
        for function in STEPS:
            if chosen.step and function.__name__ not in chosen.step:
                continue
            said = "OK     "
            try:
                function(colony, imaging)
            except Exception as error:  # noqa: BLE001  (an error of any kind is a verdict)
                said = "FAILS  "
                failed += 1
                print(f"{type(error).__name__}: {error}"[:800])
            print(said, function.__name__.replace("_", " "), flush=True)
        os.chdir("/")
    return 1 if failed else 0


def same(found: Any, expected: Any) -> None:
    if found != expected:
        raise AssertionError(f"found {found!r}, expected {expected!r}")


@step
def every_table_describes_itself(colony: Any, imaging: Any) -> None:
    import datajoint as dj

    tables = 0
    for module in (colony, imaging):
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, dj.Table):
                assert "---" in thing().describe() or not thing().heading.secondary_attributes
                tables += 1
    assert tables > 15, tables


@step
def tables_join_within_and_across_schemas(colony: Any, imaging: Any) -> None:
    same(len(colony.Animal * colony.Visit), 12)
    same(len(colony.Visit * imaging.Scan), 12)
    same(len(imaging.Scan * imaging.Cells * imaging.Params), 33)
    same(len(colony.Animal * imaging.Cells.Mask), 66)
    same(len(imaging.Cells * colony.Report), 2)
    same(len(colony.Visit & imaging.Cells), 12)
    same(len(colony.Visit - colony.Visit.Note), 9)
    same(len(colony.Visit.aggr(imaging.Cells, n="count(*)")), 12)
    same(len(colony.Pedigree.proj(animal_id="child_id") * colony.Animal), 2)


@step
def rows_go_in_and_come_out(colony: Any, imaging: Any) -> None:
    animal = {"animal_id": 4000000000, "strain": "Wistar", "animal_uuid": uuid.UUID(int=5)}
    colony.Animal.insert1(animal)
    same((colony.Animal & "animal_id=4000000000").fetch1("animal_uuid"), uuid.UUID(int=5))
    colony.Counter.insert1({"words": "next"})
    same((colony.Counter & "words='next'").fetch1("counter_id"), 42)
    imaging.Stamped.insert1({"stamped_id": 50, "x": 0.5})
    same((imaging.Stamped & "stamped_id=50").fetch1("x"), 0.5)
    visit = (colony.Visit & "visit_number=3").keys(limit=1)[0]
    link = dict(visit, link=9, project_id=uuid.UUID(int=0x0123456789ABCDEF01234567 * 100))
    imaging.Link.insert1(dict(link, body={"q": [1, None]}))
    same((imaging.Link & "link=9").fetch1("body"), {"q": [1, None]})


@step
def blobs_files_and_codecs_go_in_and_come_out(colony: Any, imaging: Any) -> None:
    new = {"kind": "new"}
    imaging.Kinds.insert1(dict(new, inside={"n": 1}, outside=np.arange(7)))
    same((imaging.Kinds & new).fetch1("inside"), {"n": 1})
    imaging.Kinds.update1(dict(new, outside=[1, "x"]))
    same((imaging.Kinds & new).fetch1("outside"), [1, "x"])
    path = Path(tempfile.mkdtemp()) / "new file.v1.txt"
    path.write_text("new")
    files = {"file_id": 100, "att": path, "att_raw": path, "att_flat": path}
    imaging.Files.insert1({k: str(v) if k != "file_id" else v for k, v in files.items()})
    for column in ("att", "att_raw", "att_flat"):
        fetched = Path((imaging.Files & "file_id=100").fetch1(column))
        same((fetched.name[:8], fetched.read_text()), ("new file", "new"))
    imaging.Files.update1({"file_id": 100, "path_raw": "sub dir/0/plain.txt"})
    same((imaging.Files & "file_id=100").fetch1("path_raw").size, 22)
    imaging.Adapted.insert1(
        {"adapted_id": 9, "graph": [(5, 6)], "anything": [1, 2], "layout": {"a": "b"}}
    )
    row = (imaging.Adapted & "adapted_id=9").fetch1()
    same((row["graph"], row["anything"], row["layout"]), ({(5, 6)}, [1, 2], {"a": "b"}))


@step
def new_children_of_migrated_parents_work(colony: Any, imaging: Any) -> None:
    import datajoint as dj

    schema = dj.Schema(imaging.Scan.database)
    Scan, Strain, Project = imaging.Scan, colony.Strain, colony.Project  # noqa: N806

    @schema
    class NewChild(dj.Manual):  # type: ignore[misc]
        definition = """
        -> Scan
        -> Project
        extra : int32
        ---
        -> [nullable] Strain
        score=null : <blob>
        """

    key = imaging.Scan.keys(limit=1)[0]
    project = colony.Project.keys(limit=1)[0]
    NewChild.insert1({**key, **project, "extra": 1, "strain": "Wistar", "score": [1.5]})
    same((NewChild * colony.Visit).fetch1("score"), [1.5])
    same(len(NewChild * imaging.Scan * colony.Strain), 1)
    assert {Scan, Strain, Project}


@step
def a_computed_table_populates_with_reserved_jobs(colony: Any, imaging: Any) -> None:
    import datajoint as dj

    schema = dj.Schema(imaging.Scan.database)
    Cells = imaging.Cells  # noqa: N806
    assert Cells

    @schema
    class Spike2Rate(dj.Computed):  # type: ignore[misc]
        definition = """
        # computed from computed, with a key attribute of its own
        -> Cells
        repeat : tinyint
        ---
        rate : double
        """

        def make(self, key: dict[str, Any]) -> None:
            if key["visit_number"] == 3:
                raise ValueError("a new error")
            self.insert1(dict(key, repeat=0, rate=1.0))

    before = len(Spike2Rate())
    Spike2Rate.populate(reserve_jobs=True, suppress_errors=True)
    third = len(Cells & "visit_number=3")
    missing = len(Cells - Spike2Rate)
    assert before < len(Spike2Rate()), "nothing was computed"
    assert 0 < missing <= third, (missing, third)


@step
def a_delete_cascades_across_schemas(colony: Any, imaging: Any) -> None:
    with_scans = len(imaging.Scan & "animal_id=1")
    same(with_scans, 4)
    (colony.Visit & "animal_id=1").delete(**_without_question(colony.Visit))
    same(len(imaging.Scan & "animal_id=1"), 0)
    same(len(imaging.Cells.Mask & "animal_id=1"), 0)
    same(len(colony.Visit & "animal_id=1"), 0)


def _without_question(table: Any) -> dict[str, bool]:
    names = table.delete.__code__.co_varnames
    return {"prompt": False} if "prompt" in names else {"safemode": False}


if __name__ == "__main__":
    sys.exit(main())
