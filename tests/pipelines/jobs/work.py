"""Let DataJoint 2.x compute what the migrated pipeline misses, with reserved jobs.

    venv-2.3.5/bin/python work.py HOST PORT USER PASSWORD PREFIX

Prints as JSON, per table, what was computed, and which jobs failed before or are ignored.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Any

warnings.filterwarnings("ignore")

import datajoint as dj  # noqa: E402

host, port, user, password, prefix = sys.argv[1:]
logging.getLogger("datajoint").setLevel("CRITICAL")
for name, value in {
    "host": host,
    "port": int(port),
    "user": user,
    "password": password,
    "use_tls": False,
}.items():
    dj.config[f"database.{name}"] = value

lab = dj.VirtualModule("lab", f"{prefix}_lab")
Thing, Tagged = lab.Thing, lab.Tagged
schema = dj.Schema(f"{prefix}_work")
COMPUTED: list[tuple[str, Any]] = []


@schema
class Score(dj.Computed):  # type: ignore[misc]
    definition = """
    -> Thing
    rep : tinyint
    ---
    v   : double
    """

    def make(self, key: dict[str, Any]) -> None:
        COMPUTED.append(("Score", key["thing_id"]))
        self.insert1({**key, "rep": 0, "v": 2.5})


@schema
class Reading(dj.Imported):  # type: ignore[misc]
    definition = """
    -> Tagged.proj(origin="tag")
    """

    def make(self, key: dict[str, Any]) -> None:
        COMPUTED.append(("Reading", str(key["origin"])))
        self.insert1(key)


def main() -> None:
    found: dict[str, Any] = {}
    for table in (Score, Reading):
        done = table.populate(reserve_jobs=True)
        jobs = table().jobs
        found[table.__name__] = {
            "success_count": done["success_count"],
            "computed": sorted(value for name, value in COMPUTED if name == table.__name__),
            "errors": jobs.errors.to_dicts(order_by="KEY"),
            "ignored": jobs.ignored.to_dicts(order_by="KEY"),
            "pending": len(jobs.pending),
        }
    print(json.dumps(found, default=str))


main()
