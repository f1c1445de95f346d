"""Declare and fill the full pipeline with DataJoint 0.14.6; dump what 0.14.6 fetches from it.

    venv-0.14.6/bin/python fill.py --port 3306 --prefix p --stores stores_014.json --out dump.json

Makes schemas p_colony, p_imaging (declared by the client) and p_altered (by SQL); an error when
one of them exists. --stores: 0.14.6 store specs by name, as `stores.source_specs` writes them.
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
        # Away from any dj_local_conf.json, and temporary files of the fill go with it.
        os.chdir(scratch)
        tempfile.tempdir = scratch
        out.write_text(json.dumps(_make(chosen, specs), ensure_ascii=False, indent=1))
        os.chdir("/")
    return 0


def _make(chosen: Any, specs: dict[str, Any]) -> dict[str, Any]:
    import client_014
    import datajoint as dj

    client_014.configure(chosen, specs)
    connection = dj.conn()
    version = connection.query("SELECT version()").fetchone()[0]
    is_mariadb = "maria" in version.lower()
    colony_name, imaging_name, altered_name = (f"{chosen.prefix}_{s}" for s in options.SCHEMAS)

    import altered
    import colony
    import imaging

    colony.schema.activate(colony_name)
    imaging.schema.activate(imaging_name)

    import dump
    import late

    import rows

    # 0.14.6 warns once for a reserved job; the rows are what is wanted.
    refused = rows.fill(is_mariadb)
    for line in refused:
        print("0.14.6 refuses", line, file=sys.stderr)
    fetched = dump.fetched((colony, imaging, late))
    raw = dj.Connection(chosen.host, chosen.user, chosen.password, chosen.port, use_tls=False)
    for statement in altered.statements(altered_name, colony_name, is_mariadb):
        # The driver's own cursor: DataJoint's reads % as a format sign.
        raw._conn.cursor().execute(statement)
    raw._conn.commit()
    return dump.complete(
        raw._conn, (colony_name, imaging_name, altered_name), fetched, version, chosen.prefix
    )


if __name__ == "__main__":
    sys.exit(main())
