"""One table on its way, and what must hold of a destination before rows go into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.journal import started
from datajoint_migrate.catalog.externals import External, externals_of
from datajoint_migrate.catalog.presence import has_rows
from datajoint_migrate.catalog.tables import Schema, Table
from datajoint_migrate.errors import DestinationNotEmpty
from datajoint_migrate.files.pointers import Pointed, Stores, pointer, tracking_of
from datajoint_migrate.files.promotion import objects_of
from datajoint_migrate.rows.matching import Match, match_columns
from datajoint_migrate.rows.plan import compare_table, copy_table


class Loading:
    """One table on its way: both ends, how columns meet, and what its pointers lead to."""

    def __init__(
        self,
        ends: Ends,
        source_schema: Schema,
        source: Table,
        destination: Table,
        *,
        final_schema: str,
        stores: Stores,
        copy_files: bool = False,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self.destination = destination
        self.externals: dict[str, External] = externals_of(
            ends.source, source_schema, source, adapters
        )
        self.match: Match = match_columns(source, destination, self.externals)
        self.pointers = {
            pair.source.name: pointer(
                pair.external, source.schema, final_schema, stores, copy_files
            )
            for pair in self.match.pairs
            if pair.kind == "pointer" and pair.external is not None
        }
        self.objects = {
            pair.source.name: objects_of(
                source, pair.source, pair.destination, stores, final_schema
            )
            for pair in self.match.pairs
            if pair.kind == "object"
        }

    def plan(self, where_clause: str | None = None, limit: int | None = None) -> dict[str, Any]:
        """This table's part of the engine's plan."""
        return copy_table(
            self.source,
            self.destination,
            self.match,
            {**self.pointers, **self.objects},
            where_clause=where_clause,
            limit=limit,
        )

    def proof(self, where_clause: str | None = None) -> dict[str, Any] | None:
        """This table's part of the engine's comparison of the copy with what it was copied from.

        None where a row of one side cannot be told to be a row of the other.
        """
        paired = {pair.source.name for pair in self.match.pairs}
        if not paired.issuperset(self.source.walk_key):
            return None
        tracking = tracking_of(self.source, self.externals)
        return compare_table(
            self.source, self.destination, self.match, tracking, where_clause=where_clause
        )

    def pointed(self) -> list[Pointed]:
        """The columns whose files matter, for `file_jobs`."""
        return [
            (self.source.schema, self.source.name, name, self.externals[name], where)
            for name, where in self.pointers.items()
        ]


def refuse_rows(ends: Ends, tables: list[Table]) -> None:
    """Raises `DestinationNotEmpty` for rows that no interrupted call of this kind put there."""
    begun = started(ends.destination, {table.schema for table in tables})
    full = [
        f"{table.schema}.{table.name}"
        for table in tables
        if (table.schema, table.name) not in begun
        and has_rows(ends.destination, table.schema, table.name)
    ]
    if full:
        raise DestinationNotEmpty(
            f"{', '.join(full[:5])}{' and others' if len(full) > 5 else ''} already "
            f"{'holds' if len(full) == 1 else 'hold'} rows",
            hint="choose a destination without rows: they are never merged",
            context={"tables": full},
        )
