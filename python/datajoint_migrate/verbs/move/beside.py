"""A table that is built beside one of a copy and takes its place in one step.

Readers of the copy see the old table until the new one is whole. One RENAME exchanges them; then
the old one, which nobody finds any more, is held against what the state says was left in it. What
somebody wrote there meanwhile is not dropped: the exchange is undone. Killed anywhere, `settle`
finds by the names that are there how far it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.call import state
from datajoint_migrate.call.patience import patiently
from datajoint_migrate.catalog.leftovers import old_named_by_keys
from datajoint_migrate.catalog.names import NAME_CHARACTERS, NEW, new_name, old_name
from datajoint_migrate.catalog.presence import has_rows, tables_there
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import Token
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.target.ddl import Item, parse

Name = tuple[str, str]


def declared_beside(
    session: Session, schema: str, table: str, create_sql: str, together: Iterable[Name]
) -> str:
    """The statement that makes the table under its other name.

    Those that are exchanged `together` refer to each other already, so that keys whose types have
    changed on both sides fit.
    """
    text = parse(create_sql)
    text.head = f"CREATE TABLE {quote(schema, new_name(table))} "
    together = set(together)
    taken = {
        str(row[0]).lower()
        for row in session.query(
            "SELECT CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS"
            " WHERE CONSTRAINT_SCHEMA = %s",
            (schema,),
        )
    }
    for item in text.items:
        if item.kind in ("foreign", "check"):
            item.rename(_constraint(table, item.name, taken))
            taken.add(item.name.lower())
        if item.kind == "foreign":
            ref_schema, parent = item.reference
            if (ref_schema or schema, parent) in together:
                _refer(item, new_name(parent))
    return text.render()


def _constraint(table: str, name: str, taken: set[str]) -> str:
    """A name that is free now; the server keeps names of its own making true to the table's."""
    found = re.fullmatch(re.escape(table) + r"(_(?:ibfk|chk)_\d+)", name, re.IGNORECASE)
    if found:
        return new_name(table) + found[1]
    number, free = 2, name
    while free.lower() in taken:
        ending = f"_{number}"
        free = name[: NAME_CHARACTERS - len(ending)] + ending
        number += 1
    return free


def _refer(item: Item, parent: str) -> None:
    seen = False
    names = []
    for index, token in enumerate(item.parts):
        if seen and token.text == "(":
            break
        if seen and token.kind == "name":
            names.append(index)
        seen = seen or token.word == "REFERENCES"
    item.parts[names[-1]] = Token("name", quote(parent))


def is_written(session: Session, copy: Name, head: state.Head | None) -> bool:
    """Whether somebody wrote to a table of a copy since its state was noted."""
    if head is None:
        return True
    if head.base == "empty" and not has_rows(session, *copy):
        return False
    if head.compare is None:
        return True
    compare = {**head.compare, "destination_schema": copy[0], "destination_table": copy[1]}
    plan = {"destination": session.server.spec(), "compare": compare}
    return bool(_core.written(plan)["written"])


@dataclass
class Settled:
    """What became of exchanges: tables that have their new form, and those that keep the old one,
    with a sentence each."""

    exchanged: set[Name] = field(default_factory=set)
    kept: dict[Name, str] = field(default_factory=dict)


def exchange(session: Session, places: Iterable[Name]) -> Settled:
    """Let tables that were built beside others take their places: all of them, or none."""
    places = list(places)
    if not places:
        return Settled()
    steps = [
        f"{quote(schema, table)} TO {quote(schema, old_name(table))},"
        f" {quote(schema, new_name(table))} TO {quote(schema, table)}"
        for schema, table in places
    ]
    patiently(session, f"RENAME TABLE {', '.join(steps)}")
    return settle(session, {schema for schema, _ in places})


def settle(session: Session, schemas: Iterable[str]) -> Settled:
    """Finish what an exchange has begun: this call's, or one's that was killed."""
    done = Settled()
    old: list[Name] = []
    heads: dict[str, Mapping[str, state.Head]] = {}
    wanted = sorted(schemas)
    all_there: dict[str, set[str]] = {schema: set() for schema in wanted}
    for schema, table in tables_there(session, wanted):
        all_there[schema].add(table)
    named = old_named_by_keys(session, wanted)
    for schema, known in state.read_states(session, wanted).items():
        if known is None:
            continue
        there = all_there[schema]
        names = sorted({*there, *known.heads})
        if _move_state(session, schema, names, there, known.heads):
            known = state.read_state(session, schema) or known
        heads[schema] = known.heads
        old += [(schema, name) for name in names if old_name(name) in there]
        left = named.get(schema, set()) - there
        done.exchanged |= {(schema, name) for name in names if old_name(name) in left}
    written = [
        (schema, name)
        for schema, name in old
        if is_written(session, (schema, old_name(name)), heads[schema].get(old_name(name)))
    ]
    if written:
        both = [
            (schema, name)
            for schema, name in old
            if is_written(session, (schema, name), heads[schema].get(name))
        ]
        if not both:
            _undo(session, old)
            done.kept = {place: _why(place, place in written) for place in old}
            return done
        for schema, name in written:
            done.kept[schema, name] = (
                f"somebody wrote to {schema}.{name} while it was made anew, and to its new form"
                f" since: its rows as they were are in {quote(schema, old_name(name))}; take over"
                " what is missed, drop that table, and sync again"
            )
    gone = [place for place in old if place not in written]
    if gone:
        tables = ", ".join(quote(schema, old_name(name)) for schema, name in gone)
        # Keys of children name it until the next step.
        patiently(session, f"DROP TABLE {tables}")
        for schema, name in gone:
            state.forget(session, schema, old_name(name))
        done.exchanged |= set(gone)
    for place in sorted(done.exchanged):
        _take_children(session, place)
    return done


def _why(place: Name, written: bool) -> str:
    name = ".".join(place)
    if written:
        return f"somebody wrote to {name} while it was made anew: it is as it was"
    return f"{name} is as it was: it is exchanged together with another that somebody wrote to"


def _move_state(
    session: Session,
    schema: str,
    names: Iterable[str],
    there: set[str],
    heads: Mapping[str, state.Head],
) -> bool:
    """Names of the state follow those of the tables, whatever was killed in between; whether any
    had to."""
    moves: list[tuple[str, str]] = []
    forgotten: list[str] = []
    for name in names:
        new, old = new_name(name), old_name(name)
        if old in there and new in heads and new not in there:
            moves += [(name, old), (new, name)]
        elif old in heads and old not in there:
            if new in there:
                forgotten.append(name)
                moves.append((old, name))
            else:
                forgotten.append(old)
    state.move(session, schema, forgotten, moves)
    return bool(forgotten or moves)


def _undo(session: Session, places: Iterable[Name]) -> None:
    places = list(places)
    steps = [
        f"{quote(schema, table)} TO {quote(schema, new_name(table))},"
        f" {quote(schema, old_name(table))} TO {quote(schema, table)}"
        for schema, table in places
    ]
    patiently(session, f"RENAME TABLE {', '.join(steps)}")
    for schema, name in places:
        state.move(session, schema, [name], [(old_name(name), name)])
    discard(session, places)


def discard(session: Session, places: Iterable[Name]) -> None:
    """Take away what was built beside these tables."""
    drop_built(session, [(schema, new_name(name)) for schema, name in places])


def drop_built(session: Session, built: Iterable[Name]) -> None:
    """Drop tables that were built beside others and whose place nobody took; no row is lost."""
    built = list(built)
    if built:
        tables = ", ".join(quote(schema, name) for schema, name in built)
        session.execute(f"DROP TABLE IF EXISTS {tables}")
    for schema, name in built:
        state.forget(session, schema, name)


def _take_children(session: Session, place: Name) -> None:
    """Keys that named the old table name the new one: those without a table take the one that comes
    under its name, and follow it."""
    schema, name = place
    here, away = quote(schema, name), quote(schema, old_name(name))
    patiently(session, f"RENAME TABLE {here} TO {away}, {away} TO {here}")


def fits(table: Table, together: Iterable[Name]) -> bool:
    """Whether a table that a killed call left beside another refers to what it should."""
    meant = {(schema, new_name(name)): (schema, name) for schema, name in together}
    for key in table.foreign_keys:
        parent = (key.ref_schema, key.ref_table)
        if parent in meant.values() or (key.ref_table.startswith(NEW) and parent not in meant):
            return False
    return True
