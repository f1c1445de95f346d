"""A key as a DataJoint client packed it into a blob, read without DataJoint.

`~jobs` holds keys of one or more plain values, never arrays; anything else is refused.
"""

from __future__ import annotations

import datetime
import math
import struct
import uuid
import zlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.limits import LIMITS

COMPRESSED = b"ZL123\0"
PROTOCOLS = (b"dj0\0", b"mYm\0")

# Numbers of the blob format → how `struct` names them; characters are two bytes each.
NUMBERS = {
    3: "?", 6: "d", 7: "f", 8: "b", 9: "B", 10: "h", 11: "H", 12: "i", 13: "I", 14: "q", 15: "Q",
}  # fmt: skip
CHARACTERS = 4


def unpack_key(blob: bytes) -> dict[str, Any]:
    """Attribute names and values, as int, float, bool, str, bytes, Decimal, UUID or a moment.

    Raises `Unconvertible` for a blob that is no such key, or is damaged.
    """
    try:
        key = _Reader(_inflated(blob)).key()
    except (struct.error, ValueError, ArithmeticError, zlib.error) as error:
        raise Unconvertible(f"the packed key cannot be read: {error}") from error
    return key


def _inflated(blob: bytes) -> bytes:
    if not blob.startswith(COMPRESSED):
        return blob
    start = len(COMPRESSED) + 8
    (length,) = struct.unpack_from("<Q", blob, len(COMPRESSED))
    inflater = zlib.decompressobj()
    data = inflater.decompress(blob[start:], LIMITS.packed_key_bytes)
    if len(data) != length or not inflater.eof:
        raise ValueError(f"{len(data)} bytes where {length} were packed, or a wrong end")
    return data


class _Reader:
    """Walks over the bytes of one blob."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.kinds: dict[bytes, Callable[[], Any]] = {
            b"A": self._array,
            b"\x05": lambda: self._take(self._number("Q")).decode(),
            b"\x06": lambda: self._take(self._number("Q")),
            b"\x0a": lambda: int.from_bytes(
                self._take(self._number("H")), byteorder="little", signed=True
            ),
            b"\x0b": lambda: self._number("?"),
            b"\x0d": lambda: self._number("d"),
            b"d": lambda: Decimal(self._take(self._number("Q")).decode()),
            b"t": self._moment,
            b"u": lambda: uuid.UUID(bytes=self._take(16)),
        }

    def key(self) -> dict[str, Any]:
        if self._take(4) not in PROTOCOLS:
            raise ValueError("neither dj0 nor mYm")
        kind = self._take(1)
        if kind not in (b"\x04", b"S"):
            raise ValueError("it is neither a dict nor a struct")
        found = self._dict() if kind == b"\x04" else self._struct()
        if self.at != len(self.data):
            raise ValueError("there is more than one value")
        return found

    def _take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise ValueError("it ends too early")
        self.at += count
        return part

    def _number(self, kind: str) -> Any:
        return struct.unpack("<" + kind, self._take(struct.calcsize("<" + kind)))[0]

    def _value(self) -> Any:
        kind = self._take(1)
        if kind not in self.kinds:
            raise ValueError(f"a value of the kind {kind!r} has no place in a key")
        return self.kinds[kind]()

    def _sized(self) -> Any:
        end = self._number("Q") + self.at
        value = self._value()
        if self.at != end:
            raise ValueError("a length is wrong")
        return value

    def _dict(self) -> dict[str, Any]:
        found = {}
        for _ in range(self._number("Q")):
            name = self._sized()
            if not isinstance(name, str):
                raise ValueError(f"{name!r} is no name of an attribute")
            found[name] = self._sized()
        return found

    def _struct(self) -> dict[str, Any]:
        """A struct of MATLAB, which is a key when it has one element."""
        if any(length != 1 for length in self._shape()):
            raise ValueError("a struct of several elements is no key")
        names = [self._text() for _ in range(self._number("I"))]
        return {name: self._sized() for name in names}

    def _text(self) -> str:
        end = self.data.index(b"\0", self.at)
        text = self._take(end - self.at).decode()
        self.at += 1
        return text

    def _array(self) -> Any:
        """A scalar of numpy or MATLAB; characters may be several."""
        shape = self._shape()
        kind, is_complex = self._number("I"), self._number("I")
        count = math.prod(shape)
        if kind == CHARACTERS and count <= LIMITS.packed_key_bytes:
            return self._take(2 * count).decode("utf-16-le")
        if kind not in NUMBERS or is_complex or count != 1:
            raise ValueError("an array has no place in a key")
        return self._number(NUMBERS[kind])

    def _shape(self) -> list[int]:
        dimensions = self._number("Q")
        if dimensions > 8:
            raise ValueError("too many dimensions")
        return [self._number("Q") for _ in range(dimensions)]

    def _moment(self) -> datetime.datetime | datetime.date | datetime.time:
        day, clock = self._number("i"), self._number("q")
        date = datetime.date(day // 10000, day // 100 % 100, day % 100) if day >= 0 else None
        if clock < 0:
            if date is None:
                raise ValueError("neither a date nor a time")
            return date
        hours, rest = divmod(clock, 10**10)
        time = datetime.time(hours, rest // 10**8, rest // 10**6 % 100, rest % 10**6)
        return datetime.datetime.combine(date, time) if date else time
