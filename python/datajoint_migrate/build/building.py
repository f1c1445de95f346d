"""What a parallel schema is made of: decided from the source, built in the destination, proved."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.build.charset import (
    Incoming,
    check_charset,
    new_schemas_note,
    prove_charset,
    same_charsets,
)
from datajoint_migrate.build.keyless import refuse_keyless, wants_keys
from datajoint_migrate.build.lineage import keep_rows
from datajoint_migrate.build.programs import Both, carry
from datajoint_migrate.build.widening import prove_widening
from datajoint_migrate.call.ends import Ends, read_if_there
from datajoint_migrate.call.journal import started
from datajoint_migrate.catalog.externals import TRACKING, External, externals_of
from datajoint_migrate.catalog.leftovers import left_by_sync
from datajoint_migrate.catalog.names import JOURNAL, LINEAGE, MAKING, POSTPONED, SYNC
from datajoint_migrate.catalog.presence import has_rows
from datajoint_migrate.catalog.programs import Kind
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import ForeignKey, Schema, Table, read_schema
from datajoint_migrate.errors import (
    DestinationNotEmpty,
    InvalidArgument,
    MigrationError,
    Mismatch,
    Unconvertible,
)
from datajoint_migrate.target.charset import COLLATION, UTF8MB4, Charset
from datajoint_migrate.target.ddl import literal
from datajoint_migrate.target.declare import Declaration, check_map, declare
from datajoint_migrate.target.lineage import Lineage, compute
from datajoint_migrate.target.types import ExternalMode, Unsigned

logger = logging.getLogger("datajoint_migrate")

# Hidden tables of 0.14.6 that 2.x has no use for, the least missed first: one of them makes room
# for ~lineage, so that both schemas have equally many tables.
SPARE = ("~log", "~jobs")


class Family:
    """The schemas of a call and those around them: what is found out once for all of them."""

    def __init__(
        self, destination: Session, schemas: Iterable[Schema], schema_map: Mapping[str, str]
    ) -> None:
        self._schemas = list(schemas)
        self._map = schema_map
        self._destination = destination
        self.incoming = Incoming(destination, schema_map.values())

    def __iter__(self) -> Iterator[Schema]:
        return iter(self._schemas)

    @cached_property
    def _rows(self) -> dict[str, list[Lineage]]:
        found: dict[str, list[Lineage]] = {}
        for row in compute(self._schemas, self._map):
            found.setdefault(row.schema, []).append(row)
        return found

    @cached_property
    def wants_keys(self) -> list[str]:
        """The destination's settings that `refuse_keyless` goes by."""
        return wants_keys(self._destination)

    def lineage(self, dest: str) -> list[Lineage]:
        """The rows of `~lineage` of one copy."""
        return self._rows.get(dest, [])


@dataclass
class Building:
    """What one parallel schema will be made of."""

    source: Schema
    dest: str
    declarations: list[Declaration]
    lineage: list[Lineage]
    notes: list[str] = field(default_factory=list)
    # Per source table the columns that become, or will become, JSON.
    externals: Mapping[str, Mapping[str, External]] = field(default_factory=dict)
    charset: Charset = "keep"

    @property
    def tables(self) -> list[str]:
        """All tables the schema will have, `~lineage` included."""
        return [*(declaration.table for declaration in self.declarations), LINEAGE]

    def create_database(self, collations: set[str]) -> str:
        """The statement that makes the schema, with the source's defaults where they exist."""
        charset, collation = self.source.charset, self.source.collation
        if self.charset == UTF8MB4 and charset != UTF8MB4:
            charset, collation = UTF8MB4, COLLATION
        sql = f"CREATE DATABASE IF NOT EXISTS {quote(self.dest)} CHARACTER SET {charset}"
        if collation in collations:
            sql += f" COLLATE {collation}"
        return sql


def check_options(external: str, unsigned: str, charset: str = "keep") -> None:
    """Raises `InvalidArgument` for an unknown `external`, `unsigned` or `charset`."""
    check_charset(charset)
    for name, value, known in (
        ("external", external, ("defer", "convert")),
        ("unsigned", unsigned, ("keep", "widen")),
    ):
        if value not in known:
            raise InvalidArgument(f"{name} is {value!r}", hint=f"use one of {', '.join(known)}")


def plan_schema(
    ends: Ends,
    schema: Schema,
    family: Iterable[Schema],
    schema_map: Mapping[str, str],
    *,
    external: ExternalMode,
    unsigned: Unsigned,
    adapters: Mapping[str, str] | None = None,
    store_map: Mapping[str, str] | None = None,
    charset: Charset = "keep",
    promoted: Mapping[tuple[str, str], Mapping[str, str]] | None = None,
) -> Building:
    """Decide everything about one parallel schema; nothing is written.

    `family` are the schema and all that its keys lead to, for `~lineage`; a call with several
    schemas makes one `Family` for them all. `promoted` has markers of columns by schema and table.
    """
    if not isinstance(family, Family):
        family = Family(ends.destination, family, schema_map)
    check_map([schema], schema_map)
    dest = schema_map[schema.name]
    _refuse_alike(schema)
    spare = _spare(schema)
    notes = _left_behind(schema, spare)
    externals: dict[str, Mapping[str, External]] = {}
    taken: set[tuple[str, str]] = set()
    declarations = []
    for table in schema.tables.values():
        if table.name in (spare, LINEAGE, JOURNAL, POSTPONED, MAKING, SYNC):
            continue
        if unsigned == "widen" and not table.hidden:
            prove_widening(ends.source, table)
        externals[table.name] = externals_of(ends.source, schema, table, adapters)
        declaration = declare(
            table,
            dest_schema=dest,
            schema_map=schema_map,
            externals=externals[table.name],
            unsigned=unsigned,
            external=external,
            store_map=store_map,
            dest_is_mariadb=ends.destination.is_mariadb,
            taken=taken,
            charset=charset,
            promoted=(promoted or {}).get((schema.name, table.name)),
        )
        declarations.append(_with_origin(declaration, schema.name))
        notes += declaration.notes
    refuse_keyless(
        ends.destination,
        ((f"{schema.name}.{one.table}", one.create_sql) for one in declarations),
        family.wants_keys,
    )
    prove_charset(
        ends.source, ends.destination, schema, schema_map, declarations, charset, family.incoming
    )
    notes += new_schemas_note(ends.destination, schema, charset)
    return Building(schema, dest, declarations, family.lineage(dest), notes, externals, charset)


def _spare(schema: Schema) -> str | None:
    if LINEAGE in schema.tables:
        return LINEAGE
    return next((name for name in SPARE if name in schema.tables), None)


def _refuse_alike(schema: Schema) -> None:
    """Raises `Unconvertible` for two tables that `~lineage` would take for one.

    2.x makes it with the collation of its schema, which most often tells no cases apart.
    """
    if schema.collation.endswith(("_bin", "_cs")):
        return
    seen: dict[str, str] = {}
    for name in schema.tables:
        if name.startswith("~"):
            continue
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise Unconvertible(
                f"{schema.name}.{other} and {schema.name}.{name} differ by case only: ~lineage of"
                f" 2.x, with the collation {schema.collation}, takes them for one",
                hint="give one of them another name in production and in its code first:"
                f" RENAME TABLE {quote(schema.name, name)} TO {quote(schema.name, name + '_2')}",
                context={"schema": schema.name, "tables": [other, name]},
            )


def _left_behind(schema: Schema, spare: str | None) -> list[str]:
    notes = []
    if spare is None:
        notes.append(
            f"{schema.name} has no hidden table that ~lineage could take the place of: the copy "
            "has one table more"
        )
    return notes


ORIGIN = re.compile(r"external storage tracking of `(?P<schema>(?:[^`]|``)+)`$")


def origin_of(schema: Schema, table: str) -> str | None:
    """The source schema a parallel schema's tracking table remembers."""
    if table not in schema.tables:
        return None
    found = ORIGIN.match(schema.tables[table].comment)
    return found["schema"].replace("``", "`") if found else None


def _with_origin(declaration: Declaration, source: str) -> Declaration:
    """Tracking tables of a copy say whose objects they stand for; their rows stay behind."""
    if not declaration.table.startswith(TRACKING):
        return declaration
    body, bracket, options = declaration.create_sql.rpartition("\n)")
    options = re.sub(r" COMMENT='(?:[^'\\]|\\.|'')*'", "", options)
    comment = literal(f"external storage tracking of {quote(source)}")
    sql = f"{body}{bracket}{options} COMMENT={comment}"
    return dataclasses.replace(declaration, create_sql=sql)


# -- the destination ---------------------------------------------------------------------------


def check_destination(session: Session, building: Building, *, filling: bool = False) -> set[str]:
    """Tables that are there already from an interrupted call.

    Raises `DestinationNotEmpty` unless each of them is one this call would make, without rows; a
    call that is `filling` them may find rows that its journal accounts for.
    """
    there = read_if_there(session, building.dest)
    if there is None:
        return set()
    refuse_left(session, [there])
    planned = {declaration.table: declaration for declaration in building.declarations}
    begun = started(session, [building.dest]) if filling else set()
    passing = {LINEAGE, MAKING, SYNC} | ({JOURNAL, POSTPONED} if filling else set())
    for table in there.tables.values():
        if table.name in passing:
            continue
        if table.name in (JOURNAL, POSTPONED):
            raise _not_empty(building, "an unfinished copy; call migrate again to finish it")
        if table.name not in planned:
            raise _not_empty(
                building, f"{table.name!r}, which is not part of {building.source.name}"
            )
        if not is_declared(table, planned[table.name]):
            raise _not_empty(building, f"{table.name!r} with another definition")
        if (table.schema, table.name) not in begun and has_rows(session, table.schema, table.name):
            raise _not_empty(building, f"rows in {table.name!r}")
    foreign = sorted(set(there.views) - set(building.source.views))
    if foreign:
        raise _not_empty(building, f"the view {foreign[0]!r}")
    return set(there.tables)


def refuse_left(session: Session, copies: Iterable[Schema]) -> None:
    """Raises `DestinationNotEmpty` for a copy whose last sync was interrupted."""
    for (schema, _), said in left_by_sync(session, copies).items():
        raise DestinationNotEmpty(said, context={"schema": schema})


def is_declared(table: Table, declaration: Declaration) -> bool:
    """Whether a table is what the declaration makes, judged by its columns, their comments and
    character sets."""
    return [(column.name, column.comment) for column in table.columns] == [
        (column.name, column.comment) for column in declaration.columns
    ] and same_charsets(table, declaration)


def _not_empty(building: Building, what: str) -> DestinationNotEmpty:
    return DestinationNotEmpty(
        f"the destination {building.dest!r} already holds {what}",
        hint="choose another name for the destination",
        context={"schema": building.dest},
    )


def known_collations(session: Session) -> set[str]:
    """Names of the collations of the server."""
    return {
        row[0] for row in session.query("SELECT COLLATION_NAME FROM information_schema.COLLATIONS")
    }


def carry_programs(
    ends: Ends,
    building: Building,
    schema_map: Mapping[str, str],
    kinds: Iterable[Kind],
    both: Both | None = None,
) -> list[str]:
    """Views, routines, events or triggers for the copy; sentences about what is not as it was."""
    source = building.source.name
    externals = {(source, table): columns for table, columns in building.externals.items()}
    return carry(ends, source, schema_map, kinds, both=both, externals=externals)


def build(session: Session, building: Building, existing: set[str]) -> int:
    """Make missing tables and `~lineage` of a schema that is there; the number of tables made."""
    made = 0
    try:
        for declaration in building.declarations:
            if declaration.table not in existing:
                session.execute(declaration.create_sql)
                made += 1
        keep_rows(session, building.dest, building.lineage, building.tables)
        made += LINEAGE not in existing
        if MAKING in existing:
            session.execute(f"DROP TABLE IF EXISTS {quote(building.dest, MAKING)}")
    except MigrationError as error:
        error.hint = "; ".join(
            filter(
                None,
                (
                    error.hint,
                    f"what is made of {building.dest} so far holds no rows: put the cause right "
                    "and run the same call again",
                ),
            )
        )
        raise
    logger.info("%s: made %d tables for %s", building.dest, made, building.source.name)
    return made


def prove_built(
    session: Session,
    building: Building,
    schema_map: Mapping[str, str],
    there: Schema | None = None,
) -> Schema:
    """Read the schema back, unless it was read since, and check its foreign keys against the
    source's; raises `Mismatch`."""
    there = there or read_schema(session, building.dest)
    for declaration in building.declarations:
        source = building.source.tables[declaration.table]
        if source.hidden:
            continue
        want = {_shape(key, schema_map) for key in source.foreign_keys if not _tracks(key)}
        have = {_shape(key, {}) for key in there.tables[declaration.table].foreign_keys}
        if want != have:
            lost = sorted(str(key) for key in want ^ have)
            raise Mismatch(
                f"the foreign keys of {building.dest}.{declaration.table} are not those of "
                f"{source.schema}.{source.name}: {lost[0]}",
                hint="report this, please",
                context={"different": lost},
            )
    return there


def _tracks(key: ForeignKey) -> bool:
    return key.ref_table.startswith(TRACKING)


def _shape(key: ForeignKey, schema_map: Mapping[str, str]) -> tuple[Any, ...]:
    same = {"NO ACTION": "RESTRICT"}
    return (
        key.columns,
        schema_map.get(key.ref_schema, key.ref_schema),
        key.ref_table,
        key.ref_columns,
        same.get(key.on_update, key.on_update),
        same.get(key.on_delete, key.on_delete),
    )
