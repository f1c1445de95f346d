"""Run a 2.x client's garbage collector for real on the store `raw` for the schemas named."""

from __future__ import annotations

import sys

import datajoint as dj
from datajoint import gc

schemas = [dj.Schema(name) for name in sys.argv[1:]]
if hasattr(gc, "GarbageCollector"):
    gc.GarbageCollector(*schemas, store="raw").collect(dry_run=False)
else:
    gc.collect(*schemas, store_name="raw", dry_run=False)
