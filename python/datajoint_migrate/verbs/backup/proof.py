"""Is a backup a backup of the schema as it is now? The cutover asks before it touches anything."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate.call import journal
from datajoint_migrate.call.ends import Ends, open_ends
from datajoint_migrate.call.throttle import FREE, Throttle
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.programs import Program, read_programs
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Schema, read_schema
from datajoint_migrate.errors import MigrationError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows.plan import compare_plan, compare_table
from datajoint_migrate.target.replica import comparable
from datajoint_migrate.verbs.backup.archive import (
    backup_plan,
    check_backup,
    is_archive,
    named,
    place_of,
    read_archive,
)
from datajoint_migrate.verbs.backup.record import Record, has_record, read_record
from datajoint_migrate.verbs.backup.replicate import compare_exactly, identity
from datajoint_migrate.words import counted


def prove_backup(
    session: Session, schema: str, backup: str, throttle: Throttle = FREE
) -> list[str]:
    """What keeps `backup` from being a backup of `schema` as it is now; empty when nothing does.

    `backup` is a schema on the same server, or an archive. Compares definitions and every row, as
    of one instant; of an archive every file is read, too.
    """
    with open_ends(session.server, throttle=throttle, looking=True) as ends:
        source = read_schema(ends.source, schema)
        if is_archive(backup):
            return _prove_archive(ends, source, backup)
        return _prove_schema(ends, source, backup)


def prove_kept(session: Session, schema: str, backup: str) -> list[str]:
    """What keeps `backup` from being what `schema` was when it was made; empty when nothing does.

    Production is not read: the backup itself is, and must hold the rows that were proved then.
    """
    with open_ends(session.server, looking=True) as ends:
        if is_archive(backup):
            return _kept_archive(schema, backup)
        return _kept_schema(ends, schema, backup)


def _kept_schema(ends: Ends, schema: str, backup: str) -> list[str]:
    record, problems = _record(ends.destination, schema, backup)
    if record is None:
        return problems
    there = read_schema(ends.destination, backup)
    same = [name for name in record.tables if name in there.tables]
    problems = [
        f"the table {name!r} is gone from the backup {backup}"
        for name in sorted(set(record.tables) - set(same))
    ]
    for name, found in compare_exactly(ends, there, there, same, LIMITS.lanes).items():
        kept = record.tables[name]
        is_kept = kept.rows in (None, found["row_count"])
        if kept.digest is not None and record.version == _core.__version__:
            is_kept = is_kept and kept.digest == found["digest"]
        if not is_kept:
            problems.append(f"the rows of {backup}.{name} are not those that were backed up")
    return problems


def _kept_archive(schema: str, backup: str) -> list[str]:
    try:
        checked = check_backup(backup)
    except MigrationError as error:
        return [f"the archive {backup} cannot be read: {error.message}"]
    if checked["schema"] != schema:
        return [f"{backup} is an archive of {checked['schema']!r}"]
    return [f"{backup}: {found}" for found in checked["problems"]]


def _record(session: Session, schema: str, backup: str) -> tuple[Record | None, list[str]]:
    """The record of a backup that is one of this schema, else why there is none."""
    if not schema_exists(session, backup):
        return None, [f"there is no backup {backup!r}"]
    if not has_record(session, backup):
        return None, [f"{backup!r} is not a backup made by backup_schema"]
    record = read_record(session, backup)
    if record is None or not record.finished or journal.is_open(session, backup):
        return None, [f"the backup {backup!r} is unfinished: call backup_schema again"]
    if record.source != schema:
        return None, [f"{backup!r} is a backup of {record.source!r}"]
    return record, []


def _prove_schema(ends: Ends, source: Schema, backup: str) -> list[str]:
    session = ends.destination
    record, problems = _record(session, source.name, backup)
    if record is None:
        return problems
    there = read_schema(session, backup)
    then = {name: kept.create for name, kept in record.tables.items() if name in there.tables}
    same, problems = _declared(source, then, backup)
    problems += _programs(ends, source.name, record.programs, backup)
    if same:
        problems += [
            _rows_differ(source.name, name, found["row_count"], found["destination_row_count"])
            for name, found in compare_exactly(ends, source, there, same, LIMITS.lanes).items()
            if not found["match"]
        ]
    return problems


def _declared(source: Schema, then: Mapping[str, str], backup: str) -> tuple[list[str], list[str]]:
    """Tables with the definition they had, and what is to be said about the others."""
    same, problems = [], []
    for name in sorted({*source.tables, *then}):
        now = source.tables.get(name)
        if now is None or name not in then:
            problems.append(f"only one of {source.name} and {backup} has the table {name!r}")
        elif comparable(now.create) != comparable(then[name]):
            problems.append(f"{source.name}.{name} was declared anew since {backup} was made")
        else:
            same.append(name)
    return same, problems


def _programs(ends: Ends, schema: str, then: Iterable[Program], backup: str) -> list[str]:
    now = {(one.kind, one.name): one.create for one in read_programs(ends.source, schema)}
    was = {(one.kind, one.name): one.create for one in then}
    return [
        f"the {kind} {schema}.{name} is not as it is in {backup}"
        for kind, name in sorted({*now, *was})
        if now.get((kind, name)) != was.get((kind, name))
    ]


def _rows_differ(schema: str, table: str, now: int, then: int) -> str:
    rows, kept = counted(now, "row"), counted(then, "row")
    return f"{schema}.{table} ({rows}) and its backup ({kept}) hold different rows"


# -- archives -------------------------------------------------------------------------------------


def _prove_archive(ends: Ends, source: Schema, backup: str) -> list[str]:
    try:
        checked = check_backup(backup)
        manifest = _core.read_manifest({"archive": place_of(backup).spec})
    except MigrationError as error:
        return [f"the archive {backup} cannot be read: {error.message}"]
    if manifest["schema"] != source.name:
        return [f"{backup} is an archive of {manifest['schema']!r}"]
    problems = [f"{backup}: {found}" for found in checked["problems"]]
    tables = {table["name"]: table for table in manifest["tables"]}
    then = {name: table["create"] for name, table in tables.items()}
    same, changed = _declared(source, then, backup)
    changed += _programs(ends, source.name, read_archive(backup).programs, backup)
    now = _digests(ends, source, same)
    return [
        *problems,
        *changed,
        *(
            _rows_differ(source.name, name, now[name][0], tables[name]["rows"])
            for name in same
            if now[name] != (tables[name]["rows"], tables[name]["digest"])
        ),
    ]


def _digests(ends: Ends, source: Schema, names: list[str]) -> dict[str, tuple[int, str]]:
    """Rows and digest of tables as an archive would have them.

    Archives keep the index of an ENUM, comparisons read its text: tables that have one are
    written to an archive that nobody keeps.
    """
    plain, listed = [], {}
    for name in names:
        table = source.tables[name]
        if any(column.data_type == "enum" for column in table.columns):
            listed[name] = table
        else:
            plan = compare_table(table, table, identity(table, table), {})
            for column in plan["columns"]:
                column["kind"] = "value"
            plain.append(plan)
    found: dict[str, tuple[int, str]] = {}
    if plain:
        plan = compare_plan(ends.specs(), plain, tolerance=0, lanes=LIMITS.lanes)
        found |= {
            table["source_table"]: (table["row_count"], table["digest"])
            for table in _core.compare(plan)["tables"]
        }
    if listed:
        found |= _archived_digests(ends, dataclasses.replace(source, tables=listed))
    return found


def _archived_digests(ends: Ends, source: Schema) -> dict[str, tuple[int, str]]:
    with tempfile.TemporaryDirectory() as scratch:
        place = place_of(Path(scratch) / "archive")
        made = backup_plan(ends.source.server, source, place, LIMITS.lanes)
        with named(place):
            _core.backup({**made, "throttle": ends.throttle.spec()}, None)
        manifest: dict[str, Any] = _core.read_manifest({"archive": place.spec})
    return {table["name"]: (table["rows"], table["digest"]) for table in manifest["tables"]}
