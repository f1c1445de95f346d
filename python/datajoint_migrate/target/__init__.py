"""What it becomes: the 2.x type of a column, the declaration of a table, the lineage of keys."""

from datajoint_migrate.target.declare import Declaration, check_map, declare
from datajoint_migrate.target.lineage import LINEAGE, Lineage, compute, write
from datajoint_migrate.target.types import (
    RULES,
    NewColumn,
    Rule,
    convert_column,
    fit_comment,
    prove_widening,
    rule_for,
)

__all__ = [
    "LINEAGE",
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
    "prove_widening",
    "rule_for",
    "write",
]
