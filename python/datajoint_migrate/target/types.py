"""The type table: what a 0.14.6 column becomes in 2.x, physically and in the marker of its comment.

A definition stays as it is unless a row of `RULES` says otherwise. Native types need no marker:
both 2.x lines read them unmarked, and a marker that does not match its column does harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.client import said_by
from datajoint_migrate.catalog.externals import External
from datajoint_migrate.catalog.names import COMMENT_CHARACTERS
from datajoint_migrate.catalog.stores import map_store
from datajoint_migrate.catalog.tables import Column
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.target.ddl import ColumnText, parse

Unsigned = Literal["keep", "widen"]
ExternalMode = Literal["defer", "convert"]

BIGINT_MAX = 2**63 - 1


@dataclass(frozen=True)
class Rule:
    """One row of the type table.

    A column matches when its base type is one of `types`, 0.14.6 reads its marker as `marker` (a
    category of its own, none without a marker), and the options are as said. `becomes` is the new
    type (None: unchanged) and `marker_2x` the new marker, with {kind}, {store} and {codec} of an
    external column.
    """

    types: frozenset[str]
    marker: str
    becomes: str | None
    marker_2x: str
    unsigned: bool = False
    external: Literal["", "plain", "adapted"] = ""


BLOBS = frozenset({"tinyblob", "blob", "mediumblob", "longblob"})
POINTERS = frozenset({"binary"})
UNMARKED, ANY = "", "*"


def _types(*names: str) -> frozenset[str]:
    return frozenset(names)


RULES = (
    # in the table
    Rule(BLOBS, UNMARKED, None, "<blob>"),
    Rule(BLOBS, "INTERNAL_ATTACH", None, "<attach>"),
    # in a store
    Rule(POINTERS, ANY, "json", "<{kind}@{store}>", external="plain"),
    Rule(POINTERS, "ADAPTED", "json", "<{codec}@{store}>", external="adapted"),
    # unsigned="widen": the next signed core type that holds every value, BIGINT after a proof
    Rule(_types("tinyint"), UNMARKED, "smallint", "int16", unsigned=True),
    Rule(_types("smallint"), UNMARKED, "int", "int32", unsigned=True),
    Rule(_types("mediumint"), UNMARKED, "int", "int32", unsigned=True),
    Rule(_types("int"), UNMARKED, "bigint", "int64", unsigned=True),
    Rule(_types("bigint"), UNMARKED, "bigint", "int64", unsigned=True),
)

# 0.14.6 keeps what was written (`:UUID:`); 2.x declares job tables from small letters only.
SPELLING = Rule(POINTERS, "UUID", None, "uuid")


@dataclass(frozen=True)
class NewColumn:
    """A column of the destination: its definition, the physical type and the 2.x marker in it."""

    name: str
    definition: str
    column_type: str
    marker: str | None
    comment: str
    external: External | None = None
    store: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def becomes_json(self) -> bool:
        """Whether a pointer of the source arrives here as JSON."""
        return self.external is not None and self.column_type == "json"


def rule_for(
    column: Column,
    external: External | None = None,
    *,
    unsigned: Unsigned = "keep",
    external_mode: ExternalMode = "defer",
) -> Rule | None:
    """The row of the type table that a column falls under; None when nothing changes."""
    shape = "" if external is None else "adapted" if external.codec else "plain"
    if shape and external_mode == "defer":
        return None
    marked = _category(column.marker)
    for rule in (*RULES, SPELLING):
        if (
            column.data_type in rule.types
            and rule.external == shape
            and rule.marker in (ANY, marked)
            and rule.marker_2x != column.marker
            and (not rule.unsigned or (unsigned == "widen" and is_unsigned(column)))
        ):
            return rule
    return None


def _category(marker: str | None) -> str:
    if marker is None:
        return UNMARKED
    said = said_by(marker)
    # One that 0.14.6 does not know is no reason to change anything.
    return said.category if said is not None else "unknown"


def is_unsigned(column: Column) -> bool:
    """Whether an integer column is declared unsigned (zerofill implies it)."""
    words = column.column_type.lower().rsplit(")", 1)[-1].split()
    return "unsigned" in words or "zerofill" in words


def convert_column(
    column: Column,
    external: External | None = None,
    *,
    unsigned: Unsigned = "keep",
    external_mode: ExternalMode = "defer",
    store_map: Mapping[str, str] | None = None,
    text: ColumnText | None = None,
    promoted: str | None = None,
) -> NewColumn:
    """What one column becomes. `text` is its line of SHOW CREATE TABLE, by default made up.

    `promoted` is the marker of a blob whose values become objects (`<npy@raw>`).

    Raises `Unconvertible` when a default does not fit the new type.
    """
    text = text.copied() if text else _made_up(column)
    store = map_store(external.store, store_map) if external else None
    if promoted:
        comment, _ = fit_comment(promoted, column.text)
        text.base = "json"
        default = text.find("DEFAULT")
        if default is not None and default.tokens[1].word != "NULL":
            text.drop("DEFAULT")
        text.set_comment(comment)
        return NewColumn(column.name, text.render(), text.base, promoted, comment, None, None)
    rule = rule_for(column, external, unsigned=unsigned, external_mode=external_mode)
    if rule is None:
        return NewColumn(
            column.name, text.render(), text.base, column.marker, column.comment, external, store
        )
    notes: list[str] = []
    marker = rule.marker_2x
    if external:
        marker = marker.format(kind=external.kind, store=store, codec=external.codec)
    comment, cut = fit_comment(marker, column.text)
    if cut:
        notes.append(f"{column.name}: the comment lost its last {cut} characters to the marker")
    if rule.becomes:
        text.base = rule.becomes
        notes += _fit_default(column, text, rule)
    text.set_comment(comment)
    return NewColumn(
        column.name, text.render(), text.base, marker, comment, external, store, tuple(notes)
    )


def fit_comment(marker: str, text: str) -> tuple[str, int]:
    """Comment of marker and text, and how many characters the server's limit took off the text."""
    whole = f":{marker}:{text}"
    return whole[:COMMENT_CHARACTERS], max(0, len(whole) - COMMENT_CHARACTERS)


def _fit_default(column: Column, text: ColumnText, rule: Rule) -> list[str]:
    default = text.find("DEFAULT")
    if default is None:
        return []
    value = default.tokens[1]
    if rule.becomes == "json" and value.word != "NULL":
        text.drop("DEFAULT")
        return [f"{column.name}: JSON takes no default, {default.text.strip()} is left out"]
    if rule.unsigned and value.kind in ("string", "word"):
        digits = value.text.strip("'\"")
        if digits.isdigit() and int(digits) > BIGINT_MAX:
            raise Unconvertible(
                f"the default {digits} of {column.name} does not fit a signed bigint",
                hint="change the default in the source, or keep unsigned types: unsigned='keep'",
                context={"column": column.name},
            )
    return []


def _made_up(column: Column) -> ColumnText:
    null = "" if column.nullable else " NOT NULL"
    sql = f"CREATE TABLE `t` (\n  {quote(column.name)} {column.column_type}{null}\n)"
    text = parse(sql).columns[0]
    if column.comment:
        text.set_comment(column.comment)
    return text
