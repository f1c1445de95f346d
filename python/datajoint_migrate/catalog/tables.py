"""What a schema holds: tables, columns, keys, read once from information_schema."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.sql import unquoted
from datajoint_migrate.errors import InvalidArgument, NotFound

# The heading parser of 0.14.6 and of 2.x: type from the first character up to the next colon.
MARKER = re.compile(r":(?P<type>[^:]+):(?P<text>.*)", re.DOTALL)
PART = re.compile(r"(?P<master>(#|_|__)?[a-z][a-z0-9]*(_[a-z0-9]+)*)__(?P<part>[a-z][a-z0-9_]*)$")
TIERS = (("~", "hidden"), ("#", "lookup"), ("__", "computed"), ("_", "imported"))


@dataclass(frozen=True)
class Column:
    """One column, as information_schema describes it."""

    name: str
    column_type: str
    data_type: str
    charset: str | None
    collation: str | None
    nullable: bool
    default: str | None
    extra: str
    comment: str
    generated: bool
    invisible: bool
    auto_increment: bool

    @property
    def marker(self) -> str | None:
        """The type between the colons that open the comment (`blob@raw`), if there is one."""
        found = MARKER.match(self.comment)
        return found["type"] if found else None

    @property
    def text(self) -> str:
        """The comment without its marker."""
        found = MARKER.match(self.comment)
        return found["text"] if found else self.comment


@dataclass(frozen=True)
class Index:
    """An index; a column that is an expression is None, one of which only a prefix counts is
    named in `prefixes`."""

    name: str
    columns: tuple[str | None, ...]
    unique: bool
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key, both ends fully named."""

    name: str
    columns: tuple[str, ...]
    ref_schema: str
    ref_table: str
    ref_columns: tuple[str, ...]
    on_update: str
    on_delete: str


@dataclass(frozen=True)
class Table:
    """One base table. `rows` and `data_bytes` are the server's estimates."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    indexes: tuple[Index, ...]
    foreign_keys: tuple[ForeignKey, ...]
    checks: tuple[str, ...]
    charset: str | None
    collation: str | None
    comment: str
    rows: int
    data_bytes: int
    create: str = field(repr=False)
    is_mariadb: bool = False

    @property
    def hidden(self) -> bool:
        """Whether DataJoint keeps this table for itself (`~log`)."""
        return self.name.startswith("~")

    @property
    def tier(self) -> str:
        """manual, lookup, imported, computed, part or hidden."""
        if not self.hidden and PART.match(self.name):
            return "part"
        return next((tier for prefix, tier in TIERS if self.name.startswith(prefix)), "manual")

    @property
    def class_name(self) -> str:
        """The DataJoint class: `Mouse`, `Session.Trial`; a hidden table's own name."""
        if self.hidden:
            return self.name
        if found := PART.match(self.name):
            return f"{_camel(found['master'])}.{_camel(found['part'])}"
        return _camel(self.name)

    def column(self, name: str) -> Column:
        """The column of that name; raises `NotFound` with the near misses."""
        for column in self.columns:
            if column.name == name:
                return column
        raise NotFound.among(
            "column", name, [column.name for column in self.columns], f" in {self}"
        )

    @property
    def walk_key(self) -> tuple[str, ...]:
        """The columns that tell rows apart: primary key, else a strict unique index, else ()."""
        if self.primary_key:
            return self.primary_key
        strict = {column.name for column in self.columns if not column.nullable}
        for index in self.indexes:
            names = tuple(name for name in index.columns if name in strict)
            if index.unique and not index.prefixes and len(names) == len(index.columns):
                return tuple(str(name) for name in names)
        return ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Schema:
    """A schema with its base tables by SQL name (hidden ones included), and what else is in it."""

    name: str
    charset: str
    collation: str
    tables: dict[str, Table]
    views: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    routines: tuple[str, ...] = ()
    is_mariadb: bool = False


def _camel(name: str) -> str:
    return re.sub(r"(^|[_\W])+[a-zA-Z]", lambda found: found[0][-1].upper(), name)


# -- reading -----------------------------------------------------------------------------------


def read_schema(session: Session, name: str) -> Schema:
    """Everything about one schema: ten queries, and one SHOW CREATE TABLE a table.

    Raises `NotFound`, with the near misses, when the schema does not exist or is not visible to
    this user.
    """
    defaults = session.query(
        "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME"
        " FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s",
        (name,),
    )
    if not defaults:
        known = [row[0] for row in session.query("SHOW DATABASES")]
        raise NotFound.among("schema", name, known, f" for {session.server.address}")
    columns = _columns(session, name)
    indexes = _indexes(session, name)
    keys = _foreign_keys(session, name)
    checks = _checks(session, name)
    tables: dict[str, Table] = {}
    views = []
    for table, kind, rows, size, collation, comment in session.query(
        "SELECT TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH, TABLE_COLLATION, TABLE_COMMENT"
        " FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME",
        (name,),
    ):
        if kind == "VIEW":
            views.append(table)
        if kind not in ("BASE TABLE", "SYSTEM VERSIONED"):
            continue
        own = indexes.get(table, {})
        primary = own.pop("PRIMARY", None)
        tables[table] = Table(
            schema=name,
            name=table,
            columns=tuple(columns.get(table, ())),
            primary_key=tuple(str(column) for column in primary.columns) if primary else (),
            indexes=tuple(own.values()),
            foreign_keys=tuple(keys.get(table, ())),
            checks=tuple(checks.get(table, ())),
            charset=collation.split("_")[0] if collation else None,
            collation=collation,
            comment=comment or "",
            rows=int(rows or 0),
            data_bytes=int(size or 0),
            create=str(session.query(f"SHOW CREATE TABLE {quote(name, table)}")[0][1]),
            is_mariadb=session.is_mariadb,
        )
    return Schema(
        name=name,
        charset=defaults[0][0],
        collation=defaults[0][1],
        tables=tables,
        views=tuple(views),
        triggers=_names(session, "TRIGGERS", "TRIGGER_NAME", "TRIGGER_SCHEMA", name),
        routines=_names(session, "ROUTINES", "ROUTINE_NAME", "ROUTINE_SCHEMA", name),
        is_mariadb=session.is_mariadb,
    )


def _columns(session: Session, schema: str) -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = defaultdict(list)
    for row in session.query(
        "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME,"
        " COLLATION_NAME, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, COLUMN_COMMENT,"
        " GENERATION_EXPRESSION FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME, ORDINAL_POSITION",
        (schema,),
    ):
        table, name, kind, base, charset, collation, nullable, default, extra, comment, made = row
        flags = (extra or "").lower()
        found[table].append(
            Column(
                name=name,
                column_type=kind,
                data_type=base.lower(),
                charset=charset,
                collation=collation,
                nullable=nullable == "YES",
                default=default,
                extra=extra or "",
                comment=comment or "",
                generated=bool(made),
                invisible="invisible" in flags,
                auto_increment="auto_increment" in flags,
            )
        )
    return found


def _indexes(session: Session, schema: str) -> dict[str, dict[str, Index]]:
    # MariaDB has no expression indexes and no such column.
    expression = "NULL" if session.is_mariadb or session.version < (8, 0, 13) else "EXPRESSION"
    grouped: dict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for row in session.query(
        f"SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART, {expression}"
        " FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = %s"
        " ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
        (schema,),
    ):
        grouped[row[0], row[1]].append(row)
    found: dict[str, dict[str, Index]] = defaultdict(dict)
    for (table, name), rows in grouped.items():
        found[table][name] = Index(
            name=name,
            columns=tuple(row[3] if row[5] is None else None for row in rows),
            unique=not int(rows[0][2]),
            prefixes=tuple(row[3] for row in rows if row[4] is not None),
        )
    return found


def _foreign_keys(session: Session, schema: str) -> dict[str, list[ForeignKey]]:
    rules = {
        (table, name): (on_update, on_delete)
        for table, name, on_update, on_delete in session.query(
            "SELECT TABLE_NAME, CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE"
            " FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = %s",
            (schema,),
        )
    }
    grouped: dict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for row in session.query(
        "SELECT TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA,"
        " REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"
        " WHERE TABLE_SCHEMA = %s AND REFERENCED_TABLE_NAME IS NOT NULL"
        " ORDER BY TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
        (schema,),
    ):
        grouped[row[0], row[1]].append(row)
    found: dict[str, list[ForeignKey]] = defaultdict(list)
    for (table, name), rows in grouped.items():
        on_update, on_delete = rules.get((table, name), ("RESTRICT", "RESTRICT"))
        found[table].append(
            ForeignKey(
                name=name,
                columns=tuple(row[2] for row in rows),
                ref_schema=rows[0][3],
                ref_table=rows[0][4],
                ref_columns=tuple(row[5] for row in rows),
                on_update=on_update,
                on_delete=on_delete,
            )
        )
    return found


def _checks(session: Session, schema: str) -> dict[str, list[str]]:
    if not session.is_mariadb and session.version < (8, 0, 16):
        return {}
    found: dict[str, list[str]] = defaultdict(list)
    for table, name in session.query(
        "SELECT TABLE_NAME, CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS"
        " WHERE CONSTRAINT_SCHEMA = %s AND CONSTRAINT_TYPE = 'CHECK'"
        " ORDER BY TABLE_NAME, CONSTRAINT_NAME",
        (schema,),
    ):
        found[table].append(name)
    return found


def _names(session: Session, view: str, name: str, owner: str, schema: str) -> tuple[str, ...]:
    rows = session.query(
        f"SELECT {name} FROM information_schema.{view} WHERE {owner} = %s ORDER BY {name}",
        (schema,),
    )
    return tuple(row[0] for row in rows)


# -- finding -----------------------------------------------------------------------------------


def find_table(schema: Schema, name: str) -> Table:
    """The table of a class name (`Mouse`, `Session.Trial`) or SQL name (`#lookup`, `__sorting`).

    The exact SQL name wins. Raises `NotFound` with the near misses, and `InvalidArgument` when
    several tables have that class name.
    """
    plain = name.strip()
    if plain not in schema.tables:
        plain = unquoted(plain)[-1]
    if plain in schema.tables:
        return schema.tables[plain]
    matches = [
        table for table in schema.tables.values() if not table.hidden and _is_class(table, plain)
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(repr(table.name) for table in matches)
        raise InvalidArgument(
            f"the class name {plain!r} stands for several tables of {schema.name}",
            hint=f"use the SQL name: {names}",
        )
    raise NotFound.among("table", name, _spellings(schema.tables.values()), f" in {schema.name}")


def _is_class(table: Table, name: str) -> bool:
    # Names with digits or runs of capitals do not survive the way to snake case and back, so
    # both directions are tried.
    if table.class_name == name:
        return True
    if not re.fullmatch(r"[A-Z]\w*(\.[A-Z]\w*)?", name):
        return False
    snake = "__".join(_snake(part) for part in name.split("."))
    return snake == re.sub(r"^(#|__?)", "", table.name)


def _snake(name: str) -> str:
    """DataJoint's own way from a class name to a table name."""
    return re.sub(
        r"(\B[A-Z])|(\b[A-Z])",
        lambda found: ("_" if found[1] else "") + found[0].lower(),
        name,
    )


def _spellings(tables: Iterable[Table]) -> list[str]:
    return [spelling for table in tables for spelling in (table.class_name, table.name)]
