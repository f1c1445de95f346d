"""Tables of a copy that production has new, in another form, or no more."""

from __future__ import annotations

from datajoint_migrate._core import quote
from datajoint_migrate.build.building import build, is_declared
from datajoint_migrate.call import state
from datajoint_migrate.catalog.names import NEW, new_name
from datajoint_migrate.catalog.tables import Table, read_schema
from datajoint_migrate.rows.matching import prove
from datajoint_migrate.verbs.move.beside import (
    declared_beside,
    discard,
    drop_built,
    exchange,
    fits,
)
from datajoint_migrate.verbs.move.cases import Cases
from datajoint_migrate.verbs.move.sides import Sides
from datajoint_migrate.verbs.move.todo import Todo


def make(sides: Sides, cases: Cases, dry_run: bool) -> None:
    """Tables that are new, those that take another's place, and the hidden table."""
    for one in cases.todo:
        prove(sides.ends.source, one.loading.source, one.loading.match)
    if dry_run:
        return
    session = sides.ends.destination
    state.prepare(session, sides.schema_map.values())
    for name, dest in sides.schema_map.items():
        if sides.states[name] is None:
            state.write_options(session, dest, {**sides.options[name], "final": sides.final(name)})
    wanted = {(sides.schema_map[one.schema], new_name(one.name)) for one in cases.rebuilt}
    left = {(copy.name, name) for copy in sides.copies.values() for name in copy.tables}
    # Killed calls have built these for declarations that production has no more.
    drop_built(session, sorted(one for one in left - wanted if one[1].startswith(NEW)))
    made = {table.schema for table in cases.new}
    for copy in cases.dropped:
        session.execute(f"DROP TABLE {quote(copy.schema, copy.name)}")
        state.forget(session, copy.schema, copy.name)
        made |= {name for name, dest in sides.schema_map.items() if dest == copy.schema}
    for table in cases.new:
        # Before the table itself: without a head it is new, whatever is killed in between.
        state.forget(session, sides.schema_map[table.schema], table.name)
    for name in sorted(made):
        dest = sides.schema_map[name]
        there = read_schema(session, dest)
        build(session, sides.buildings[name], set(there.tables))
    for table in cases.rebuilt:
        _make_beside(sides, cases, table)
    for name in sorted(made | {table.schema for table in cases.rebuilt}):
        sides.copies[name] = read_schema(session, sides.schema_map[name])
    for table in cases.new:
        _fill(sides, cases, table, table.name, "copied")
    for table in cases.rebuilt:
        _fill(sides, cases, table, new_name(table.name), "rebuilt")


def _fill(sides: Sides, cases: Cases, table: Table, name: str, how: str) -> None:
    """Let the pass put rows into a table that was made for that."""
    copy = sides.copies[table.schema].tables[name]
    loading = sides.loading(table.schema, table, copy)
    prove(sides.ends.source, table, loading.match)
    head = state.Head(state.definition(table), "empty", compare=loading.proof())
    state.write_head(sides.ends.destination, copy.schema, name, head)
    cases.todo.append(Todo(loading, "empty", how, trusts_copy=False))


def _make_beside(sides: Sides, cases: Cases, table: Table) -> None:
    """Make the new form of a table, unless a killed call has left it: that one is gone on with."""
    session, dest = sides.ends.destination, sides.schema_map[table.schema]
    declared = {one.table: one for one in sides.buildings[table.schema].declarations}[table.name]
    together = {(sides.schema_map[one.schema], one.name) for one in cases.rebuilt}
    left = sides.copies[table.schema].tables.get(new_name(table.name))
    known = sides.states[table.schema]
    head = known.heads.get(new_name(table.name)) if known else None
    if (
        left is not None
        and head is not None
        and head.definition == state.definition(table)
        and is_declared(left, declared)
        and fits(left, together)
    ):
        return
    discard(session, [(dest, table.name)])
    session.execute(declared_beside(session, dest, table.name, declared.create_sql, together))


def take_places(sides: Sides, cases: Cases) -> None:
    """Let the tables that were built beside others take their places, now that they are whole."""
    session = sides.ends.destination
    built = [one for one in cases.todo if one.how == "rebuilt"]
    if not built or not all(one.found["match"] for one in built):
        return
    by_place = {(sides.schema_map[one.name[0]], one.name[1]): one for one in built}
    done = exchange(session, by_place)
    for place, why in done.kept.items():
        one = by_place[place]
        cases.todo.remove(one)
        cases.rebuilt.remove(one.loading.source)
        cases.blocked[one.name] = why
    for name in sorted({one.name[0] for one in built}):
        dest = sides.schema_map[name]
        sides.copies[name] = read_schema(session, dest)
    for place, one in by_place.items():
        if place not in done.kept:
            schema, table = one.name
            copy = sides.copies[schema].tables[table]
            one.loading = sides.loading(schema, one.loading.source, copy)
