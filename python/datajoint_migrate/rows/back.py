"""The way back: which column of 2.x goes into which of 0.14.6, and by what conversion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.externals import External
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Table
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.rows.matching import Match, Pair, Proof, convert, fills_itself, is_json
from datajoint_migrate.rows.plan import compare_table, copy_table


@dataclass(frozen=True)
class Back:
    """A table of 2.x (`new`) on its way into that of 0.14.6 (`old`).

    `external` are the columns whose JSON becomes BINARY(16); `legacy` says for each which pointers
    are of blobs from 0.11, by the MD5 of their contents.
    """

    new: Table
    old: Table
    match: Match
    external: Mapping[str, External]
    legacy: Mapping[str, Mapping[str, str]]

    def plan(self) -> dict[str, Any]:
        """This table's part of the engine's plan."""
        copied = copy_table(self.new, self.old, self.match, {})
        compared = compare_table(self.new, self.old, self.match, {})
        for column in copied["columns"]:
            column["back"] = self.column(column["source"])
        for column in compared["columns"]:
            external = self.external.get(column["source"])
            if external is None:
                continue
            column["kind"] = "back"
            column["pointer_kind"] = external.kind
            if self.legacy.get(column["source"]):
                column["source_content_hash"] = {
                    "tracking_schema": self.old.schema,
                    "tracking_table": external.tracking_table,
                }
        return {
            "copy": copied,
            "compare": compared,
            "base": "none",
            "unique": self.old.has_rivals,
        }

    def column(self, name: str) -> dict[str, Any] | None:
        """How the pointers of a column go back; None for any other column."""
        external = self.external.get(name)
        if external is None:
            return None
        return {"kind": external.kind, "legacy": dict(self.legacy.get(name, {}))}


def way_back(session: Session, new: Table, old: Table, externals: Mapping[str, External]) -> Back:
    """Pair the columns of both. `externals` are those of `old`.

    Raises `Unconvertible` where a column of 0.14.6 would lose its values, or has no place for those
    of 2.x.
    """
    there = {column.name: column for column in new.columns}
    pairs: list[Pair] = []
    external: dict[str, External] = {}
    for column in old.columns:
        if column.generated:
            continue
        origin = there.get(column.name)
        where = f"{old.schema}.{old.name}.{column.name}"
        if origin is None:
            raise Unconvertible(
                f"{new} has no column {column.name!r} any more, and its values in {old} would be"
                " lost where rows were changed",
                hint=f"add the column to {new} again, with its values",
                context={"table": str(new), "column": column.name},
            )
        known = externals.get(column.name)
        if known is not None and is_json(origin):
            external[column.name] = known
            pairs.append(_pointer(origin, column))
        else:
            pairs.append(_kept(convert(origin, column, None, where)))
    names = {column.name for column in old.columns}
    match = Match(
        pairs=tuple(pairs),
        source_only=tuple(
            column.name
            for column in new.columns
            if column.name not in names and not column.generated
        ),
        destination_only=(),
    )
    _check_key(new, old, match)
    legacy = {
        name: _legacy(session, old, name, one)
        for name, one in external.items()
        if one.kind == "blob"
    }
    return Back(new, old, match, external, legacy)


def _pointer(origin: Column, column: Column) -> Pair:
    required = None
    if origin.nullable and not column.nullable and not fills_itself(column):
        required = Proof(
            f"{quote(origin.name)} IS NOT NULL", "it holds NULL, and 0.14.6's column is NOT NULL"
        )
    return Pair(origin, column, "back", proof=required)


def _kept(pair: Pair) -> Pair:
    """Text must be the same after it has been in the other character set."""
    if pair.kind != "text" or pair.charset in (None, "utf8mb4"):
        return pair
    name = quote(pair.source.name)
    there = f"CONVERT(CONVERT({name} USING {pair.charset}) USING utf8mb4)"
    kept = f"({name} IS NULL OR BINARY {there} = BINARY CONVERT({name} USING utf8mb4))"
    why = f"it holds characters that {pair.charset} does not have"
    if pair.proof is not None:
        kept = f"({pair.proof.expression}) AND {kept}"
        why = f"{pair.proof.why}, or {why}"
    return dataclasses.replace(pair, proof=Proof(kept, why))


def _check_key(new: Table, old: Table, match: Match) -> None:
    paired = {pair.source.name for pair in match.pairs}
    if new.walk_key == old.walk_key and paired.issuperset(new.walk_key):
        return
    raise Unconvertible(
        f"the key of {new} is {new.walk_key}, that of {old} is {old.walk_key}",
        hint="rows cannot be told to be the same; without bring_back they stay where they are",
        context={"table": str(new)},
    )


def _legacy(session: Session, old: Table, column: str, external: External) -> dict[str, str]:
    tracking = quote(old.schema, external.tracking_table)
    shaped = "e.filepath IS NOT NULL AND e.contents_hash IS NOT NULL"
    if not session.query(f"SELECT 1 FROM {tracking} e WHERE {shaped} LIMIT 1"):
        return {}
    found = session.query(
        "SELECT DISTINCT LOWER(HEX(e.contents_hash)), LOWER(HEX(e.hash))"
        f" FROM {quote(old.schema, old.name)} t JOIN {tracking} e ON e.hash = t.{quote(column)}"
        f" WHERE {shaped}"
    )
    return {str(contents): str(pointer) for contents, pointer in found}
