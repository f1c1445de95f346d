"""Archives of the small pipeline, their tables declared, and manifests that were changed."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environments
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.backup.archive import Archived, write_archive
from servers import Server
from small import Small


def archive_lab(small: Small, folder: Path) -> Path:
    """The small pipeline's `lab` in an archive."""
    write_archive(resolve(small.server.url), small.lab, folder)
    return folder


def declare(server: Server, archived: Archived, schema: str) -> None:
    """The archive's tables under another schema's name, empty."""
    server.sql(
        "SET foreign_key_checks = 0, sql_mode = 'ALLOW_INVALID_DATES', NAMES utf8mb4;"
        f"CREATE DATABASE `{schema}` CHARACTER SET {archived.charset}"
        f" COLLATE {archived.collation}; USE `{schema}`;"
        + ";".join(table.create for table in archived.tables.values())
    )


@functools.cache
def hasher() -> subprocess.Popen[bytes]:
    """A process that answers lengths and bytes with BLAKE3 hashes; it ends when we do."""
    code = (
        "import sys, blake3\n"
        "for line in sys.stdin.buffer:\n"
        "    data = sys.stdin.buffer.read(int(line))\n"
        "    print(blake3.blake3(data).hexdigest(), flush=True)\n"
    )
    words = [str(environments.python("readers")), "-c", code]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def blake3(data: bytes) -> str:
    process = hasher()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{len(data)}\n".encode() + data)
    process.stdin.flush()
    return process.stdout.readline().decode().strip()


def change(archive: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """The manifest, edited as by somebody who knows how."""
    path = archive / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["blake3"]
    edit(manifest)
    body = json.dumps(manifest, indent=2).removesuffix("\n}").encode()
    path.write_bytes(body + f',\n  "blake3": "{blake3(body)}"\n}}'.encode())


def table_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(table for table in manifest["tables"] if table["name"] == name)
