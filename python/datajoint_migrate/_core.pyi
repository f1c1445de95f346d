"""The engine: plans and results are plain dicts, the structs of rust/core/src/verbs."""

from collections.abc import Callable
from typing import Any, final

__all__ = [
    "BatchStream",
    "Batches",
    "__version__",
    "archive_state",
    "backup",
    "batches",
    "check_archive",
    "compare",
    "copy",
    "copy_batches",
    "files",
    "forget_batches",
    "look",
    "lost",
    "orphans",
    "pointers",
    "probe",
    "put_back",
    "quote",
    "read_manifest",
    "restore",
    "scan",
]

__version__: str

@final
class BatchStream:
    """The record batches of a table, for any Arrow library; can be read once."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

@final
class Batches:
    """The batches of a copy of files, as dicts; made while they are taken."""

    def __iter__(self) -> Batches: ...
    def __next__(self) -> dict[str, Any]: ...

def batches(plan: dict[str, Any]) -> Batches:
    """Begins to cut a copy of files into batches."""

def forget_batches(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> None:
    """Removes the journal of a copy of files that is finished."""

def quote(*names: str) -> str:
    """Quotes identifiers and joins them with dots: ``quote("db", "t")`` is ``"`db`.`t`"``."""

def copy(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Copies tables, inside one server or through us. Ctrl-C leaves a resumable state."""

def compare(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Compares pairs of tables by meaning and names the rows that differ."""

def pointers(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Loads the map from 0.14.6 pointers to 2.x metadata into a table of the destination."""

def files(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Looks for the objects behind the pointers of one tracking table, where they stay."""

def copy_batches(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Copies the files of some batches, proved while copying, and notes that they are done."""

def look(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Looks whether objects of a store are there, of their size, of their contents."""

def probe(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Opens a store and asks whether it may be written to; leaves nothing behind."""

def lost(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Whether a pointer of a column has no tracking row."""

def orphans(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Lists objects of 0.14.6 that no row of a tracking table knows."""

def scan(plan: dict[str, Any]) -> BatchStream:
    """Starts to read a table with parallel connections that see one instant."""

def backup(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Writes tables to an archive, all of one instant. Ctrl-C leaves a resumable state."""

def restore(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Loads an archive into empty tables and proves every row. Ctrl-C leaves a resumable state."""

def check_archive(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Proves an archive without a server and names every file that is not what it should be."""

def read_manifest(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """The manifest of an archive, checked."""

def archive_state(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> str:
    """What lies where an archive is or is to be: nothing, empty, unfinished, archive or other."""

def put_back(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Puts the objects of an archive back into the folders of their stores."""
