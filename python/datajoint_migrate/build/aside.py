"""Triggers of a table are laid aside while its rows are filled, which nobody meant as a change.

What they are is noted beside them first, so that whatever is killed, the same call puts them back.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable

from datajoint_migrate._core import quote
from datajoint_migrate.build.creating import create_programs, drop_program
from datajoint_migrate.catalog.names import LAID_ASIDE
from datajoint_migrate.catalog.presence import has_table
from datajoint_migrate.catalog.programs import Program, read_programs, triggers_of
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.tables import Table
from datajoint_migrate.errors import ServerError, Unconvertible
from datajoint_migrate.target.programs import makes


def refuse_triggers(session: Session, tables: Iterable[Table], but: Collection[str] = ()) -> None:
    """Raises `Unconvertible` for a trigger that would run for every row that is filled, and write
    what nobody asked for; `but` are our own."""
    for table in {str(table): table for table in tables}.values():
        there = triggers_of(session, table.schema, table.name, "UPDATE")
        others = [name for name in there if name not in but]
        if others:
            raise Unconvertible(
                f"the trigger {others[0]} of {table} would run for every row that is filled",
                hint="nothing was changed; its owner must take the trigger away for that time",
                context={"table": str(table), "triggers": others},
            )


def lay_aside(session: Session, table: Table) -> None:
    """Drop the UPDATE triggers of a table, once it is noted what they are."""
    names = set(triggers_of(session, table.schema, table.name, "UPDATE"))
    if not names:
        return
    triggers = [
        one
        for one in read_programs(session, table.schema)
        if one.kind == "trigger" and one.name in names
    ]
    for trigger in triggers:
        if not makes(trigger):
            raise Unconvertible(
                f"the {trigger} would run for every row, and cannot be read to be put back",
                hint="connect as a user with the privilege TRIGGER",
                context={"table": str(table), "trigger": trigger.name},
            )
    notes = quote(table.schema, LAID_ASIDE)
    session.execute(
        f"CREATE TABLE IF NOT EXISTS {notes} (place INT NOT NULL PRIMARY KEY,"
        " definition LONGTEXT CHARACTER SET utf8mb4 NOT NULL) ENGINE=InnoDB"
        " COMMENT 'triggers that an unfinished step puts back at its end'"
    )
    session.execute("START TRANSACTION")
    for place, trigger in enumerate(triggers):
        session.execute(
            f"INSERT INTO {notes} (place, definition) VALUES (%s, %s)",
            (place, json.dumps(dataclasses.asdict(trigger))),
        )
    session.execute("COMMIT")
    for trigger in triggers:
        drop_program(session, trigger)


def put_back(session: Session, schema: str) -> list[str]:
    """Make the triggers again that were laid aside by this step or a killed one; sentences about
    what is not quite as it was. Raises `ServerError` when one cannot be made."""
    notes = quote(schema, LAID_ASIDE)
    if not has_table(session, schema, LAID_ASIDE):
        return []
    said = [
        json.loads(row[0])
        for row in session.query(f"SELECT definition FROM {notes} ORDER BY place")
    ]
    triggers = [Program(**{**one, "schema": schema}) for one in said]
    # All of them anew, because they fire in the order they were made in.
    for trigger in triggers:
        drop_program(session, trigger)
    sentences = create_programs(session, triggers, {schema: schema})
    there = {one.name for one in read_programs(session, schema) if one.kind == "trigger"}
    for trigger in triggers:
        if trigger.name not in there:
            raise ServerError(
                f"the {trigger} could not be put back: {'; '.join(sentences)}",
                hint=f"its text is in {schema}.{LAID_ASIDE}; remove the cause and start the same "
                "call again",
                context={"trigger": trigger.name},
            )
    session.execute(f"DROP TABLE {notes}")
    return sentences
