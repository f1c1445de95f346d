"""Columns of blobs become objects of a store, in place, while the table is in use."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.build.aside import refuse_triggers
from datajoint_migrate.call.ends import Ends, open_ends, schema_of
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.counting import count_rows
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.stores import dest_stores
from datajoint_migrate.catalog.tables import Column, Table, find_table, read_schema
from datajoint_migrate.errors import ExternalMissing, InvalidArgument, NotFound, ServerError
from datajoint_migrate.files.promotion import (
    JSON,
    Promotion,
    advice,
    held,
    promotion,
    refusal,
    wanted,
)
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.results import PromoteResult
from datajoint_migrate.verbs.move.exchanged import Exchange, hidden
from datajoint_migrate.verbs.move.exchanged import undo as put_back
from datajoint_migrate.verbs.move.noted import Notes
from datajoint_migrate.words import counted, verb

logger = logging.getLogger("datajoint_migrate")

COPY = "_v20"
# As the engine calls an object that a row names and that is not there, or not whole.
LOST = "lost object"


def promote(
    schema: Any,
    table: str,
    attribute: str,
    to: str,
    *,
    on_other: Literal["stop", "report"] = "stop",
    drop_old: bool = False,
    undo: bool = False,
    stores: Mapping[str, Any] | None = None,
    lanes: int = 4,
    dry_run: bool = False,
    final_schema: str | None = None,
    connection: Any = None,
    on_event: OnEvent = None,
) -> PromoteResult:
    """Turn a column of a 2.x schema into object storage, while it is in use: `to="npy@raw"`.

    `<blob>` becomes `npy@store` (arrays of numbers, of which 2.x then tells shape and dtype without
    reading them) or `blob@store` (any value), `<attach>` becomes `attach@store`, raw bytes become
    `hash@store`; columns that lie in a store already go to another, or from blobs to arrays.

    First every value is looked at. When one cannot become what was asked for (a list, a scalar, a
    damaged blob), nothing is written: `Unconvertible` names kinds and keys, or with
    `on_other="report"` they are returned. Then the objects are written, each is read back and held
    against its value, and the columns exchange names in one instant ALTER. What is inserted or
    updated meanwhile is promoted, too. A call that was killed is done by calling again; the files
    it had written are found.

    The old column stays, hidden from 2.x, until the same call comes with `drop_old=True`, which
    reads every object once more; until then `undo=True` puts it back. `stores` are specs of 2.x
    stores by name, by default those of DataJoint's configuration. Rows keep the times that note
    their changes.

    Returns `rows_promoted`, `rows_null`, `files_written`, `bytes_in`, `bytes_out`, `refused`
    (kind → count), `examples` (dicts with `key`, `kind`, `why`), `match`, `time_taken`; `kinds`,
    `dtypes` (counts), `old_column`, `notes`; with `dry_run` also `sql`, and nothing is written.
    With `undo`, `rows_restored`. Raises `NotFound`, `Unconvertible`, `StoreMissing`, `StoreFailed`,
    `ExternalMissing`, `DestinationNotEmpty`.
    """
    begun = time.monotonic()
    name, server = schema_of(schema, connection)
    codec, store = wanted(to)
    if undo and drop_old:
        raise InvalidArgument("undo needs the old column, which drop_old drops")
    with open_ends(server, looking=dry_run) as ends:
        if not dry_run:
            take_turn(ends.destination, [name])
        here = find_table(read_schema(ends.source, name), table)
        column = here.column(attribute)
        done = column.data_type in JSON and column.marker == f"<{codec}@{store}>"
        result = _nothing(here, column)
        if undo:
            undone = Undo(here, column, to, stores, final_schema, lanes, on_event)
            result.update(undone.run(ends.destination, done, dry_run))
        elif done:
            _finished(ends.destination, here, column, dry_run, result)
        else:
            final = final_schema or name.removesuffix(COPY)
            one = promotion(here, column, to, dest_stores(stores), final)
            _promote(ends, one, on_other, lanes, dry_run, on_event, result)
        if drop_old and result["old_column"] is not None:
            _Drop(ends.destination, name, here.name, column.name, to, stores).run(
                lanes, dry_run, on_event, result
            )
    result.pop("_rows", None)
    result["time_taken"] = time.monotonic() - begun
    return cast(PromoteResult, result)


def _nothing(table: Table, column: Column) -> dict[str, Any]:
    return {
        "table": str(table),
        "column": column.name,
        "rows_promoted": 0,
        "rows_null": 0,
        "files_written": 0,
        "bytes_in": 0,
        "bytes_out": 0,
        "refused": {},
        "examples": [],
        "kinds": {},
        "dtypes": {},
        "match": True,
        "old_column": None,
        "notes": [],
    }


def _promote(
    ends: Ends,
    one: Promotion,
    on_other: str,
    lanes: int,
    dry_run: bool,
    on_event: OnEvent,
    result: dict[str, Any],
) -> None:
    session = ends.destination
    plan = one.plan(session.server.spec(), lanes)
    exchange = Exchange(session, one)
    refuse_triggers(session, [exchange.table], but=exchange.triggers)
    looked = _core.promote(plan, on_event)
    for key in ("rows_null", "bytes_in", "bytes_out", "refused", "examples", "kinds", "dtypes"):
        result[key] = looked[key]
    for example in result["examples"]:
        example["key"] = {part["name"]: example["key"][part["name"]] for part in plan["parts"]}
    result["notes"] += one.notes()
    if looked["refused"]:
        result["match"] = False
        result["notes"] += advice(one, looked)
        if on_other == "stop" and not dry_run:
            raise refusal(one, looked)
        return
    if dry_run:
        result["sql"] = exchange.statements()
        return
    exchange.begin()
    whole = False
    for _ in range(LIMITS.promote_rounds):
        notes = exchange.renew()
        made = {**plan, "into": exchange.new}
        if whole:
            # All others have their objects.
            made |= {"only": exchange.notes.taken(), "few": notes <= LIMITS.promote_notes}
        if notes or not whole:
            result["files_written"] += _core.promote(made, on_event)["files_written"]
        whole = whole or exchange.is_whole()
        if whole and exchange.finish():
            break
    else:
        raise ServerError(
            f"values of {one} are written faster than they are promoted",
            hint="start the same call again when less is written; what is done is not done again",
        )
    now = find_table(read_schema(session, one.table.schema), one.table.name)
    _finished(session, now, now.column(one.column.name), False, result)
    result["rows_promoted"] = result["_rows"]
    result["notes"].append(
        f"{one.column.name} is :{one.marker}: now: write {one.marker} into the definition; code"
        " that fetches it gets a reference, and the array from its load()"
        if one.codec == "npy"
        else f"{one.column.name} is :{one.marker}: now: write {one.marker} into the definition"
    )
    logger.info("%s: promoted %d values", one, result["rows_promoted"])


def _finished(
    session: Session, table: Table, column: Column, dry_run: bool, result: dict[str, Any]
) -> None:
    """What is left to do once the names are exchanged."""
    kept = hidden(column.name, "old")
    new = f"s.{quote(column.name)}"
    result["_rows"], result["rows_null"] = count_rows(
        session, table, [f"{new} IS NOT NULL", f"{new} IS NULL"]
    )
    there = any(one.name == kept for one in table.columns)
    if not there:
        return
    if not dry_run:
        # What a call has left that was stopped at its very end.
        Notes(session, table, column.name).end()
    result["old_column"] = kept


@dataclass(frozen=True)
class _Drop:
    """The old column goes, once every object is there that a row names, and whole.

    Also where this very call has promoted it: what an earlier one had made, it has not read.
    """

    session: Session
    schema: str
    table: str
    column: str
    to: str
    stores: Mapping[str, Any] | None

    def run(self, lanes: int, dry_run: bool, on_event: OnEvent, result: dict[str, Any]) -> None:
        table = find_table(read_schema(self.session, self.schema), self.table)
        column = table.column(self.column)
        kept = table.column(hidden(column.name, "old"))
        plan = held(table, column, kept, self.to, self.stores, objects=True)
        plan |= {"server": self.session.server.spec(), "lanes": lanes}
        looked = _core.promote(plan, on_event)
        result["notes"] += self._given_up(looked)
        if looked["refused"].get(LOST) and not dry_run:
            raise self._lost(table, looked)
        if lost := looked["refused"].get(LOST):
            result["match"], result["refused"] = False, {LOST: lost}
            result["examples"] = [one for one in looked["examples"] if one["kind"] == LOST]
        where = quote(table.schema, table.name)
        drop = f"ALTER TABLE {where} DROP COLUMN {quote(kept.name)}"
        if dry_run:
            result["sql"] = [drop]
            return
        patiently(self.session, drop, LIMITS.promote_lock_seconds)
        result["old_column"] = None
        result["notes"].append(
            f"the space of the old values returns with a rebuild: OPTIMIZE TABLE {where}"
        )

    def _lost(self, table: Table, looked: Mapping[str, Any]) -> ExternalMissing:
        lost = looked["refused"][LOST]
        examples = [one for one in looked["examples"] if one["kind"] == LOST]
        return ExternalMissing(
            f"{counted(lost, 'row')} of {table} {verb(lost, 'names', 'name')} objects in"
            f" {self.column} that are missing or damaged; the first: {_keys(examples)}"
            f" ({examples[0]['why']})",
            code="DJM-1402",
            hint="nothing was changed; put the objects back, or move damaged ones away, undo the"
            " promotion (undo=True) while the old column is there, and promote it again",
            context={
                "column": f"{table}.{self.column}",
                "rows": lost,
                "keys": [one["key"] for one in examples],
            },
        )

    def _given_up(self, looked: Mapping[str, Any]) -> list[str]:
        """What is said of old values that no row has any more."""
        others = sum(count for kind, count in looked["refused"].items() if kind != LOST)
        if not others:
            return []
        examples = [one for one in looked["examples"] if one["kind"] != LOST]
        first = f"; the first: {_keys(examples)}" if examples else ""
        return [
            f"{counted(others, 'row')} {verb(others, 'has', 'have')} another value than the old"
            f" column, which goes with it{first}"
        ]


def _keys(examples: list[dict[str, Any]]) -> str:
    return "; ".join(
        ", ".join(f"{name}={value}" for name, value in one["key"].items())
        for one in examples[: LIMITS.shown_examples]
    )


@dataclass(frozen=True)
class Undo:
    """The call that takes a promotion back, however far it came."""

    table: Table
    column: Column
    to: str
    stores: Mapping[str, Any] | None
    final_schema: str | None
    lanes: int
    on_event: OnEvent

    def run(self, session: Session, done: bool, dry_run: bool) -> dict[str, Any]:
        table, column = self.table, self.column
        kept = hidden(column.name, "old")
        there = {one.name for one in table.columns}
        if done and kept in there:
            if dry_run:
                return {"rows_restored": 0}
            plan = held(table, column, table.column(kept), self.to, self.stores)
            plan |= {"server": session.server.spec(), "lanes": self.lanes}
            return put_back(session, table, column, plan, self.on_event)
        if not done and hidden(column.name, "new") in there:
            final = self.final_schema or table.schema.removesuffix(COPY)
            one = promotion(table, column, self.to, dest_stores(self.stores), final)
            if not dry_run:
                Exchange(session, one).abandon()
            return {"rows_restored": 0}
        notes = Notes(session, table, column.name)
        if not done and notes.left():
            # An undo was stopped at its very end.
            if not dry_run:
                notes.end()
            return {"rows_restored": 0}
        raise NotFound(
            f"{table}.{column.name} has no old column to be put back",
            hint="its old values have been let go, or the column was never promoted",
            context={"column": f"{table}.{column.name}"},
        )
