"""A week of work on the demonstration's pipeline with DataJoint 0.14.6: each kind of write it has.

Options and dump are those of the demonstration's program that fills; what is dumped is the state
after the work.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "full"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "demo"))

import client_014
import options


def main() -> int:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write the dump to")
    chosen = parser.parse_args()
    specs = json.loads(chosen.stores.read_text())
    client_014.configure(chosen, specs)
    names = (f"{chosen.prefix}_lab", f"{chosen.prefix}_ephys")

    import datajoint as dj
    import ephys
    import lab

    lab.schema.activate(names[0])
    ephys.schema.activate(names[1])
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        _work(Path(scratch), Path(specs["raw"]["stage"]), names[0])
        os.chdir("/")

    import dump

    version = dj.conn().query("SELECT version()").fetchone()[0]
    fetched = dump.fetched((lab, ephys))
    whole = dump.complete(dj.conn()._conn, names, fetched, version, chosen.prefix)
    chosen.out.write_text(json.dumps(whole, ensure_ascii=False))
    return 0


def _work(scratch: Path, stage: Path, schema: str) -> None:
    import datajoint as dj
    import ephys
    import lab
    import numpy as np

    # A table that is new, with a value in the store.
    @lab.schema
    class Note(dj.Manual):  # type: ignore[misc]
        definition = """
        -> lab.Subject
        ---
        note : varchar(40)
        photo=null : blob@raw
        """

    # Where the dump looks for tables.
    Note.__module__, lab.Note = "lab", Note
    subject = {
        "species": "Mus musculus",
        "subject_uuid": uuid.UUID(int=77),
        "sex": "F",
        "born": datetime.date(2025, 1, 1),
        "weight": 1 / 3,
        "nickname": "new",
    }
    lab.Subject.insert1({"subject_id": 5, **subject})
    # INSERT, REPLACE, and an insert that changes nothing.
    lab.Subject.insert1({"subject_id": 6, **subject})
    lab.Subject.insert1({"subject_id": 6, **subject, "nickname": "replaced"}, replace=True)
    lab.Subject.insert1({"subject_id": 6, **subject, "nickname": "never"}, skip_duplicates=True)
    key = {"subject_id": 5, "session": 1}
    lab.Session.insert1(
        {
            **key,
            "started": datetime.datetime(2026, 1, 1, 12, 0, 0, 999999),
            "temperature": "-0.50",
            "settings": {"new": [1, None, "ü"]},
        }
    )
    lab.Session.Trial.insert(
        {**key, "trial": trial, "onset": trial / 7, "outcome": "hit", "stimulus": np.arange(trial)}
        for trial in range(20)
    )
    Note.insert1({"subject_id": 5, "note": "seen", "photo": np.eye(5)})
    _record(scratch, stage, {**key, "probe": "A2x2"})
    ephys.Spectrum.populate(reserve_jobs=True)
    # Single values of every kind, those in the store among them.
    first = {"subject_id": 1, "session": 1}
    lab.Session.update1({**first, "temperature": "36.60", "settings": {"updated": True}})
    lab.Session.Trial.update1({**first, "trial": 3, "onset": 0.1 + 0.2, "outcome": None})
    protocol = scratch / "second protocol.txt"
    protocol.write_text("written anew")
    recording = (ephys.Recording & first).fetch1("KEY")
    ephys.Recording.update1({**recording, "gain": 2.5, "protocol": str(protocol)})
    ephys.Recording.update1({**recording, "signal": np.ones((4, 7))})
    # A delete that descends into the other schema, one that does not, and a key that is renamed.
    (lab.Session & {"subject_id": 2, "session": 2}).delete(safemode=False)
    (lab.Session.Trial & "trial = 11").delete_quick()
    dj.conn().query(
        f"UPDATE `{schema}`.`#species` SET species = 'Rattus rattus'"
        " WHERE species = 'Rattus norvegicus'"
    )
    # A column more.
    lab.Session.Trial.definition += "\n        remark='' : varchar(20)  # since today\n"
    lab.Session.Trial.alter(prompt=False)
    lab.Session.Trial.update1({**first, "trial": 4, "remark": "with a remark"})


def _record(scratch: Path, stage: Path, key: dict[str, Any]) -> None:
    import ephys
    import numpy as np

    protocol = scratch / "a new protocol.txt"
    protocol.write_text("new")
    video = stage / "videos" / "new.avi"
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(b"frames")
    ephys.Recording.insert1(
        {
            **key,
            "gain": 0.1,
            "signal": np.random.RandomState(9).randn(2, 100),
            "protocol": str(protocol),
            "video": str(video),
        }
    )
    ephys.Recording.Channel.insert1(
        {**key, "channel": 0, "impedance": 1e6, "waveform": np.arange(9, dtype="int16")}
    )


if __name__ == "__main__":
    sys.exit(main())
