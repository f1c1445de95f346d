"""Fills the schemas `colony` and `imaging` with the real 0.14.6 client."""

from __future__ import annotations

import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

import colony
import datajoint as dj
import imaging
import late
import values
from values import unique

HIGHEST = 2**32 - 1
STORE_RAW = "raw"


def fill(json_as_text: bool) -> list[str]:
    """Insert every row; what 0.14.6 itself refused, a line each.

    `json_as_text` on MariaDB, where a json column is text to 0.14.6.
    """
    as_json = json.dumps if json_as_text else (lambda value: value)
    _animals()
    _limits(as_json)
    imaging.Scan.populate(reserve_jobs=True)
    imaging.Cells.populate(reserve_jobs=True, suppress_errors=True)
    imaging.Spike2Rate.populate(max_calls=3)
    rate = imaging.Spike2Rate.table_name
    imaging.schema.jobs.ignore(rate, imaging.Cells.fetch("KEY")[-1])
    imaging.schema.jobs.reserve(rate, imaging.Cells.fetch("KEY")[-2])
    refused = _kinds() + _files()
    _adapted()
    _links(as_json)
    late.Stamped.insert([{"stamped_id": n, "x": n / 7} for n in range(3)])
    _orphans()
    _blob_of_011()
    return refused


def _animals() -> None:
    rows = [
        (1, "C57BL/6J", "M", "", "2023-01-02", "a:b", "Zoë"),
        (2, "Wistar", "F", "it's", None, "100% 'q' \"d\" \\b", None),
        (3, "100% 'x' \"y\"", "unknown", "a:b", "2022-02-28", "", "猴🐀"),
        (HIGHEST, "Wistar", "F", "ü", None, "highest", ""),
    ]
    names = ("animal_id", "strain", "sex", "mood", "born", "genotype", "nickname")
    colony.Animal.insert(
        dict(zip(names, row, strict=True), animal_uuid=unique(row[0])) for row in rows
    )
    colony.Animal.update1({"animal_id": 3, "alive": 0, "weight": 1.1})
    colony.Pedigree.insert(
        [
            {"child_id": 1, "parent_id": 2, "relation": "dam", "foster_id": None},
            {"child_id": 1, "parent_id": 3, "relation": "sire", "foster_id": HIGHEST},
        ]
    )
    colony.Visit.insert(_visit(animal, n) for animal in (1, 2, HIGHEST) for n in range(1, 5))
    for key in colony.Visit.fetch("KEY", limit=3):
        notes = [dict(key, note_id=n, words=f"note {n}") for n in (-1, 0, 5)]
        colony.Visit.Note.insert(notes)
        colony.Visit.Reply.insert(
            [dict(key, note_id=n, reply_id=r, words=w) for n, r, w in ((-1, 1, None), (5, -1, ""))]
        )
    colony.Project.insert(
        {"project_id": unique(100 + n), "title": f"Projekt {n} äöü"} for n in range(3)
    )
    colony.Project.Member.insert(
        {"project_id": unique(100), "animal_id": animal} for animal in (1, 2, 3)
    )


def _visit(animal: int, n: int) -> dict[str, Any]:
    day = datetime.datetime(2024, 1, n + 1, 1, 2, 3, 456789)
    guest = {(1, 1): 3, (1, 2): 2}.get((animal, n))
    return {
        "animal_id": animal,
        "visit_date": day.date(),
        "visit_number": n,
        "room": "R1" if n % 2 else None,
        "cage_number": 2 if n % 2 else None,
        "guest_id": guest,
        "notes": f"{n}: 'quotes', \"double\", back\\slash, tab\t newline\n 猴 {'x' * n * 600}",
        "started": day.replace(microsecond=0),
        "ended": None if n % 3 == 0 else day,
    }


def _limits(as_json: Any) -> None:
    for row in values.limits():
        if row["row_id"] in values.JSON_VALUES:
            row = dict(row, t_json=as_json(values.JSON_VALUES[row["row_id"]]))
        if "t_timestamp" not in row:
            row = dict(row, d_stamp="2024-02-29 23:59:59")
        colony.Limits.insert1(row)
    names = ("precision_id", "single", "both")
    colony.Precision.insert(dict(zip(names, row, strict=True)) for row in values.precise())
    colony.Counter.insert({"counter_id": n, "words": f"number {n}"} for n in (-5, 1, 2, 41))
    # The server would give a zero the next number, so it comes by a change of a row that is there.
    colony.schema.connection.query(
        f"UPDATE {colony.Counter.full_table_name} SET counter_id=0 WHERE counter_id=1"
    )
    colony.CounterChild.insert([{"counter_id": 0}, {"counter_id": -5}])
    days = (datetime.date(2024, 2, 29), datetime.date(1999, 12, 31))
    colony.WideKey.insert(
        {
            "label": label,
            "day": day,
            "moment": datetime.datetime(2024, 1, 1, 0, 0, 0, microsecond),
            "flag": flag,
            "amount": amount,
            "value": None if microsecond else amount / 3,
        }
        for label in ("", "a", "a b", "ü", "猴🐀", "%s", "it's", "back\\slash")
        for day in days
        for microsecond in (0, 1)
        for flag, amount in (("on", 0.125), ("off", -99999.999))
    )


def _kinds() -> list[str]:
    refused = []
    for kind, value in values.kinds().items():
        try:
            imaging.Kinds.insert1({"kind": kind, "inside": value, "outside": value})
        except Exception as error:  # noqa: BLE001  (a refusal of any kind is noted, not fatal)
            refused.append(f"kind {kind}: {error}")
    return refused


def write(folder: Path, name: str, data: bytes) -> str:
    """Write a file for an insert; its path as text."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def _files() -> list[str]:
    refused = []
    folder = Path(tempfile.mkdtemp())
    stages = {
        name: Path(spec["stage"]) for name, spec in dj.config["stores"].items() if "stage" in spec
    }
    for number, name in enumerate(values.FILE_NAMES):
        data = f"contents of {name}\n".encode() * (300 if number == 2 else 1)
        key = {"file_id": number}
        imaging.Files.insert1(key)
        column_values = {
            column: write(folder, name, data) for column in ("att", "att_raw", "att_flat")
        }
        for column, store in (("path_raw", "raw"), ("path_deep", "deep-1")):
            column_values[column] = write(stages[store], f"sub dir/{number}/{name}", data)
        for column, path in column_values.items():
            try:
                imaging.Files.update1({**key, column: path})
            except Exception as error:  # noqa: BLE001  (a refusal of any kind is noted, not fatal)
                refused.append(f"file {column} {name}: {error}")
    plain = b"contents of plain.txt\n"
    raw = stages[STORE_RAW]
    imaging.Files.insert1({"file_id": 20, "att_raw": write(folder, "plain.txt", plain)})
    imaging.Files.insert1({"file_id": 21, "att_raw": write(folder, "other.txt", plain)})
    empty = write(folder, "empty.bin", b"")
    imaging.Files.insert1({"file_id": 22, "att": empty, "att_raw": empty})
    imaging.Files.insert1({"file_id": 23})
    imaging.Files.insert1({"file_id": 24, "path_raw": write(raw, "sub dir/0/plain.txt", plain)})
    imaging.Files.insert1({"file_id": 25, "path_raw": write(raw, "top.bin", bytes(range(256)))})
    imaging.Files.insert1({"file_id": 26, "path_raw": write(raw, "empty file", b"")})
    return refused


def _adapted() -> None:
    imaging.Adapted.insert(
        [
            {
                "adapted_id": 1,
                "graph": [(1, 2), (3, 4)],
                "anything": [1, {"two": 3}],
                "story": ("lines one.txt", ["a", "b"]),
                "letter": ("letter one.txt", ["x", "y"]),
                "layout": {"k": "1", "z": "2"},
            },
            {
                "adapted_id": 2,
                "graph": [],
                "anything": {"d": [1]},
                "story": ("lines.two.txt", [""]),
                "letter": ("letter.two.txt", ["ü"]),
                "layout": {"only": "x"},
            },
        ]
    )
    # An adapter's put() cannot be given None, a column left out is NULL.
    imaging.Adapted.insert1({"adapted_id": 3})


def _links(as_json: Any) -> None:
    mask = imaging.Cells.Mask.fetch("KEY")[0]
    visits = {n: (colony.Visit() & {"visit_number": n}).fetch("KEY")[0] for n in (1, 2)}
    full = {
        "link": 1,
        "old_room": "",
        "old_cage": 65535,
        "animal": mask["animal_id"],
        "day": mask["visit_date"],
        "number": mask["visit_number"],
        "params_id": mask["params_id"],
        "cell": mask["cell"],
        "project_id": unique(100),
        "body": as_json({"k": "v: x"}),
    }
    empty = {**dict.fromkeys(full), "link": 1, "project_id": unique(101)}
    imaging.Link.insert([{**visits[1], **full}, {**visits[2], **empty}])
    keys = imaging.Cells.fetch("KEY")
    report = write(Path(tempfile.mkdtemp()), "report.v2.pdf", b"%PDF not really")
    late.Report.insert([dict(keys[0], report=report), dict(keys[1], report=None)])


def _orphans() -> None:
    """Deleting leaves rows in the tracking table, and files, that nothing refers to."""
    (imaging.Kinds() & {"kind": "array_float32"}).delete()
    (imaging.Files() & {"file_id": 21}).delete()


def _blob_of_011() -> None:
    """A blob as DataJoint 0.12 left those of 0.11: found by its path, not by its hash."""
    schema = imaging.schema
    relative = f"{schema.database}/{'A' * 43}"
    packed = dj.blob.pack({"from": "0.11"})
    store = schema.external[STORE_RAW]
    store._upload_buffer(packed, store._make_external_filepath(Path(relative)))
    hash_of_path = dj.hash.uuid_from_buffer(init_string=relative)
    store.insert1(
        {
            "hash": hash_of_path,
            "size": len(packed),
            "filepath": relative,
            "contents_hash": dj.hash.uuid_from_buffer(packed),
        }
    )
    schema.connection.query(
        f"INSERT INTO {imaging.Kinds.full_table_name} VALUES ('from_011', NULL, %s)",
        args=(hash_of_path.bytes,),
    )
