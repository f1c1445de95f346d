"""A part of many files that is the same one every time: `all`, `n/m`, `x%`, or a size."""

from __future__ import annotations

import re
from dataclasses import dataclass

from datajoint_migrate.errors import InvalidArgument

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# The first eight bytes of an MD5, read as a number.
SPACE = 1 << 64


@dataclass(frozen=True)
class Subset:
    """Which files: the `number`th of `of` parts, a share of all, or about `size` bytes."""

    number: int = 1
    of: int = 1
    share: float = 1.0
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> Subset:
        """Raises `InvalidArgument` for any other words."""
        if text.strip() == "all":
            return cls()
        if found := re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text):
            number, of = int(found[1]), int(found[2])
            if 1 <= number <= of:
                return cls(number=number, of=of)
        if (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)) and (
            0 < float(found[1]) <= 100
        ):
            return cls(share=float(found[1]) / 100)
        if (found := re.fullmatch(r"\s*(\d+)([KMGT]?)\s*", text, re.IGNORECASE)) and int(found[1]):
            return cls(size=int(found[1]) * UNITS[found[2].upper()])
        raise InvalidArgument(
            f"the subset {text!r} is none of 'all', 'n/m', 'x%' and a size such as '500M'",
            hint="use one such as all, 1/10, 5% or 500M",
        )

    def of_bytes(self, total: int) -> Subset:
        """The subset once it is known how many bytes there are: a size becomes a share."""
        if self.size is None or total <= self.size:
            return Subset(self.number, self.of, self.share)
        return Subset(share=self.size / total)

    def has(self, digest: bytes) -> bool:
        """Whether the file of this digest, of which at least eight bytes count, belongs to it."""
        place = int.from_bytes(digest[:8])
        return place % self.of == self.number - 1 and place < self.share * SPACE
