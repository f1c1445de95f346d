"""What a call may take of production: bytes a second, load, and a file that pauses it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from datajoint_migrate.errors import InvalidArgument


@dataclass(frozen=True)
class Throttle:
    """The limits of one call, checked; `spec` is what the engine's plans call `throttle`."""

    max_bytes_per_second: int | None = None
    max_load: str | None = None
    pause_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        rate = self.max_bytes_per_second
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int) or rate < 1):
            raise InvalidArgument(
                f"max_bytes_per_second is {rate!r}", hint="give a whole number of 1 or more"
            )
        self._ceilings()

    def spec(self) -> dict[str, Any]:
        """the same as plain values; empty without limits."""
        return {
            "max_bytes_per_second": self.max_bytes_per_second,
            "max_load": self._ceilings(),
            "pause_file": None if self.pause_file is None else os.path.abspath(self.pause_file),
        }

    def _ceilings(self) -> list[tuple[str, float]]:
        """Names and values of `max_load`, as pt-online-schema-change writes them."""
        if self.max_load is None:
            return []
        found = []
        for part in str(self.max_load).split(","):
            name, _, value = part.replace(":", "=", 1).partition("=")
            try:
                ceiling = (name.strip(), float(value))
            except ValueError:
                ceiling = ("", 0.0)
            # "nan" is a float that nothing is above.
            if not ceiling[0] or not 0 <= ceiling[1] < float("inf"):
                raise InvalidArgument(
                    f"max_load has {part.strip()!r}",
                    hint='write "Threads_running=25", several with commas between them',
                )
            found.append(ceiling)
        return found


FREE = Throttle()
