"""Make the pipeline with DataJoint 0.14.6 and let some of its computations fail.

    venv-0.14.6/bin/python fill.py HOST PORT USER PASSWORD PREFIX

Prints as JSON what `~jobs` holds afterwards, as 0.14.6 reads it.
"""

from __future__ import annotations

import datetime
import json
import sys
import uuid
from decimal import Decimal
from typing import Any

import datajoint as dj

host, port, user, password, prefix = sys.argv[1:]
dj.config.update(
    {
        "database.host": host,
        "database.port": int(port),
        "database.user": user,
        "database.password": password,
        "database.use_tls": False,
        "safemode": False,
        "loglevel": "ERROR",
    }
)

TAGS = [uuid.UUID(int=2**127 + 255 * number) for number in range(1, 5)]


lab = dj.Schema(f"{prefix}_lab", locals())
work = dj.Schema(f"{prefix}_work", locals())


@lab
class Thing(dj.Manual):  # type: ignore[misc]
    definition = """
    thing_id : int unsigned
    kind     : enum('a:b','c')
    label    : varchar(24)
    at       : datetime(6)
    stamp    : timestamp
    amount   : decimal(8,3)
    day      : date
    flag     : bool
    founded  : year
    big      : bigint unsigned
    """


@lab
class Tagged(dj.Manual):  # type: ignore[misc]
    definition = "tag : uuid"


@lab
class Number(dj.Manual):  # type: ignore[misc]
    definition = "n : int"


@work
class Score(dj.Computed):  # type: ignore[misc]
    definition = """
    -> Thing
    rep : tinyint
    ---
    v   : double
    """

    def make(self, key: dict[str, Any]) -> None:
        if key["thing_id"] in (2, 4):
            raise ValueError(f"thing {key['thing_id']} is 'bad': 100% ü")
        if key["thing_id"] == 1:
            self.insert1({**key, "rep": 0, "v": 1.5})


@work
class Reading(dj.Imported):  # type: ignore[misc]
    definition = """
    -> Tagged.proj(origin="tag")
    """

    def make(self, key: dict[str, Any]) -> None:
        if key["origin"] == TAGS[0]:
            raise OSError("no such file")


@work
class Finer(dj.Computed):  # type: ignore[misc]
    definition = """
    -> Tagged
    n : int
    """

    key_source = Tagged * (Number & "n = 1")

    def make(self, key: dict[str, Any]) -> None:
        raise ValueError(f"not {key}")


@work
class Alone(dj.Computed):  # type: ignore[misc]
    definition = "n : int"

    key_source = Number & "n = 2"

    def make(self, key: dict[str, Any]) -> None:
        raise ValueError(f"not {key}")


def main() -> None:
    Thing.insert(
        {
            "thing_id": number,
            "kind": "a:b" if number % 2 else "c",
            "label": f"it's %s \\ {number} 猴",
            "at": datetime.datetime(2024, 1, number, 12, 0, 0, 123456),
            "stamp": datetime.datetime(2024, 1, number, 23, 30),
            "amount": Decimal("-1.125") * number,
            "day": datetime.date(2024, 2, number),
            "flag": number % 2,
            "founded": 2000 + number,
            "big": 2**63 - number,
        }
        for number in range(1, 7)
    )
    Tagged.insert([tag] for tag in TAGS)
    Number.insert([number] for number in (1, 2))
    for table in (Score, Reading, Finer, Alone):
        table.populate(reserve_jobs=True, suppress_errors=True)
    third, fifth = (Thing & "thing_id in (3, 5)").fetch("KEY")
    work.jobs.ignore(Score.table_name, third)
    work.jobs.reserve(Score.table_name, fifth)
    work.jobs.ignore(Reading.table_name, {"origin": TAGS[1]})
    work.jobs.ignore("__of_a_table_long_gone", {"n": 1})
    found = work.jobs.fetch("table_name", "status", "error_message", "timestamp", as_dict=True)
    stacks = dict(zip(*work.jobs.fetch("error_message", "error_stack"), strict=True))
    print(json.dumps({"jobs": found, "stacks": stacks}, default=str))


main()
