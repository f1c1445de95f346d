"""What a name stands for: a table, a schema, DataJoint itself, or nothing that is certain.

A name is looked up in its scope, as Python does, and followed through imports within the project.
A name that is bound more than once stands for something only if all its bindings agree.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import libcst as cst
from libcst.metadata import (
    Assignment,
    BaseAssignment,
    BuiltinAssignment,
    GlobalScope,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    Scope,
    ScopeProvider,
)

from datajoint_migrate.verbs.code.project import Project, Source, file_of, member

TIERS = {"Manual", "Lookup", "Imported", "Computed", "Part"}
SCHEMAS = {"schema", "Schema"}
VIRTUAL = {"VirtualModule", "create_virtual_module"}
QUERIES = {"U", "FreeTable"}
OPERATORS = (cst.BitAnd, cst.Subtract, cst.Multiply, cst.Add, cst.MatrixMultiply)
# What returns a table again.
METHODS = {"proj", "aggr", "aggregate", "join", "restrict"}


class Kind(Enum):
    """What an expression may be found to be."""

    NOTHING = auto()
    OPEN = auto()  # a binding that is being followed already: it proves nothing, and denies nothing
    DATAJOINT = auto()
    MEMBER = auto()
    SCHEMA = auto()
    MODULE = auto()
    VIRTUAL = auto()
    TABLE = auto()
    QUERY = auto()


@dataclass(frozen=True)
class Value:
    """`name` of a member of DataJoint, `path` of a module, `body` of a table's class."""

    kind: Kind
    name: str = ""
    path: Path | None = None
    body: tuple[Module, cst.ClassDef] | None = None

    @property
    def is_table(self) -> bool:
        """Whether it is certainly a table, its class or a query."""
        return self.kind in (Kind.TABLE, Kind.QUERY)


NOTHING, OPEN = Value(Kind.NOTHING), Value(Kind.OPEN)


class Module:
    """A file of the project with its scopes."""

    def __init__(self, source: Source, names: Names) -> None:
        self.path, self.names = source.path, names
        self.wrapper = MetadataWrapper(cst.parse_module(source.text))
        self.scopes: Mapping[cst.CSTNode, Scope | None] = self.wrapper.resolve(ScopeProvider)
        self.parents: Mapping[cst.CSTNode, cst.CSTNode] = self.wrapper.resolve(ParentNodeProvider)
        self.wrapper.resolve(PositionProvider)
        self.top = next(
            (scope for scope in self.scopes.values() if isinstance(scope, GlobalScope)), None
        )
        self.stars = [
            node
            for node in self.parents
            if isinstance(node, cst.ImportFrom) and isinstance(node.names, cst.ImportStar)
        ]
        self._open: set[tuple[int, str]] = set()

    # -- expressions ---------------------------------------------------------------------------

    def value(self, node: cst.BaseExpression) -> Value:
        """What an expression of this module is."""
        if isinstance(node, cst.Name):
            return self._named(node.value, self.scopes.get(node) or self.top)
        if isinstance(node, cst.Attribute):
            return self._attribute(self.value(node.value), node.attr.value)
        if isinstance(node, cst.Call):
            return self._called(node)
        if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, OPERATORS):
            left = self.value(node.left)
            if left.kind is Kind.OPEN:
                return OPEN
            return Value(Kind.QUERY) if left.is_table else NOTHING
        if isinstance(node, cst.IfExp):
            return _agreed([self.value(node.body), self.value(node.orelse)])
        if isinstance(node, cst.NamedExpr):
            return self.value(node.value)
        return NOTHING

    def exported(self, name: str) -> Value:
        """What others find under a name of this module."""
        return self._named(name, self.top)

    def _called(self, node: cst.Call) -> Value:
        func = node.func
        if isinstance(func, cst.Attribute) and func.attr.value in METHODS:
            of = self.value(func.value)
            if of.is_table:
                return Value(Kind.QUERY)
            if of.kind is Kind.OPEN:
                return OPEN
        made = self.value(func)
        if made.kind is Kind.MEMBER:
            if made.name in SCHEMAS:
                return Value(Kind.SCHEMA)
            if made.name in VIRTUAL:
                return Value(Kind.VIRTUAL)
            return Value(Kind.QUERY) if made.name in QUERIES else NOTHING
        if made.kind is Kind.TABLE:
            return Value(Kind.QUERY, body=made.body)
        return OPEN if made.kind is Kind.OPEN else NOTHING

    def _attribute(self, of: Value, name: str) -> Value:
        if of.kind is Kind.DATAJOINT:
            return Value(Kind.MEMBER, name)
        if of.kind is Kind.MODULE and of.path is not None:
            return self.names.member(of.path, name)
        if of.kind is Kind.VIRTUAL:
            return Value(Kind.TABLE) if _is_class(name) else NOTHING
        if of.kind is Kind.OPEN:
            return OPEN
        if not of.is_table:
            return NOTHING
        if name == "key_source":
            return Value(Kind.QUERY)
        if of.body is not None:
            module, node = of.body
            return module.part(node, name)
        return Value(Kind.TABLE) if of.kind is Kind.TABLE and _is_class(name) else NOTHING

    # -- names ---------------------------------------------------------------------------------

    def _named(self, name: str, scope: Scope | None) -> Value:
        if scope is None:
            return NOTHING
        bindings: Collection[BaseAssignment] = set()
        if name in scope:
            bindings = scope[name]
        bindings = [one for one in bindings if not isinstance(one, BuiltinAssignment)]
        if not bindings:
            return self._starred(name)
        place = (id(bindings[0].scope), name)
        if place in self._open:
            return OPEN
        self._open.add(place)
        try:
            return _agreed([self._bound(one, name) for one in bindings])
        finally:
            self._open.discard(place)

    def _starred(self, name: str) -> Value:
        """A name that this module does not bind: of the last `import *` that has it."""
        place = (0, name)
        if name.startswith("_") or place in self._open:
            return NOTHING
        self._open.add(place)
        try:
            for node in reversed(self.stars):
                level, dotted = _source_of(node)
                if dotted.split(".")[0] == "datajoint" and not level:
                    if name in TIERS | SCHEMAS | VIRTUAL | QUERIES | {"AttributeAdapter"}:
                        return Value(Kind.MEMBER, name)
                    continue
                found = self.names.project.find(self.path, level, dotted)
                value = NOTHING if found is None else self.names.member(found, name)
                if value.kind is not Kind.NOTHING:
                    return value
        finally:
            self._open.discard(place)
        return NOTHING

    def _bound(self, binding: BaseAssignment, name: str) -> Value:
        if isinstance(binding, ImportAssignment):
            imported = binding.node
            if isinstance(imported, cst.Import | cst.ImportFrom):
                return self._imported(imported, name)
            return NOTHING
        if not isinstance(binding, Assignment):
            return NOTHING
        node = binding.node
        if isinstance(node, cst.ClassDef):
            return self.class_value(node)
        parent = self.parents.get(node)
        if isinstance(parent, cst.AssignTarget):
            statement = self.parents.get(parent)
            return self.value(statement.value) if isinstance(statement, cst.Assign) else NOTHING
        if isinstance(parent, cst.AnnAssign | cst.NamedExpr):
            value = parent.value
            return NOTHING if value is None else self.value(value)
        if isinstance(parent, cst.AugAssign):
            # `q &= key`: still what it was.
            kept = cst.BitAndAssign | cst.SubtractAssign | cst.MultiplyAssign | cst.AddAssign
            return OPEN if isinstance(parent.operator, kept) else NOTHING
        if isinstance(node, cst.Param):
            return self._parameter(node)
        return NOTHING

    def _parameter(self, node: cst.Param) -> Value:
        """`self` and `cls` of a table's methods."""
        parameters = self.parents.get(node)
        function = self.parents.get(parameters) if parameters is not None else None
        if not isinstance(function, cst.FunctionDef) or not isinstance(parameters, cst.Parameters):
            return NOTHING
        first = (*parameters.posonly_params, *parameters.params)[:1]
        block = self.parents.get(function)
        owner = self.parents.get(block) if block is not None else None
        if not first or first[0] is not node or not isinstance(owner, cst.ClassDef):
            return NOTHING
        said = {
            one.decorator.value
            for one in function.decorators
            if isinstance(one.decorator, cst.Name)
        }
        found = self.class_value(owner)
        if "staticmethod" in said or not found.is_table:
            return NOTHING
        return found if "classmethod" in said else Value(Kind.QUERY, body=found.body)

    def _imported(self, node: cst.Import | cst.ImportFrom, name: str) -> Value:
        if isinstance(node.names, cst.ImportStar):
            return NOTHING
        for alias in node.names:
            said = alias.evaluated_alias or alias.evaluated_name.split(".")[0]
            if isinstance(node, cst.ImportFrom):
                said = alias.evaluated_alias or alias.evaluated_name
            if said != name:
                continue
            if isinstance(node, cst.Import):
                whole = alias.evaluated_name
                dotted = whole if alias.evaluated_alias else whole.split(".")[0]
                if dotted == "datajoint":
                    return Value(Kind.DATAJOINT)
                found = self.names.project.find(self.path, 0, dotted)
                return NOTHING if found is None else Value(Kind.MODULE, path=found)
            level, dotted = _source_of(node)
            if dotted == "datajoint" and not level:
                return Value(Kind.MEMBER, alias.evaluated_name)
            found = self.names.project.find(self.path, level, dotted)
            return NOTHING if found is None else self.names.member(found, alias.evaluated_name)
        return NOTHING

    # -- classes -------------------------------------------------------------------------------

    def class_value(self, node: cst.ClassDef) -> Value:
        """A table if the class inherits a tier or a table, or a schema decorates it."""
        place = (id(node), "")
        if place in self._open:
            return OPEN
        self._open.add(place)
        try:
            for base in node.bases:
                value = self.value(base.value)
                if value.kind is Kind.TABLE or (value.kind is Kind.MEMBER and value.name in TIERS):
                    return Value(Kind.TABLE, body=(self, node))
            if any(self.value(one.decorator).kind is Kind.SCHEMA for one in node.decorators):
                return Value(Kind.TABLE, body=(self, node))
        finally:
            self._open.discard(place)
        return NOTHING

    def part(self, node: cst.ClassDef, name: str) -> Value:
        """A table in the body of a class, or of those that it inherits."""
        found = [
            inner
            for inner in node.body.body
            if isinstance(inner, cst.ClassDef) and inner.name.value == name
        ]
        if found:
            return _agreed([self.class_value(inner) for inner in found])
        for base in node.bases:
            value = self.value(base.value)
            if value.kind is Kind.TABLE and value.body is not None and value.body[1] is not node:
                module, inner = value.body
                if (part := module.part(inner, name)).is_table:
                    return part
        return NOTHING

    def has(self, node: cst.ClassDef, name: str) -> bool:
        """Whether a class, or one of the project that it inherits, has a method of that name."""
        if any(
            isinstance(one, cst.FunctionDef) and one.name.value == name for one in node.body.body
        ):
            return True
        bases = [self.value(base.value).body for base in node.bases]
        return any(
            body is not None and body[1] is not node and body[0].has(body[1], name)
            for body in bases
        )


class Names:
    """The modules of a project, read when a name leads into them."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._modules: dict[Path, Module | None] = {}

    def module(self, path: Path) -> Module | None:
        """The module of a file; None when it is no Python that can be read."""
        path = path.resolve()
        if path not in self._modules:
            source = self.project.source(path)
            try:
                self._modules[path] = None if source is None else Module(source, self)
            except (cst.ParserSyntaxError, RecursionError) as error:
                self.project.broken[path] = error
                self._modules[path] = None
        return self._modules[path]

    def member(self, module: Path, name: str) -> Value:
        """What `module.name` is: bound there, or a module in that package."""
        file = file_of(module)
        if file is not None and self.project.speaks(file):
            read = self.module(file)
            value = NOTHING if read is None else read.exported(name)
            if value.kind is not Kind.NOTHING:
                return value
        found = member(module, name)
        return NOTHING if found is None else Value(Kind.MODULE, path=found)


def _agreed(values: list[Value]) -> Value:
    """What several bindings of one name have in common."""
    said = [value for value in values if value.kind is not Kind.OPEN]
    if not said:
        return OPEN if values else NOTHING
    if all(value == said[0] for value in said):
        return said[0]
    if all(value.is_table for value in said):
        kinds = {value.kind for value in said}
        return Value(Kind.TABLE if kinds == {Kind.TABLE} else Kind.QUERY)
    kinds = {value.kind for value in said}
    if kinds == {Kind.SCHEMA}:
        return said[0]
    return NOTHING


def _source_of(node: cst.ImportFrom) -> tuple[int, str]:
    dotted = "" if node.module is None else cst.Module([]).code_for_node(node.module)
    return len(node.relative), dotted.replace(" ", "")


def _is_class(name: str) -> bool:
    return re.match(r"[A-Z]\w*$", name) is not None
