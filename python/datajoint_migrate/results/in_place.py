"""What the functions return that change a schema where it stands."""

# Without postponed annotations: TypedDict has to see which keys are not required.
from typing import Any, NotRequired, TypedDict


class ColumnsAnalysis(TypedDict):
    """Columns by whether 2.x knows what they hold."""

    needs_migration: list[dict[str, Any]]
    already_migrated: list[dict[str, Any]]
    external_storage: list[dict[str, Any]]


class ColumnsResult(TypedDict):
    """Labels written into comments."""

    columns_analyzed: int
    columns_migrated: int
    columns_skipped: int
    sql_statements: list[str]
    details: list[dict[str, Any]]


class InPlaceResult(TypedDict):
    """External columns converted where they stand."""

    columns_found: int
    columns_migrated: int
    rows_migrated: int
    files_copied: int
    details: list[dict[str, Any]]


class GradualResult(TypedDict):
    """The part that 2.x reads a column from: `rows` new or changed by this call."""

    rows: int
    files_copied: int
    table: str | None
    notes: list[str]
    sql: NotRequired[list[str]]


class BlobColumn(TypedDict):
    """A blob or attachment column, and whether it lacks a marker."""

    table_name: str
    column_name: str
    column_type: str
    current_comment: str
    needs_migration: bool
    is_nullable: bool


class BlobColumnsResult(TypedDict):
    """Markers written into comments of blobs and attachments."""

    analyzed: int
    needs_migration: int
    migrated: int
    sql_statements: list[str]
    details: list[dict[str, Any]]


class BlobStatus(TypedDict):
    """How many blob columns 2.x can read."""

    total_blob_columns: int
    migrated: int
    pending: int
    columns: list[BlobColumn]


class JobColumnsResult(TypedDict):
    """Hidden job columns added to computed and imported tables."""

    tables_analyzed: int
    tables_modified: int
    columns_added: int
    details: list[dict[str, Any]]
