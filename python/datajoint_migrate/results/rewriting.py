"""What the functions return that rewrite code and configuration."""

# Without postponed annotations: TypedDict has to see which keys are not required.
from typing import Any, TypedDict

from datajoint_migrate.results.parts import SourceRemark


class CodeResult(TypedDict):
    """Source files rewritten, `files` of them looked at; `left` is for people."""

    files: int
    files_changed: list[str]
    changes: list[SourceRemark]
    left: list[SourceRemark]
    diff: str
    executed: bool


class ConfigResult(TypedDict):
    """A configuration rewritten: `secrets` are names, no value is in the result."""

    source: str
    config: dict[str, Any]
    secrets: list[str]
    left: list[Any]
    files: list[str]
    executed: bool
