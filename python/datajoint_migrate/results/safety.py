"""What backup, restore, cutover and rollback return."""

# Without postponed annotations: TypedDict has to see which keys are not required.
from typing import Any, NotRequired, TypedDict

from datajoint_migrate.results.parts import Check


class BackupResult(TypedDict):
    """A backup; an archive's also has `bytes`, `files_backed_up` and its `tables`."""

    tables_backed_up: int
    rows_backed_up: int
    backup_location: str
    snapshot: str | dict[str, Any]
    notes: list[str]
    time_taken: float
    bytes: NotRequired[int]
    files_backed_up: NotRequired[int]
    tables: NotRequired[Any]
    plan: NotRequired[list[str]]
    ddl: NotRequired[list[str]]


class CheckBackupResult(TypedDict):
    """An archive proved without a server; `problems` name the file and what is wrong."""

    ok: bool
    schema: str
    tables: int
    files: int
    files_read: int
    bytes_read: int
    rows: int
    problems: list[dict[str, Any]]
    time_taken: float


class RestoreResult(TypedDict):
    """A restore; `kept` is the schema that was there before, under its new name."""

    tables_restored: int
    rows_restored: int
    files_restored: int
    kept: str | None
    notes: list[str]
    time_taken: float
    plan: NotRequired[list[str]]


class ProvedTable(TypedDict):
    """When both sides of a table were last equal, and `how` the last sync knew: skipped, digest,
    log, copied, rebuilt."""

    how: str
    at: str
    rows: int


class CutoverResult(TypedDict):
    """A cutover, or what it would do and what is `missing` for it; `journal` is its schema."""

    executed: bool
    tables_renamed: int
    checks: list[Check]
    missing: list[str]
    plan: list[str]
    journal: str
    archives: dict[str, str]
    notes: list[str]
    proved: dict[str, ProvedTable]
    window_seconds: float | None
    time_taken: float


class RowsBrought(TypedDict):
    """Rows of a table that 2.x has written since the cutover, brought back to 0.14.6."""

    inserted: int
    updated: int
    deleted: int


class LeftBehind(TypedDict):
    """A row, or the value of one column, that 0.14.6 has no form for."""

    table: str
    key: dict[str, Any]
    column: str | None
    why: str


class RollbackResult(TypedDict):
    """A rollback, or what it would do; `rows_written` since the cutover, by parallel table, and
    `left_counts` by table or column of production."""

    executed: bool
    tables_renamed: int
    rows_written: dict[str, int]
    tables_new: list[str]
    brought_back: dict[str, RowsBrought]
    files_brought_back: int
    left: list[LeftBehind]
    left_counts: dict[str, int]
    missing: list[str]
    plan: list[str]
    notes: list[str]
    time_taken: float


class DiscardResult(TypedDict):
    """Copies dropped, or what would be; `schemas` are those that are there, with what they hold."""

    executed: bool
    schemas: dict[str, dict[str, int]]
    missing: list[str]
    notes: list[str]
    time_taken: float


class RenameResult(TypedDict):
    """A schema renamed."""

    tables_renamed: int
    programs_moved: int
    notes: list[str]
    time_taken: float
    plan: NotRequired[list[str]]
