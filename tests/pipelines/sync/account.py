"""What DataJoint 2.x reads of the rows that a lab's diary tells of, in the diary's own words."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "full"))

import options
from diary import FIRST
from read import connect


def main() -> int:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--suffix", default="", help="what the names of the schemas end with")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    chosen = parser.parse_args()
    out, specs = chosen.out.resolve(), json.loads(chosen.stores.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        tempfile.tempdir = scratch
        found = _read(connect(chosen, specs), chosen.prefix, chosen.suffix)
        os.chdir("/")
    out.write_text(json.dumps(found))
    return 0


def _read(connection: Any, prefix: str, suffix: str) -> dict[str, Any]:
    import datajoint as dj

    def rows(schema: str, table: str) -> list[dict[str, Any]]:
        free = dj.FreeTable(connection, f"`{prefix}_{schema}{suffix}`.`{table}`")
        found: list[dict[str, Any]] = (
            free & f"subject_id BETWEEN {FIRST} AND {2 * FIRST}"
        ).to_dicts()
        return found

    trials: dict[str, dict[str, int]] = {}
    for row in rows("lab", "session__trial"):
        count = trials.setdefault(str(row["subject_id"]), {"count": 0})
        # An array as long as its trial's number: one that is lost or mixed up is seen.
        count["count"] += int(len(row["stimulus"]) == row["trial"])
    return {
        "subject": {
            str(row["subject_id"]): {"nickname": row["nickname"]} for row in rows("lab", "subject")
        },
        "session": {
            str(row["subject_id"]): {"number": row["settings"]["number"]}
            for row in rows("lab", "session")
        },
        "trials": trials,
        "recording": {
            str(row["subject_id"]): {
                "signal": int(row["signal"].sum()),
                "protocol": Path(row["protocol"]).read_text(),
                "video": row["video"].read().decode(),
            }
            for row in rows("ephys", "recording")
        },
        "spectrum": {str(row["subject_id"]): True for row in rows("ephys", "__spectrum")},
    }


if __name__ == "__main__":
    sys.exit(main())
