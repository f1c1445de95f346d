"""What it becomes: the 2.x type of a column, the declaration of a table, the lineage of keys."""

from datajoint_migrate.target.declare import Declaration, check_map, declare
from datajoint_migrate.target.lineage import Lineage, compute
from datajoint_migrate.target.types import (
    RULES,
    NewColumn,
    Rule,
    convert_column,
    fit_comment,
    rule_for,
)

__all__ = [
    "RULES",
    "Declaration",
    "Lineage",
    "NewColumn",
    "Rule",
    "check_map",
    "compute",
    "convert_column",
    "declare",
    "fit_comment",
    "rule_for",
]
