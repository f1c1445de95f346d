"""The options that the filling and the reading program have in common. Stdlib only."""

from __future__ import annotations

import argparse
from pathlib import Path

SCHEMAS = ("colony", "imaging", "altered")


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options both programs take."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=3306)
    made.add_argument("--user", default="dj")
    made.add_argument("--password", default="dj")
    made.add_argument(
        "--stores", type=Path, required=True, help="JSON file: store specs by name, for this client"
    )
    return made
