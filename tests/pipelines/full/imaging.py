"""Schema `imaging` of the pipeline: blobs, stores, files, adapters, computed tables (0.14.6)."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

import datajoint as dj
import numpy as np
from adapters import edges, lines_attach, lines_file, pairs, wrapped  # noqa: F401
from colony import Cage, Project, Visit  # noqa: F401

schema = dj.Schema()


@schema
class Params(dj.Lookup):  # type: ignore[misc]
    definition = """
    params_id : smallint
    ---
    params : longblob   # how to: find cells
    """
    contents: tuple[tuple[int, Any], ...] = (
        (1, {"threshold": 4.5, "channels": [1, 2, 3]}),
        (2, {"threshold": 5, "name": "naïve"}),
        (-32768, []),
    )


@schema
class Scan(dj.Imported):  # type: ignore[misc]
    definition = """
    # imported from the other schema
    -> Visit
    ---
    movie : blob@raw                # stored outside: with a colon
    flat_movie=null : blob@flat
    deep_movie=null : blob@deep-1
    settings=null : longblob        # stored inside
    tiny=null : tinyblob
    plain=null : blob
    medium=null : mediumblob
    """

    class Field(dj.Part):  # type: ignore[misc]
        definition = """
        -> master
        field : smallint
        ---
        gain=1 : float
        trace : blob@raw
        label=null : attach@deep-1
        """

    def make(self, key: dict[str, Any]) -> None:
        number = key["visit_number"]
        random = np.random.RandomState(key["animal_id"] % 1000 * 100 + number)
        self.insert1(
            dict(
                key,
                # Every second visit has the same movie: stored once, referred to often.
                movie=random.randn(50, 40) if number % 2 else np.zeros((3, 3)),
                flat_movie=None if number == 1 else {"a": [1, 2, number], "b": "x" * 2000},
                deep_movie=None if number == 2 else np.arange(number * 3, dtype="int16"),
                settings={"when": datetime.datetime(2024, 1, 1, 3, 4, 5, 678), "n": number},
                tiny=[1, 2],
                plain=np.arange(5.0),
                medium="m" * 1500,
            )
        )
        folder = Path(tempfile.mkdtemp())
        for field in range(2):
            label = folder / f"label el.{field}.v1.txt"
            label.write_text(f"label of {key['animal_id']}, field {field}")
            trace = random.randint(0, 9, 400).astype("uint8")
            row = dict(key, field=field, gain=0.5 * field, trace=trace)
            self.Field.insert1(dict(row, label=str(label) if field else None))


@schema
class Cells(dj.Computed):  # type: ignore[misc]
    definition = """
    -> Scan
    -> Params
    ---
    n_cells : int
    summary : longblob
    """

    class Mask(dj.Part):  # type: ignore[misc]
        definition = """
        -> master
        cell : int unsigned
        ---
        mask : blob@raw
        quality=null : double
        """

    def make(self, key: dict[str, Any]) -> None:
        if key["visit_number"] == 2 and key["params_id"] == 2:
            raise ValueError("bad luck: ünïcode 100% 'quoted'")
        numbers = np.array([key["params_id"], key["visit_number"]], dtype="int32")
        self.insert1(dict(key, n_cells=2, summary=numbers))
        for cell in range(2):
            row = dict(key, cell=cell, mask=np.linspace(0, cell + 1, 30))
            self.Mask.insert1(dict(row, quality=None if cell else 1 / 3))


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
        rows = [dict(key, repeat=n, rate=n + key["params_id"] / 10) for n in range(2)]
        self.insert(rows)


@schema
class Kinds(dj.Manual):  # type: ignore[misc]
    definition = """
    # every kind of Python value
    kind : varchar(40)
    ---
    inside=null : longblob
    outside=null : blob@raw
    """


@schema
class Files(dj.Manual):  # type: ignore[misc]
    definition = """
    file_id : int
    ---
    att=null : attach              # inside the table: an attachment
    att_raw=null : attach@raw      # outside: "quotes"
    att_flat=null : attach@flat
    path_raw=null : filepath@raw   # a file: in a store
    path_deep=null : filepath@deep-1
    """


@schema
class Adapted(dj.Manual):  # type: ignore[misc]
    definition = """
    adapted_id : int
    ---
    graph=null : <edges>             # adapted: blob inside
    anything=null : <wrapped>        # adapted blob outside
    story=null : <lines_file>        # adapted filepath
    letter=null : <lines_attach>
    layout=null : <pairs>            # adapted varchar
    """


@schema
class Link(dj.Manual):  # type: ignore[misc]
    definition = """
    # composite keys across schemas, some renamed, some nullable
    -> Visit
    link : int
    ---
    -> [nullable] Cage.proj(old_room="room", old_cage="cage_number")
    -> [nullable] Cells.Mask.proj(animal="animal_id", day="visit_date", number="visit_number")
    -> Project
    body=null : json
    unique index (link, project_id)
    """
