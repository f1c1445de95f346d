"""What the functions return that only look."""

# Without postponed annotations: TypedDict has to see which keys are not required.
from typing import Any, NotRequired, TypedDict

from datajoint_migrate.results.moving import TableComparison
from datajoint_migrate.results.parts import PromotableColumn, SetupCheck, StructureDifference


class InspectResult(TypedDict):
    """What is on a server; `groups` belong in one call of `migrate`, parents first."""

    server: dict[str, str]
    schemas: list[dict[str, Any]]
    groups: list[list[str]]


class SchemaStatus(TypedDict):
    """Where one schema stands; times are UTC. None is what is not the case, or not known."""

    source: str
    destination: str
    state: str
    at_work: bool
    copied: dict[str, Any] | None
    progress: dict[str, int] | None
    backups: list[dict[str, Any]]
    cutover: dict[str, Any] | None
    compared: str | None
    behind: dict[str, Any] | None
    rolled_back: str | None
    next: str
    why: str


class StatusResult(TypedDict):
    """Where a migration stands; `next` is the command that the furthest behind needs."""

    schemas: list[SchemaStatus]
    next: str
    time_taken: float


class EstimateResult(TypedDict):
    """Time and disk; seconds are None where no table has rows."""

    rows: int
    bytes: int
    compare_seconds: float | None
    copy_seconds: list[float] | None
    disk_bytes: int
    file_bytes: int
    samples: list[dict[str, Any]]
    consistency: str
    based_on: list[str]


class SetupResult(TypedDict):
    """`ok` is False only for what a migration cannot do without."""

    ok: bool
    checks: list[SetupCheck]


class SchemaComparison(TypedDict):
    """All tables on both sides: `match` is of values, `structure_match` of what is declared."""

    match: bool
    tables: dict[str, TableComparison]
    row_count: int
    time_taken: float
    structure: list[StructureDifference]
    structure_match: bool


class VerifyResult(TypedDict):
    """Whether 2.x can work with a schema; `blob_markers` counts columns."""

    compatible: bool
    blob_markers: dict[str, int]
    lineage_exists: bool
    issues: list[str]
    codecs: list[str]


class IntegrityResult(TypedDict):
    """Files behind a schema: `missing` and `orphaned` list the first 10,000."""

    total_references: int
    checked: int
    valid: int
    missing: list[dict[str, Any]]
    missing_count: int
    bytes_read: int
    orphaned: list[dict[str, Any]]
    orphaned_count: int
    orphaned_bytes: int
    stores_checked: list[str]
    stores_unchecked: dict[str, str]
    untracked: dict[str, int]


class StoreConfigurationResult(TypedDict):
    """Stores a schema refers to, by what is known of them."""

    stores_configured: list[str]
    stores_missing: list[str]
    stores_unreachable: list[str]
    details: list[dict[str, Any]]


class DamageResult(TypedDict):
    """Texts or blobs looked at: counts by column, and what is damaged by key."""

    ok: bool
    columns: list[dict[str, Any]]
    damaged: list[dict[str, Any]]
    truncated: bool
    promotable: NotRequired[list[PromotableColumn]]


class ReportResult(TypedDict):
    """A report written: `finding` is its sentence."""

    file: str
    bytes: int
    calls: int
    tables: int
    finding: str
    good: bool
