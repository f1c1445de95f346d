"""Read the full pipeline with DataJoint 0.14.6 once more; is every value what it was when filled?

    venv-0.14.6/bin/python read_014.py --port 3306 --dump dump.json --stores stores_014.json

Prints the tables that differ; exit status 0 only when none does.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import options


def main() -> int:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--dump", type=Path, required=True, help="what fill.py wrote")
    chosen = parser.parse_args()
    expected = json.loads(chosen.dump.read_text())
    specs = json.loads(chosen.stores.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        tempfile.tempdir = scratch

        import client_014

        client_014.configure(chosen, specs)

        import colony
        import imaging

        colony.schema.activate(expected["schemas"][0])
        imaging.schema.activate(expected["schemas"][1])

        import dump
        import late

        found = json.loads(json.dumps(dump.fetched((colony, imaging, late)), ensure_ascii=False))
        os.chdir("/")
    different = [
        name for name in expected["fetched"] if found.get(name) != expected["fetched"][name]
    ]
    for name in different:
        print(name, str(found.get(name))[:2000], str(expected["fetched"][name])[:2000], sep="\n")
    print(f"{len(expected['fetched'])} tables, {len(different)} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
