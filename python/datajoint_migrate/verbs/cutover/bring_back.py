"""What 2.x has written since a cutover, brought back into the schemas of 0.14.6.

Production of before the cutover stands in the archives, and nobody has written to it since: it is
what every row of 2.x is held against. Objects come first, then rows, then the proof; all of it
before a single name is exchanged. A call that was killed is called again.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.build.creating import create_programs, drop_program
from datajoint_migrate.call import state
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.externals import External, externals_of
from datajoint_migrate.catalog.names import SYNC
from datajoint_migrate.catalog.presence import with_table
from datajoint_migrate.catalog.programs import programs_of
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.stores import SOURCE_FOLDING, Store
from datajoint_migrate.catalog.tables import Schema, Table, read_schema, read_schemas, user_tables
from datajoint_migrate.errors import ExternalMissing, MigrationError, Mismatch, NotReady
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.rows.back import Back, way_back
from datajoint_migrate.rows.keys import find_orphans, prove_keys
from datajoint_migrate.rows.matching import first_key, prove
from datajoint_migrate.rows.numbering import keep_auto_increment
from datajoint_migrate.verbs.cutover import changes
from datajoint_migrate.verbs.look.children import left_out
from datajoint_migrate.verbs.look.compare import compare_tables
from datajoint_migrate.words import counted

COUNTS = ("inserted", "updated", "deleted")
# 2.x's own hidden tables that hold nothing of anybody's.
OURS = ("~lineage", SYNC)


@dataclass(frozen=True)
class Given:
    """What the caller says of stores and adapters; None is what the copy remembers."""

    source_stores: Mapping[str, Any] | None = None
    dest_stores: Mapping[str, Any] | None = None
    store_map: Mapping[str, str] | None = None
    adapters: Mapping[str, str] | None = None
    lanes: int = LIMITS.lanes
    on_event: OnEvent = None


@dataclass
class BringBack:
    """One call: what differs (`look`), and doing it (`work`).

    `places` is {production: archive}; names in results are production's.
    """

    ends: Ends
    places: Mapping[str, str]
    given: Given
    # Production → where what a sync knows of its copy lies.
    remembered: Mapping[str, str] = field(default_factory=dict)
    back: list[Back] = field(default_factory=list)
    brought: dict[str, dict[str, int]] = field(default_factory=dict)
    left: list[dict[str, Any]] = field(default_factory=list)
    left_counts: dict[str, int] = field(default_factory=dict)
    files: int = 0
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    marks: dict[changes.Name, changes.Mark] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source = self.ends.source
        self.new = read_schemas(source, self.places)
        self.old = self._read_old()
        self._options()

    def _read_old(self) -> dict[str, Schema]:
        read = read_schemas(self.ends.source, self.places.values())
        return {name: read[there] for name, there in self.places.items()}

    def _options(self) -> None:
        self.stores: dict[str, Stores] = {}
        self.adapters: dict[str, Mapping[str, str] | None] = {}
        beside = {name: self.remembered.get(name, name) for name in self.places}
        states = state.read_states(self.ends.source, {*self.places, *beside.values()})
        for name in self.places:
            known = states[name] or states[beside[name]]
            options: Mapping[str, Any] = known.options if known is not None else {}
            given = self.given
            names = options.get("store_map") if given.store_map is None else given.store_map
            self.stores[name] = Stores.find(given.source_stores, given.dest_stores, names)
            said = options.get("adapters") if given.adapters is None else given.adapters
            self.adapters[name] = said

    # -- looking -------------------------------------------------------------------------------

    def look(self, *, execute: bool) -> None:
        """Compare everything, name what has no way back; writes nothing. Who is to `execute` it
        learns afterwards whether somebody has written meanwhile."""
        if execute:
            self.marks = _rested(self.ends.source, self.places)
        for name in self.places:
            self._pair(name)
        self._orphans()
        self._compare()
        self._objects(dry_run=True)

    def _pair(self, name: str) -> None:
        new, old = self.new[name], self.old[name]
        for table in new.tables.values():
            if table.name not in old.tables and table.name not in OURS:
                self._leave_table(table)
        for table in user_tables(old):
            there = new.tables.get(table.name)
            if there is None:
                self.notes.append(
                    f"{name}.{table.name} was dropped since the cutover: for 0.14.6 it is as it was"
                )
                continue
            try:
                externals = externals_of(self.ends.source, old, table, self.adapters[name])
                back = way_back(self.ends.source, there, table, externals)
                prove(self.ends.source, there, back.match)
            except MigrationError as error:
                if error.code not in ("DJM-1301", "DJM-1501"):
                    raise
                self.missing.append(f"{name}.{table.name} cannot be brought back: {error.message}")
                continue
            self.back.append(back)
            for column in back.match.source_only:
                self._leave_column(there, column)

    def _leave_table(self, table: Table) -> None:
        why = (
            "0.14.6 has no such job table"
            if table.name.startswith("~")
            else "the table was made since the cutover"
        )
        self._leave(table, None, "TRUE", why)

    def _leave_column(self, table: Table, column: str) -> None:
        marker = table.column(column).marker or table.column(column).column_type
        why = f"0.14.6 has no column {column} ({marker})"
        self._leave(table, column, f"{quote(column)} IS NOT NULL", why)

    def _leave(self, table: Table, column: str | None, condition: str, why: str) -> None:
        place = quote(table.schema, table.name)
        sql = f"SELECT COUNT(*) FROM {place} WHERE {condition}"
        count = int(self.ends.source.query(sql)[0][0])
        if not count:
            return
        self.left_counts[f"{table}" + (f".{column}" if column else "")] = count
        names = table.walk_key or tuple(one.name for one in table.columns[:3])
        listed = self.ends.source.query(
            f"SELECT {', '.join(map(quote, names))} FROM {place} WHERE {condition}"
            f" LIMIT {LIMITS.listed_left}"
        )
        self.left += [
            {
                "table": str(table),
                "key": _readable(dict(zip(names, row, strict=True))),
                "column": column,
                "why": why,
            }
            for row in listed
        ]

    def _orphans(self) -> None:
        """Tables that stay as they are, and refer to rows that 2.x has deleted."""
        now = {there: name for name, there in self.places.items()}
        staying = [
            table
            for name, schema in self.old.items()
            for table in user_tables(schema)
            if table.name not in self.new[name].tables
        ]
        for child in left_out(self.ends.source, list(now)):
            staying += read_schema(self.ends.source, child).tables.values()
        for table in staying:
            keys = tuple(
                dataclasses.replace(key, ref_schema=now[key.ref_schema])
                for key in table.foreign_keys
                if key.ref_schema in now
                and key.ref_table in self.new[now[key.ref_schema]].tables
                and not key.ref_table.startswith("~")
            )
            with_keys = dataclasses.replace(table, foreign_keys=keys)
            self.missing += [
                f"{table} stays as it is, and refers to rows of {orphan['references']} that are"
                f" gone since the cutover, for example {orphan['keys'][0]}"
                for orphan in find_orphans(self.ends.source, [with_keys])
            ]

    def _compare(self) -> None:
        for back, found in zip(self.back, self._sync(self.back, dry_run=True), strict=True):
            if any(found[key] for key in COUNTS) or not found["match"]:
                self.brought[str(back.new)] = {key: found[key] for key in COUNTS}

    def _sync(self, tables: Iterable[Back], *, dry_run: bool) -> list[dict[str, Any]]:
        plans = [one.plan() for one in tables]
        if not plans:
            return []
        done = _core.sync(
            {
                **self.ends.specs(),
                "lanes": self.given.lanes,
                "chunk_bytes": LIMITS.chunk_bytes,
                "memory_bytes": LIMITS.memory_bytes,
                # Nobody writes to the archive: whatever differs, 2.x has done it.
                "on_conflict": "production",
                "dry_run": dry_run,
                "max_conflicts": 0,
                "tables": plans,
            },
            lambda _: None,
            self.given.on_event,
        )
        found: list[dict[str, Any]] = done["tables"]
        return found

    # -- objects -------------------------------------------------------------------------------

    def _columns(self) -> Iterator[tuple[Back, str, External]]:
        """External columns that may point to what 0.14.6 does not know. A filepath that was
        registered again points as it did before."""
        for back in self.back:
            for column, external in back.external.items():
                if external.kind == "filepath" or str(back.new) in self.brought:
                    yield back, column, external

    def _objects(self, *, dry_run: bool) -> None:
        self.files = 0
        for back, column, external in self._columns():
            plan = self._object_plan(back, column, external, dry_run)
            done = _core.bring_back(plan, self.given.on_event)
            self.files += done["objects"]
            if not done["fault_count"]:
                continue
            said = [
                f"{back.new} {_readable(self._key(back, column, fault['json']))}: the object of"
                f" {column} cannot be brought back: {fault['why']}"
                for fault in done["faults"]
            ]
            if more := done["fault_count"] - len(said):
                said.append(f"{back.new}: {counted(more, 'more object')} of {column}")
            if dry_run:
                self.missing += said
                continue
            raise ExternalMissing(
                "; ".join(said),
                code="DJM-1402",
                hint="restore the objects, or delete the rows; 2.x is production as before",
                context={"table": str(back.new), "column": column, "errors": done["faults"]},
            )

    def _key(self, back: Back, column: str, json: str) -> dict[str, Any]:
        text = f"CAST({quote(column)} AS CHAR CHARACTER SET utf8mb4)"
        condition = f"CAST({text} AS BINARY) = x'{json.encode().hex()}'"
        try:
            return first_key(self.ends.source, back.new, condition)
        except MigrationError:
            return {}

    def _object_plan(
        self, back: Back, column: str, external: External, dry_run: bool
    ) -> dict[str, Any]:
        stores = self.stores[back.new.schema]
        known = {**stores.destination}
        there = _or_none(stores, external.store)
        if there is not None:
            known.setdefault(stores.renamed(external.store), there)
        return {
            "source": self.ends.source.server.spec(),
            "destination": self.ends.destination.server.spec(),
            "schema": back.new.schema,
            "table": back.new.name,
            "key": list(back.new.walk_key),
            "index": back.plan()["copy"]["index"],
            "column": column,
            "back": back.column(column),
            "pointer": {
                "kind": external.kind,
                "store": stores.renamed(external.store),
                "tracking_schema": back.old.schema,
                "tracking_table": external.tracking_table,
                # Where 0.14.6 will look once the schema has its name again.
                "source_schema": back.new.schema,
                "schema": back.new.schema,
                "layout": "in_place",
                "source_subfolding": list(SOURCE_FOLDING if there is None else there.subfolding),
            },
            "stores": {
                name: found for name, store in known.items() if (found := _spec(store)) is not None
            },
            "store": None if there is None else _spec(there),
            "dry_run": dry_run,
            "lanes": self.given.lanes,
            "max_faults": LIMITS.shown_examples,
        }

    # -- doing ---------------------------------------------------------------------------------

    def work(self) -> None:
        """Objects, rows, numbering and the proof. Raises before a name is exchanged."""
        changed = [back for back in self.back if str(back.new) in self.brought]
        self._objects(dry_run=False)
        with self._without_triggers(changed):
            session = self.ends.destination
            state.prepare(session, {back.old.schema for back in changed})
            for back, found in zip(changed, self._sync(changed, dry_run=False), strict=True):
                self.brought[str(back.new)] = {key: found[key] for key in COUNTS}
            for back in changed:
                keep_auto_increment(self.ends, back.new, back.old)
            forget_state(session, self.places.values())
        self._prove(changed)

    @contextmanager
    def _without_triggers(self, changed: Iterable[Back]) -> Iterator[None]:
        session = self.ends.destination
        tables = {(back.old.schema, back.old.name) for back in changed}
        triggers = [
            program
            for there, programs in programs_of(session, self.places.values()).items()
            for program in programs
            if program.kind == "trigger" and (there, program.table) in tables
        ]
        for trigger in triggers:
            drop_program(session, trigger)
        try:
            yield
        finally:
            for trigger in triggers:
                names = {trigger.schema: trigger.schema}
                self.notes += create_programs(session, [trigger], names)

    def _prove(self, changed: list[Back]) -> None:
        """Everything that was brought back, compared as a migration is."""
        names = [(back.new.schema, back.new.name) for back in changed]
        # Younger than those of the look: what follows compares what they are of.
        marks = _rested(self.ends.source, self.places)
        self.marks |= {name: marks[name] for name in names if name in marks}
        old = self._read_old()
        for name, schema in old.items():
            wanted = [(schema, self.new[name], table) for place, table in names if place == name]
            compared = compare_tables(
                self.ends,
                wanted,
                0.0,
                adapters=self.adapters[name],
                lanes=self.given.lanes,
                on_event=self.given.on_event,
            )
            unlike = [table for (_, table), result in compared.items() if not result["match"]]
            if unlike:
                raise Mismatch(
                    f"{', '.join(f'{name}.{table}' for table in unlike)}: what was brought back is"
                    " not what 2.x has",
                    hint="2.x is production as before; the same call again compares anew",
                    context={"tables": [f"{name}.{table}" for table in unlike]},
                )
        put = {(back.old.schema, back.old.name) for back in changed}
        touched = [
            table
            for schema in old.values()
            for table in user_tables(schema)
            if (table.schema, table.name) in put
            or any((key.ref_schema, key.ref_table) in put for key in table.foreign_keys)
        ]
        prove_keys(
            self.ends.destination, touched, "2.x is production as before; nothing was renamed"
        )

    def prove_unwritten(self, session: Session) -> None:
        """Raises `NotReady` when somebody wrote to 2.x after it was compared."""
        now = changes.look(session, self.places)
        written = [
            ".".join(name)
            for name, mark in self.marks.items()
            if name[1] not in OURS
            and (name not in now or not mark.is_like(now[name]) or mark.may_hide)
        ]
        if written:
            raise NotReady(
                f"{', '.join(written)} was written to after it was brought back, or by a"
                " transaction that was open then",
                hint="end every client of these schemas, then the same call again",
                context={"tables": written},
            )

    def result(self) -> dict[str, Any]:
        """What the rollback's result says of it."""
        return {
            "brought_back": self.brought,
            "files_brought_back": self.files,
            "left": self.left,
            "left_counts": self.left_counts,
        }


def forget_state(session: Session, archives: Iterable[str]) -> None:
    """Drop what a bringing back that was killed has noted in the archives."""
    for archive in with_table(session, archives, SYNC):
        session.execute(f"DROP TABLE {quote(archive, SYNC)}")


def _rested(session: Session, schemas: Iterable[str]) -> dict[changes.Name, changes.Mark]:
    """The marks of all tables, once a later change shows in them."""
    names = list(schemas)
    marks = changes.look(session, names, first=True)
    until = time.monotonic() + 2 * LIMITS.rest_seconds
    while any(mark.may_hide for mark in marks.values()):
        if time.monotonic() > until:
            break
        time.sleep(LIMITS.hold_moment * 10)
        marks = changes.look(session, names, first=True)
    return marks


def _or_none(stores: Stores, name: str) -> Store | None:
    try:
        return stores.of_source(name)
    except MigrationError:
        return None


def _spec(store: Store) -> dict[str, Any] | None:
    """None for what cannot be reached: only who needs it has to have it."""
    try:
        return store.spec()
    except MigrationError:
        return None


def _readable(key: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _text(value) for name, value in key.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(
        value, datetime.date | datetime.time | datetime.timedelta | decimal.Decimal | set
    ):
        return str(value)
    return value
