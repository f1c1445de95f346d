"""Is everything ready for a cutover? One check a line of the guide's checklist, each run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.externals import externals_of
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.tables import Column, ForeignKey, Schema, Table, read_schema
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.steps.backup.proof import prove_backup
from datajoint_migrate.steps.checks.compare import Comparing, table_names
from datajoint_migrate.steps.checks.structure import compare_structure
from datajoint_migrate.steps.checks.verify import verify
from datajoint_migrate.steps.cutover.occupants import other_sessions
from datajoint_migrate.steps.cutover.rights import missing_for_programs
from datajoint_migrate.steps.moving.ends import Ends
from datajoint_migrate.steps.moving.plan import JOURNAL, LANES, POSTPONED

NAME_CHARACTERS = 64
LINEAGE_CHARACTERS = 255


@dataclass
class Before:
    """What is to be cut over: production → parallel, production → archive, and what they hold."""

    session: Session
    schema_map: dict[str, str]
    archives: dict[str, str]
    backups: Mapping[str, str]
    adapters: Mapping[str, str] | None = None
    tolerance: float = 1e-6
    own_sessions: tuple[int, ...] = ()
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

    def read(self) -> None:
        """Read all schemas; raises `NotFound` for one that is not there."""
        self.schemas = {name: read_schema(self.session, name) for name in self.names}


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
            f"{child} refers to {parent} and would refer to {before.archives[str(parent)]}"
            " afterwards: add it to schema_map with its parallel schema"
            for child, parent in rows
        ],
        "no schema outside the map refers to production",
    )


def _backup(before: Before) -> tuple[bool, list[str]]:
    problems = []
    for prod in before.schema_map:
        backup = before.backups.get(prod)
        if backup is None:
            problems.append(f"no backup of {prod} was named: backups={{'{prod}': ...}}")
        else:
            problems += prove_backup(before.session, prod, backup)
    return _verdict(problems, "every backup holds what production holds")


def _comparison(before: Before) -> tuple[bool, list[str]]:
    server = before.session.server
    problems, rows = [], 0
    with server.session(read_only=True) as source, server.session(read_only=True) as other:
        wanted = [
            (prod, parallel, name)
            for prod, parallel in before.pairs()
            for name in table_names(prod, parallel)
        ]
        ends = Ends(source, other, True)
        comparing = Comparing(ends, wanted, before.tolerance, before.adapters)
        comparing.run(ends, LANES, None)
    for prod, parallel in before.pairs():
        before.notes += _structure(before, prod, parallel)
    for (prod_name, table), result in comparing.results.items():
        parallel_name = before.schema_map[prod_name]
        rows += result["row_count"]
        before.row_counts.setdefault(parallel_name, {})[table] = result["test_row_count"]
        if not result["match"]:
            first = result["discrepancies"][0] if result["discrepancies"] else {}
            problems.append(
                f"{prod_name}.{table} and {parallel_name}.{table} differ in"
                f" {len(result['discrepancies'])} places, the first: {first}"
            )
    return _verdict(problems, f"{rows} rows are equal")


def _structure(before: Before, prod: Schema, parallel: Schema) -> list[str]:
    """What production has and its copy has not, or otherwise: for the operator to decide on."""
    externals = {
        table.name: externals_of(before.session, prod, table, before.adapters)
        for table in prod.tables.values()
    }
    notes = [
        f"{prod.name}.{found['table']}: the {found['what']} {found['name']} is {found['prod']},"
        f" in {parallel.name} {found['test']}"
        for found in compare_structure(prod, parallel, externals)
    ]
    there = {(one.kind, one.name) for one in read_programs(before.session, parallel.name)}
    return notes + [
        f"the {one} has no equal in {parallel.name}"
        for one in read_programs(before.session, prod.name)
        if (one.kind, one.name) not in there
    ]


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
                problems.append(f"{schema.name}.{table.name} holds {count} reserved jobs")
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
    return _verdict(problems, "every name fits")


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
    return True, [f"the renaming waits {seconds} seconds for a lock, then changes nothing"]


def _copies(before: Before) -> tuple[bool, list[str]]:
    return _verdict(
        [
            f"{schema.name} holds {table}: a copy was interrupted; run the same call again"
            for schema in before.schemas.values()
            for table in (JOURNAL, POSTPONED)
            if table in schema.tables
        ],
        "no copy is unfinished",
    )


def _programs(before: Before) -> tuple[bool, list[str]]:
    programs = [p for name in before.names for p in read_programs(before.session, name)]
    return _verdict(
        missing_for_programs(before.session, programs),
        f"{len(programs)} triggers, views, routines and events can be made anew",
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
