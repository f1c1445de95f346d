"""With DataJoint 2.3.5: has the package all names of its datajoint.migrate, and their parameters?

Prints a JSON list of what is wrong. `-W error::DeprecationWarning` must not stop it.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
import warnings

import datajoint_migrate

datajoint_migrate.install()

import datajoint as dj  # noqa: E402
import datajoint.migrate as installed  # noqa: E402


def main() -> int:
    wrong = []
    if dj.migrate is not installed or "datajoint_migrate" not in str(installed.__file__):
        wrong.append(f"datajoint.migrate is {installed!r}")
    if not issubclass(datajoint_migrate.MigrationError, dj.DataJointError):
        wrong.append("MigrationError is no DataJointError")
    for name, theirs in sorted(vars(_theirs()).items()):
        public = inspect.isfunction(theirs) and not name.startswith("_")
        if not public or theirs.__module__ != "datajoint.theirs":
            continue
        mine = getattr(installed, name, None)
        if mine is None:
            wrong.append(f"{name} is missing")
            continue
        got = list(inspect.signature(mine).parameters.values())
        for index, asked in enumerate(inspect.signature(theirs).parameters.values()):
            found = got[index] if index < len(got) else None
            if found is None or (found.name, found.kind) != (asked.name, asked.kind):
                wrong.append(f"{name}: {asked} is {found}")
            elif found.default != asked.default:
                wrong.append(f"{name}: {asked} has the default {found.default!r}")
    exec("from datajoint.migrate import create_parallel_schema, migrate_external_to_v20", {})
    print(json.dumps(wrong))
    return 0


def _theirs() -> object:
    """Upstream's module, loaded under another name."""
    place = dj.__file__.replace("__init__.py", "migrate.py")
    spec = importlib.util.spec_from_file_location("datajoint.theirs", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
