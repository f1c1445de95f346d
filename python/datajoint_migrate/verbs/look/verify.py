"""Is a schema ready for DataJoint 2.x? Every finding names its table and column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, cast

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import schema_of
from datajoint_migrate.catalog.client import is_attach, is_pointer
from datajoint_migrate.catalog.kinds import BLOBS, bare_type
from datajoint_migrate.catalog.leftovers import unfinished
from datajoint_migrate.catalog.names import LINEAGE
from datajoint_migrate.catalog.neighbours import neighbours, with_neighbours
from datajoint_migrate.catalog.presence import has_table, schema_exists
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Schema, Table, read_schema
from datajoint_migrate.results import VerifyResult
from datajoint_migrate.target.lineage import rows_of

BUILT_IN = {"blob", "attach", "hash", "filepath", "object", "npy"}
# What the reader of each codec looks up in the JSON; without it a fetch fails.
NEEDED = {
    "blob": ("path", "hash"),
    "attach": ("path", "hash"),
    "hash": ("path", "hash"),
    "filepath": ("path", "size"),
    "npy": ("path", "dtype", "shape"),
}
CODEC = re.compile(r"<(?P<name>[^@>]+)(?P<at>@(?P<store>[\w-]*))?>$")


def _is(*kinds: str) -> Callable[[Column], bool]:
    return lambda column: bare_type(column) in kinds


def _as_written(marker: str) -> Callable[[Column], bool]:
    bare = re.sub(r"\s", "", marker)
    return lambda column: (
        re.sub(r"\s", "", bare_type(column))
        == (bare if column.data_type == "enum" else bare.lower())
    )


def _decimal(marker: str) -> Callable[[Column], bool]:
    return lambda column: _as_written(marker)(column) or column.data_type == "decimal"


# The core types of 2.x and the columns they may stand on.
CORE: dict[str, Callable[[Column], bool]] = {
    "int8": _is("tinyint", "tinyint(1)"),
    "int16": _is("smallint"),
    "int32": _is("int"),
    "int64": _is("bigint"),
    "float32": _is("float"),
    "float64": _is("double"),
    "bool": _is("tinyint", "tinyint(1)"),
    "uuid": _is("binary(16)"),
    "json": lambda column: column.data_type in ("json", "longtext"),
    "bytes": lambda column: column.data_type in BLOBS,
    "date": _is("date"),
}
WRITTEN = re.compile(r"(datetime(\(\d\))?|char\(\d+\)|varchar\(\d+\)|decimal\(\d+,\d+\)|enum\(.*)$")


def verify_schema_v20(schema: Any, connection: Any = None) -> VerifyResult:
    """Check that 2.x finds everything it needs in a schema. Reads only.

    Looks at every user column's marker and type, every JSON pointer's keys, `~lineage` against
    the foreign keys, references into schemas 2.x cannot join with, and leftovers of an unfinished
    migration. Files are not opened.

    Returns `compatible` (no issues), `blob_markers` (`marked`, `unmarked`, `external`,
    `unconverted` column counts), `lineage_exists`, `issues` (sentences naming table.column) and
    `codecs` (names 2.x has to have registered).
    """
    name, server = schema_of(schema, connection)
    with server.session(read_only=True) as session:
        found = read_schema(session, name)
        return cast(VerifyResult, verify(session, found))


def verify(session: Session, schema: Schema, known: Iterable[Schema] = ()) -> dict[str, Any]:
    """As `verify_schema_v20`, for a schema that is read already, as those in `known` are."""
    issues: list[str] = []
    markers = {"marked": 0, "unmarked": 0, "external": 0, "unconverted": 0}
    codecs: set[str] = set()
    for table in schema.tables.values():
        if table.hidden:
            continue
        pointers: list[tuple[Column, str]] = []
        for column in table.columns:
            _judge(table, column, issues, markers, codecs, pointers)
        issues += _bad_pointers(session, table, pointers)
    exists = LINEAGE in schema.tables
    issues += (
        _lineage_issues(session, schema, known)
        if exists
        else [f"{schema.name} has no {LINEAGE}: joins fail; run rebuild_lineage"]
    )
    issues += _neighbour_issues(session, schema, known)
    issues += unfinished(session, [schema])
    return {
        "compatible": not issues,
        "blob_markers": markers,
        "lineage_exists": exists,
        "issues": issues,
        "codecs": sorted(codecs),
    }


def _judge(
    table: Table,
    column: Column,
    issues: list[str],
    markers: dict[str, int],
    codecs: set[str],
    pointers: list[tuple[Column, str]],
) -> None:
    where = f"{table.name}.{column.name}"
    marker = column.marker
    if marker is None:
        if column.data_type in BLOBS:
            markers["unmarked"] += 1
            issues.append(f"{where}: {column.column_type} without a marker; 2.x returns raw bytes")
        return
    if is_pointer(marker):
        markers["unconverted"] += 1
        issues.append(
            f"{where}: external column of 0.14.6 (:{marker}:); run migrate_external_to_v20"
        )
        return
    if is_attach(marker):
        markers["unmarked"] += 1
        issues.append(f"{where}: old marker :{marker}:; 2.x needs :<attach>:")
        return
    codec = CODEC.match(marker)
    if codec:
        _judge_codec(where, column, codec, issues, markers, codecs, pointers)
        return
    fits = CORE.get(marker.lower())
    if fits is None and WRITTEN.match(marker):
        fits = _decimal(marker) if marker.startswith("decimal") else _as_written(marker)
    if fits is None and marker == bare_type(column):
        # The fence of a cutover: the type the column has without it.
        return
    if fits is None:
        issues.append(f"{where}: no release of 2.x knows the type {marker!r} of its marker")
    elif not fits(column):
        issues.append(f"{where}: the marker :{marker}: does not match {column.column_type}")


def _judge_codec(
    where: str,
    column: Column,
    codec: re.Match[str],
    issues: list[str],
    markers: dict[str, int],
    codecs: set[str],
    pointers: list[tuple[Column, str]],
) -> None:
    name, stored = codec["name"], codec["at"] is not None
    if name not in BUILT_IN:
        codecs.add(name)
    if column.column_type.lower() == "binary(16)" and (stored or name in BUILT_IN):
        markers["unconverted"] += 1
        issues.append(f"{where}: BINARY(16) pointer of 0.14.6 under :{codec[0]}:, not json")
        return
    if stored:
        markers["external"] += 1
        if not codec["store"]:
            issues.append(f"{where}: :{codec[0]}: names no store; 2.x cannot insert")
        if column.data_type not in ("json", "longtext"):
            issues.append(f"{where}: :{codec[0]}: stands on {column.column_type}, not json")
            return
        pointers.append((column, name))
        return
    if name in ("blob", "attach"):
        markers["marked"] += 1
        if column.data_type not in BLOBS:
            issues.append(f"{where}: :{codec[0]}: stands on {column.column_type}, not a blob")


def _bad_pointers(session: Session, table: Table, pointers: list[tuple[Column, str]]) -> list[str]:
    """Issues of JSON pointers without what their reader needs; one query for the table."""
    if not pointers:
        return []
    sums = []
    for column, codec in pointers:
        name = quote(column.name)
        present = [f"JSON_EXTRACT({name}, '$.path') IS NOT NULL"] + [
            f"JSON_EXTRACT({name}, '$.{key}') IS NOT NULL AND "
            f"JSON_TYPE(JSON_EXTRACT({name}, '$.{key}')) <> 'NULL'"
            for key in (*NEEDED.get(codec, ("path",)), "store")
        ]
        valid = f"CASE WHEN JSON_VALID({name}) THEN {' AND '.join(present)} ELSE FALSE END"
        sums.append(f"COALESCE(SUM({name} IS NOT NULL AND NOT ({valid})), 0)")
    counts = session.query(f"SELECT {', '.join(sums)} FROM {quote(table.schema, table.name)}")[0]
    return [
        f"{table.name}.{column.name}: {int(count)} JSON pointers lack "
        f"{', '.join((*NEEDED.get(codec, ('path',)), 'store'))} or one of them"
        for (column, codec), count in zip(pointers, counts, strict=True)
        if int(count)
    ]


def _lineage_issues(session: Session, schema: Schema, known: Iterable[Schema]) -> list[str]:
    have = {
        (str(table), str(attribute)): str(lineage)
        for table, attribute, lineage in session.query(
            "SELECT table_name, attribute_name, lineage FROM " + quote(schema.name, LINEAGE)
        )
    }
    want = {
        (row.table, row.attribute): row.lineage
        for row in rows_of(with_neighbours(session, [schema], known), [schema.name])
    }
    issues = []
    for (table, attribute), lineage in want.items():
        found = have.get((table, attribute))
        if found is None:
            issues.append(f"{table}.{attribute}: no row in {LINEAGE}")
        elif (found.lower(), session.folds) != (lineage.lower(), True) and found != lineage:
            issues.append(f"{table}.{attribute}: {LINEAGE} says {found}, it comes from {lineage}")
    return issues


def _neighbour_issues(session: Session, schema: Schema, known: Iterable[Schema]) -> list[str]:
    issues = []
    read = {one.name: one for one in known}
    for name in sorted(neighbours(schema)):
        there = read.get(name)
        if there is None and not schema_exists(session, name):
            issues.append(f"{schema.name} refers to the schema {name}, which does not exist")
            continue
        if not (LINEAGE in there.tables if there else has_table(session, name, LINEAGE)):
            issues.append(
                f"{schema.name} refers to the schema {name}, which is not migrated (no {LINEAGE})"
            )
    return issues
