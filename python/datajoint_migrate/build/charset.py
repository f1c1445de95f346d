"""Will a schema be the same in utf8mb4? Proved on production before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.counting import count_rows
from datajoint_migrate.catalog.kinds import TEXTS
from datajoint_migrate.catalog.of_schemas import of_schemas
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import Token, text_of, tokens
from datajoint_migrate.catalog.tables import Column, ForeignKey, Index, Schema, Table
from datajoint_migrate.errors import InvalidArgument, Unconvertible
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.target.charset import COLLATION, UTF8MB4, Charset, converts
from datajoint_migrate.target.ddl import parse
from datajoint_migrate.target.declare import Declaration

Conflict = dict[str, Any]


def check_charset(charset: str) -> None:
    """Raises `InvalidArgument` for an unknown `charset`."""
    if charset not in ("keep", UTF8MB4):
        raise InvalidArgument(f"charset is {charset!r}", hint=f"use one of keep, {UTF8MB4}")


class Incoming:
    """Foreign keys of a server that lead from one schema into another, and the character sets of
    what is there already; read once when asked for.

    The server looks at all of its keys for each question, so one question is asked for all schemas.
    """

    def __init__(self, session: Session, schemas: Iterable[str]) -> None:
        self.session = session
        self.schemas = sorted(set(schemas))
        self._others: dict[str, dict[str, dict[str, str]]] = {}

    @cached_property
    def _found(self) -> dict[str, list[tuple[str, ...]]]:
        found: dict[str, list[tuple[str, ...]]] = {}
        for referenced, *link in of_schemas(
            self.session,
            "SELECT REFERENCED_TABLE_SCHEMA, TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME,"
            " REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME"
            " FROM information_schema.KEY_COLUMN_USAGE"
            " WHERE {REFERENCED_TABLE_SCHEMA} AND TABLE_SCHEMA <> REFERENCED_TABLE_SCHEMA",
            self.schemas,
            is_owner=False,
        ):
            found.setdefault(self.session.folded(referenced), []).append(tuple(map(str, link)))
        return found

    def into(self, schema: str) -> list[tuple[str, ...]]:
        """Child schema, table and column, parent table and column, of keys into `schema`."""
        return self._found.get(self.session.folded(schema), [])

    @cached_property
    def _own(self) -> dict[str, dict[str, dict[str, str]]]:
        found = _charsets(self.session, self.schemas)
        return {schema: found.get(schema, {}) for schema in self.schemas}

    def charsets(self, schema: str, table: str) -> dict[str, str]:
        """Columns of text of a table that is there already, with their character sets."""
        if schema in self._own:
            return self._own[schema].get(table, {})
        if schema not in self._others:
            found = _charsets(self.session, [schema])
            self._others[schema] = found.get(schema, {})
        return self._others[schema].get(table, {})


def _charsets(session: Session, schemas: list[str]) -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for schema, table, column, charset in of_schemas(
        session,
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, CHARACTER_SET_NAME"
        " FROM information_schema.COLUMNS WHERE {TABLE_SCHEMA}"
        " AND CHARACTER_SET_NAME IS NOT NULL",
        schemas,
    ):
        found.setdefault(schema, {}).setdefault(str(table), {})[str(column)] = str(charset)
    return found


def prove_charset(
    session: Session,
    destination: Session,
    schema: Schema,
    schema_map: Mapping[str, str],
    declarations: Iterable[Declaration],
    charset: Charset,
    incoming: Incoming | None = None,
) -> None:
    """Prove that everything in a schema can be utf8mb4 and means the same there.

    Raises `Unconvertible` with all findings (`context["conflicts"]`, dicts with `kind`, `table`,
    `why` and for rows `keys`): keys and rows too long for the server, unique keys that collide,
    foreign keys that stop matching, texts that outgrow their column, generated columns and checks
    that come out differently, and foreign keys to tables of the destination in other collations.
    """
    made = list(declarations)
    incoming = incoming or Incoming(destination, [schema_map[schema.name]])
    found = _torn_keys(schema, schema_map, made, incoming)
    if charset == UTF8MB4:
        for declaration in made:
            found += [
                {"kind": "limit", "table": f"{schema.name}.{declaration.table}", "why": why}
                for why in declaration.excesses
            ]
        strict = _no_pad(session)
        for table in schema.tables.values():
            if not table.hidden and any(map(converts, table.columns)):
                found += _of_rows(session, table, strict)
    if not found:
        return
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise Unconvertible(
        f"{found[0]['why']}{more}",
        hint="give all schemas that refer to each other the same charset"
        if found[0]["kind"] == "charset"
        else "correct this in production, or keep the character set: charset='keep'",
        context={"conflicts": found},
    )


def new(name: str, alias: str = "") -> str:
    """SQL for a text column's value as the copy will compare it."""
    place = f"{alias}.{quote(name)}" if alias else quote(name)
    return f"CONVERT({place} USING {UTF8MB4}) COLLATE {COLLATION}"


def _of_rows(session: Session, table: Table, strict: set[str]) -> list[Conflict]:
    changed = {column.name: column for column in table.columns if converts(column)}
    found = []
    primary = Index("PRIMARY", table.primary_key, True)
    for index in (primary, *table.indexes):
        names = {name for name in index.columns if name in changed}
        # utf8mb4_bin tells everything apart but trailing spaces, so only texts whose collation
        # counts those can become equal.
        if index.unique and any(changed[str(name)].collation in strict for name in names):
            found += _collisions(session, table, index, changed)
    for key in table.foreign_keys:
        # Keys compare ENUM and SET by their numbers, which stay.
        spelled = {
            name
            for name in key.columns
            if name in changed and changed[name].data_type not in ("enum", "set")
        }
        if spelled:
            found += _partings(session, table, key, spelled)
    for column in changed.values():
        if column.data_type in TEXTS:
            found += _overflows(session, table, column)
    return found + _other_results(session, table, changed)


def _no_pad(session: Session) -> set[str]:
    """The collations to which trailing spaces matter."""
    if session.is_mariadb:
        condition = "COLLATION_NAME LIKE %s"
        values = ("%nopad%",)
    elif session.version >= (8, 0):
        condition, values = "PAD_ATTRIBUTE = %s", ("NO PAD",)
    else:
        return set()
    rows = session.query(
        f"SELECT COLLATION_NAME FROM information_schema.COLLATIONS WHERE {condition}", values
    )
    return {row[0] for row in rows}


def _collisions(
    session: Session, table: Table, index: Index, changed: Mapping[str, Column]
) -> list[Conflict]:
    names = [str(name) for name in index.columns if name is not None]
    grouped = ", ".join(new(name) if name in changed else quote(name) for name in names)
    present = " AND ".join(f"{quote(name)} IS NOT NULL" for name in names)
    shown = ", ".join(f"MIN({quote(name)}), MAX({quote(name)})" for name in names)
    rows = session.query(
        f"SELECT {shown} FROM {quote(table.schema, table.name)} WHERE {present}"
        f" GROUP BY {grouped} HAVING COUNT(*) > 1 LIMIT {LIMITS.shown_values}"
    )
    if not rows:
        return []
    pairs = [[dict(zip(names, row[start::2], strict=True)) for start in (0, 1)] for row in rows]
    label = "primary key" if index.name == "PRIMARY" else f"unique index {index.name!r}"
    why = f"rows of {table} have one {label} in {COLLATION}: {pairs[0][0]} and {pairs[0][1]}"
    return [_conflict("collision", table, why, pairs)]


def _partings(session: Session, table: Table, key: ForeignKey, spelled: set[str]) -> list[Conflict]:
    """Rows that refer to a parent spelled otherwise: equal today, different in the copy."""
    ends = list(zip(key.columns, key.ref_columns, strict=True))
    today = " AND ".join(f"p.{quote(theirs)} = c.{quote(mine)}" for mine, theirs in ends)
    then = " AND ".join(
        f"{new(theirs, 'p')} = {new(mine, 'c')}" for mine, theirs in ends if mine in spelled
    )
    parent = quote(key.ref_schema, key.ref_table)
    own = tuple(dict.fromkeys((*table.walk_key, *key.columns)))
    shown = ", ".join(
        [f"c.{quote(name)}" for name in own] + [f"p.{quote(name)}" for name in key.ref_columns]
    )
    # The join goes along the parent's index; only rows that it finds are looked at.
    rows = session.query(
        f"SELECT {shown} FROM {quote(table.schema, table.name)} c JOIN {parent} p ON {today}"
        f" WHERE NOT ({then}) AND NOT EXISTS"
        f" (SELECT 1 FROM {parent} p WHERE {today} AND {then}) LIMIT {LIMITS.shown_values}"
    )
    if not rows:
        return []
    keys = [
        {
            "key": dict(zip(own, row[: len(own)], strict=True)),
            "parent": dict(zip(key.ref_columns, row[len(own) :], strict=True)),
        }
        for row in rows
    ]
    why = (
        f"{table} refers to {key.ref_schema}.{key.ref_table} by a text that is spelled "
        f"differently there, which {COLLATION} tells apart: {keys[0]['key']} and "
        f"{keys[0]['parent']}"
    )
    return [_conflict("foreign_key", table, why, keys)]


def _overflows(session: Session, table: Table, column: Column) -> list[Conflict]:
    limit = TEXTS[column.data_type]
    name = quote(column.name)
    # No character of another set takes more than three bytes, or its own four.
    keys = _keys(
        session,
        table,
        f"LENGTH({name}) * 4 > {limit} AND LENGTH(CONVERT({name} USING {UTF8MB4})) > {limit}",
    )
    if not keys:
        return []
    why = (
        f"a text of {table}.{column.name} is longer than the {limit} bytes of {column.data_type} "
        f"as {UTF8MB4}: {keys[0]}"
    )
    return [_conflict("overflow", table, why, keys)]


def _other_results(session: Session, table: Table, changed: Mapping[str, Column]) -> list[Conflict]:
    """Rows for which a generated column or a check has another result over utf8mb4."""
    found = []
    text = parse(table.create)
    for line in text.columns:
        clause = line.find("GENERATED") or line.find("AS")
        if clause is None or not _uses(clause.tokens, changed):
            continue
        parts = tokens(clause.text)
        is_text = table.column(line.name).charset is not None
        old, then = _exact(_bracket(parts), is_text), _exact(_replaced(parts, changed), is_text)
        if keys := _keys(session, table, f"NOT ({old} <=> {then})"):
            why = f"the generated column {table}.{line.name} has another value in {UTF8MB4}: "
            found.append(_conflict("generated", table, why + str(keys[0]), keys))
    for item in text.items:
        if item.kind != "check" or not _uses(item.parts, changed):
            continue
        if keys := _keys(session, table, f"({_replaced(item.parts, changed)}) IS FALSE"):
            why = f"the check {item.name!r} of {table} fails in {UTF8MB4}: {keys[0]}"
            found.append(_conflict("check", table, why, keys))
    return found


def _uses(parts: list[Token], changed: Mapping[str, Column]) -> bool:
    return any(token.kind == "name" and token.name in changed for token in parts)


def _bracket(parts: list[Token]) -> str:
    """The expression between the outermost brackets of a clause."""
    texts = [token.text for token in parts]
    first = texts.index("(")
    depth = 0
    for index in range(first, len(parts)):
        depth += (texts[index] == "(") - (texts[index] == ")")
        if not depth:
            return text_of(parts[first + 1 : index])
    return text_of(parts[first + 1 :])


def _replaced(parts: list[Token], changed: Mapping[str, Column]) -> str:
    """The same expression over the values as the copy will hold them."""
    return _bracket(
        [
            Token("mark", f"({new(token.name)})")
            if token.kind == "name" and token.name in changed
            else token
            for token in parts
        ]
    )


def _exact(expression: str, is_text: bool) -> str:
    """SQL that differs for whatever a reader could tell apart."""
    return f"CAST({f'CONVERT({expression} USING {UTF8MB4})' if is_text else expression} AS BINARY)"


def _keys(session: Session, table: Table, condition: str) -> list[dict[str, Any]]:
    if not count_rows(session, table, [condition])[0]:
        return []
    names = table.walk_key or tuple(column.name for column in table.columns[:3])
    rows = session.query(
        f"SELECT {', '.join(map(quote, names))} FROM {quote(table.schema, table.name)}"
        f" WHERE {condition} LIMIT {LIMITS.shown_values}"
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def _conflict(kind: str, table: Table, why: str, keys: Any) -> Conflict:
    return {"kind": kind, "table": str(table), "why": why, "keys": keys}


# -- neighbours --------------------------------------------------------------------------------


def _torn_keys(
    schema: Schema,
    schema_map: Mapping[str, str],
    declarations: list[Declaration],
    incoming: Incoming,
) -> list[Conflict]:
    """Foreign keys between a table to be made and one of another schema that is there already.

    The server makes no key between columns of two character sets, whatever is in them.
    """
    dest = schema_map[schema.name]
    if not any(converts(column) for table in schema.tables.values() for column in table.columns):
        return []  # utf8mb4 already, whatever was asked for
    made = {declaration.table: declaration.charsets for declaration in declarations}
    links = [
        (table.name, mine, schema_map.get(key.ref_schema, key.ref_schema), key.ref_table, theirs)
        for table in schema.tables.values()
        if not table.hidden
        for key in table.foreign_keys
        if key.ref_schema != schema.name
        for mine, theirs in zip(key.columns, key.ref_columns, strict=True)
    ]
    links += [
        (parent, theirs, child_schema, child, mine)
        for child_schema, child, mine, parent, theirs in incoming.into(dest)
    ]
    found = []
    for table, column, other_schema, other_table, other_column in links:
        there = incoming.charsets(other_schema, other_table)
        here, then = made.get(table, {}).get(column), there.get(other_column)
        if here and then and _plain(here) != _plain(then):
            why = (
                f"{dest}.{table}.{column} would be {here}, but {other_schema}.{other_table}."
                f"{other_column}, which is there already and has a foreign key in common with it, "
                f"is {then}"
            )
            found.append(_conflict("charset", schema.tables[table], why, []))
    return found


def _plain(charset: str) -> str:
    return "utf8mb3" if charset == "utf8" else charset


def new_schemas_note(destination: Session, schema: Schema, charset: Charset) -> list[str]:
    """What to know where 2.x, which names no collation, would make new schemas in another one."""
    if charset != UTF8MB4 or schema.charset == UTF8MB4:
        return []
    default = str(destination.query("SELECT @@collation_server")[0][0])
    if default == COLLATION:
        return []
    return [
        f"schemas that 2.x makes anew get this server's collation {default}, and no foreign key "
        f"can go from them to a text of {schema.name}'s copy: set collation-server={COLLATION}, or "
        f"make such a schema first: CREATE DATABASE ... CHARACTER SET {UTF8MB4} COLLATE {COLLATION}"
    ]


def same_charsets(table: Table, declaration: Declaration) -> bool:
    """Whether the text columns of a table have the character sets a declaration gives them."""
    return all(
        _plain(column.charset) == _plain(declaration.charsets[column.name])
        for column in table.columns
        if column.charset and column.name in declaration.charsets
    )
