"""Both sides of copies that are brought up to date: what each remembers of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datajoint_migrate.build.building import Building, Family
from datajoint_migrate.build.building import plan_schema as plan_building
from datajoint_migrate.call import journal, state
from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.neighbours import with_neighbours
from datajoint_migrate.catalog.presence import schemas_there
from datajoint_migrate.catalog.programs import programs_of
from datajoint_migrate.catalog.tables import Schema, Table, read_schemas, user_tables
from datajoint_migrate.catalog.unseen import refuse_unseen
from datajoint_migrate.errors import InvalidArgument, NotFound
from datajoint_migrate.files.pointers import (
    Stores,
    check_places,
    external_columns,
    file_jobs,
    final_name,
)
from datajoint_migrate.verbs.move.beside import Settled
from datajoint_migrate.verbs.move.loading import Loading
from datajoint_migrate.verbs.move.promoted import kept

# What a copy is taken to be that remembers nothing of itself.
DEFAULTS: Mapping[str, Any] = {
    "unsigned": "keep",
    "charset": "keep",
    "unseen": "refuse",
    "copy_files": False,
    "store_map": {},
    "final": None,
    "adapters": None,
}


class Sides:
    """Schemas of production, their copies, and the options each copy was made by."""

    def __init__(self, ends: Ends, schema_map: dict[str, str]) -> None:
        self.ends, self.schema_map = ends, schema_map
        self.states: dict[str, state.State | None] = {}
        self.options: dict[str, Mapping[str, Any]] = {}
        self.sources: dict[str, Schema] = {}
        self.copies: dict[str, Schema] = {}
        self.buildings: dict[str, Building] = {}
        self.stores: dict[str, Stores] = {}
        self.notes: list[str] = []
        # Exchanges of tables that a killed call had begun.
        self.settled = Settled()

    def read(
        self,
        source_stores: Mapping[str, Any] | None,
        dest_stores: Mapping[str, Any] | None,
    ) -> None:
        """Read both sides, and decide how each copy would be declared today. Writes nothing."""
        ends, copies = self.ends, list(self.schema_map.values())
        there = schemas_there(ends.destination, copies)
        unfinished = journal.open_ones(ends.destination, copies)
        for name, dest in self.schema_map.items():
            if dest not in there:
                raise NotFound(
                    f"there is no copy {dest!r} of {name!r} to be brought up to date",
                    hint="make it first: migrate",
                    context={"schema": dest},
                )
            if dest in unfinished:
                raise InvalidArgument(
                    f"{dest!r} is an unfinished copy",
                    hint="call migrate again with the same options; it goes on where it was",
                    context={"schema": dest},
                )
        states = state.read_states(ends.destination, copies)
        read = read_schemas(ends.destination, copies)
        self.sources = read_schemas(ends.source, self.schema_map)
        for name, dest in self.schema_map.items():
            self.copies[name] = read[dest]
            self.states[name] = known = states[dest]
            self.options[name] = {**DEFAULTS, **(known.options if known else {})}
            if known is None:
                self.notes.append(
                    f"{dest} remembers nothing of how it was made: it is compared whole"
                )
        unseen = "leave" if any(o["unseen"] == "leave" for o in self.options.values()) else "refuse"
        self.notes += refuse_unseen(
            ends.source,
            programs_of(ends.source, self.sources).items(),
            unseen,
            # What it was when the copy was made, it stays.
            is_option=False,
        )
        around = with_neighbours(ends.source, self.sources.values())
        family = Family(ends.destination, around, self.schema_map)
        for name, schema in self.sources.items():
            options = self.options[name]
            stores = Stores.find(source_stores, dest_stores, dict(options["store_map"]))
            self.stores[name] = stores
            self.buildings[name] = building = plan_building(
                ends,
                schema,
                family,
                self.schema_map,
                external="convert",
                unsigned=options["unsigned"],
                adapters=options["adapters"],
                store_map=stores.names,
                charset=options["charset"],
                promoted=kept(schema, self.copies.get(name)),
            )
            self.notes += building.notes
            columns = [
                column
                for table in user_tables(schema)
                for column in external_columns(
                    ends,
                    schema,
                    table,
                    self.final(name),
                    stores,
                    options["copy_files"],
                    options["adapters"],
                )
            ]
            check_places(file_jobs(columns), stores, options["copy_files"])

    def final(self, name: str) -> str:
        """What the copy of that schema is called once it is cut over."""
        return self.options[name]["final"] or final_name(name, self.schema_map[name])

    def loading(self, name: str, table: Table, copy: Table) -> Loading:
        """One table on its way, by the options of its copy."""
        options = self.options[name]
        return Loading(
            self.ends,
            self.sources[name],
            table,
            copy,
            final_schema=self.final(name),
            stores=self.stores[name],
            copy_files=options["copy_files"],
            adapters=options["adapters"],
        )
