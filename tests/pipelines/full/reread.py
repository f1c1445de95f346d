"""Dump with DataJoint 0.14.6 a pipeline that is there already, as fill.py dumped it.

venv-0.14.6/bin/python reread.py --port 3306 --prefix p --stores stores_014.json --out dump.json
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import options


def main() -> int:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write the dump to")
    chosen = parser.parse_args()
    specs = json.loads(chosen.stores.read_text())
    out = chosen.out.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        tempfile.tempdir = scratch
        out.write_text(json.dumps(_dump(chosen, specs), ensure_ascii=False, indent=1))
        os.chdir("/")
    return 0


def _dump(chosen: Any, specs: dict[str, Any]) -> dict[str, Any]:
    import client_014
    import datajoint as dj

    client_014.configure(chosen, specs)
    connection = dj.conn()
    version = connection.query("SELECT version()").fetchone()[0]
    names = tuple(f"{chosen.prefix}_{schema}" for schema in options.SCHEMAS)

    import colony
    import imaging

    colony.schema.activate(names[0], create_schema=False)
    imaging.schema.activate(names[1], create_schema=False)

    import dump
    import late

    fetched = dump.fetched((colony, imaging, late))
    return dump.complete(connection._conn, names, fetched, version, chosen.prefix)


if __name__ == "__main__":
    sys.exit(main())
