"""A description of a value as plain JSON: equal descriptions mean equal type and equal content.

The program that fills a pipeline describes what DataJoint 0.14.6 fetches, the one that reads it
describes what 2.x fetches; the two are compared as they stand.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np

LONG = 200


def bits(data: bytes) -> str:
    """Short bytes in full, long ones as length and hash: a dump must stay readable."""
    if len(data) <= LONG:
        return data.hex()
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def describe(value: Any) -> list[Any]:
    """The description of any value a blob or a column can hold."""
    if value is None:
        return ["null"]
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, (np.generic, np.void)):
        return _numpy_scalar(value)
    if isinstance(value, dict):
        # Order is part of a dict's stored bytes, so it is kept.
        return ["dict", *([describe(key), describe(item)] for key, item in value.items())]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(describe, value)]
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted(map(describe, value), key=json.dumps)]
    return _scalar(value)


def describe_file(path: str | Path, name: str) -> list[Any]:
    """The description of a file on disk under the `name` that is part of the value."""
    data = Path(path).read_bytes()
    return ["file", name, len(data), hashlib.sha256(data).hexdigest()]


def describe_json(value: Any) -> list[Any]:
    """The description of a JSON value; the server decides the order of keys, so it is dropped."""
    if value is None:
        return ["null"]
    parsed = json.loads(value) if isinstance(value, (str, bytes)) else value
    return ["json", json.dumps(parsed, sort_keys=True, ensure_ascii=False)]


def _scalar(value: Any) -> list[Any]:
    kind = type(value).__name__
    if isinstance(value, bool):
        return ["bool", value]
    if isinstance(value, float):
        return ["float", "nan" if value != value else value.hex()]
    if isinstance(value, complex):
        return ["complex", describe(value.real), describe(value.imag)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return [kind, bits(bytes(value))]
    if isinstance(value, str):
        return ["str", value if len(value) <= LONG else bits(value.encode("utf8", "surrogatepass"))]
    if isinstance(value, (int, decimal.Decimal, uuid.UUID)):
        return [kind, str(value)]
    if isinstance(value, (datetime.date, datetime.time)):
        return [kind, value.isoformat()]
    if isinstance(value, datetime.timedelta):
        return [kind, value.days, value.seconds, value.microseconds]
    raise TypeError(f"no description for a value of type {type(value)!r}")


def _numpy_scalar(value: Any) -> list[Any]:
    if value.dtype.names:
        return ["record", *([name, describe(value[name])] for name in value.dtype.names)]
    return ["scalar", value.dtype.str, bits(value.tobytes())]


def _array(value: Any) -> list[Any]:
    kind = type(value).__name__
    if kind == "MatCell":
        # 0.14.6 turns cells of equal shape into a numeric array, 2.x keeps an object array:
        # the leaves are what both have.
        return ["MatCell", *_leaves(value)]
    head = [kind, value.dtype.str if not value.dtype.names else "fields", list(value.shape)]
    if value.dtype.names:
        return head + [[name, describe(np.asarray(value[name]))] for name in value.dtype.names]
    if value.dtype.kind == "O":
        return head + [describe(item) for item in value.ravel().tolist()]
    return [*head, bits(np.ascontiguousarray(value).tobytes())]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [leaf for item in value.ravel().tolist() for leaf in _leaves(item)]
    return [describe(value)]
