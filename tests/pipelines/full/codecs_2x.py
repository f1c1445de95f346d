"""The 2.x codecs that stand for the 0.14.6 attribute adapters of the pipeline."""

# ruff: noqa: ARG002  (a codec takes what DataJoint hands it)
from __future__ import annotations

from pathlib import Path
from typing import Any

import datajoint as dj


class Edges(dj.Codec):  # type: ignore[misc]
    name = "edges"

    def get_dtype(self, is_store: bool) -> str:
        return "<blob>"

    def encode(self, value: Any, *, key: Any = None, store_name: Any = None) -> Any:
        return sorted(list(edge) for edge in value)

    def decode(self, stored: Any, *, key: Any = None) -> Any:
        return {tuple(int(end) for end in edge) for edge in stored}


class Wrapped(dj.Codec):  # type: ignore[misc]
    name = "wrapped"

    def get_dtype(self, is_store: bool) -> str:
        # The column may say <wrapped@raw> or only <wrapped>: both are right.
        return "<blob>" if is_store else "<blob@raw>"

    def encode(self, value: Any, *, key: Any = None, store_name: Any = None) -> Any:
        return {"inside": value}

    def decode(self, stored: Any, *, key: Any = None) -> Any:
        return stored["inside"]


class LinesFile(dj.Codec):  # type: ignore[misc]
    name = "lines_file"

    def get_dtype(self, is_store: bool) -> str:
        return "<filepath>" if is_store else "<filepath@raw>"

    def encode(self, value: Any, *, key: Any = None, store_name: Any = None) -> Any:
        return value

    def decode(self, stored: Any, *, key: Any = None) -> Any:
        return stored.read().decode().split("\n")


class LinesAttach(dj.Codec):  # type: ignore[misc]
    name = "lines_attach"

    def get_dtype(self, is_store: bool) -> str:
        return "<attach>" if is_store else "<attach@flat>"

    def encode(self, value: Any, *, key: Any = None, store_name: Any = None) -> Any:
        return value

    def decode(self, stored: Any, *, key: Any = None) -> Any:
        return Path(stored).read_text().split("\n")


class Pairs(dj.Codec):  # type: ignore[misc]
    name = "pairs"

    def get_dtype(self, is_store: bool) -> str:
        return "varchar(60)"

    def encode(self, value: Any, *, key: Any = None, store_name: Any = None) -> Any:
        return ",".join(f"{name}={item}" for name, item in sorted(value.items()))

    def decode(self, stored: Any, *, key: Any = None) -> Any:
        return dict(pair.split("=") for pair in stored.split(","))
