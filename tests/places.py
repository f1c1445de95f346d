"""Where the checkout, its tests and the pipelines of the tests are."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PIPELINES = TESTS / "pipelines"
