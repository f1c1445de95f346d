"""One module, rewritten by libcst: formatting and comments stay as they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import libcst as cst
from libcst.metadata import ParentNodeProvider, PositionProvider

from datajoint_migrate.verbs.code.definitions import filepaths, rewrite_definition
from datajoint_migrate.verbs.code.names import Kind, Module
from datajoint_migrate.verbs.code.promoted import Promoted, class_name

RENAMED = {
    "schema": "Schema",
    "ERD": "Diagram",
    "Di": "Diagram",
    "create_virtual_module": "VirtualModule",
}
GONE = {
    "admin": "2.x has no dj.admin",
    "kill": "2.x has no dj.kill: end connections on the server",
    "set_password": "2.x has no dj.set_password: use ALTER USER",
    "key": "2.x has no dj.key: use fetch1('KEY') or keys()",
    "key_hash": "2.x has no dj.key_hash",
}
KEPT = {"order_by", "limit", "offset", "squeeze"}


@dataclass
class Made:
    """A module for 2.x; `changes` and `left` are (line from 1 on, what)."""

    text: str
    changes: list[tuple[int, str]] = field(default_factory=list)
    left: list[tuple[int, str]] = field(default_factory=list)


def find_adapters(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Names of the adapters that a module makes, with the store of their type.

    Codecs are among them, without a store: they are what adapters have become.
    """
    stores: dict[str, str | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            ast.unparse(base).endswith("AttributeAdapter") for base in node.bases
        ):
            stores[node.name] = _store_of(node)
        elif isinstance(node, ast.ClassDef) and any(
            ast.unparse(base).split(".")[-1] == "Codec" for base in node.bases
        ):
            yield from ((name, None) for name in _said(node, "name"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id in stores
        ):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, stores[node.value.func.id]


def _store_of(node: ast.ClassDef) -> str | None:
    return next((said.partition("@")[2] or None for said in _said(node, "attribute_type")), None)


def _said(node: ast.ClassDef, name: str) -> Iterator[str]:
    """What a class assigns to a name, where that is a constant."""
    for part in node.body:
        if (
            isinstance(part, ast.Assign)
            and ast.unparse(part.targets[0]) == name
            and isinstance(part.value, ast.Constant)
        ):
            yield str(part.value.value)


def rewrite_module(
    module: Module, tree: ast.Module, adapters: Mapping[str, str | None], promoted: Promoted
) -> Made:
    """The module for 2.x."""
    rewriter = _Rewriter(module, adapters, dict(_instances(tree)), promoted)
    made = module.wrapper.visit(rewriter)
    return Made(made.code, rewriter.changes, rewriter.left)


def _instances(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Class and name of `name = Class()` at the top of a module."""
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
        ):
            yield node.value.func.id, node.targets[0].id


class _Rewriter(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(
        self,
        module: Module,
        adapters: Mapping[str, str | None],
        instances: Mapping[str, str],
        promoted: Promoted,
    ) -> None:
        super().__init__()
        self.module, self.adapters, self.instances = module, adapters, instances
        self.promoted = promoted
        self.changes: list[tuple[int, str]] = []
        self.left: list[tuple[int, str]] = []
        self.classes: list[bool] = []
        self.names: list[str] = []

    # -- where we are --------------------------------------------------------------------------

    def _line(self, node: cst.CSTNode) -> int:
        return int(self.get_metadata(PositionProvider, node).start.line)

    def _change(self, node: cst.CSTNode, what: str) -> None:
        self.changes.append((self._line(node), what))

    def _leave(self, node: cst.CSTNode, what: str) -> None:
        self.left.append((self._line(node), what))

    def leave_ImportFrom(self, original: cst.ImportFrom, updated: cst.ImportFrom) -> cst.ImportFrom:
        if not _is_name(original.module, "datajoint"):
            return updated
        if isinstance(original.names, cst.ImportStar):
            self._leave(original, "from datajoint import *: import names, so that they can be seen")
            return updated
        new = []
        for alias in updated.names if not isinstance(updated.names, cst.ImportStar) else ():
            name = str(alias.evaluated_name)
            if name in RENAMED:
                # The name that the module uses stays.
                kept = alias.asname or cst.AsName(cst.Name(name))
                alias = alias.with_changes(name=cst.Name(RENAMED[name]), asname=kept)
                self._change(original, f"datajoint.{name} is {RENAMED[name]}")
            elif name in GONE:
                self._leave(original, GONE[name])
            new.append(alias)
        return updated.with_changes(names=new)

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self.classes.append(self.module.class_value(node).is_table)
        self.names.append(class_name(self.module, node))

    def leave_ClassDef(self, original: cst.ClassDef, updated: cst.ClassDef) -> cst.ClassDef:
        self.classes.pop()
        self.names.pop()
        if any(self._dj_name(base.value) == "AttributeAdapter" for base in original.bases):
            return self._codec(original, updated)
        return updated

    def _dj_name(self, node: cst.BaseExpression) -> str | None:
        """`X` of `dj.X`, or of an `X` that is imported from datajoint."""
        if not isinstance(node, cst.Attribute | cst.Name):
            return None
        value = self.module.value(node)
        return value.name if value.kind is Kind.MEMBER else None

    def _is_table(self, node: cst.BaseExpression) -> bool:
        """Whether an expression is certainly a table or a query."""
        return self.module.value(node).is_table

    # -- names ---------------------------------------------------------------------------------

    def leave_Attribute(
        self, original: cst.Attribute, updated: cst.Attribute
    ) -> cst.BaseExpression:
        name = self._dj_name(original)
        if self.module.value(original.value).kind is not Kind.DATAJOINT:
            return updated
        if name in RENAMED:
            self._change(original, f"dj.{name} is dj.{RENAMED[name]}")
            return updated.with_changes(attr=cst.Name(RENAMED[name]))
        if name in GONE:
            self._leave(original, GONE[name])
        return updated

    def visit_Subscript(self, node: cst.Subscript) -> None:
        if self._dj_name(node.value) == "config" and _key(node) not in KEPT_SETTINGS:
            said = cst.Module([]).code_for_node(node)
            self._leave(node, f"{said}: 2.x has settings of its own; see dj-migrate config")

    def visit_ComparisonTarget(self, node: cst.ComparisonTarget) -> None:
        is_asked = isinstance(node.operator, cst.In | cst.NotIn)
        if is_asked and self._dj_name(node.comparator) == "config":
            said = "dj.config of 2.x does not know `in`: use dj.config.get(name)"
            self._leave(node, said)

    def leave_SimpleStatementLine(
        self, original: cst.SimpleStatementLine, updated: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.RemovalSentinel:
        part = original.body[0]
        if len(original.body) > 1 or not isinstance(part, cst.Assign):
            return updated
        target = part.targets[0].target
        if (
            not isinstance(target, cst.Subscript)
            or self._dj_name(target.value) != "config"
            or _key(target) != ALWAYS
        ):
            return updated
        self._change(original, f"{ALWAYS} goes: 2.x always does so")
        parent = self.get_metadata(ParentNodeProvider, original)
        if isinstance(parent, cst.Module) or len(getattr(parent, "body", ())) > 1:
            return cst.RemoveFromParent()
        return updated.with_changes(body=[cst.Pass()])

    # -- definitions ---------------------------------------------------------------------------

    def leave_Assign(self, original: cst.Assign, updated: cst.Assign) -> cst.Assign:
        names = [one.target for one in original.targets]
        if any(_is_name(name, "definition") for name in names):
            made = self._definition(original, original.value)
            return updated if made is None else updated.with_changes(value=made)
        if any(
            isinstance(name, cst.Attribute) and name.attr.value == "definition" for name in names
        ):
            self._leave(original, f"a definition outside of its class {UNSEEN}")
        return updated

    def leave_AnnAssign(self, original: cst.AnnAssign, updated: cst.AnnAssign) -> cst.AnnAssign:
        if _is_name(original.target, "definition") and original.value is not None:
            made = self._definition(original, original.value)
            return updated if made is None else updated.with_changes(value=made)
        return updated

    def leave_FunctionDef(
        self, original: cst.FunctionDef, updated: cst.FunctionDef
    ) -> cst.FunctionDef:
        if original.name.value == "definition" and self._in_class(original):
            self._leave(original, f"the definition is made by a function {UNSEEN}")
        return updated

    def leave_Arg(self, original: cst.Arg, updated: cst.Arg) -> cst.Arg:
        if _keyword(original) == "definition" and _is_definition(original.value):
            self._leave(original, f"a definition given by name {UNSEEN}")
        return updated

    def leave_DictElement(
        self, original: cst.DictElement, updated: cst.DictElement
    ) -> cst.DictElement:
        if _literal(original.key) == "definition" and _is_definition(original.value):
            self._leave(original, f"a definition given by name {UNSEEN}")
        return updated

    def _in_class(self, node: cst.CSTNode) -> bool:
        """Whether a statement stands in the body of a class itself."""
        parent = self.get_metadata(ParentNodeProvider, node, None)
        while isinstance(parent, cst.SimpleStatementLine | cst.BaseSuite | cst.If | cst.Else):
            parent = self.get_metadata(ParentNodeProvider, parent, None)
        return isinstance(parent, cst.ClassDef)

    def _definition(
        self, node: cst.CSTNode, value: cst.BaseExpression
    ) -> cst.BaseExpression | None:
        """The definition of a table for 2.x; None where it was not looked at."""
        if not self._in_class(node):
            if _is_definition(value):
                self._leave(node, f"a definition outside of a class {UNSEEN}")
            return None
        if not self.classes[-1]:
            if not isinstance(value, cst.SimpleString) or _is_definition(value):
                self._leave(node, f"the definition of what may be no table {UNSEEN}")
            return None
        if not isinstance(value, cst.SimpleString):
            self._leave(node, f"the definition is no plain string {UNSEEN}")
            return None
        quotes = value.quote
        body = value.value[len(value.prefix) + len(quotes) : -len(quotes)]
        if "\\" in body and "r" not in value.prefix.lower():
            self._leave(node, f"the definition has backslashes {UNSEEN}")
            return None
        made = rewrite_definition(body, self.adapters, self.promoted.columns(self.names[-1]))
        first = self._line(value)
        self.changes += [(first + line, what) for line, what in made.changes]
        self.left += [(first + line, what) for line, what in made.left]
        if made.text == body:
            return None
        if quotes[0] in made.text and len(quotes) == 1:
            # Types in single quotes, in a string in single quotes.
            self._leave(node, "the definition cannot hold its new types between these quotes")
            return None
        return value.with_changes(value=f"{value.prefix}{quotes}{made.text}{quotes}")

    # -- calls ---------------------------------------------------------------------------------

    def leave_Call(self, original: cst.Call, updated: cst.Call) -> cst.BaseExpression:
        func = original.func
        if not isinstance(func, cst.Attribute):
            return updated
        name = func.attr.value
        for column in self.promoted.fetched(self.module, original):
            self._leave(original, f"{column} {LOADED}")
        if name == "fetch":
            return self._fetch(original, updated)
        if name == "fetch1" and any(_keyword(arg) == "download_path" for arg in original.args):
            self._leave(original, DOWNLOAD)
        elif name == "_update":
            return self._update(original, updated)
        elif name in ("insert", "insert1"):
            self._insert(name, original, func.value)
        elif name in ("save_local", "save_global") and self._dj_name(func.value) == "config":
            self._leave(original, f"2.x has no dj.config.{name}: see dj-migrate config")
        return updated

    def _insert(self, name: str, node: cst.Call, table: cst.BaseExpression) -> None:
        """Rows by position, and files that 0.14.6 would have copied into their store."""
        if _is_positional(name, node.args):
            self._leave(node, f"{name} by position: name the attributes ({{'a': 1}})")
        value = self.module.value(table)
        staged = filepaths(_definition_of(value.body[1])) if value.body is not None else []
        if staged:
            self._leave(node, f"{name} of {', '.join(staged)}: {NO_STAGE}")

    def _fetch(self, original: cst.Call, updated: cst.Call) -> cst.BaseExpression:
        func = original.func
        assert isinstance(func, cst.Attribute)
        value = self.module.value(func.value)
        if value.body is not None and value.body[0].has(value.body[1], "fetch"):
            self._leave(original, "fetch is a method of this table's own")
            return updated
        if not value.is_table:
            self._leave(original, "fetch of what may be no table: 2.x says to_dicts or to_arrays")
            return updated
        words = {key: arg for arg in original.args if (key := _keyword(arg)) is not None}
        names = [arg for arg in original.args if arg.keyword is None]
        literals = [_literal(arg.value) for arg in names]
        if any(arg.star for arg in original.args) or None in literals:
            self._leave(
                original, "fetch of attributes that only a run tells: 2.x still has fetch()"
            )
            return updated
        as_dict = words.pop("as_dict", None)
        form = words.pop("format", None)
        if "download_path" in words:
            self._leave(original, DOWNLOAD)
            return updated
        wants_dict = as_dict is not None and _is_name(as_dict.value, "True")
        odd = as_dict is not None and not _is_name(as_dict.value, "True", "False")
        frame = form is not None and _literal(form.value) == "frame"
        if set(words) - KEPT or odd or (form is not None and not frame):
            self._leave(original, "fetch with options that 2.x spells otherwise")
            return updated
        include = False
        if frame and not names and not wants_dict:
            method = "to_pandas"
        elif literals == ["KEY"]:
            method, literals = "keys", []
        elif wants_dict and names:
            self._leave(original, "fetch(…, as_dict=True): proj().to_dicts() has the key as well")
            return updated
        elif wants_dict:
            method = "to_dicts"
        elif "KEY" in literals[1:] or frame:
            self._leave(original, "fetch with 'KEY' behind attributes: 2.x gives keys first")
            return updated
        else:
            include = literals[:1] == ["KEY"]
            literals = literals[1:] if include else literals
            method = "to_arrays"
        if method == "keys" and "squeeze" in words:
            self._leave(original, "fetch('KEY') with squeeze")
            return updated
        kept = [
            arg
            for arg in updated.args
            if _keyword(arg) in KEPT or (arg.keyword is None and _literal(arg.value) in literals)
        ]
        if include:
            kept.append(
                cst.Arg(cst.Name("True"), keyword=cst.Name("include_key"), equal=_plain_equal())
            )
        self._change(original, f"fetch is {method}")
        return updated.with_changes(
            func=cst.ensure_type(updated.func, cst.Attribute).with_changes(attr=cst.Name(method)),
            args=_commas(kept),
        )

    def _update(self, original: cst.Call, updated: cst.Call) -> cst.BaseExpression:
        func = cst.ensure_type(updated.func, cst.Attribute)
        query = func.value
        if (
            isinstance(query, cst.BinaryOperation)
            and isinstance(query.operator, cst.BitAnd)
            and isinstance(query.right, cst.Name)
            and self._is_table(query.left)
            and len(updated.args) == 2
            and all(arg.keyword is None and not arg.star for arg in updated.args)
        ):
            self._change(original, "_update is update1; it needs the whole primary key")
            code = cst.Module([]).code_for_node
            attribute, value = (code(arg.value) for arg in updated.args)
            table, key = code(query.left), code(query.right)
            return cst.parse_expression(f"{table}.update1({{**{key}, {attribute}: {value}}})")
        self._leave(original, "_update is gone: table.update1({**key, 'attribute': value})")
        return updated

    def leave_BinaryOperation(
        self, original: cst.BinaryOperation, updated: cst.BinaryOperation
    ) -> cst.BaseExpression:
        if not isinstance(original.operator, cst.MatrixMultiply):
            return updated
        if not self._is_table(original.left) or not self._is_table(original.right):
            self._leave(original, "@ of what may be no tables: 2.x says join(semantic_check=False)")
            return updated
        if "#" in cst.Module([]).code_for_node(original.operator):
            self._leave(original, "@ beside a comment: 2.x says join(…, semantic_check=False)")
            return updated
        self._change(original, "@ is join(…, semantic_check=False)")
        code = cst.Module([]).code_for_node
        left, right = code(updated.left), code(updated.right)
        if isinstance(updated.left, cst.BinaryOperation) and not updated.left.lpar:
            left = f"({left})"
        joined = cst.parse_expression(f"{left}.join({right}, semantic_check=False)")
        return joined.with_changes(lpar=updated.lpar, rpar=updated.rpar)

    # -- adapters ------------------------------------------------------------------------------

    def _codec(self, original: cst.ClassDef, updated: cst.ClassDef) -> cst.ClassDef:
        """The adapter's class as that of a codec, to be looked through by a person."""
        name = self.instances.get(original.name.value)
        by_name = any(isinstance(base.value, cst.Name) for base in original.bases)
        if name is None or by_name:
            self._leave(original, "an adapter whose name is not told here: write a dj.Codec")
            return updated
        body: list[cst.BaseStatement | cst.BaseSmallStatement] = [
            cst.parse_statement(f'name = "{name}"\n')
        ]
        for part in updated.body.body:
            value = _assigned(part, "attribute_type")
            if value is not None:
                stored = _literal(value)
                made = rewrite_definition(f"a : {stored}", {}).text.partition(": ")[2]
                said = re.sub(r"@[-\w]+>$", ">", made)
                text = f"def get_dtype(self, is_store):\n    return {said!r}\n"
                body.append(cst.parse_statement(text))
            elif isinstance(part, cst.FunctionDef) and part.name.value in ("put", "get"):
                body.append(_coding(part))
            else:
                body.append(part)
        bases = [
            base.with_changes(
                value=cst.ensure_type(base.value, cst.Attribute).with_changes(
                    attr=cst.Name("Codec")
                )
            )
            if self._dj_name(before.value) == "AttributeAdapter"
            else base
            for base, before in zip(updated.bases, original.bases, strict=True)
        ]
        self._change(original, f"the adapter {name} is a codec")
        self._leave(
            original, f"look the codec {name} through: 2.x hands it stored values its own way"
        )
        return updated.with_changes(bases=bases, body=updated.body.with_changes(body=body))


# A setting of nearly every 0.14 package; 2.x raises a KeyError.
ALWAYS = "enable_python_native_blobs"
# Settings that 2.x knows by the same names.
KEPT_SETTINGS = {
    ALWAYS, "database.host", "database.port", "database.user", "database.password",
    "database.reconnect", "database.use_tls", "stores", "safemode", "loglevel", "download_path",
    "display.limit", "display.width", "display.show_tuple_count",
}  # fmt: skip
# How every place ends where a definition was not looked at.
UNSEEN = "and was not looked at: see that 2.x can read it"
NO_STAGE = (
    "2.x copies no file out of a stage, and would keep the path as it is given: put the file into "
    "the store, and insert its path within it"
)
LOADED = "is object storage now: what is fetched is a reference, and the array its .load()"
DOWNLOAD = "download_path: 2.x says with dj.config.override(download_path=…)"


def _key(node: cst.Subscript) -> str | None:
    """`a` of `x["a"]`."""
    part = node.slice[0].slice
    return _literal(part.value) if isinstance(part, cst.Index) else None


def _is_name(node: cst.CSTNode | None, *names: str) -> bool:
    return isinstance(node, cst.Name) and node.value in names


def _assigned(line: cst.CSTNode, name: str) -> cst.BaseExpression | None:
    """What a line that does nothing else assigns to a name."""
    if not isinstance(line, cst.SimpleStatementLine) or len(line.body) != 1:
        return None
    part = line.body[0]
    if isinstance(part, cst.Assign) and len(part.targets) == 1:
        return part.value if _is_name(part.targets[0].target, name) else None
    return None


def _definition_of(node: cst.ClassDef) -> str:
    """The definition that a class assigns itself; nothing where it is no plain string."""
    for line in node.body.body:
        for part in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            names = [one.target for one in part.targets] if isinstance(part, cst.Assign) else []
            if isinstance(part, cst.AnnAssign):
                names = [part.target]
            if any(_is_name(name, "definition") for name in names):
                assert isinstance(part, cst.Assign | cst.AnnAssign)
                return (_literal(part.value) or "") if part.value is not None else ""
    return ""


def _is_definition(node: cst.BaseExpression) -> bool:
    """Whether a text may be the definition of a table."""
    text = _literal(node)
    return text is not None and (":" in text or "->" in text)


def _keyword(arg: cst.Arg) -> str | None:
    return None if arg.keyword is None else arg.keyword.value


def _literal(node: cst.BaseExpression) -> str | None:
    if isinstance(node, cst.SimpleString) and isinstance(node.evaluated_value, str):
        return node.evaluated_value
    return None


def _is_positional(name: str, args: Sequence[cst.Arg]) -> bool:
    """Whether rows are given as tuples or lists of values."""
    if not args:
        return False
    rows: Sequence[cst.BaseExpression] = [args[0].value]
    if name == "insert" and isinstance(args[0].value, cst.List | cst.Tuple):
        rows = [element.value for element in args[0].value.elements]
    elif name == "insert":
        return False
    return any(isinstance(row, cst.List | cst.Tuple) for row in rows)


def _commas(args: Sequence[cst.Arg]) -> list[cst.Arg]:
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    return [
        arg.with_changes(comma=comma if at + 1 < len(args) else cst.MaybeSentinel.DEFAULT)
        if at + 1 == len(args) or isinstance(arg.comma, cst.MaybeSentinel)
        else arg
        for at, arg in enumerate(args)
    ]


def _plain_equal() -> cst.AssignEqual:
    return cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def _coding(function: cst.FunctionDef) -> cst.FunctionDef:
    """`put` as `encode`, `get` as `decode`, with the keywords that 2.x gives them."""
    is_put = function.name.value == "put"
    extra = ["key", "store_name"] if is_put else ["key"]
    keywords = [
        cst.Param(cst.Name(name), default=cst.Name("None"), equal=_plain_equal()) for name in extra
    ]
    return function.with_changes(
        name=cst.Name("encode" if is_put else "decode"),
        params=function.params.with_changes(kwonly_params=keywords, star_arg=cst.ParamStar()),
    )
