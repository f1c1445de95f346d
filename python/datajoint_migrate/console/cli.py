"""`dj-migrate`: the functions of this package as commands, and nothing more."""

from __future__ import annotations

import sys

from datajoint_migrate.console import look, move, rewrite, secure
from datajoint_migrate.console.app import app

__all__ = ["app", "look", "main", "move", "rewrite", "secure"]


def main() -> None:
    """The program `dj-migrate`."""
    # A terminal without UTF-8 must not stop a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()
