"""The 0.14.6 attribute adapters of the pipeline, one over each kind of column."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import datajoint as dj


class Edges(dj.AttributeAdapter):  # type: ignore[misc]
    """A set of pairs over a blob in the table."""

    attribute_type = "longblob"

    def put(self, value: Any) -> Any:
        return sorted(list(edge) for edge in value)

    def get(self, value: Any) -> Any:
        return {tuple(int(end) for end in edge) for edge in value}


class Wrapped(dj.AttributeAdapter):  # type: ignore[misc]
    """Any value in a dict, over a blob in a store."""

    attribute_type = "blob@raw"

    def put(self, value: Any) -> Any:
        return {"inside": value}

    def get(self, value: Any) -> Any:
        return value["inside"]


class LinesFile(dj.AttributeAdapter):  # type: ignore[misc]
    """(name, lines) over a file in a store; comes back as the lines."""

    attribute_type = "filepath@raw"

    def put(self, value: Any) -> Any:
        name, lines = value
        path = Path(dj.config["stores"]["raw"]["stage"]) / "adapted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
        return str(path)

    def get(self, value: Any) -> Any:
        return Path(value).read_text().split("\n")


class LinesAttach(dj.AttributeAdapter):  # type: ignore[misc]
    """(name, lines) over an attachment in a store; comes back as the lines."""

    attribute_type = "attach@flat"

    def put(self, value: Any) -> Any:
        name, lines = value
        path = Path(tempfile.mkdtemp()) / name
        path.write_text("\n".join(lines))
        return str(path)

    def get(self, value: Any) -> Any:
        return Path(value).read_text().split("\n")


class Pairs(dj.AttributeAdapter):  # type: ignore[misc]
    """A dict of strings over a plain SQL type."""

    attribute_type = "varchar(60)"

    def put(self, value: Any) -> Any:
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))

    def get(self, value: Any) -> Any:
        return dict(pair.split("=") for pair in value.split(","))


# 0.14.6 finds an adapter by the name it has where the table class is defined.
edges, wrapped, lines_file, lines_attach, pairs = (
    Edges(),
    Wrapped(),
    LinesFile(),
    LinesAttach(),
    Pairs(),
)
