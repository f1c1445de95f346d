"""One call of upstream's `datajoint.migrate`, in the environment of DataJoint 2.3.5.

Runs alone, with nothing of this project: prints its time as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import datajoint as dj
from datajoint import migrate

CALLS = {"copy": migrate.copy_table_data, "pointers": migrate.migrate_external_pointers_v2}
KEPT = ("rows_copied", "rows_migrated", "errors")


def main() -> None:
    name, given = sys.argv[1], json.loads(sys.argv[2])
    reach, arguments = given["server"], given["arguments"]
    dj.config["database.host"] = reach["host"]
    dj.config["database.port"] = reach["port"]
    dj.config["database.user"] = reach["user"]
    dj.config["database.password"] = reach["password"]
    dj.config["safemode"] = False
    dj.logger.setLevel("ERROR")
    connection = dj.conn()
    begun = time.perf_counter()
    result = CALLS[name](**arguments, connection=connection)
    seconds = time.perf_counter() - begun
    kept = {key: result[key] for key in KEPT if key in result}
    print(json.dumps({"seconds": seconds, **kept}, default=str))


if __name__ == "__main__":
    main()
