"""Keys that a DataJoint client packed are read without DataJoint."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from datajoint_migrate import Unconvertible
from datajoint_migrate.catalog.packed import unpack_key

# As Python for the client's environment; what it evaluates to is packed by 0.14.6 itself.
PACK = """
import datetime, sys
from decimal import Decimal
from uuid import UUID
import numpy as np
import datajoint as dj
from datajoint.blob import MatStruct, pack
dj.config["enable_python_native_blobs"] = True
for line in sys.stdin:
    print(pack(eval(line), compress=True).hex())
"""

SAME: list[dict[str, Any]] = [
    {"a": 0, "b": -1, "c": 2**64 - 1, "d": 255, "e": -32768},
    {"flag": True, "ratio": 0.1, "price": Decimal("-12.340")},
    {"name": "ünï 猴 'quoted' \\ 100% %s \0", "empty": "", "raw": b"\0\xff"},
    {"id": uuid.UUID(int=2**127 + 1)},
    {
        "day": datetime.date(1999, 12, 31),
        "at": datetime.datetime(2024, 2, 29, 23, 59, 59, 999999),
        "midnight": datetime.datetime(2024, 1, 1),
        "clock": datetime.time(0, 0, 0, 1),
    },
    {"long": "x" * 5000},
    {},
]

NUMPY = (
    ('{"a": np.int32(-7), "b": np.uint64(2**63)}', {"a": -7, "b": 2**63}),
    ('{"a": np.float32(0.5), "b": np.bool_(True)}', {"a": 0.5, "b": True}),
    ('{"a": np.int8(-1), "b": np.float64(0.1)}', {"a": -1, "b": 0.1}),
    ('{"a": np.array([[3.0]])}', {"a": 3.0}),
    (
        'np.array([(np.array([[3.0]]), np.array(list("rig"), dtype="c"))],'
        ' dtype=[("a", "O"), ("b", "O")]).view(MatStruct)',
        {"a": 3.0, "b": "rig"},
    ),
)  # fmt: skip

NO_KEYS = (
    "[1, 2]",
    "7",
    '{"a": None}',
    '{"a": [1, 2]}',
    '{"a": {1, 2}}',
    '{"a": 1j}',
    '{"a": np.array([1, 2])}',
    '{"a": np.array([1, "a"], dtype=object)}',
    '{1: 2}',
    'np.array([(1, 2), (3, 4)], dtype=[("a", "O"), ("b", "O")]).view(MatStruct)',
)  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    sources = [*map(repr, SAME), *(source for source, _ in NUMPY), *NO_KEYS]
    done = clients.run(
        [environments.python("0.14.6"), "-c", PACK],
        input="\n".join(sources),
        cwd=Path(tmp_path_factory.mktemp("client")),
        check=True,
    )
    return dict(zip(sources, map(bytes.fromhex, done.stdout.split()), strict=True))


@pytest.mark.parametrize("key", SAME, ids=lambda key: "-".join(key) or "nothing")
def test_a_key_comes_back_as_it_was_packed(packed: dict[str, bytes], key: dict[str, Any]) -> None:
    found = unpack_key(packed[repr(key)])
    assert found == key
    assert list(map(type, found.values())) == list(map(type, key.values()))


@pytest.mark.parametrize(("source", "key"), NUMPY)
def test_scalars_of_numpy_and_matlab_are_plain_values(
    packed: dict[str, bytes], source: str, key: dict[str, Any]
) -> None:
    assert unpack_key(packed[source]) == key


@pytest.mark.parametrize("source", NO_KEYS)
def test_what_is_no_key_is_refused(packed: dict[str, bytes], source: str) -> None:
    with pytest.raises(Unconvertible):
        unpack_key(packed[source])


def test_no_blob_cut_or_changed_anywhere_does_more_than_be_refused(
    packed: dict[str, bytes],
) -> None:
    whole = [blob for blob in packed.values() if len(blob) < 400] + [packed[repr(SAME[5])]]
    for blob in whole:
        for end in range(len(blob)):
            with pytest.raises(Unconvertible):
                unpack_key(blob[:end])
        for at in range(len(blob)):
            changed = bytearray(blob)
            changed[at] ^= 0xFF
            try:
                found = unpack_key(bytes(changed))
            except Unconvertible:
                continue
            assert isinstance(found, dict)
