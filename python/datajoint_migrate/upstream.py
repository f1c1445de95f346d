"""The names of DataJoint's own module `datajoint.migrate`, all of them, and nothing of its code.

`from datajoint_migrate.upstream import …` finds every public name of 2.3.5 with its parameters;
`install()` puts this module where `from datajoint.migrate import …` looks.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import datajoint_migrate as _package
from datajoint_migrate.call.border import guard
from datajoint_migrate.results import ExternalResult
from datajoint_migrate.verbs.move.external import migrate_external_to_v20


@guard
def migrate_external_pointers_v2(
    schema: str,
    table: str,
    attribute: str,
    source_store: str,
    dest_store: str,
    copy_files: bool = False,
    connection: Any = None,
    **options: Any,
) -> ExternalResult:
    """Upstream's name of `migrate_external_to_v20`, whose further keywords it takes too.

    Returns `rows_migrated`, `files_copied`, `errors`.
    """
    return migrate_external_to_v20(
        schema,
        table,
        attribute,
        source_store,
        dest_store,
        copy_files,
        connection=connection,
        **options,
    )


def __getattr__(name: str) -> Any:
    """Every other public name of this package."""
    if name in _package.__all__:
        return getattr(_package, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*_package.__all__, "install", "migrate_external_pointers_v2"})


def install() -> None:
    """Let `from datajoint.migrate import …` find this package, for the rest of the process.

    Upstream's module is not imported, so its DeprecationWarning does not appear; where it was
    imported already, it is replaced. Works with DataJoint 2.x, and without DataJoint only for
    code that imports nothing else of it.
    """
    module = sys.modules[__name__]
    sys.modules["datajoint.migrate"] = module
    try:
        vars(importlib.import_module("datajoint"))["migrate"] = module
    except ImportError:
        return
