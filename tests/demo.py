"""The main job, end to end, on a private server in a temporary folder; nothing is left behind.

    python3 tests/demo.py

The real 0.14.6 client fills a pipeline, `migrate` makes 2.x schemas of it, and the real 2.3.5
client reads every value. Exit status 1 when one of them is not what 0.14.6 fetched.
Standard library only: the real clients run in environments of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import environments
import full_pipeline
import servers
from server_programs import InstallError

PROGRAMS = Path(__file__).resolve().parent / "pipelines" / "demo"
PREFIX = "demo"
SHOWN_DIFFERENCES = 20


def main(words: Sequence[str] = ()) -> int:
    if words:
        asked = words[0] in ("-h", "--help")
        print(__doc__, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    signal.signal(signal.SIGTERM, _stop)
    try:
        _check_build()
        with tempfile.TemporaryDirectory(prefix="djm-demo-") as folder:
            # Everything that is started from here keeps its temporary files in this folder too.
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            return _demonstrate(Path(folder))
    except KeyboardInterrupt:
        print("\nstopped; nothing is left behind", file=sys.stderr)
        return 130
    except (RuntimeError, InstallError, servers.ServerError) as error:
        print(error, file=sys.stderr)
        return 1


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_build() -> None:
    words = [str(environments.python("dev")), "-c", "import datajoint_migrate"]
    if subprocess.run(words, capture_output=True).returncode:
        raise RuntimeError("datajoint_migrate is not built yet: run `make build`")


def _demonstrate(folder: Path) -> int:
    server = servers.start("mysql")
    try:
        version = server.sql("SELECT VERSION()")[0][0]
        print(f"A private MySQL {version} runs on port {server.port}.", flush=True)
        began = time.monotonic()
        pipeline = full_pipeline.fill(server, PREFIX, folder, PROGRAMS / "fill.py")
        filled = time.monotonic()
        said = f"DataJoint 0.14.6 has declared and filled two schemas: {filled - began:.1f} s."
        print(said, flush=True)
        dump = json.loads(pipeline.dump.read_text())
        schema_map = {schema: f"{schema}_v20" for schema in dump["schemas"]}
        result = _migrate(server, schema_map, pipeline)
        started = time.monotonic()
        said = f"datajoint_migrate has made 2.x schemas of them: {started - filled:.1f} s."
        print(f"{said}\nDataJoint 2.3.5 reads every value of them.", flush=True)
        reading = full_pipeline.read_with(
            "2.3.5", pipeline, server, schema_map, pipeline.stores_in_place(), folder
        )
        took = (filled - began, result["time_taken"], time.monotonic() - started)
    finally:
        server.stop()
    _show_table(dump, reading.verdicts)
    good = reading.equal and result["match"] and result["compatible"]
    _show_end(dump, result, reading.different(), took, good)
    return 0 if good else 1


def _migrate(
    server: servers.Server, schema_map: dict[str, str], pipeline: full_pipeline.FullPipeline
) -> dict[str, Any]:
    arguments = {
        "schema_map": schema_map,
        "source_stores": pipeline.source_stores,
        "dest_stores": pipeline.stores_in_place(),
        "connection": server.url,
    }
    words = [str(environments.python("dev")), str(PROGRAMS / "migrate.py")]
    done = subprocess.run(words, input=json.dumps(arguments), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the migration failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _show_table(dump: dict[str, Any], verdicts: list[dict[str, Any]]) -> None:
    equal: dict[str, bool] = {}
    for verdict in verdicts:
        equal[verdict["table"]] = equal.get(verdict["table"], True) and verdict["equal"]
    print(f"\n{'table':30} {'rows':>6} {'values':>8} {'in store':>9}   2.3.5 reads")
    for name, table in dump["fetched"].items():
        rows, stored = table["rows"], dump["stored"][name]
        values = sum(map(len, rows))
        word = "the same" if equal.get(name) else "SOMETHING ELSE"
        print(f"{name:30} {len(rows):6,} {values:8,} {stored or '-':>9}   {word}")


def _show_end(
    dump: dict[str, Any],
    result: dict[str, Any],
    different: list[dict[str, Any]],
    took: tuple[float, float, float],
    good: bool,
) -> None:
    found = [(verdict, each) for verdict in different for each in verdict["differences"]]
    for verdict, each in found[:SHOWN_DIFFERENCES]:
        line = f"  {verdict['table']} {each['where']}: 0.14.6 had {each['expected']}"
        print(f"{line}, 2.3.5 has {each['found']}"[:300])
    for issue in result["issues"]:
        print(f"  {issue}")
    rows = sum(len(table["rows"]) for table in dump["fetched"].values())
    values = sum(len(row) for table in dump["fetched"].values() for row in table["rows"])
    stored = sum(dump["stored"].values())
    said = (
        "every value 2.3.5 reads is the one 0.14.6 fetched"
        if good
        else f"{len(found)} differences, {len(result['issues'])} issues"
    )
    print(
        f"\n{len(dump['fetched'])} tables, {rows:,} rows, {values:,} values, {stored:,} of them in"
        f" a store: {said}.\nFilled in {took[0]:.1f} s, migrated and compared in {took[1]:.2f} s"
        f" ({result['files_copied']} attachments written anew, all other files used in place),"
        f" read back in {took[2]:.1f} s.\nServer and files are gone again."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
