"""The column of a table in use that takes another's place: made, kept true, exchanged, undone.

Every ALTER here is instant on the servers of today, and is tried again rather than waited for:
while a statement waits for a table, everybody else waits behind it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.build.altering import alter
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.counting import count_rows
from datajoint_migrate.catalog.names import NAME_CHARACTERS
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Table, find_table, read_schema
from datajoint_migrate.errors import (
    DestinationNotEmpty,
    MigrationError,
    ServerError,
)
from datajoint_migrate.files.promotion import Promotion, parts
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.target.ddl import literal
from datajoint_migrate.verbs.move.noted import Notes
from datajoint_migrate.words import counted, verb

logger = logging.getLogger("datajoint_migrate")

# Another one where the triggers are others: what a call of before has left is not gone on with.
FORM = 2
# Of a value that was changed after it had been read; of one that has no object yet.
CHANGED, UNMADE = "0", "null"


@dataclass(frozen=True)
class Exchange:
    """The column beside the old one, and its trigger."""

    session: Session
    promotion: Promotion

    @property
    def table(self) -> Table:
        return self.promotion.table

    @property
    def old(self) -> Column:
        return self.promotion.column

    @property
    def where(self) -> str:
        return quote(self.table.schema, self.table.name)

    @property
    def new(self) -> str:
        """The name of the new column meanwhile; 2.x hides names that begin so."""
        return hidden(self.old.name, "new")

    @property
    def trigger(self) -> str:
        place = f"{self.table.name}.{self.old.name}"
        return f"~promote_{hashlib.sha256(place.encode()).hexdigest()[:24]}"

    @property
    def filler(self) -> str:
        """The trigger that gives new rows a value while the new column has no default."""
        return f"{self.trigger}_fill"

    @property
    def triggers(self) -> tuple[str, ...]:
        """All that stay until the names are exchanged."""
        return self.trigger, *self.notes.triggers

    @property
    def fingerprint(self) -> str:
        """The comment of the column meanwhile: what it is filled with."""
        target = self.promotion.target()
        told = [target["store"], target["folder"], self.promotion.codec, self.promotion.store.place]
        mark = hashlib.sha256(repr([*told, FORM]).encode()).hexdigest()[:16]
        return f"datajoint_migrate promotes {self.old.name}, {mark}"[:1024]

    @property
    def notes(self) -> Notes:
        """What is written to the table meanwhile."""
        # Not what this call itself does: rows it fills, and rows it marks as not filled.
        inserted = f"NEW.{quote(self.old.name)} IS NOT NULL"
        updated = f"LEFT(NEW.{quote(self.new)}, 1) = '{CHANGED}'"
        return Notes(self.session, self.table, self.old.name, inserted, updated)

    def unmade(self, of: str) -> str:
        """The condition of rows that have a value and no object, or an object and no value."""
        old, new = f"{of}.{quote(self.old.name)}", f"{of}.{quote(self.new)}"
        return (
            f"(({old} IS NOT NULL AND ({new} IS NULL OR LEFT({new}, 1) <> '{{'))"
            f" OR ({old} IS NULL AND {new} IS NOT NULL AND LEFT({new}, 1) <> 'n'))"
        )

    def statements(self) -> list[str]:
        """Everything that changes the table, in order, for a dry run."""
        alter_table = f"ALTER TABLE {self.where}"
        return [
            *self._added(),
            *self.notes.statements(),
            self._trigger(),
            f"UPDATE {self.where} SET {quote(self.new)} = <the JSON of its object>",
            *(f"DROP TRIGGER {quote(self.table.schema, name)}" for name in self.triggers),
            f"{alter_table} {', '.join(self._exchanged())}",
            *(f"DROP TABLE {quote(self.table.schema, name)}" for name in self.notes.tables()),
        ]

    def begin(self) -> None:
        """Add the column and its triggers, unless a call that was stopped has left all of them."""
        there = {column.name: column for column in self.table.columns}
        kept = hidden(self.old.name, "old")
        if kept in there:
            raise DestinationNotEmpty(
                f"{self.table}.{kept} is there already, where the values of {self.old.name} are to"
                " stay",
                hint="it holds the values from before an earlier promotion, which undo=True takes"
                " back and drop_old=True ends",
            )
        found = there.get(self.new)
        if found is not None and not found.comment.startswith("datajoint_migrate promotes "):
            raise DestinationNotEmpty(
                f"{self.table}.{self.new} is there already, and is none that a call has left",
                hint="rename that column",
            )
        whole = self._has_trigger(self.trigger) and self.notes.are_there()
        if found is not None and found.comment == self.fingerprint and whole:
            return
        # Without its triggers nobody knows what was changed meanwhile; objects are found again.
        self.abandon()
        for sql in self._added():
            self.patiently(sql)
        # What the last one marks as changed is noted already.
        self.notes.begin()
        self.patiently(self._trigger())

    def _has_trigger(self, name: str) -> bool:
        return bool(
            self.session.query(
                "SELECT 1 FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = %s"
                " AND TRIGGER_NAME = %s",
                (self.table.schema, name),
            )
        )

    def _added(self) -> list[str]:
        """What adds the column. After each statement others can insert who do not know of it.

        A call may end behind any of them, and nobody knows when the next one comes.
        """
        alter_table, new = f"ALTER TABLE {self.where}", quote(self.new)
        comment = f"COMMENT {literal(self.fingerprint)}"
        after = f"AFTER {quote(self.old.name)}"
        if self.old.nullable:
            return [f"{alter_table} ADD COLUMN {new} JSON NULL {comment} {after}"]
        if self.session.is_mariadb:
            default = f"DEFAULT ('{UNMADE}')"
            return [f"{alter_table} ADD COLUMN {new} JSON NOT NULL {default} {comment} {after}"]
        # MySQL adds no column instantly that has an expression as its default, and makes none NOT
        # NULL instantly. So a trigger stands in for the default, which needs the column's name.
        filler = quote(self.table.schema, self.filler)
        return [
            f"{alter_table} ADD COLUMN {new} JSON NULL {comment}",
            f"CREATE TRIGGER {filler} BEFORE INSERT ON {self.where} FOR EACH ROW"
            f" SET NEW.{new} = '{UNMADE}'",
            f"{alter_table} DROP COLUMN {new}, ADD COLUMN {new} JSON NOT NULL {comment} {after}",
            self._defaulted(),
            f"DROP TRIGGER {filler}",
        ]

    def _defaulted(self) -> str:
        new, comment = quote(self.new), f"COMMENT {literal(self.fingerprint)}"
        told = f"{new} JSON NOT NULL DEFAULT ('{UNMADE}') {comment}"
        return f"ALTER TABLE {self.where} CHANGE COLUMN {new} {told}"

    def _trigger(self) -> str:
        old, new = quote(self.old.name), quote(self.new)
        return (
            f"CREATE TRIGGER {quote(self.table.schema, self.trigger)} BEFORE UPDATE ON {self.where}"
            f" FOR EACH ROW SET NEW.{new} = IF(NEW.{old} <=> OLD.{old}, NEW.{new}, '{CHANGED}')"
        )

    def renew(self) -> int:
        """Let the values be read again that were noted; how many notes there are.

        All of them: a row that was deleted and came again while its value was read may have got
        the object of the value that it had before.
        """
        notes = self.notes.take()
        unmade = "NULL" if self.old.nullable else f"'{UNMADE}'"
        new = f"{self.where}.{quote(self.new)}"
        kept = "".join(
            f", {self.where}.{quote(one.name)} = {self.where}.{quote(one.name)}"
            for one in self.table.columns
            if "on update" in one.extra.lower()
        )
        if notes:
            self.session.execute(f"UPDATE {self.notes.joined()} SET {new} = {unmade}{kept}")
        return notes

    def is_whole(self) -> bool:
        """Whether every value has its object; asked outside of any lock, chunk by chunk."""
        return not count_rows(self.session, self.table, [self.unmade("s")])[0]

    def finish(self) -> bool:
        """Exchange the names; False, and nothing is changed, while a value has no object.

        To be called once all values have one, but for those that were written since.
        """
        if self.notes.found(self.unmade(self.where)):
            return False
        self.notes.forget()
        with self.locked(self.notes.name):
            if not self.notes.are_none():
                return False
            self.session.execute(f"DROP TRIGGER {quote(self.table.schema, self.trigger)}")
            self.notes.stop()
            alter(self.session, self.table, self._exchanged())
        self.notes.end()
        return True

    def _exchanged(self) -> list[str]:
        old, new = self.old, quote(self.new)
        kept = "NULL"
        if not old.nullable:
            empty = UNMADE if old.data_type in ("json", "longtext") else ""
            kept = f"NOT NULL DEFAULT ('{empty}')"
        null = "NULL" if old.nullable else "NOT NULL"
        return [
            f"CHANGE COLUMN {quote(old.name)} {quote(hidden(old.name, 'old'))} {_type(old)} {kept}"
            f" COMMENT {literal(old.comment)}",
            f"CHANGE COLUMN {new} {quote(old.name)} JSON {null}"
            f" COMMENT {literal(self.promotion.comment)}",
        ]

    def abandon(self) -> None:
        """Take column and triggers away; after each statement others can insert, as before."""
        if self._has_trigger(self.trigger):
            self.patiently(f"DROP TRIGGER {quote(self.table.schema, self.trigger)}")
        self.notes.end()
        now = find_table(read_schema(self.session, self.table.schema), self.table.name)
        found = next((column for column in now.columns if column.name == self.new), None)
        if self._has_trigger(self.filler):
            if found is not None and not found.nullable:
                self.patiently(self._defaulted())
            self.patiently(f"DROP TRIGGER {quote(self.table.schema, self.filler)}")
        if found is not None:
            self.patiently(f"ALTER TABLE {self.where} DROP COLUMN {quote(self.new)}")

    def patiently(self, sql: str) -> None:
        patiently(self.session, sql, LIMITS.promote_lock_seconds)

    def locked(self, *beside: str) -> AbstractContextManager[None]:
        """The table, for a moment, for nobody else."""
        return locked(self.session, self.table, *beside)


@contextmanager
def locked(session: Session, table: Table, *beside: str) -> Iterator[None]:
    """A table, for a moment, for nobody else; with tables of its schema that are ours."""
    names = ", ".join(f"{quote(table.schema, name)} WRITE" for name in (table.name, *beside))
    patiently(session, f"LOCK TABLES {names}", LIMITS.promote_lock_seconds)
    try:
        yield
    finally:
        # The session may be gone, and that is said already.
        with suppress(MigrationError):
            session.execute("UNLOCK TABLES")


def hidden(column: str, what: str) -> str:
    """The name of a column that 2.x does not show."""
    return f"_{column[: NAME_CHARACTERS - 2 - len(what)]}_{what}"


def _type(column: Column) -> str:
    return "JSON" if column.data_type in ("json", "longtext") else column.column_type


def undo(
    session: Session, table: Table, column: Column, plan: dict[str, Any], on_event: OnEvent
) -> dict[str, Any]:
    """Put the old column back; raises when it lacks values that were written since, naming rows.

    `plan` lets the engine hold each row's JSON against its old value: a client may have given a row
    the object of another one, which looks as if a promotion had written it.
    """
    old = table.column(hidden(column.name, "old"))
    new, before = quote(column.name), quote(old.name)
    exchange = [f"DROP COLUMN {new}", f"CHANGE COLUMN {before} {new} {_type(old)}"]
    exchange[1] += f" {'NULL' if old.nullable else 'NOT NULL'} COMMENT {literal(old.comment)}"
    updated = f"NOT (NEW.{new} <=> OLD.{new})"
    notes = Notes(session, table, column.name, f"NEW.{new} IS NOT NULL", updated)
    notes.begin()
    try:
        looked = _core.promote(plan, on_event)
        rows = looked["rows"]
        for _ in range(LIMITS.promote_rounds):
            if looked["refused"]:
                raise _lacking(session, table, column, looked)
            with locked(session, table, notes.name):
                if notes.are_none():
                    notes.stop()
                    alter(session, table, exchange)
                    return {"rows_restored": rows}
            few = notes.take() <= LIMITS.promote_notes
            looked = _core.promote({**plan, "only": notes.taken(), "few": few}, on_event)
            notes.forget()
        raise ServerError(
            f"{table} is written to faster than it is looked at",
            hint="start the same call again when less is written",
        )
    finally:
        # The session may be gone, and that is said already.
        with suppress(MigrationError):
            notes.end()


def _lacking(
    session: Session, table: Table, column: Column, looked: Mapping[str, Any]
) -> MigrationError:
    lost = sum(looked["refused"].values())
    examples = looked["examples"]
    keys = [_typed(session, table, one["key"]) for one in examples[: LIMITS.shown_keys]]
    shown = "; ".join(
        ", ".join(f"{name}={value}" for name, value in key.items())
        for key in keys[: LIMITS.shown_examples]
    )
    return MigrationError(
        f"{counted(lost, 'row')} of {table} {verb(lost, 'has', 'have')} values in {column.name}"
        " that were written after it was promoted, and the old column does not have them; the"
        f" first: {shown} ({examples[0]['why']})",
        code="DJM-1703",
        hint="nothing was changed; fetch those rows with 2.x, delete them, undo, and insert them"
        " again",
        context={"column": f"{table}.{column.name}", "rows": lost, "keys": keys},
    )


def _typed(session: Session, table: Table, texts: Mapping[str, str]) -> dict[str, Any]:
    """A key, of which the engine tells the texts, as the server has it."""
    told = {part["name"]: part["read"] for part in parts(table)}
    equal = [
        f"{quote(name)} = UNHEX(%s)" if told[name] == "hex" else f"{quote(name)} = %s"
        for name in told
    ]
    found = session.query(
        f"SELECT {', '.join(map(quote, told))} FROM {quote(table.schema, table.name)}"
        f" WHERE {' AND '.join(equal)} LIMIT 1",
        tuple(texts[name] for name in told),
    )
    values = found[0] if found else [texts[name] for name in told]
    return dict(zip(told, values, strict=True))
