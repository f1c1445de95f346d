"""How much is said, and the log of it."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from datajoint_migrate.catalog.secrecy import masked
from datajoint_migrate.console.record import privately

logger = logging.getLogger("datajoint_migrate")
# Marks a line of the log that is on the screen in other words.
SHOWN = {"is_shown": True}


@dataclass
class Voice:
    """How much is said, for all commands."""

    verbose: bool = False
    quiet: bool = False


VOICE = Voice()


class _Masked(logging.Formatter):
    """A log holds no secret, whoever wrote the line."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def log_to(file: Path | None, verbose: bool, quiet: bool = False) -> None:
    """Write the package's log into a file of its owner's alone; warnings, and with `verbose` all
    of it, to standard error.

    Raises `InvalidArgument` for a file that cannot be written.
    """
    console = logging.StreamHandler()
    console.setLevel(logging.INFO if verbose else logging.WARNING)
    console.addFilter(lambda record: not getattr(record, "is_shown", False))
    handlers: list[logging.Handler] = [] if quiet else [console]
    if file is not None:
        try:
            stream = open(  # noqa: SIM115  (it stays open as long as the program)
                file, "a", encoding="utf-8", errors="backslashreplace", opener=privately
            )
        except OSError as error:
            sys.stderr.write(f"the log {file} cannot be written: {error.strerror}\n")
            raise SystemExit(1) from None
        handlers.append(logging.StreamHandler(stream))
    for handler in handlers:
        handler.setFormatter(_Masked("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
    # Python would write to standard error what no handler takes.
    logger.propagate = False
    logger.setLevel(logging.INFO)
