"""Run `datajoint_migrate.migrate` with the arguments on standard input; print the result. JSON."""

from __future__ import annotations

import json
import sys

import datajoint_migrate

try:
    json.dump(datajoint_migrate.migrate(**json.load(sys.stdin)), sys.stdout, default=str)
except datajoint_migrate.MigrationError as error:
    sys.exit(f"{type(error).__name__}: {error}")
