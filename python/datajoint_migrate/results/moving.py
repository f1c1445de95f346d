"""What the functions return that move schemas, rows and files."""

# Without postponed annotations: TypedDict has to see which keys are not required.
from typing import Any, NotRequired, TypedDict

from datajoint_migrate.results.parts import Discrepancy


class TableComparison(TypedDict):
    """One table on both sides: `row_count` is production's, `digest` the sum of its row hashes."""

    match: bool
    row_count: int
    test_row_count: int
    discrepancies: list[Discrepancy]
    truncated: bool
    notes: list[str]
    digest: str | None
    time_taken: float


class MigrateResult(TypedDict):
    """A migration: what this call did, and whether 2.x finds the same values and all it needs."""

    schemas: dict[str, str]
    tables_created: int
    rows_copied: int
    files_copied: int
    match: bool
    compatible: bool
    issues: list[str]
    notes: list[str]
    tables: dict[str, TableComparison]
    snapshot: str
    time_taken: float
    plan: NotRequired[list[str]]
    ddl: NotRequired[list[str]]


class SyncedTable(TypedDict):
    """How one table of a sync was found (skipped, digest, log, copied, rebuilt), and its rows."""

    how: str
    why: str
    rows: int
    rows_read: int
    copy_rows_read: int
    inserted: int
    updated: int
    deleted: int
    conflicts: int
    match: bool


class Conflict(TypedDict):
    """A row that somebody wrote to a copy: missing there, extra, or differs from production."""

    table: str
    key: dict[str, str]
    kind: str
    columns: dict[str, Any]


class SyncResult(TypedDict):
    """A copy brought up to date: rows by what became of them, and rows that were not ours."""

    schemas: dict[str, str]
    tables: dict[str, SyncedTable]
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    files_copied: int
    tables_created: int
    tables_rebuilt: int
    tables_gone: list[str]
    conflicts: list[Conflict]
    match: bool
    issues: list[str]
    notes: list[str]
    snapshot: str
    position: str | None
    time_taken: float


class ParallelSchemaResult(TypedDict):
    """A parallel schema: tables made by this call, and all of them by name."""

    tables_created: int
    data_copied: bool
    tables: list[str]
    notes: list[str]
    rows_copied: NotRequired[int]
    ddl: NotRequired[list[str]]


class CopyTableResult(TypedDict):
    """Rows of one table; with `closure`, `tables` tells those of each table that came along."""

    rows_copied: int
    time_taken: float
    table: str
    snapshot: str
    files_copied: int
    notes: list[str]
    tables: NotRequired[dict[str, int]]
    plan: NotRequired[Any]


class CopyAllResult(TypedDict):
    """Rows of a schema: `tables` has those of each table."""

    tables_copied: int
    rows_copied: int
    time_taken: float
    tables: dict[str, int]
    snapshot: str
    files_copied: int
    notes: list[str]
    plan: NotRequired[list[Any]]


class SampleResult(TypedDict):
    """A sample: `tables` has the rows of each "source.table"."""

    rows_copied: int
    tables: dict[str, int]
    files_copied: int
    notes: list[str]
    snapshot: str
    time_taken: float
    plan: NotRequired[list[dict[str, Any]]]


class ExternalResult(TypedDict):
    """An external column converted: `errors` are files that were not found."""

    rows_migrated: int
    files_copied: int
    errors: list[dict[str, Any]]
    notes: NotRequired[list[str]]
    sql: NotRequired[list[str]]


class StoreCopyResult(TypedDict, total=False):
    """Files of a store copied; with `dry_run` only `source` and `dest`, as URLs."""

    files_copied: int
    files_present: int
    bytes_copied: int
    errors: list[dict[str, Any]]
    error_count: int
    time_taken: float
    source: str
    dest: str


class PromoteResult(TypedDict):
    """A column promoted: `refused` counts by kind what could not be, `examples` names rows."""

    table: str
    column: str
    rows_promoted: int
    rows_null: int
    files_written: int
    bytes_in: int
    bytes_out: int
    refused: dict[str, int]
    examples: list[dict[str, Any]]
    kinds: dict[str, int]
    dtypes: dict[str, int]
    match: bool
    old_column: str | None
    notes: list[str]
    time_taken: float
    rows_restored: NotRequired[int]
    sql: NotRequired[list[str]]


class LineageResult(TypedDict):
    """`~lineage` rebuilt: `schemas` has the entries of each."""

    tables_analyzed: int
    lineage_entries: int
    status: str
    schemas: dict[str, int]


class JobsResult(TypedDict):
    """Jobs carried: `refused` are those that have no equal in 2.x, with the reason."""

    jobs_carried: int
    errors_carried: int
    ignores_carried: int
    already_there: int
    reserved_dropped: int
    tables_created: int
    refused: list[dict[str, Any]]
    notes: list[str]
    time_taken: float
