"""Write down the pipeline that `demonstrate` makes: as DataJoint 0.14.6 declares and fills it.

    python tests/record_demo.py

Rows become SQL, which any server takes; the files of its store go into a zip file.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path

import full_pipeline
import servers
from servers import Server

PREFIX = "djm_demo"
SCHEMAS = (f"{PREFIX}_lab", f"{PREFIX}_ephys")
FILL = Path(__file__).parent / "pipelines" / "demo" / "fill.py"
KEPT = Path(__file__).parent.parent / "python" / "datajoint_migrate" / "verbs" / "demo"
# The files' own times say nothing.
WHEN = (2025, 1, 1, 0, 0, 0)


def record(server: Server, folder: Path) -> tuple[str, dict[str, bytes]]:
    """The pipeline as statements, and its store's files by path."""
    pipeline = full_pipeline.fill(server, PREFIX, folder, FILL)
    root = Path(pipeline.source_stores["raw"]["location"])
    stored = {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    return "".join(_statements(server, schema) for schema in SCHEMAS), stored


def _statements(server: Server, schema: str) -> str:
    words = ("--compact", "--hex-blob", "--no-tablespaces", "--order-by-primary")
    only = ("--skip-set-charset", "--set-gtid-purged=OFF")
    dumped = server.client(*words, *only, schema, program="mysqldump").decode()
    # Without comments for the server that made the dump, and without its collation: each has one.
    plain = re.sub(r"^/\*!.*\*/;\n", "", dumped, flags=re.MULTILINE)
    plain = plain.replace(" COLLATE=utf8mb4_0900_ai_ci", "")
    return f"CREATE DATABASE `{schema}` CHARACTER SET utf8mb4;\nUSE `{schema}`;\n{plain}"


def main() -> None:
    server = servers.start("mysql")
    try:
        with tempfile.TemporaryDirectory(prefix="djm-demo-") as folder:
            statements, stored = record(server, Path(folder))
    finally:
        server.stop()
    (KEPT / "pipeline.sql").write_text(statements)
    with zipfile.ZipFile(KEPT / "store.zip", "w", zipfile.ZIP_DEFLATED) as kept:
        for name, data in stored.items():
            kept.writestr(zipfile.ZipInfo(name, WHEN), data, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
