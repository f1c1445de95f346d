"""What a call may take of production: bytes a second, load, and a file that pauses it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from datajoint_migrate.call.progress import OnEvent, tell
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.limits import LIMITS


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


class Turn:
    """Waits before each statement of a session of Python's own, as the engine does before its."""

    def __init__(self, session: Session, throttle: Throttle, on_event: OnEvent = None) -> None:
        spec = throttle.spec()
        self.session = session
        self.on_event = on_event
        self.file: str | None = spec["pause_file"]
        self.ceilings: list[tuple[str, float]] = spec["max_load"]
        self._free_until = 0.0
        self._asking = False

    @classmethod
    def give(cls, session: Session, throttle: Throttle, on_event: OnEvent = None) -> None:
        """Let the session spare its server from now on."""
        if throttle.pause_file is not None or throttle.max_load is not None:
            session.wait = cls(session, throttle, on_event)
        session.spared = throttle.spec()

    def __call__(self) -> None:
        if self._asking:
            return
        while (why := self._reason()) is not None:
            tell(self.on_event, "progress", verb="look", paused=why)
            time.sleep(LIMITS.throttle_tick)

    def _reason(self) -> str | None:
        if self.file is not None and os.path.exists(self.file):
            return f"{self.file} is there"
        now = time.monotonic()
        if not self.ceilings or now < self._free_until:
            return None
        self._asking = True
        try:
            names = [name for name, _ in self.ceilings]
            marks = ", ".join(["%s"] * len(names))
            rows = self.session.query(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({marks})", names)
        finally:
            self._asking = False
        told = {str(name).lower(): str(value) for name, value in rows}
        for name, most in self.ceilings:
            # The engine says what is wrong with a name or a value.
            with suppress(KeyError, ValueError):
                if float(told[name.lower()]) > most:
                    return f"{name} is {told[name.lower()]}, above {most:g}"
        self._free_until = now + LIMITS.load_seconds
        return None
