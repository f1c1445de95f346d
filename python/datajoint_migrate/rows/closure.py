"""The rows of a sample as SQL: those asked for, and all rows that they cannot do without.

One recursive query walks the foreign keys from key to key. Its work grows with the sample, not with
the tables; each key is visited once, so that diamonds, self references and cycles of
tables cost nothing extra; and it needs no table of its own on a server that is only read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.externals import TRACKING
from datajoint_migrate.catalog.tables import PART, ForeignKey, Table
from datajoint_migrate.errors import InvalidArgument

NEEDED = quote("~needed")
# For every session that asks a closure's queries: see `settle` in the engine's mysql/session.rs.
WHOLE = (
    "SET SESSION big_tables = 1 /*!80003 , SESSION cte_max_recursion_depth = 4294967295 */"
    " /*M! , SESSION max_recursive_iterations = 4294967295 */"
)
# Edges in one branch of the query. On MariaDB 10.11 memory and time treble with each branch that
# refers to the recursive table, 0.7 GB at 11; an edge joins one or two tables, and a server
# joins 61. MySQL 9.7 does not mind, and is twice as quick with one edge in each.
TOGETHER_ON_MARIADB = 25

Name = tuple[str, str]
# A table's rows in the walk; those marked True were asked for and bring their children.
Node = tuple[Name, bool]


@dataclass(frozen=True)
class Seed:
    """Rows asked for: the caller's own SQL, and how many in the order of the key."""

    where: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Edge:
    """From rows of one node to rows of another along a foreign key, `up` to its parent or down."""

    origin: Node
    to: Node
    key: ForeignKey
    up: bool


@dataclass(frozen=True)
class Step:
    """An edge in SQL: its joins, the key it leads to in the columns of the walk, if it does."""

    joined: str
    values: list[str | None]
    found: str


class Closure:
    """What a sample is made of. `tables` are all tables of its schemas, by schema and name."""

    def __init__(
        self, tables: Mapping[Name, Table], seeds: Mapping[Name, Seed], *, children: bool = False
    ) -> None:
        is_mariadb = any(table.is_mariadb for table in tables.values())
        self.together = TOGETHER_ON_MARIADB if is_mariadb else 1
        self.tables = {name: table for name, table in tables.items() if not table.hidden}
        self.seeds = dict(seeds)
        self.children = children
        self._slots: dict[tuple[str, str | None, str | None, int], tuple[Table, str]] = {}
        self._numbers: dict[Node, int] = {}
        self._edges: list[Edge] = []
        self._walk()

    @property
    def chosen(self) -> list[Table]:
        """The tables that can have rows in the sample."""
        names = {name for name, _ in self._numbers}
        return [table for name, table in self.tables.items() if name in names]

    def condition(self, table: Table) -> tuple[str | None, int | None]:
        """Which rows of a table (named `s`) belong to the sample: its condition, and a limit."""
        name = (table.schema, table.name)
        if self._reached(name):
            return self.within(table), None
        seed = self.seeds[name]
        return _bracket(seed.where), seed.limit

    def within(self, table: Table) -> str:
        """The same as a condition without a limit."""
        name = (table.schema, table.name)
        key = ", ".join(f"s.{quote(column)}" for column in table.walk_key)
        if not self._reached(name):
            return f"({key}) IN (SELECT * FROM ({self._asked(name)}) AS d)"
        nodes = [node for node in self._numbers if node[0] == name]
        slots = ", ".join(f"{NEEDED}.{slot}" for slot in self._key(table))
        numbers = ", ".join(str(self._numbers[node]) for node in nodes)
        query = f"{self._query(nodes)} SELECT {slots} FROM {NEEDED} WHERE t IN ({numbers})"
        return f"({key}) IN ({query})"

    def values(self, table: Table, column: str) -> str:
        """A query of all values that a column has in the sample."""
        where = self.within(table)
        return (
            f"SELECT s.{quote(column)} AS v FROM {quote(table.schema, table.name)} AS s"
            f" WHERE s.{quote(column)} IS NOT NULL AND {where}"
        )

    def _reached(self, name: Name) -> bool:
        return any(edge.to[0] == name for edge in self._edges)

    # -- the walk ------------------------------------------------------------------------------

    def _walk(self) -> None:
        waiting: list[Node] = [(name, self.children) for name in sorted(self.seeds)]
        for node in waiting:
            self._number(node)
        down: dict[Name, list[tuple[Table, ForeignKey]]] = {}
        for table in self.tables.values():
            for key in table.foreign_keys:
                down.setdefault((key.ref_schema, key.ref_table), []).append((table, key))
        while waiting:
            node = waiting.pop(0)
            name, brings = node
            table = self.tables[name]
            for key in table.foreign_keys:
                if not key.ref_table.startswith(TRACKING):
                    self._add(waiting, node, ((key.ref_schema, key.ref_table), False), key, True)
            for child, key in down.get(name, ()):
                if brings or comes_with(child, table):
                    self._add(waiting, node, ((child.schema, child.name), brings), key, False)

    def _add(self, waiting: list[Node], origin: Node, to: Node, key: ForeignKey, up: bool) -> None:
        if to not in self._numbers:
            self._number(to)
            waiting.append(to)
        self._edges.append(Edge(origin, to, key, up))

    def _number(self, node: Node) -> None:
        table = self.tables[node[0]]
        alone = not table.foreign_keys and node[0] in self.seeds
        if not table.walk_key and not alone:
            raise InvalidArgument(
                f"{table} has no key that tells its rows apart, so no sample can be closed over it",
                hint="give it a primary key, or copy it with copy_table_data",
            )
        self._numbers[node] = len(self._numbers) + 1
        self._key(table)

    def _key(self, table: Table) -> list[str]:
        """The columns of the walk that hold this table's key; keys of one type share them."""
        names = []
        seen: dict[tuple[str, str | None, str | None], int] = {}
        for column_name in table.walk_key:
            column = table.column(column_name)
            kind = (column.column_type, column.charset, column.collation)
            seen[kind] = seen.get(kind, 0) + 1
            slot = (*kind, seen[kind])
            self._slots.setdefault(slot, (table, column_name))
            names.append(f"c{list(self._slots).index(slot)}")
        return names

    # -- SQL -----------------------------------------------------------------------------------

    def _query(self, nodes: Iterable[Node]) -> str:
        """The recursive query, without the branches that lead to none of `nodes`."""
        useful = set(nodes)
        grown = True
        while grown:
            more = {edge.origin for edge in self._edges if edge.to in useful} - useful
            useful |= more
            grown = bool(more)
        # The first branch decides the types; its one row has the number of no table.
        types = ", ".join(
            f"(SELECT {quote(column)} FROM {quote(table.schema, table.name)} LIMIT 0) AS c{index}"
            for index, (table, column) in enumerate(self._slots.values())
        )
        branches = [f"SELECT 0 AS t, {types}"]
        for name in sorted(self.seeds):
            node = (name, self.children)
            if node in useful:
                branches.append(self._seeded(node))
        edges = [edge for edge in self._edges if edge.to in useful]
        branches += [
            self._followed(edges[first : first + self.together])
            for first in range(0, len(edges), self.together)
        ]
        return f"WITH RECURSIVE {NEEDED} AS ({' UNION '.join(branches)})"

    def _seeded(self, node: Node) -> str:
        table = self.tables[node[0]]
        return self._branch(node, "d", table.walk_key) + f" FROM ({self._asked(node[0])}) AS d"

    def _asked(self, name: Name) -> str:
        table, seed = self.tables[name], self.seeds[name]
        columns = ", ".join(f"s.{quote(column)}" for column in table.walk_key)
        inner = f"SELECT {columns} FROM {quote(table.schema, table.name)} AS s"
        if seed.where:
            inner += f" WHERE {_bracket(seed.where)}"
        if seed.limit is not None:
            inner += f" ORDER BY {columns} LIMIT {int(seed.limit)}"
        return inner

    def _branch(self, to: Node, alias: str, columns: Iterable[str]) -> str:
        values = self._slotted(to, alias, columns)
        return ", ".join((f"SELECT {self._numbers[to]}", *(value or "NULL" for value in values)))

    def _slotted(self, node: Node, alias: str, columns: Iterable[str]) -> list[str | None]:
        """A node's key, column by column, in the columns of the walk that hold it."""
        held = dict(zip(self._key(self.tables[node[0]]), columns, strict=True))
        return [
            f"{alias}.{quote(held[slot])}" if slot in held else None
            for slot in (f"c{index}" for index in range(len(self._slots)))
        ]

    def _followed(self, edges: list[Edge]) -> str:
        """One branch that takes every needed row along each of these edges that begins at it."""
        steps = [self._step(number, edge) for number, edge in enumerate(edges)]
        numbers = self._numbers
        listed = " UNION ALL ".join(
            f"SELECT {number} AS i, {numbers[edge.origin]} AS o, {numbers[edge.to]} AS t"
            for number, edge in enumerate(edges)
        )
        values = [
            "CASE e.i"
            + "".join(
                f" WHEN {number} THEN {step.values[index]}"
                for number, step in enumerate(steps)
                if step.values[index] is not None
            )
            + " END"
            if any(step.values[index] for step in steps)
            else "NULL"
            for index in range(len(self._slots))
        ]
        found = " ".join(f"WHEN {number} THEN {step.found}" for number, step in enumerate(steps))
        return (
            f"SELECT e.t, {', '.join(values)} FROM {NEEDED} AS n"
            f" STRAIGHT_JOIN ({listed}) AS e ON e.o = n.t"
            f" {' '.join(step.joined for step in steps)} WHERE CASE e.i {found} END"
        )

    def _step(self, number: int, edge: Edge) -> Step:
        key = edge.key
        child, parent = (edge.origin, edge.to) if edge.up else (edge.to, edge.origin)
        c, p = f"c{number}", f"p{number}"
        refs = dict(zip(key.ref_columns, key.columns, strict=True))
        by_key = set(refs) == set(self.tables[parent[0]].walk_key)
        if edge.up:
            joined = self._joined(number, child, c)
            if by_key:
                held = [refs[name] for name in self.tables[parent[0]].walk_key]
                return Step(joined, self._slotted(parent, c, held), _is_there(c, key.columns))
            joined += " " + _left(self.tables[parent[0]], p, _equal(key, p, c))
            names = self.tables[parent[0]].walk_key
            return Step(joined, self._slotted(parent, p, names), _is_there(p, names))
        names = self.tables[child[0]].walk_key
        if by_key:
            joined = self._joined(number, parent, c, self.tables[child[0]], refs)
        else:
            joined = self._joined(number, parent, p)
            joined += " " + _left(self.tables[child[0]], c, _equal(key, p, c))
        return Step(joined, self._slotted(child, c, names), _is_there(c, names))

    def _joined(
        self,
        number: int,
        node: Node,
        alias: str,
        table: Table | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> str:
        """The row of a needed node's key, or the rows of another `table` with it in `columns`."""
        own = self.tables[node[0]]
        on = []
        for name, slot in zip(own.walk_key, self._key(own), strict=True):
            held = f"n.{slot}"
            # What is NULL is not looked up: a slot is shared by the keys of all tables of a type.
            if own.column(name).data_type not in ("enum", "set", "bit"):
                held = f"IF(e.i = {number}, {held}, NULL)"
            on.append(f"{alias}.{quote(columns[name] if columns else name)} = {held}")
        return _left(table or own, alias, " AND ".join((f"e.i = {number}", *on)))


def comes_with(table: Table, parent: Table) -> bool:
    """Whether rows of a table belong to their parent's: it is a part of it, or both of one master.

    A part may refer to another part only, and reach its master through that.
    """
    master = _master(table)
    return master is not None and (
        (table.schema, master) == (parent.schema, parent.name)
        or (table.schema, master) == (parent.schema, _master(parent))
    )


def _master(table: Table) -> str | None:
    found = PART.match(table.name) if table.tier == "part" else None
    return found["master"] if found else None


def _left(table: Table, alias: str, on: str) -> str:
    return f"LEFT JOIN {quote(table.schema, table.name)} AS {alias} ON {on}"


def _is_there(alias: str, key: Iterable[str]) -> str:
    return "(" + " AND ".join(f"{alias}.{quote(column)} IS NOT NULL" for column in key) + ")"


def _equal(key: ForeignKey, parent: str, child: str) -> str:
    return " AND ".join(
        f"{parent}.{quote(ref)} = {child}.{quote(mine)}"
        for mine, ref in zip(key.columns, key.ref_columns, strict=True)
    )


def _bracket(where: str | None) -> str | None:
    # The line's end ends a comment the caller's SQL may end with.
    return f"({where}\n)" if where else None
