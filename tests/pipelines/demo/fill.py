"""Declare and fill the demonstration with DataJoint 0.14.6; dump what 0.14.6 fetches from it.

Options and dump are those of the full pipeline's program of this name; the dump also says how
many values of each table lie in a store ("stored").
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import tempfile
import uuid
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "full"))

import client_014
import options

SUBJECTS, SESSIONS, TRIALS = 4, 3, 12


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
        _fill_lab()
        _fill_ephys(Path(scratch), Path(specs["raw"]["stage"]))
        ephys.Spectrum.populate()
        os.chdir("/")

    import dump

    version = dj.conn().query("SELECT version()").fetchone()[0]
    fetched = dump.fetched((lab, ephys))
    whole = dump.complete(dj.conn()._conn, names, fetched, version, chosen.prefix)
    whole["stored"] = {name: _stored(name) for name in fetched}
    chosen.out.write_text(json.dumps(whole, ensure_ascii=False))
    return 0


def _fill_lab() -> None:
    import lab
    import numpy as np

    species = lab.Species.fetch("species")
    random = np.random.RandomState(0)
    # The largest number of the type: nothing narrower can hold it.
    for number, subject in enumerate((1, 2, 70_000, 2**32 - 1)):
        lab.Subject.insert1(
            {
                "subject_id": subject,
                "species": species[number % 2],
                "subject_uuid": uuid.UUID(int=2**100 + number),
                "sex": ("F", "M", "unknown", "F")[number],
                "born": datetime.date(2024, 2, 29) if number else None,
                "weight": 20 + random.rand(),
                "nickname": ("Zoë", "100% 'q'", "", "鼠")[number],
            }
        )
        for session in range(1, SESSIONS + 1):
            key = {"subject_id": subject, "session": session}
            lab.Session.insert1(
                {
                    **key,
                    "started": datetime.datetime(2025, 3, session, 9, 30, 0, 123456),
                    "temperature": None if session == 1 else "21.50",
                    "settings": {"rate": 30000, "filters": [300, 6000.5], "who": "Zoë"},
                }
            )
            lab.Session.Trial.insert(
                {
                    **key,
                    "trial": trial,
                    "onset": trial * 1.1 + random.rand(),
                    "outcome": (None, "hit", "miss")[trial % 3],
                    "stimulus": random.rand(4, 3).astype("float32"),
                }
                for trial in range(TRIALS)
            )


def _fill_ephys(scratch: Path, stage: Path) -> None:
    import ephys
    import lab
    import numpy as np

    random = np.random.RandomState(1)
    sizes = dict(zip(*ephys.Probe.fetch("probe", "channels"), strict=True))
    for number, key in enumerate(lab.Session.fetch("KEY")):
        probe = sorted(sizes)[number % 2]
        key = {**key, "probe": probe}
        protocol = scratch / f"protocol {number}.txt"
        protocol.write_text(f"What was done in session {number}: nothing special.\n")
        video = stage / f"videos/{key['subject_id']}/session {key['session']}.avi"
        video.parent.mkdir(parents=True, exist_ok=True)
        video.write_bytes(random.bytes(5000))
        ephys.Recording.insert1(
            {
                **key,
                "gain": 0.195 + random.rand() / 7,
                "signal": random.randn(int(sizes[probe]), 500),
                "protocol": str(protocol) if number % 3 else None,
                "video": str(video) if number % 4 else None,
            }
        )
        ephys.Recording.Channel.insert(
            {
                **key,
                "channel": channel,
                "impedance": random.rand() * 1e6,
                "waveform": random.randint(-999, 999, 40).astype("int16"),
            }
            for channel in range(sizes[probe])
        )


def _stored(name: str) -> int:
    """How many values of a table lie in a store."""
    import datajoint as dj

    schema, table = name.split(".", 1)
    free = dj.FreeTable(dj.conn(), f"`{schema}`.`{table}`")
    columns = [a.name for a in free.heading.attributes.values() if a.is_external]
    if not columns:
        return 0
    counts = ", ".join(f"COUNT(`{column}`)" for column in columns)
    return sum(dj.conn().query(f"SELECT {counts} FROM {free.full_table_name}").fetchone())


if __name__ == "__main__":
    sys.exit(main())
