"""Is everything ready for a cutover? One check a line of the guide's checklist, each run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.throttle import FREE, Throttle, Turn
from datajoint_migrate.catalog.externals import externals_of
from datajoint_migrate.catalog.leftovers import left_by_sync, unfinished
from datajoint_migrate.catalog.names import NAME_CHARACTERS
from datajoint_migrate.catalog.programs import lacking, programs_of
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import (
    Column,
    ForeignKey,
    Schema,
    Table,
    read_schema,
    read_schemas,
)
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows.structure import compare_structure
from datajoint_migrate.verbs.backup.proof import prove_backup, prove_kept
from datajoint_migrate.verbs.cutover.following import Following
from datajoint_migrate.verbs.cutover.occupants import other_sessions
from datajoint_migrate.verbs.cutover.rights import missing_for_programs
from datajoint_migrate.verbs.look.compare import Comparing, table_names
from datajoint_migrate.verbs.look.verify import verify
from datajoint_migrate.words import counted, difference, verb

LINEAGE_CHARACTERS = 255
# What `backups` says where production under its new name is to be the backup.
RENAME: Literal["rename"] = "rename"


@dataclass
class Before:
    """What is to be cut over: production → parallel, production → archive, and what they hold."""

    session: Session
    schema_map: dict[str, str]
    archives: dict[str, str]
    backups: Mapping[str, str] | Literal["rename"]
    adapters: Mapping[str, str] | None = None
    tolerance: float = 1e-6
    own_sessions: tuple[int, ...] = ()
    # What the two checks that read all rows take of production.
    throttle: Throttle = FREE
    # Brings the copies up to date, where the cutover is to do that.
    following: Following | None = None
    schemas: dict[str, Schema] = field(default_factory=dict)
    row_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def pairs(self) -> list[tuple[Schema, Schema]]:
        """Production and parallel schemas, read."""
        return [(self.schemas[a], self.schemas[b]) for a, b in self.schema_map.items()]

    @property
    def names(self) -> list[str]:
        """Every schema that takes part and is there."""
        return [*self.schema_map, *self.schema_map.values()]

    def counted(self) -> dict[str, dict[str, int | None]]:
        """Rows of each table of the parallel schemas, where they were counted."""
        return {
            parallel.name: {
                table: self.row_counts.get(parallel.name, {}).get(table)
                for table in parallel.tables
            }
            for _, parallel in self.pairs()
        }

    def read(self) -> None:
        """Read all schemas; raises `NotFound` for one that is not there."""
        self.session.spell(self.names)
        self.schemas = read_schemas(self.session, self.names)
        if self.following is not None:
            self.following.declared.clear()


def check_all(before: Before) -> list[dict[str, Any]]:
    """Every check's `name`, `ok` and `detail` (sentences: what is missing, or what was seen)."""
    return [_checked(before, name, check) for name, check in CHECKS]


def check_again(before: Before) -> list[dict[str, Any]]:
    """The checks whose answer may have changed while the others ran."""
    return [_checked(before, name, check) for name, check in CHECKS if check in (_sessions, _jobs)]


def missing_of(checks: list[dict[str, Any]]) -> list[str]:
    """Sentences of the checks that did not pass."""
    return [
        f"{check['name']}: {line}"
        for check in checks
        if not check["ok"]
        for line in check["detail"]
    ]


def _checked(before: Before, name: str, check: Check) -> dict[str, Any]:
    try:
        ok, detail = check(before)
    except MigrationError as error:
        ok, detail = False, [str(error)]
    return {"name": name, "ok": ok, "detail": detail}


Check = Callable[[Before], "tuple[bool, list[str]]"]


def _verdict(problems: list[str], seen: str) -> tuple[bool, list[str]]:
    return (False, problems) if problems else (True, [seen])


# -- the checks ----------------------------------------------------------------------------------


def _together(before: Before) -> tuple[bool, list[str]]:
    """Keys follow their tables: whoever refers to production goes along with it."""
    marks = ", ".join(["%s"] * len(before.schema_map))
    rows = before.session.query(
        "SELECT DISTINCT TABLE_SCHEMA, REFERENCED_TABLE_SCHEMA"
        " FROM information_schema.KEY_COLUMN_USAGE"
        f" WHERE REFERENCED_TABLE_SCHEMA IN ({marks}) AND TABLE_SCHEMA NOT IN ({marks})",
        [*before.schema_map, *before.schema_map],
    )
    return _verdict(
        [
            f"{child} refers to {parent} and would refer to {before.archives[parent]}"
            " afterwards: add it to schema_map with its parallel schema"
            for child, parent in ((row[0], before.session.spelt(row[1])) for row in rows)
        ],
        "no schema outside the map refers to production",
    )


def _backup(before: Before) -> tuple[bool, list[str]]:
    problems: list[str] = []
    if before.backups == RENAME:
        kept = ", ".join(f"{prod} as {archive}" for prod, archive in before.archives.items())
        return True, [
            f"the renamed production is the backup: {kept}, on this server and nowhere else, for"
            " as long as nobody drops it"
        ]
    for prod in before.schema_map:
        backup = before.backups.get(prod)
        if backup is None:
            problems.append(f"no backup of {prod} was named: backups={{'{prod}': ...}}")
        elif before.following is not None:
            problems += prove_kept(before.session, prod, backup)
        else:
            problems += prove_backup(before.session, prod, backup, before.throttle)
    if before.following is not None:
        return _verdict(
            problems,
            "every backup holds what production held when it was made; what was written since is"
            " in the copies and the renamed production",
        )
    return _verdict(problems, "every backup holds what production holds")


def _comparison(before: Before) -> tuple[bool, list[str]]:
    server = before.session.server
    if before.following is not None:
        return _followed(before, before.following)
    problems, rows = [], 0
    with server.session(read_only=True) as source, server.session(read_only=True) as other:
        wanted = [
            (prod, parallel, name)
            for prod, parallel in before.pairs()
            for name in table_names(prod, parallel)
        ]
        Turn.give(source, before.throttle)
        ends = Ends(source, other, True, before.throttle)
        comparing = Comparing(ends, wanted, before.tolerance, before.adapters)
        comparing.run(ends, LIMITS.lanes, None)
    before.notes += _structure(before)
    for (prod_name, table), result in comparing.results.items():
        parallel_name = before.schema_map[prod_name]
        rows += result["row_count"]
        before.row_counts.setdefault(parallel_name, {})[table] = result["test_row_count"]
        if not result["match"]:
            first = result["discrepancies"][0] if result["discrepancies"] else {}
            problems.append(
                f"{prod_name}.{table} and {parallel_name}.{table} differ in"
                f" {counted(len(result['discrepancies']), 'place')}, the first:"
                f" {difference(first, table)}"
            )
    return _verdict(problems, f"{counted(rows, 'row')} {verb(rows, 'is', 'are')} equal")


def _followed(before: Before, following: Following) -> tuple[bool, list[str]]:
    """Syncs have compared the rows already, or are only counted for a look."""
    if not following.result:
        following.look()
    before.notes += _structure(before)
    before.row_counts |= following.rows
    return following.check()


def _structure(before: Before) -> list[str]:
    """What production has and its copy has not, or otherwise: for the operator to decide on."""
    notes = []
    programs = programs_of(before.session, before.names)
    for prod, parallel in before.pairs():
        externals = {
            table.name: externals_of(before.session, prod, table, before.adapters)
            for table in prod.tables.values()
        }
        notes += [
            f"{prod.name}.{found['table']}: the {found['what']} {found['name']} is {found['prod']},"
            f" in {parallel.name} {found['test']}"
            for found in compare_structure(prod, parallel, externals)
        ]
        notes += [
            f"the {one} has no equal in {parallel.name}"
            for one in lacking(programs[prod.name], programs[parallel.name])
        ]
    return notes


def _verified(before: Before) -> tuple[bool, list[str]]:
    schemas = [before.schemas[name] for name in before.schema_map.values()]
    problems = [
        f"{schema.name}: {issue}"
        for schema in schemas
        for issue in verify(before.session, schema, schemas)["issues"]
    ]
    return _verdict(problems, "2.x finds everything it needs")


def _sessions(before: Before) -> tuple[bool, list[str]]:
    problems, notes = other_sessions(before.session, before.names, before.own_sessions)
    return (False, problems) if problems else (True, notes or ["nobody else is on the schemas"])


def _jobs(before: Before) -> tuple[bool, list[str]]:
    problems = []
    for schema in before.schemas.values():
        for table in schema.tables.values():
            if not (table.name == "~jobs" or table.name.startswith("~~")):
                continue
            count = before.session.query(
                f"SELECT COUNT(*) FROM {quote(schema.name, table.name)} WHERE status = 'reserved'"
            )[0][0]
            if count:
                problems.append(
                    f"{schema.name}.{table.name} holds {counted(int(count), 'reserved job')}"
                )
    return _verdict(problems, "no job is reserved")


def _lengths(before: Before) -> tuple[bool, list[str]]:
    problems = [
        f"the schema name {name} has {len(name)} characters, {NAME_CHARACTERS} are allowed:"
        " choose a shorter one (suffix, archive_map)"
        for name in before.archives.values()
        if len(name) > NAME_CHARACTERS
    ]
    for prod, parallel in before.schema_map.items():
        for table in before.schemas[parallel].tables.values():
            longest = max((len(name) for name in table.primary_key), default=0)
            if len(prod) + len(table.name) + longest + 2 > LINEAGE_CHARACTERS:
                problems.append(f"the lineage of {prod}.{table.name} would be too long")
    return _verdict(problems, "all are short enough for the server")


def _keys(before: Before) -> tuple[bool, list[str]]:
    problems = []
    for _, parallel in before.pairs():
        for table in parallel.tables.values():
            for key in table.foreign_keys:
                problems += _unlike(before, table, key)
    return _verdict(problems, "every foreign key has the type and charset of its parent")


def _unlike(before: Before, table: Table, key: ForeignKey) -> list[str]:
    schema = before.schemas.get(key.ref_schema)
    if schema is None:
        schema = before.schemas[key.ref_schema] = read_schema(before.session, key.ref_schema)
    parent = schema.tables.get(key.ref_table)
    if parent is None:
        return [f"{table}: {key.name} refers to {key.ref_schema}.{key.ref_table}, not there"]
    found = []
    for own, other in zip(key.columns, key.ref_columns, strict=True):
        mine, theirs = _shape(table.column(own)), _shape(parent.column(other))
        if mine != theirs:
            found.append(f"{table}.{own} is {mine}, {parent}.{other} is {theirs}")
    return found


def _shape(column: Column) -> str:
    words = [column.data_type]
    if "unsigned" in column.column_type:
        words.append("unsigned")
    # Text may be longer in a child, and an enum has more values; numbers must be the same.
    return " ".join([*words, *(word for word in (column.charset, column.collation) if word)])


def _waiting(before: Before) -> tuple[bool, list[str]]:
    seconds = int(before.session.query("SELECT @@SESSION.lock_wait_timeout")[0][0])
    return _verdict(
        _not_locked(before),
        f"the renaming waits {counted(seconds, 'second')} for a lock, then changes nothing",
    )


def _not_locked(before: Before) -> list[str]:
    """Tables without transactions, which a MySQL with GTIDs does not lock beside others (1785)."""
    session = before.session
    if session.is_mariadb or session.query("SELECT @@enforce_gtid_consistency")[0][0] != "ON":
        return []
    marks = ", ".join(["%s"] * len(before.names))
    rows = session.query(
        "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.ENGINE FROM information_schema.TABLES t"
        " JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE AND e.TRANSACTIONS = 'NO'"
        f" WHERE t.TABLE_SCHEMA IN ({marks}) AND t.TABLE_TYPE = 'BASE TABLE' ORDER BY 1, 2",
        before.names,
    )
    return [
        f"{schema}.{table} is {engine}, and a server with GTIDs does not lock it together with"
        f" InnoDB tables: ALTER TABLE {quote(schema, table)} ENGINE=InnoDB"
        for schema, table, engine in rows
    ]


def _copies(before: Before) -> tuple[bool, list[str]]:
    session = before.session
    problems = unfinished(session, before.schemas.values())
    # The sync of this cutover goes on with them, and is still to come while nobody executes.
    if before.following is not None and not before.following.result:
        coming = list(left_by_sync(session, before.schemas.values()).values())
        if coming and coming == problems:
            return True, [f"{line} (this cutover syncs)" for line in coming]
    return _verdict(problems, "every copy is complete")


def _programs(before: Before) -> tuple[bool, list[str]]:
    programs = list(chain(*programs_of(before.session, before.names).values()))
    return _verdict(
        missing_for_programs(before.session, programs),
        f"{counted(len(programs), 'program')} can be made anew" if programs else "there are none",
    )


CHECKS: tuple[tuple[str, Check], ...] = (
    ("schemas together", _together),
    ("no unfinished copy", _copies),
    ("names", _lengths),
    ("foreign keys", _keys),
    ("programs", _programs),
    ("lock wait", _waiting),
    ("jobs", _jobs),
    ("sessions", _sessions),
    ("2.x ready", _verified),
    ("backup", _backup),
    ("comparison", _comparison),
)
