"""A lab at work with DataJoint 0.14.6 until it is stopped; its diary says what it has written.

The options are those of the demonstration's program that fills; `--out` is the diary. It ends by
itself when a statement fails, and says so in the last line.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "full"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "demo"))

import client_014
import options
from diary import FIRST


def main() -> int:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--out", type=Path, required=True, help="the diary")
    parser.add_argument("--days", type=int, help="so many, and not until it is stopped")
    chosen = parser.parse_args()
    specs = json.loads(chosen.stores.read_text())
    client_014.configure(chosen, specs)

    import ephys
    import lab

    lab.schema.activate(f"{chosen.prefix}_lab")
    ephys.schema.activate(f"{chosen.prefix}_ephys")
    with chosen.out.open("a") as diary, tempfile.TemporaryDirectory() as scratch:

        def say(entry: dict[str, Any]) -> None:
            diary.write(json.dumps(entry) + "\n")
            diary.flush()

        try:
            for number in itertools.islice(itertools.count(FIRST), chosen.days):
                _day(number, Path(scratch), Path(specs["raw"]["stage"]), say)
        except Exception as error:  # noqa: BLE001  (whatever it is, the diary says it)
            say({"ended": f"{type(error).__name__}: {error}"})
    return 0


def _day(number: int, scratch: Path, stage: Path, say: Callable[[dict[str, Any]], None]) -> None:
    import ephys
    import lab
    import numpy as np

    def write(what: str, subject: int, row: dict[str, Any], act: Callable[[], Any]) -> None:
        entry = {"what": what, "key": str(subject), "row": row}
        say({"begun": entry})
        act()
        say({"done": entry})

    subject = {
        "subject_id": number,
        "species": "Mus musculus",
        "subject_uuid": uuid.UUID(int=number),
        "sex": "F",
        "weight": number / 7,
        "nickname": str(number),
    }
    nickname = {"nickname": str(number)}
    write("subject", number, nickname, lambda: lab.Subject.insert1(subject))
    key = {"subject_id": number, "session": 1}
    session = {**key, "started": datetime.datetime(2026, 1, 1), "settings": {"number": number}}
    write("session", number, {"number": number}, lambda: lab.Session.insert1(session))
    trials = [
        {**key, "trial": trial, "onset": trial / 3, "stimulus": np.arange(trial)}
        for trial in range(number % 20)
    ]
    if trials:
        rows = {"count": len(trials)}
        write("trials", number, rows, lambda: lab.Session.Trial.insert(trials))
    protocol = scratch / f"{number}.txt"
    protocol.write_text(f"protocol {number}")
    video = stage / "videos" / f"{number}.avi"
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(b"frames of %d" % number)
    recording = {
        **key,
        "probe": "A2x2",
        "gain": 0.5,
        "signal": np.full((2, 50), number),
        "protocol": str(protocol),
        "video": str(video),
    }
    files = {"protocol": protocol.read_text(), "video": video.read_text()}
    row = {"signal": 100 * number, **files}
    write("recording", number, row, lambda: ephys.Recording.insert1(recording))
    mine = f"subject_id BETWEEN {FIRST} AND {2 * FIRST}"
    write("populate", number, {}, lambda: ephys.Spectrum.populate(mine, reserve_jobs=True))
    before = number - 1
    if before < FIRST:
        return
    named = {"subject_id": before, "nickname": f"{before} again"}
    write("subject", before, {"nickname": named["nickname"]}, lambda: lab.Subject.update1(named))
    where = f"subject_id = {before}"
    if not len(ephys.Recording & where):
        return
    again = {
        "subject_id": before,
        "session": 1,
        "probe": "A2x2",
        "signal": np.ones((2, 50)) * number,
    }
    changed = {"signal": 100 * number}
    write("recording", before, changed, lambda: ephys.Recording.update1(again))
    if number % 3 == 0:
        write("delete", before, {}, lambda: (lab.Session & where).delete(safemode=False))


if __name__ == "__main__":
    os.environ.setdefault("TZ", "UTC")
    sys.exit(main())
