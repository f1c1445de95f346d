"""What a 2.x client's own garbage collector would delete of a store, and what it misses.

    venv-2.3.5/bin/python scan.py HOST PORT USER PASSWORD STORES.json STORE SCHEMA …

Prints one JSON line: `referenced` paths, those of them that are `absent` from the store, and the
`orphaned` paths that a call without `dry_run` would delete. Deletes nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> int:
    host, port, user, password, stores, store, *names = sys.argv[1:]
    specs = json.loads(Path(stores).read_text())
    os.chdir(tempfile.mkdtemp())
    settings = {
        "database": {"host": host, "port": int(port)},
        "stores": {"default": store, **specs},
    }
    Path("datajoint.json").write_text(json.dumps(settings))
    import datajoint as dj
    from datajoint import gc

    dj.config["database.user"], dj.config["database.password"] = user, password
    dj.config["database.use_tls"] = False
    schemas = [dj.Schema(name) for name in names]
    scan = scan_new if hasattr(gc, "GarbageCollector") else scan_old
    print(json.dumps(scan(gc, schemas, store)))
    return 0


def scan_new(gc: Any, schemas: list[Any], store: str) -> dict[str, Any]:
    """As 2.3.5 does it."""
    collector = gc.GarbageCollector(*schemas, store=store)
    found = collector.collect(dry_run=True)
    if found["errors"] or found["scan_errors"]:
        raise RuntimeError(f"the scan failed: {found}")
    referenced = collector.hash_references() | collector.schema_references()
    return {
        "referenced": sorted(referenced),
        "absent": sorted(path for path in referenced if not collector.backend.exists(path)),
        "orphaned": found["orphaned_hash_paths"] + found["orphaned_schema_paths"],
    }


def scan_old(gc: Any, schemas: list[Any], store: str) -> dict[str, Any]:
    """As 2.0.0 does it."""
    found = gc.scan(*schemas, store_name=store)
    orphaned = found["orphaned_hashes"] + found["orphaned_paths"]
    return {"referenced": [], "absent": [], "orphaned": orphaned}


if __name__ == "__main__":
    sys.exit(main())
