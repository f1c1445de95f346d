"""Columns that become object storage, in code: their types in definitions, and who fetches them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import libcst as cst

from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.files.promotion import wanted
from datajoint_migrate.verbs.code.names import Module

FETCHES = {
    "fetch", "fetch1", "to_arrays", "to_arrow", "to_dicts", "to_pandas", "to_polars",
}  # fmt: skip
# What leaves the columns of a table as they are.
RESTRICTIONS = (cst.BitAnd, cst.Subtract)
RESTRICT = {"restrict"}
JOINS = (cst.Multiply, cst.MatrixMultiply)


@dataclass(frozen=True)
class Promoted:
    """Types of columns (`<npy@raw>`) by table and column; a table by its class's name in small
    letters, as the client makes a table's name of it."""

    types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @staticmethod
    def of(promote: Mapping[str, str]) -> Promoted:
        """Of `schema.table.column`: `npy@raw`, as `migrate` takes it; raises `InvalidArgument`."""
        types: dict[str, dict[str, str]] = {}
        for name, to in promote.items():
            codec, store = wanted(to)
            rest, _, column = name.rpartition(".")
            _, _, table = rest.partition(".")
            if not table or not column:
                raise InvalidArgument(
                    f"promote names {name!r}, which is no column",
                    hint="give schema.table.column, as migrate takes it",
                )
            types.setdefault(_snake(table), {})[column] = f"<{codec}@{store}>"
        return Promoted(types)

    def columns(self, name: str) -> Mapping[str, str]:
        """The promoted columns of a class, `Session` or `Session.Trial`, and their types."""
        return self.types.get(_snake(name), {})

    def arrays(self) -> set[str]:
        """Columns of any table that are fetched as references."""
        return {
            column
            for columns in self.types.values()
            for column, type_ in columns.items()
            if type_.startswith("<npy@")
        }

    def fetched(self, module: Module, call: cst.Call) -> list[str]:
        """The columns that a call fetches as references to arrays."""
        func = call.func
        if not self.types or not isinstance(func, cst.Attribute):
            return []
        if func.attr.value not in FETCHES or _is_loaded(module, call):
            return []
        known = _tables(module, func.value)
        there = self.arrays()
        if known is not None:
            own = [self.columns(name) for name in known]
            there = {one for one in there if any(_is_array(columns, one) for columns in own)}
        elif not module.value(func.value).is_table and func.attr.value == "fetch":
            there = set()
        plain = [arg.value for arg in call.args if arg.keyword is None and not arg.star]
        named = {
            str(value.evaluated_value) for value in plain if isinstance(value, cst.SimpleString)
        }
        literal = len(plain) == len(named)
        if named and literal:
            return sorted(there & named)
        # All columns; of what may be another table that is no more than a guess.
        return sorted(there) if known is not None else []


def _is_array(columns: Mapping[str, str], name: str) -> bool:
    return columns.get(name, "").startswith("<npy@")


def _is_loaded(module: Module, call: cst.Call) -> bool:
    parent = module.parents.get(call)
    return isinstance(parent, cst.Attribute) and parent.attr.value == "load"


def _tables(module: Module, node: cst.BaseExpression) -> list[str] | None:
    """The classes whose columns an expression has; None where that is not certain."""
    if isinstance(node, cst.BinaryOperation):
        if isinstance(node.operator, RESTRICTIONS):
            return _tables(module, node.left)
        if isinstance(node.operator, JOINS):
            both = _tables(module, node.left), _tables(module, node.right)
            return None if None in both else [name for side in both for name in side or ()]
        return None
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        if node.func.attr.value in RESTRICT:
            return _tables(module, node.func.value)
        if node.func.attr.value == "join" and node.args:
            both = _tables(module, node.func.value), _tables(module, node.args[0].value)
            return None if None in both else [name for side in both for name in side or ()]
    body = module.value(node).body
    return None if body is None else [class_name(*body)]


def class_name(module: Module, node: cst.ClassDef) -> str:
    """`Session.Trial` for a class in the body of another."""
    above = module.parents.get(node)
    while above is not None and not isinstance(above, cst.ClassDef | cst.FunctionDef):
        above = module.parents.get(above)
    if isinstance(above, cst.ClassDef):
        return f"{above.name.value}.{node.name.value}"
    return node.name.value


def _snake(name: str) -> str:
    """A table's name without the marks of its tier; of a class, as the client makes it."""
    if not re.fullmatch(r"[A-Z]\w*(\.[A-Z]\w*)?", name):
        return re.sub(r"^(#|__?)", "", name)
    return "__".join(
        re.sub(r"\B([A-Z])", lambda found: "_" + found[1], part).lower() for part in name.split(".")
    )
