"""The engine: plans and results are plain dicts, the structs of rust/core/src/verbs."""

from collections.abc import Callable
from typing import Any, final

__all__ = [
    "DENIED",
    "FREE",
    "LOGIN_REFUSED",
    "REFUSAL_HINT",
    "UNREACHABLE",
    "BatchStream",
    "Batches",
    "__version__",
    "archive_state",
    "backup",
    "batches",
    "bring_back",
    "changed_keys",
    "check_archive",
    "compare",
    "copy",
    "copy_batches",
    "count_heads",
    "files",
    "forget_batches",
    "heads",
    "hint_for",
    "log_position",
    "look",
    "lost",
    "orphans",
    "password_for",
    "pointers",
    "probe",
    "promote",
    "proofs",
    "put_back",
    "quote",
    "read_manifest",
    "restore",
    "scan",
    "session_settings",
    "sync",
    "unpack_header",
    "unsettled",
    "why_broken",
    "written",
]

__version__: str
# What a session says before all else.
FREE: str
# What an operator can do where a session cannot be set.
REFUSAL_HINT: str
# Numbers of a server's errors.
LOGIN_REFUSED: list[int]
UNREACHABLE: list[int]
DENIED: list[int]

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

def password_for(
    server: dict[str, Any], plugin: str, encrypted: bool, nonce: bytes, key: bytes | None
) -> bytes | None: ...
def hint_for(number: int, message: str = "") -> str | None:
    """What an operator can do about an error of a server, where that is known."""

def why_broken(server: dict[str, Any], session: int) -> str | None:
    """Why a session of that server will not answer any more, None if it may: asks the server."""

def session_settings(version: str, role: str) -> dict[str, Any]:
    """The statements that set a session for a role (read, load, look, write) and read it back."""

def unsettled(
    version: str, role: str, server: str, said: str | list[tuple[str, str | None]]
) -> list[dict[str, Any]]:
    """Those of a session's settings that are not what they should be, by what its server said."""

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

def sync(
    plan: dict[str, Any],
    files: Callable[[list[dict[str, Any]]], object],
    on_event: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Brings copies up to date. `files` is told, before anything is written, what rows point to."""

def written(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Whether a copy is not what its state says, so that somebody has written to it."""

def bring_back(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Puts objects that 2.x has stored where 0.14.6 looks, and their rows in its tracking table."""

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

def log_position(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Where a server's binary log ends, or why it is of no use."""

def changed_keys(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """The keys of rows that changed since a position in the binary log, a table each."""

def promote(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Looks at every value of a column, or makes objects of them."""

def proofs(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """How many rows of a table each condition is true for, asked chunk by chunk."""

def lost(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Whether a pointer of a column has no tracking row."""

def orphans(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Lists objects of 0.14.6 that no row of a tracking table knows."""

def scan(plan: dict[str, Any]) -> BatchStream:
    """A table, read from the first batch on by parallel connections that see one instant."""

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

def heads(
    plan: dict[str, Any], on_event: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, Any]:
    """Counts the packed values of some columns by kind, type and shape, by their first bytes."""

def count_heads(values: list[tuple[bytes, int] | None]) -> dict[str, Any]:
    """The same of heads and lengths that were read already."""

def unpack_header(
    head: bytes, length: int | None = None
) -> tuple[str, str | None, list[int] | None]:
    """Kind, dtype and shape of a packed value, by its first bytes."""
