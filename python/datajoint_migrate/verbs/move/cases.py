"""What is to be done with each table of a copy: looked at, made, made anew, left alone."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate.build.building import is_declared
from datajoint_migrate.call import state
from datajoint_migrate.call.marks import Mark, marks
from datajoint_migrate.catalog.names import old_name
from datajoint_migrate.catalog.presence import has_rows
from datajoint_migrate.catalog.tables import Table, user_tables
from datajoint_migrate.errors import Mismatch, NotFound
from datajoint_migrate.verbs.move.beside import is_written
from datajoint_migrate.verbs.move.sides import Sides
from datajoint_migrate.verbs.move.todo import Name, Todo


class Cases:
    """The tables of both sides, sorted by what becomes of them."""

    def __init__(self, sides: Sides) -> None:
        self.sides = sides
        self.todo: list[Todo] = []
        self.new: list[Table] = []
        self.rebuilt: list[Table] = []
        self.gone: list[str] = []
        self.dropped: list[Table] = []
        self.skipped: list[Table] = []
        # Left alone, and why.
        self.blocked: dict[Name, str] = {}
        self.notes: list[str] = []
        self.written: dict[Name, Mark] = {}
        self.copied: dict[Name, Mark] = {}

    def decide(self, chosen: Iterable[str] | None, drop: bool) -> None:
        """See what is to be done with each table. Writes nothing."""
        sides = self.sides
        wanted = None if chosen is None else set(chosen)
        # Before the snapshot: what is written from now on is younger.
        self.written = marks(sides.ends.source, sides.sources)
        self.copied = marks(sides.ends.destination, sides.schema_map.values())
        known_names: set[str] = set()
        for name, schema in sides.sources.items():
            for table in user_tables(schema):
                spelt = {f"{name}.{table.name}", table.name, table.class_name}
                known_names |= spelt
                if wanted is None or wanted & spelt:
                    self._decide_table(name, table)
            self._decide_gone(name, drop and wanted is None)
        for unknown in sorted((wanted or set()) - known_names):
            raise NotFound.among("table", unknown, known_names)

    def _decide_table(self, name: str, table: Table) -> None:
        sides = self.sides
        dest = sides.schema_map[name]
        known = sides.states[name]
        head = known.heads.get(table.name) if known else None
        copy = sides.copies[name].tables.get(table.name)
        if why := sides.settled.kept.get((dest, table.name)):
            self.blocked[name, table.name] = why
            return
        if old_name(table.name) in sides.copies[name].tables:
            # Only a dry run leaves an exchange half done.
            self.rebuilt.append(table)
            return
        if copy is None:
            self.new.append(table)
            return
        if head is None:
            declared = {one.table: one for one in sides.buildings[name].declarations}
            if not is_declared(copy, declared[table.name]):
                raise Mismatch(
                    f"{copy} is not what {table} becomes by the options of this copy",
                    code="DJM-1701",
                    hint="migrate into another destination",
                    context={"table": str(copy)},
                )
            # A call that was killed has made it, and nobody's row is there.
            is_new = known is not None and not has_rows(sides.ends.destination, dest, copy.name)
            base = "empty" if is_new else "none"
            self.todo.append(Todo(sides.loading(name, table, copy), base, "digest"))
            return
        mark, now = self.copied.get((dest, table.name)), self.written.get((name, table.name))
        trusts_copy = mark is not None and mark.is_as(head.copy)
        if head.definition != state.definition(table):
            if trusts_copy or not is_written(sides.ends.destination, (dest, copy.name), head):
                self.rebuilt.append(table)
            else:
                self.blocked[name, table.name] = (
                    f"{table} is declared in another way now, and somebody wrote to its copy: it is"
                    " left alone"
                )
            return
        if trusts_copy and now is not None and now.is_as(head.source) and head.base == "lines":
            self.skipped.append(table)
            return
        self.todo.append(Todo(sides.loading(name, table, copy), head.base, "digest", trusts_copy))

    def _decide_gone(self, name: str, drop: bool) -> None:
        known = self.sides.states[name]
        for copy in user_tables(self.sides.copies[name]):
            if copy.name in self.sides.sources[name].tables:
                continue
            if known is None or copy.name not in known.heads:
                self.notes.append(f"{copy} is not production's: it is left as it is")
                continue
            self.gone.append(f"{name}.{copy.name}")
            if drop:
                self.dropped.append(copy)
            else:
                self.notes.append(
                    f"{name}.{copy.name} is gone from production; {copy} stays until drop=True"
                )
