"""The program `dj-migrate`, which hears Ctrl-C before the package that it starts is there.

A package is imported before any module of its own, so this is one beside it.
"""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """Import the package and run its command."""
    # A shell that starts programs in the background has told them to ignore it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave_at_once)
    if sys.argv[1:] == ["--version"]:
        from datajoint_migrate import __version__

        # Asked by programs, again and again: what reads options takes ten times as long.
        print(f"dj-migrate {__version__}")
        return
    if "_DJ_MIGRATE_COMPLETE" in os.environ:
        # A shell asks at each TAB. Of this module Typer wants no more than names without markup,
        # which these are, and it takes longer to load than all else.
        sys.modules.update(rich=None)  # type: ignore[call-overload]
    from datajoint_migrate.console import cli

    cli.main()


def leave_at_once(_number: int, _frame: FrameType | None) -> None:
    """End the program, until a command is under way, which hears Ctrl-C itself."""
    # Nothing was begun, so there is nothing to say.
    os._exit(INTERRUPTED)
