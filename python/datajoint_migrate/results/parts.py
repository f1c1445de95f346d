"""What results are made of."""

# Without postponed annotations: TypedDict has to see which keys are not required.
from typing import Any, NotRequired, TypedDict


class BlobHeader(TypedDict):
    """What a packed value is; None where there is no such thing."""

    kind: str
    dtype: str | None
    shape: list[int] | None


class PromotableColumn(TypedDict):
    """A column of blobs: `becomes` is the codec it can be promoted to, None for one of your own.

    `rows` are values, `bytes` what they take in the table, `file_bytes` what they would in a store;
    `shapes` are the commonest (`dtype`, `shape`, `rows`), `other_shapes` how many arrays have
    others. `sampled`: only the first rows were looked at.
    """

    table: str
    column: str
    marker: str | None
    becomes: str | None
    rows: int
    nulls: int
    bytes: int
    file_bytes: int
    kinds: dict[str, int]
    dtypes: dict[str, int]
    shapes: list[dict[str, Any]]
    other_shapes: int
    sampled: bool


class Discrepancy(TypedDict):
    """One difference of two tables: a row, a column, or a table that one side lacks."""

    kind: str
    key: NotRequired[dict[str, str | None]]
    # Of a row: per column both values. Of a key that has no equal: its columns.
    columns: NotRequired[Any]
    schema: NotRequired[str]
    table: NotRequired[str]
    column: NotRequired[str]
    error: NotRequired[str]


class StructureDifference(TypedDict):
    """What production and the copy declare differently; None where a side has nothing."""

    table: str | None
    what: str
    name: str
    prod: Any
    test: Any


class Check(TypedDict):
    """One line of a cutover's checklist, and what was found: a sentence each."""

    name: str
    ok: bool
    detail: list[str]


class SetupCheck(TypedDict):
    """One thing a migration needs, what was found, and what to do where that does not do."""

    name: str
    ok: bool
    detail: str
    hint: str | None


class SourceRemark(TypedDict):
    """A place in a source file, and what was changed there, or was not."""

    file: str
    line: int
    what: str
