"""The JSON columns that succeed external columns in place: found, filled, kept up, proved."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datajoint_migrate import _core
from datajoint_migrate._core import quote
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.externals import TRACKING, External, externals_of
from datajoint_migrate.catalog.names import MAP, NAME_CHARACTERS
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Column, Schema, Table
from datajoint_migrate.errors import ExternalMissing
from datajoint_migrate.files.pointers import (
    Stores,
    check_places,
    file_jobs,
    move_files,
    pointer,
    prove_tracked,
)
from datajoint_migrate.target.ddl import parse
from datajoint_migrate.target.types import NewColumn, convert_column
from datajoint_migrate.verbs.move.external import filling
from datajoint_migrate.words import counted, verb

logger = logging.getLogger("datajoint_migrate")


@dataclass(frozen=True)
class Successor:
    """An external column, how its pointers become JSON, and what it will be."""

    table: Table
    column: Column
    external: External
    place: dict[str, Any]
    becomes: NewColumn

    @property
    def name(self) -> str:
        """The column that stands beside the old one meanwhile."""
        return self.column.name[: NAME_CHARACTERS - 3] + "_v2"

    def __str__(self) -> str:
        return f"{self.table}.{self.column.name}"

    @property
    def there(self) -> Column | None:
        """The column of that name, if the table has one."""
        return next((c for c in self.table.columns if c.name == self.name), None)


def find_successors(
    ends: Ends,
    schema: Schema,
    tables: Iterable[Table],
    kinds: tuple[str, ...],
    stores: Stores,
    adapters: Mapping[str, str] | None,
    final_schema: str | None = None,
) -> list[Successor]:
    """The external columns of these kinds, in the order of their tables."""
    found = []
    for table in tables:
        if table.hidden:
            continue
        lines = {line.name: line for line in parse(table.create).columns}
        for name, external in externals_of(ends.source, schema, table, adapters).items():
            column = table.column(name)
            if external.kind not in kinds or column.data_type != "binary":
                continue
            place = pointer(external, schema.name, final_schema or schema.name, stores, False)
            becomes = convert_column(
                column,
                external,
                external_mode="convert",
                store_map={external.store: stores.renamed(external.store)},
                text=lines[name],
            )
            found.append(Successor(table, column, external, place, becomes))
    return found


def ready_files(ends: Ends, successors: list[Successor], stores: Stores, on_event: OnEvent) -> int:
    """Prove that every pointer leads somewhere and write attachments anew; how many were written.

    Raises `ExternalMissing` and `StoreMissing` before any table is touched.
    """
    pointed = [
        (s.table.schema, s.table.name, s.column.name, s.external, s.place) for s in successors
    ]
    jobs = file_jobs(pointed)
    check_places(jobs, stores, False)
    prove_tracked(ends.source, pointed)
    files = move_files(ends, jobs, stores, False, on_event)
    if files["errors"]:
        first = files["errors"][0]
        raise ExternalMissing(
            f"{counted(len(files['errors']), 'file')} that {successors[0].table.schema} refers to"
            f" {verb(len(files['errors']), 'is', 'are')} missing or damaged, the first:"
            f" {first['path']}: {first['error']}",
            code="DJM-1402",
            hint="restore the files, or delete the rows that refer to them; no table was changed",
            context={"errors": files["errors"]},
        )
    return int(files["files_copied"])


def ready_again(ends: Ends, successor: Successor, stores: Stores, on_event: OnEvent) -> int:
    """Write attachments anew whose rows came after `ready_files` and were filled; how many.

    What comes after the filling has no JSON yet.
    """
    if successor.external.kind != "attach":
        return 0
    return ready_files(ends, [successor], stores, on_event)


def fill(ends: Ends, successor: Successor, into: str, on_event: OnEvent) -> int:
    """Give every row the JSON of its pointer, where it has none or an outdated one.

    Leaves the map beside the tables, for whoever proves it. Rows are changed in chunks, and
    columns that note the time of a change do not note this one.
    """
    table = successor.table
    plan = {
        **ends.specs(),
        "pointer": successor.place,
        "map_schema": table.schema,
        "map_table": MAP,
        "fill": {**filling(table, successor.column.name, into), "renew": True},
    }
    return int(_core.pointers(plan, on_event)["filled"])


def unlike(session: Session, successor: Successor, into: str) -> int:
    """How many rows do not hold the JSON of their pointer; the map has to be there."""
    table = successor.table
    old, new = f"s.{quote(successor.column.name)}", f"s.{quote(into)}"
    return int(
        session.query(
            f"SELECT COUNT(*) FROM {quote(table.schema, table.name)} s"
            f" LEFT JOIN {quote(table.schema, MAP)} m ON m.`hash` = {old}"
            f" WHERE {_differs(session, new)} OR ({old} IS NOT NULL AND {new} IS NULL)"
        )[0][0]
    )


def _differs(session: Session, new: str) -> str:
    # MySQL stores JSON in its own order of keys, MariaDB the text as it came.
    made = "m.js" if session.is_mariadb else "CAST(m.js AS JSON)"
    return f"NOT ({new} <=> {made})"


def drop_map(session: Session, schema: str) -> None:
    """The map is of no more use."""
    session.execute(f"DROP TABLE IF EXISTS {quote(schema, MAP)}")


def tracking_keys(successor: Successor) -> list[str]:
    """Names of the foreign keys from the column to a tracking table."""
    return [
        key.name
        for key in successor.table.foreign_keys
        if successor.column.name in key.columns and key.ref_table.startswith(TRACKING)
    ]
