"""What a million tracked files cost in memory: looked for, and copied from folder to folder.

    python benches/memory.py [COUNT]

The files hold one byte each and share their contents by links; the tracking rows are SQL's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from measure import Taken, ours

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import servers
import small

# A file system allows so many names of one file.
NAMES = 30_000
DIGITS = " CROSS JOIN ".join(f"d d{place}" for place in range(6))
NUMBER = " + ".join(f"d{place}.n * {10**place}" for place in range(6))


def main(count: int) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="djm-memory-") as name,
        servers.running("mysql") as mysql,
    ):
        root = Path(name)
        mysql.sql("DROP DATABASE IF EXISTS memory_rig; DROP DATABASE IF EXISTS memory_lab;")
        pipeline = small.make(mysql, "memory", root / "store")
        mysql.sql(
            f"USE {pipeline.rig}; CREATE TABLE d (n int PRIMARY KEY);"
            f"INSERT INTO d VALUES {','.join(f'({digit})' for digit in range(10))};"
            "INSERT IGNORE INTO `~external_raw` (hash, size) SELECT LEFT(UNHEX(SHA2("
            f"{NUMBER}, 256)), 16), 1 FROM {DIGITS} WHERE {NUMBER} < {count}; DROP TABLE d;"
        )
        rows = mysql.sql("SELECT LOWER(HEX(hash)) FROM `memory_rig`.`~external_raw` WHERE size = 1")
        _link(root / "store" / pipeline.rig, [str(row[0]) for row in rows])
        looked, found = ours(
            "integrity",
            schema=pipeline.rig,
            level="size",
            orphans=True,
            connection=mysql.url,
            **pipeline.stores,
        )
        _tell(f"looked for {found['valid']:,}", looked)
        (root / "copy").mkdir()
        spec = {"protocol": "file", "location": str(root / "copy")}
        copied, found = ours(
            "copy_store", source=pipeline.dest_stores["raw"], dest=spec, verify=False
        )
        print(
            f"copied {found['files_copied']:,}: {copied.seconds:.0f} s, {copied.peak_mib:.0f} MiB"
        )
    return 0


def _tell(what: str, taken: Taken) -> None:
    print(f"{what} files: {taken.seconds:.0f} s, {taken.peak_mib:.0f} MiB", flush=True)


def _link(root: Path, names: list[str]) -> None:
    origin = root
    for number, name in enumerate(names):
        path = root / name[:2] / name[2:4] / name
        if number % NAMES == 0:
            origin = path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"1")
            continue
        try:
            os.link(origin, path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(origin, path)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
