"""Stores that are folders: made of files, and read as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def folder(path: Path, objects: dict[str, bytes]) -> dict[str, Any]:
    """A store of these files."""
    path.mkdir(exist_ok=True)
    for name, data in objects.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return {"protocol": "file", "location": str(path)}


def files(path: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }
