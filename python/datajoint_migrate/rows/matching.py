"""Which source column goes into which destination column, and by what conversion.

The destination is either what `create_parallel_schema` declared or what the user's own classes
did, so nothing is taken for granted: columns meet by name, and every pair either is known to hold
all source values, or has to be proved on the data (`Pair.proof`), or is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.client import is_attach
from datajoint_migrate.catalog.counting import count_rows
from datajoint_migrate.catalog.externals import External
from datajoint_migrate.catalog.kinds import BINARIES, BLOBS, INTEGERS, STRINGS, TEXTS, bare_type
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Table
from datajoint_migrate.errors import Unconvertible
from datajoint_migrate.words import counted, verb

Kind = Literal["value", "text", "json", "enum_index", "pointer", "object", "back"]

# Types whose values pass only into a column of the very same type.
SAME_ONLY = {
    "bit", "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
    "multipolygon", "geometrycollection", "geomcollection", "vector", "inet4", "inet6", "uuid",
}  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """A condition that must be true for every source row; `why` says what it means if not."""

    expression: str
    why: str


@dataclass(frozen=True)
class Pair:
    """One column on its way: names on both sides and how the value travels."""

    source: Column
    destination: Column
    kind: Kind
    charset: str | None = None
    external: External | None = None
    proof: Proof | None = None


@dataclass(frozen=True)
class Match:
    """The pairs of a table, in destination order, and what has no partner."""

    pairs: tuple[Pair, ...]
    source_only: tuple[str, ...]
    destination_only: tuple[str, ...]


def match_columns(
    source: Table, destination: Table, externals: Mapping[str, External] | None = None
) -> Match:
    """Pair the columns of two tables by name, for copying.

    Generated columns of the destination compute themselves and get no pair; columns only the
    destination has (job metadata, say) stay at their defaults. Raises `Unconvertible` naming the
    table and column for everything that would lose or invent a value.
    """
    match = pair_up(source, destination, externals or {})
    here = f"{destination.schema}.{destination.name}"
    if match.source_only:
        raise Unconvertible(
            f"{here} has no column for {_names(match.source_only)} of {source}",
            hint="declare the missing columns in the destination, or copy into a schema that "
            "create_parallel_schema declares",
            context={"table": here, "columns": list(match.source_only)},
        )
    without = [
        name for name in match.destination_only if not fills_itself(destination.column(name))
    ]
    if without:
        raise Unconvertible(
            f"{here} wants a value for {_names(tuple(without))}, which the source does not have",
            hint="give the column a default or make it nullable",
            context={"table": here, "columns": without},
        )
    return match


def pair_up(source: Table, destination: Table, externals: Mapping[str, External]) -> Match:
    """Pairs by name, without judging columns that have no partner."""
    there = {column.name: column for column in source.columns}
    pairs = []
    for column in destination.columns:
        origin = there.get(column.name)
        if origin is None or column.generated:
            continue
        where = f"{destination.schema}.{destination.name}.{column.name}"
        pairs.append(convert(origin, column, externals.get(column.name), where))
    names = {column.name for column in destination.columns}
    return Match(
        pairs=tuple(pairs),
        source_only=tuple(
            column.name
            for column in source.columns
            if column.name not in names and not column.generated
        ),
        destination_only=tuple(name for name in _ordered(destination) if name not in there),
    )


def _ordered(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def fills_itself(column: Column) -> bool:
    """Whether the server gives the column a value when an insert does not."""
    return (
        column.generated or column.nullable or column.auto_increment or column.default is not None
    )


def convert(source: Column, destination: Column, external: External | None, where: str) -> Pair:
    """How one column's values travel. Raises `Unconvertible` when they cannot.

    `external` says what a BINARY(16) pointer of the source points to; `where` names the
    destination column in messages.
    """
    if source.nullable and not destination.nullable:
        required: Proof | None = Proof(
            f"{quote(source.name)} IS NOT NULL", "it holds NULL, and the destination is NOT NULL"
        )
    else:
        required = None
    kind, charset, proof = _conversion(source, destination, external, where)
    if proof is not None and required is not None:
        proof = Proof(
            f"({proof.expression}) AND {required.expression}", f"{required.why}, or {proof.why}"
        )
    return Pair(
        source,
        destination,
        kind,
        charset,
        external if kind == "pointer" else None,
        proof or required,
    )


Decision = tuple[Kind, str | None, Proof | None]


def _conversion(
    source: Column, destination: Column, external: External | None, where: str
) -> Decision:
    have, want = source.data_type, destination.data_type
    value: Decision = ("value", None, None)
    if external is not None:
        if is_json(destination):
            return "pointer", None, None
        if destination.column_type.lower() == "binary(16)":
            return value
        raise refusal(
            source,
            destination,
            where,
            f"declare it as <{external.kind}@{external.store}>, a json column: its values are in "
            "the store, not in the table",
        )
    if is_json(destination):
        if have in BLOBS and object_kind(source, destination):
            return "object", None, None
        if is_json(source):
            return "json", None, None
        if _may_be_mariadb_json(source) and not (destination.marker or "").startswith("<"):
            name = quote(source.name)
            valid = Proof(f"{name} IS NULL OR JSON_VALID({name})", "it is not valid JSON")
            return "json", None, valid
        raise refusal(source, destination, where, "its values are in the table, not in a store")
    if is_json(source):
        if want in TEXTS or want == "json":
            return "json", None, None
        raise refusal(source, destination, where, "declare it as json")
    if have == want == "enum":
        return _enum(source, destination)
    if have in SAME_ONLY or want in SAME_ONLY:
        if bare_type(source) == bare_type(destination):
            return value
        raise refusal(source, destination, where, f"declare it as {source.column_type}")
    if have == want == "set" and bare_type(source) == bare_type(destination):
        return _text(source, destination, None)
    if have in STRINGS | {"enum"} and want in STRINGS:
        return _string(source, destination)
    if have in BINARIES and want in BINARIES:
        return _binary(source, destination, where)
    if have in INTEGERS and want in INTEGERS:
        return "value", None, _integer_proof(source, destination)
    number = _number(source, destination)
    if number is not None:
        return number
    if have == want == "year" or (have == "date" and want in ("date", "datetime")):
        return value
    if have == want and have in ("time", "datetime", "timestamp"):
        if _fraction(source) <= _fraction(destination):
            return value
        raise refusal(source, destination, where, "its fractions of a second would be cut off")
    if {have, want} == {"timestamp", "datetime"}:
        raise refusal(
            source,
            destination,
            where,
            f"declare it as {source.column_type}: the two types differ in time zone",
        )
    raise refusal(source, destination, where, f"declare it as {source.column_type}")


def object_kind(source: Column, destination: Column) -> str | None:
    """What values in the table become where the destination keeps objects: "array" or "bytes".

    None where it keeps none of this kind.
    """
    found = re.fullmatch(r"<(npy|blob|attach)@[\w-]+>", destination.marker or "")
    if found is None or not is_json(destination):
        return None
    if is_attach(source.marker) or source.marker == "<attach>":
        return "bytes" if found[1] == "attach" else None
    if source.marker not in (None, "<blob>"):
        return None
    return {"npy": "array", "blob": "bytes"}.get(found[1])


def refusal(source: Column, destination: Column, where: str, hint: str) -> Unconvertible:
    """The error for a pair of types that does not go together."""
    return Unconvertible(
        f"{where}: {source.column_type} cannot become {destination.column_type}",
        hint=hint,
        context={
            "column": where,
            "source_type": source.column_type,
            "destination_type": destination.column_type,
        },
    )


def is_json(column: Column) -> bool:
    """JSON proper, or MariaDB's spelling of it: LONGTEXT with a marker of a 2.x store."""
    if column.data_type == "json":
        return True
    marker = column.marker or ""
    return column.data_type == "longtext" and (
        marker == "json" or bool(re.fullmatch(r"<[^>@]+@[^>]*>", marker))
    )


def _may_be_mariadb_json(column: Column) -> bool:
    # What MariaDB makes of JSON; its CHECK is not part of the column.
    return column.data_type == "longtext" and column.collation == "utf8mb4_bin"


def _text(source: Column, destination: Column, proof: Proof | None) -> Decision:
    if (source.charset or "") == (destination.charset or ""):
        return "value", None, proof
    return "text", destination.charset, proof


def _enum(source: Column, destination: Column) -> Decision:
    if source.column_type == destination.column_type:
        return "enum_index", None, None
    mine, theirs = members(source), members(destination)
    if mine <= theirs:
        return "text", destination.charset, None
    known = ", ".join("'" + m.replace("'", "''") + "'" for m in sorted(theirs))
    missing = ", ".join(sorted(mine - theirs))
    return (
        "text",
        destination.charset,
        Proof(
            f"{quote(source.name)} IS NULL OR {quote(source.name)} IN ({known})",
            f"it holds a value the destination's enum lacks ({missing})",
        ),
    )


def members(column: Column) -> set[str]:
    """The members of an ENUM or SET, unquoted."""
    return {
        found.replace("''", "'") for found in re.findall(r"'((?:[^']|'')*)'", column.column_type)
    }


def _length(column: Column) -> int:
    found = re.search(r"\((\d+)\)", column.column_type)
    return int(found[1]) if found else 1


def _capacity(column: Column) -> tuple[int, bool]:
    """How much a string column holds, and whether that counts characters (else bytes)."""
    if column.data_type in TEXTS:
        return TEXTS[column.data_type], False
    if column.data_type == "enum":
        return max((len(m) for m in members(column)), default=0), True
    return _length(column), True


def _string(source: Column, destination: Column) -> Decision:
    have, have_characters = _capacity(source)
    want, want_characters = _capacity(destination)
    name = quote(source.name)
    proof = None
    if want_characters and (not have_characters or have > want):
        proof = Proof(
            f"{name} IS NULL OR CHAR_LENGTH({name}) <= {want}",
            f"it is longer than {want} characters",
        )
    elif not want_characters and (
        (have_characters and have * 4 > want)
        or (not have_characters and (have > want or source.charset != destination.charset))
    ):
        measured = f"CONVERT({name} USING {destination.charset or 'utf8mb4'})"
        proof = Proof(
            f"{name} IS NULL OR LENGTH({measured}) <= {want}", f"it is longer than {want} bytes"
        )
    return _text(source, destination, proof)


def _binary(source: Column, destination: Column, where: str) -> Decision:
    fixed = "binary"
    if fixed in (source.data_type, destination.data_type) and bare_type(source) != bare_type(
        destination
    ):
        raise refusal(source, destination, where, f"declare it as {source.column_type}")
    have = BLOBS.get(source.data_type) or _length(source)
    want = BLOBS.get(destination.data_type) or _length(destination)
    if have <= want:
        return "value", None, None
    name = quote(source.name)
    return (
        "value",
        None,
        Proof(f"{name} IS NULL OR LENGTH({name}) <= {want}", f"it is longer than {want} bytes"),
    )


def bounds(column: Column) -> tuple[int, int]:
    """The smallest and largest value of an integer column."""
    bits = INTEGERS[column.data_type]
    if "unsigned" in column.column_type.lower():
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _integer_proof(source: Column, destination: Column) -> Proof | None:
    low, high = bounds(source)
    least, most = bounds(destination)
    if least <= low and high <= most:
        return None
    name = quote(source.name)
    return Proof(
        f"{name} IS NULL OR {name} BETWEEN {max(low, least)} AND {min(high, most)}",
        f"it holds a value outside {destination.column_type}",
    )


def _decimal(column: Column) -> tuple[int, int]:
    found = re.search(r"\((\d+)(?:,(\d+))?\)", column.column_type)
    return (int(found[1]), int(found[2] or 0)) if found else (10, 0)


def _number(source: Column, destination: Column) -> Decision | None:
    """Conversions among numbers that keep every value; None where none is known."""
    have, want = source.data_type, destination.data_type
    shrinks = "unsigned" in destination.column_type and "unsigned" not in source.column_type
    name = quote(source.name)
    proof = (
        Proof(f"{name} IS NULL OR {name} >= 0", "it holds a negative value") if shrinks else None
    )
    value: Decision = ("value", None, proof)
    if have == want and have in ("float", "double"):
        same = re.sub(r" unsigned| zerofill", "", source.column_type.lower())
        other = re.sub(r" unsigned| zerofill", "", destination.column_type.lower())
        return value if same == other or other == want else None
    if have == "float" and want == "double" and "(" not in destination.column_type:
        return value
    if have == want == "decimal":
        (p, s), (q, t) = _decimal(source), _decimal(destination)
        return value if q - t >= p - s and t >= s else None
    if have in INTEGERS and want == "decimal":
        q, t = _decimal(destination)
        return value if q - t >= len(str(bounds(source)[1])) else None
    if have in INTEGERS and want in ("float", "double") and "(" not in destination.column_type:
        return value if INTEGERS[have] <= (24 if want == "float" else 53) else None
    return None


def _fraction(column: Column) -> int:
    found = re.search(r"\((\d)\)", column.column_type)
    return int(found[1]) if found else 0


def _names(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(repr(name) for name in names)


def prove(session: Session, source: Table, match: Match, where_clause: str | None = None) -> None:
    """Check on the source that every value fits where it is asked to go.

    One walk over the whole table. Raises `Unconvertible` naming column, reason and the key of the
    first row that does not fit.
    """
    proofs = [(pair, pair.proof) for pair in match.pairs if pair.proof is not None]
    if not proofs:
        return
    conditions = [f"NOT ({proof.expression})" for _, proof in proofs]
    counts = count_rows(session, source, conditions, where_clause)
    for (pair, proof), count in zip(proofs, counts, strict=True):
        if not int(count):
            continue
        key = first_key(session, source, f"NOT ({proof.expression})", where_clause)
        place = f"{source.schema}.{source.name}.{pair.source.name}"
        raise Unconvertible(
            f"{counted(int(count), 'row')} of {place} {verb(int(count), 'does', 'do')} not fit "
            f"into {pair.destination.column_type}: {proof.why}; the first is {key}",
            hint=f"declare the column as {pair.source.column_type}, or correct the rows",
            context={"column": place, "rows": int(count), "key": key},
        )


def first_key(
    session: Session, table: Table, condition: str, where_clause: str | None = None
) -> dict[str, Any]:
    """The key of one row of `table` for which `condition` is true."""
    names = table.walk_key or tuple(column.name for column in table.columns[:3])
    both = f"({condition})" + (f" AND ({where_clause})" if where_clause else "")
    rows = session.query(
        f"SELECT {', '.join(quote(n) for n in names)} FROM {quote(table.schema, table.name)} "
        f"AS s WHERE {both} LIMIT 1"
    )
    return dict(zip(names, rows[0], strict=True)) if rows else {}
