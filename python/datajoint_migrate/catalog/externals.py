"""Which columns of a 0.14.6 table point into an external store, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.client import LEGACY, said_by
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Schema, Table, tracked_as
from datajoint_migrate.errors import InvalidArgument, Unconvertible

Kind = Literal["blob", "attach", "filepath"]

TRACKING = "~external_"


@dataclass(frozen=True)
class External:
    """What one column points to: objects of `kind` in the 0.14.6 store `store`.

    `codec` is the adapter's name for `:<name>:` columns. `legacy` marks columns declared before
    0.12 (`:external-raw:`), which hold blobs.
    """

    kind: Kind
    store: str
    codec: str | None = None
    legacy: bool = False
    # As the server spells it, which may fold what the marker says.
    tracked_by: str | None = field(default=None, compare=False)

    @property
    def tracking_table(self) -> str:
        """SQL name of the table that tracks the store's objects."""
        return self.tracked_by or TRACKING + self.store


def external_of(
    session: Session,
    schema: Schema,
    table: Table,
    column: Column,
    adapters: Mapping[str, str] | None = None,
) -> External | None:
    """How `column` points into a store, or None when it does not.

    `adapters` says what an adapter is made of (`{"name": "blob@raw"}`) where the database cannot:
    the kind of an adapted column is only visible in the rows it refers to.

    Raises `Unconvertible` for an adapted column whose kind neither tells, and for columns from
    before 0.12 that were never carried over.
    """
    found = _external_of(session, schema, table, column, adapters)
    if found is None:
        return None
    named = tracking_table(schema, found.store)
    return found if named is None else replace(found, tracked_by=named)


def _external_of(
    session: Session,
    schema: Schema,
    table: Table,
    column: Column,
    adapters: Mapping[str, str] | None,
) -> External | None:
    marker = column.marker
    if table.hidden or marker is None:
        return None
    said = said_by(marker)
    if said is not None and said.kind is not None and said.store is not None:
        return External(cast(Kind, said.kind), said.store)
    tracked = _tracked_store(table, column)
    if found := LEGACY.match(marker):
        if column.data_type != "binary":
            raise Unconvertible(
                f"{table}.{column.name} is an external column from before 0.12 (:{marker}:)",
                hint="migrate it with DataJoint 0.12 or 0.13 first (migrate_dj011_external_blob"
                "_storage_to_dj012)",
                context={"table": str(table), "column": column.name},
            )
        return External("blob", tracked or found["store"] or "external", legacy=True)
    # A name with @ is that of a column that 2.x has declared.
    codec = said.adapter if said is not None else None
    if not codec or "@" in codec or column.data_type != "binary":
        return None
    if adapters and codec in adapters:
        return _said(codec, adapters[codec], tracked)
    if tracked is None:
        return None  # an adapter over uuid
    kinds = _kinds_seen(session, schema, table, column, tracked)
    if len(kinds) != 1:
        seen = " and ".join(sorted(kinds)) if kinds else "nothing"
        raise Unconvertible(
            f"what the adapter <{codec}> of {table}.{column.name} stores cannot be told from the"
            f" rows it refers to ({seen} seen)",
            hint=f'say it: adapters={{"{codec}": "blob@{tracked}"}}, or attach@ or filepath@',
            context={"table": str(table), "column": column.name, "store": tracked},
        )
    return External(kinds.pop(), tracked, codec)


def externals_of(
    session: Session, schema: Schema, table: Table, adapters: Mapping[str, str] | None = None
) -> dict[str, External]:
    """All external columns of a table, by name."""
    found = {
        column.name: external_of(session, schema, table, column, adapters)
        for column in table.columns
    }
    return {name: external for name, external in found.items() if external}


def tracking_table(schema: Schema, store: str) -> str | None:
    """The table that tracks a store, as the server spells it; None when there is none."""
    wanted = TRACKING + store
    if wanted in schema.tables:
        return wanted
    return tracked_as(schema.tables, wanted)


def stores_tracked(schema: Schema) -> dict[str, str]:
    """Tracking tables by the store they are of, as columns spell it: the server may fold it."""
    said = {
        store.lower(): store
        for table in schema.tables.values()
        if not table.hidden
        for column in table.columns
        if (store := store_of(table, column)) is not None
    }
    found = {}
    for table_name in schema.tables:
        if table_name.startswith(TRACKING):
            name = table_name.removeprefix(TRACKING)
            spelt = said.get(name, name)
            found[name if TRACKING + spelt in schema.tables else spelt] = table_name
    return found


def store_of(table: Table, column: Column) -> str | None:
    """The store that a column points into, by its marker or its key; None for any other column."""
    said = said_by(column.marker)
    if said is not None and said.kind is not None:
        return said.store
    return _tracked_store(table, column) if column.data_type == "binary" else None


def _tracked_store(table: Table, column: Column) -> str | None:
    for key in table.foreign_keys:
        if key.columns == (column.name,) and key.ref_table.startswith(TRACKING):
            return key.ref_table.removeprefix(TRACKING)
    return None


def _said(codec: str, type_: str, tracked: str | None) -> External | None:
    found = said_by(type_.strip("<>"))
    if found is not None and found.kind is not None and found.store is not None:
        return External(cast(Kind, found.kind), found.store, codec)
    if tracked is None:
        return None
    raise InvalidArgument(
        f"adapters says <{codec}> is {type_!r}, but its column refers to the store {tracked!r}",
        hint=f'write "blob@{tracked}", "attach@{tracked}" or "filepath@{tracked}"',
    )


def _kinds_seen(
    session: Session, schema: Schema, table: Table, column: Column, store: str
) -> set[Kind]:
    """Kinds by the shape of the tracking rows of up to a thousand different values."""
    name = quote(column.name)
    tracking = quote(schema.name, tracking_table(schema, store) or TRACKING + store)
    rows = session.query(
        "SELECT DISTINCT CASE WHEN e.attachment_name IS NOT NULL THEN 'attach'"
        " WHEN e.filepath IS NOT NULL THEN 'filepath' ELSE 'blob' END"
        f" FROM (SELECT DISTINCT {name} AS pointer FROM {quote(schema.name, table.name)}"
        f" WHERE {name} IS NOT NULL LIMIT 1000) AS c"
        f" JOIN {tracking} AS e ON e.hash = c.pointer"
    )
    return {cast(Kind, row[0]) for row in rows}
