"""What a schema holds: tables, columns, keys, read once from information_schema."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.client import MARKER
from datajoint_migrate.catalog.constraints import ForeignKey as ForeignKey
from datajoint_migrate.catalog.constraints import checks, foreign_keys
from datajoint_migrate.catalog.definition import definition
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.presence import idle_roles, schemas_there
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import unquoted
from datajoint_migrate.errors import InvalidArgument, NotFound

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

    @property
    def has_rivals(self) -> bool:
        """Whether a row may be in the way of one with another key.

        By another unique index, or because an index takes for equal what differs: letters and
        blanks by collations, the two zeros of floats, what stands behind a prefix.
        """
        if any(index.unique for index in self.indexes):
            return True
        keys = [self.column(name) for name in self.primary_key]
        return any(
            key.collation is not None
            or key.data_type in ("float", "double", "varbinary")
            or key.data_type.endswith("blob")
            for key in keys
        )

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Schema:
    """A schema with its base tables by SQL name (hidden ones included), and the names of views."""

    name: str
    charset: str
    collation: str
    tables: dict[str, Table]
    views: tuple[str, ...] = ()
    is_mariadb: bool = False


def _camel(name: str) -> str:
    return re.sub(r"(^|[_\W])+[a-zA-Z]", lambda found: found[0][-1].upper(), name)


# -- reading -----------------------------------------------------------------------------------


def read_schema(session: Session, name: str) -> Schema:
    """Everything about one schema: four queries, and one SHOW CREATE TABLE a table.

    Raises `NotFound`, with the near misses, when the schema does not exist or is not visible to
    this user.
    """
    return next(iter(read_schemas(session, [name]).values()))


def read_schemas(session: Session, names: Iterable[str]) -> dict[str, Schema]:
    """Everything about several schemas, by the names that were given: the four queries are asked
    once for many. Raises `NotFound` for the first that is not there."""
    names = list(dict.fromkeys(names))
    session.spell(name for name in names if session.spelt(name) == name)
    return dict(zip(names, _read(session, list(map(session.spelt, names))), strict=True))


def read_those_there(session: Session, names: Iterable[str]) -> dict[str, Schema]:
    """`read_schemas` of those that the server has, in the order of the names."""
    names = list(names)
    there = schemas_there(session, names)
    return read_schemas(session, [name for name in names if name in there])


def _read(session: Session, names: list[str]) -> list[Schema]:
    defaults = {
        schema: (charset, collation)
        for schema, charset, collation in of_schemas(
            session,
            "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME"
            " FROM information_schema.SCHEMATA WHERE {SCHEMA_NAME}",
            names,
        )
    }
    for name in names:
        if name not in defaults:
            known = [row[0] for row in session.query("SHOW DATABASES")]
            error = NotFound.among("schema", name, known, f" for {session.server.address}")
            if idle := idle_roles(session):
                error.hint = (
                    f"{error.hint}; this user sees nothing of what is granted to roles that are"
                    f" not active: {', '.join(idle)} (SET DEFAULT ROLE makes them so)"
                )
            raise error
    columns = _columns(session, names)
    indexes = _indexes(session, names)
    tables: dict[str, dict[str, Table]] = defaultdict(dict)
    views: dict[str, list[str]] = defaultdict(list)
    for schema, table, kind, rows, size, collation, comment in of_schemas(
        session,
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH, TABLE_COLLATION,"
        " TABLE_COMMENT FROM information_schema.TABLES WHERE {TABLE_SCHEMA}"
        " ORDER BY TABLE_SCHEMA, TABLE_NAME",
        names,
    ):
        if kind == "VIEW":
            views[schema].append(table)
        if kind not in ("BASE TABLE", "SYSTEM VERSIONED"):
            continue
        own = indexes.get((schema, table), {})
        primary = own.pop("PRIMARY", None)
        create = _create(session, schema, table)
        tables[schema][table] = Table(
            schema=schema,
            name=table,
            columns=tuple(columns.get((schema, table), ())),
            primary_key=tuple(str(column) for column in primary.columns) if primary else (),
            indexes=tuple(own.values()),
            foreign_keys=foreign_keys(schema, create, session.is_mariadb),
            checks=checks(create),
            charset=collation.split("_")[0] if collation else None,
            collation=collation,
            comment=comment or "",
            rows=int(rows or 0),
            data_bytes=int(size or 0),
            create=create,
            is_mariadb=session.is_mariadb,
        )
    return [
        Schema(
            name=name,
            charset=defaults[name][0],
            collation=defaults[name][1],
            tables=tables[name],
            views=tuple(views[name]),
            is_mariadb=session.is_mariadb,
        )
        for name in names
    ]


def _create(session: Session, schema: str, table: str) -> str:
    """SHOW CREATE TABLE, with schemas in its keys as the caller writes them."""
    text = definition(session, schema, table)
    if not session.folds:
        return text
    return re.sub(
        r"(?<=\bREFERENCES )`((?:[^`]|``)+)`(?=\.`)",
        lambda found: quote(session.spelt(found[1].replace("``", "`"))),
        text,
    )


def _columns(session: Session, schemas: list[str]) -> dict[tuple[str, str], list[Column]]:
    found: dict[tuple[str, str], list[Column]] = defaultdict(list)
    for schema, table, name, kind, base, charset, collation, nullable, *rest in of_schemas(
        session,
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME,"
        " COLLATION_NAME, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, COLUMN_COMMENT,"
        " GENERATION_EXPRESSION FROM information_schema.COLUMNS"
        " WHERE {TABLE_SCHEMA} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
        schemas,
    ):
        default, extra, comment, made = rest
        flags = (extra or "").lower()
        found[schema, table].append(
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


def _indexes(session: Session, schemas: list[str]) -> dict[tuple[str, str], dict[str, Index]]:
    # MariaDB has no expression indexes and no such column.
    expression = "NULL" if session.is_mariadb or session.version < (8, 0, 13) else "EXPRESSION"
    grouped: dict[tuple[str, str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for schema, table, name, *row in of_schemas(
        session,
        f"SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART,"
        f" {expression} FROM information_schema.STATISTICS WHERE {{TABLE_SCHEMA}}"
        " ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
        schemas,
    ):
        grouped[schema, table, name].append(tuple(row))
    found: dict[tuple[str, str], dict[str, Index]] = defaultdict(dict)
    for (schema, table, name), rows in grouped.items():
        found[schema, table][name] = Index(
            name=name,
            columns=tuple(column if made is None else None for _, column, _, made in rows),
            unique=not int(rows[0][0]),
            prefixes=tuple(column for _, column, part, _ in rows if part is not None),
        )
    return found


# -- finding -----------------------------------------------------------------------------------


def user_tables(schema: Schema) -> list[Table]:
    """The tables a user declared, without DataJoint's hidden ones."""
    return [table for table in schema.tables.values() if not table.hidden]


def find_table(schema: Schema, name: str) -> Table:
    """The table of a class name (`Mouse`, `Session.Trial`) or SQL name (`#lookup`, `__sorting`).

    The exact SQL name wins. Raises `NotFound` with the near misses, and `InvalidArgument` when
    several tables have that class name.
    """
    plain = name.strip()
    if plain not in schema.tables:
        plain = unquoted(plain)[-1]
    if plain not in schema.tables and (folded := tracked_as(schema.tables, plain)) is not None:
        plain = folded
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


def tracked_as(tables: Iterable[str], name: str) -> str | None:
    """A hidden table by its name in small letters, which is all that a server that folds keeps."""
    folded = name.lower()
    return folded if name.startswith("~") and folded in set(tables) else None


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
