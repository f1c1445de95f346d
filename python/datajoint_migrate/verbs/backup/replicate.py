"""Exact copies: tables made as they are under another schema's name, filled, and proved."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.build.building import known_collations
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema, Table
from datajoint_migrate.errors import InvalidArgument, Mismatch
from datajoint_migrate.rows.matching import Kind, Match, Pair
from datajoint_migrate.rows.numbering import keep_auto_increment
from datajoint_migrate.rows.plan import compare_plan, compare_table, comparison, copy_table
from datajoint_migrate.rows.route import Name, run_copy, source_name
from datajoint_migrate.target.replica import Replica

logger = logging.getLogger("datajoint_migrate")

KINDS: dict[str, Kind] = {"json": "json", "enum": "enum_index"}


def check_kinds(ends: Ends) -> None:
    """Raises `InvalidArgument` where one end is MySQL and the other MariaDB."""
    if ends.source.is_mariadb != ends.destination.is_mariadb:
        raise InvalidArgument(
            "an exact copy cannot go from MySQL to MariaDB or back",
            hint="choose a server of the same kind, or an archive (a path or URL)",
        )


def make_database(session: Session, name: str, charset: str, collation: str) -> None:
    """Make the schema, or give one that is there these defaults."""
    defaults = f"CHARACTER SET {charset}"
    if collation in known_collations(session):
        defaults += f" COLLATE {collation}"
    if schema_exists(session, name):
        session.execute(f"ALTER DATABASE {quote(name)} {defaults}")
    else:
        session.execute(f"CREATE DATABASE IF NOT EXISTS {quote(name)} {defaults}")


def make_tables(session: Session, replicas: Iterable[Replica], existing: Iterable[str]) -> None:
    """Make the tables that are not there yet."""
    there = set(existing)
    for replica in replicas:
        if replica.table not in there:
            session.execute(replica.create_sql)


def identity(source: Table, destination: Table) -> Match:
    """Every column to itself; those that compute themselves are left to it.

    Raises `Mismatch` unless both tables have the same columns.
    """
    mine = [(column.name, column.column_type, column.generated) for column in source.columns]
    theirs = [(column.name, column.column_type, column.generated) for column in destination.columns]
    if mine != theirs:
        raise Mismatch(
            f"the columns of {destination} are not those of {source}",
            context={"columns": [mine, theirs]},
        )
    pairs = tuple(
        Pair(column, other, KINDS.get(column.data_type, "value"))
        for column, other in zip(source.columns, destination.columns, strict=True)
        if not column.generated
    )
    return Match(pairs, (), ())


@dataclass
class Filled:
    """What a copy holds, proved: rows and digest by table, and the instant it was read at."""

    rows: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    snapshot: str = "none"


def fill(
    ends: Ends,
    source: Schema,
    there: Schema,
    names: Iterable[str],
    *,
    lanes: int,
    on_event: OnEvent,
) -> Filled:
    """Copy the rows of these tables and prove every one; resumes what the journal knows.

    Raises `Mismatch` when a table is not equal in the end, which would be a fault of ours.
    """
    tables = {(source.name, name): (source.tables[name], there.tables[name]) for name in names}
    matches = {name: identity(*pair) for name, pair in tables.items()}
    plans = [copy_table(*tables[name], match, {}) for name, match in matches.items()]

    def wanted(names: Iterable[Name]) -> list[dict[str, Any]]:
        return [compare_table(*tables[name], matches[name], {}) for name in names]

    def proof(names: list[Name]) -> dict[str, Any]:
        return comparison(wanted(names), tolerance=0)

    copied = run_copy(ends, plans, lanes=lanes, on_event=on_event, compare=proof)
    found = {source_name(table): table for table in copied["compared"]}
    refuse_differing(found)
    for pair in tables.values():
        keep_auto_increment(ends, *pair)
    return Filled(
        {name: int(table["destination_row_count"]) for (_, name), table in found.items()},
        {name: str(table["digest"]) for (_, name), table in found.items()},
        copied["snapshot"],
    )


def compare_exactly(
    ends: Ends, source: Schema, there: Schema, names: Iterable[str], lanes: int
) -> dict[str, dict[str, Any]]:
    """The engine's comparison of these tables with the other schema's, by table."""
    plans = []
    for name in names:
        pair = source.tables[name], there.tables[name]
        plans.append(compare_table(*pair, identity(*pair), {}))
    plan = compare_plan(ends.specs(), plans, tolerance=0, lanes=lanes)
    return {table["source_table"]: table for table in _core.compare(plan)["tables"]}


def refuse_differing(found: Mapping[Name, Mapping[str, Any]]) -> None:
    """Raises `Mismatch` naming the first table that is not equal."""
    differing = {name: table for name, table in found.items() if not table["match"]}
    if not differing:
        return
    name, table = next(iter(differing.items()))
    raise Mismatch(
        f"the copy of {'.'.join(name)} is not equal to it: "
        f"{table['discrepancies'][:1] or (table['row_count'], table['destination_row_count'])}",
        hint="run the same call again; if it says so twice, please report it",
        context={"tables": [".".join(name) for name in differing]},
    )
