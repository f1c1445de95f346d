"""All rows of a table fetched and inserted into one with `<npy@raw>`, by a 2.x client.

Runs alone, with nothing of this project: prints its time as JSON. It is the only way to do it with
the client alone.
"""

from __future__ import annotations

import json
import sys
import time

import datajoint as dj


def main() -> None:
    given = json.loads(sys.argv[1])
    reach = given["server"]
    dj.config["database.host"] = reach["host"]
    dj.config["database.port"] = reach["port"]
    dj.config["database.user"] = reach["user"]
    dj.config["database.password"] = reach["password"]
    dj.config["database.use_tls"] = False
    dj.config["safemode"] = False
    for name, spec in given["stores"].items():
        dj.config.stores[name] = spec
    dj.logger.setLevel("ERROR")
    there = dj.VirtualModule("there", given["source"])
    source = getattr(there, given["table"].title().replace("_", ""))()
    schema = dj.Schema(given["dest"])

    class Trace(dj.Manual):
        definition = """
        trace_id : int32 # number of the trace
        ---
        signal : <npy@raw> # what was measured
        """

    dest = schema(Trace)()
    begun, spent = time.perf_counter(), time.process_time()
    dest.insert(source.to_dicts())
    seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    print(json.dumps({"seconds": seconds, "cpu_seconds": spent, "rows": len(dest)}))


if __name__ == "__main__":
    main()
