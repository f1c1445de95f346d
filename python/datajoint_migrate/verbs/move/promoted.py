"""Columns that become object storage while their schema is migrated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from datajoint_migrate import _core
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.catalog.kinds import BLOBS
from datajoint_migrate.catalog.tables import Schema, find_table
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.files.promotion import Promotion, on_the_way, refusal
from datajoint_migrate.rows.matching import object_kind


def chosen(
    promote: Mapping[str, str],
    sources: Mapping[str, Schema],
    stores: Stores,
    final: Mapping[str, str],
) -> list[Promotion]:
    """The columns that a call names as `schema.table.column`.

    Raises `InvalidArgument`, `NotFound`, `Unconvertible`, `StoreMissing`.
    """
    found = []
    for name, to in promote.items():
        schema, _, rest = name.partition(".")
        table, _, column = rest.rpartition(".")
        if schema not in sources or not table or not column:
            raise InvalidArgument(
                f"promote names {name!r}, which is no column of the schemas that are migrated",
                hint=f"give schema.table.column, with one of {', '.join(sources)}",
            )
        here = find_table(sources[schema], table)
        found.append(on_the_way(here, here.column(column), to, stores, final[schema]))
    return found


def markers(promotions: Iterable[Promotion]) -> dict[tuple[str, str], dict[str, str]]:
    """The markers of promoted columns, by schema and table."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for one in promotions:
        place = found.setdefault((one.table.schema, one.table.name), {})
        place[one.column.name] = one.marker
    return found


def kept(source: Schema, copy: Schema | None) -> dict[tuple[str, str], dict[str, str]]:
    """The markers of columns that a copy keeps as objects already, by schema and table."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for table in source.tables.values():
        there = copy.tables.get(table.name) if copy else None
        columns = {column.name: column for column in there.columns} if there else {}
        for column in table.columns:
            twin = columns.get(column.name)
            if twin and column.data_type in BLOBS and object_kind(column, twin):
                place = found.setdefault((source.name, table.name), {})
                place[column.name] = str(twin.marker)
    return found


def refuse_others(
    ends: Ends, promotions: Iterable[Promotion], lanes: int, on_event: OnEvent
) -> None:
    """Look at every value, before anything is made; raises `Unconvertible`, naming keys."""
    for one in promotions:
        plan = {
            **one.plan(ends.source.server.spec(), lanes),
            "throttle": ends.throttle.spec(),
        }
        looked = _core.promote(plan, on_event)
        if looked["refused"]:
            raise refusal(one, looked)
