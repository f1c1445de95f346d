"""Steps that end whatever kills them: a journal on the server, gone through or gone back.

The journal is a hidden table in the schema that the work makes: one row a step, and row -1 with the
work's facts and how many steps are done. Statements that define tables commit by themselves, so the
step after the last one counted may be done, half done or not begun: every action looks first
what is there, and does what is left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Server, Session
from datajoint_migrate.errors import InvalidArgument, ServerError
from datajoint_migrate.steps.cutover.actions import ACTIONS
from datajoint_migrate.steps.cutover.proof import prove

JOURNAL = "~rename_journal"
# A RENAME waits for whoever uses a table; longer than this is an error, and nothing is renamed.
LOCK_SECONDS = 10
TURN = "datajoint_migrate.rename"
TURN_SECONDS = 60
ROWS_PER_INSERT = 200

CREATE = """CREATE TABLE IF NOT EXISTS {table} (
`step` int NOT NULL COMMENT 'order of the steps, -1: the work itself',
`payload` longtext NOT NULL COMMENT 'JSON',
PRIMARY KEY (`step`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='schemas were renamed: how to finish or undo it'"""

DOING, DONE, UNDOING = "doing", "done", "undoing"


@dataclass
class Journal:
    """The work recorded in `schema`; `position` steps of it are done."""

    schema: str
    verb: str
    facts: dict[str, Any]
    steps: list[dict[str, Any]]
    state: str = DOING
    position: int = 0
    notes: list[str] = field(default_factory=list)

    def head(self) -> dict[str, Any]:
        """Row -1."""
        return {
            "verb": self.verb,
            "state": self.state,
            "position": self.position,
            "notes": self.notes,
            "facts": self.facts,
        }


@contextmanager
def our_turn(server: Server, looking: bool = False) -> Iterator[Session]:
    """A session that waits for locks no longer than `LOCK_SECONDS`, and alone renames.

    One that is only `looking` cannot write.

    A client that was killed may have left the server at work on its last statement; the turn
    comes when that has ended.
    """
    with server.session(read_only=looking) as session:
        session.execute(f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}")
        session.execute(f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}")
        got = session.query("SELECT GET_LOCK(%s, %s)", (TURN, TURN_SECONDS))[0][0]
        if not got:
            raise ServerError(
                f"another rename, cutover or rollback is at work on {server.address}",
                hint="call again when it has ended",
            )
        yield session


def begin(session: Session, journal: Journal) -> None:
    """Write the journal; its schema is there. From here on the work ends or is undone."""
    table = quote(journal.schema, JOURNAL)
    session.execute(CREATE.format(table=table))
    _write(session, journal)


def rewrite(session: Session, journal: Journal) -> None:
    """Put other steps into a journal, in one transaction."""
    _write(session, journal)


def _write(session: Session, journal: Journal) -> None:
    table = quote(journal.schema, JOURNAL)
    rows = [(-1, journal.head()), *enumerate(journal.steps)]
    session.execute("START TRANSACTION")
    session.execute(f"DELETE FROM {table}")
    for start in range(0, len(rows), ROWS_PER_INSERT):
        part = rows[start : start + ROWS_PER_INSERT]
        session.execute(
            f"INSERT INTO {table} (step, payload) VALUES {', '.join(['(%s, %s)'] * len(part))}",
            [value for step, payload in part for value in (step, json.dumps(payload))],
        )
    session.execute("COMMIT")


def open_journal(session: Session, schema: str) -> Journal | None:
    """The journal in that schema; None when there is none, or none was begun.

    Raises `InvalidArgument` when it says what no rename does.
    """
    if schema not in journals(session):
        return None
    rows = dict(session.query(f"SELECT step, payload FROM {quote(schema, JOURNAL)}"))
    if -1 not in rows:
        return None
    try:
        head = json.loads(rows.pop(-1))
        steps = [json.loads(rows[number]) for number in sorted(rows)]
    except ValueError:
        head, steps = {}, []
    prove(schema, head, steps)
    return Journal(
        schema, head["verb"], head["facts"], steps, head["state"], head["position"], head["notes"]
    )


def journals(session: Session) -> list[str]:
    """Schemas that hold a journal."""
    return [
        str(row[0])
        for row in session.query(
            "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_NAME = %s", (JOURNAL,)
        )
    ]


def all_journals(session: Session) -> Iterator[Journal]:
    """Every journal there is. What is none is left out: whoever writes nonsense into a schema of
    theirs keeps nobody else from a cutover or rollback."""
    for name in journals(session):
        with suppress(InvalidArgument):
            if journal := open_journal(session, name):
                yield journal


def go_on(session: Session, journal: Journal) -> None:
    """Do what is left."""
    while journal.position < len(journal.steps):
        step = journal.steps[journal.position]
        journal.notes += ACTIONS[step["kind"]].do(session, step)
        journal.position += 1
        _mark(session, journal)
    journal.state = DONE
    _mark(session, journal)


def go_back(session: Session, journal: Journal) -> None:
    """Undo what is done, last step first. The journal stays, at position 0."""
    if journal.state != UNDOING:
        # The step after the last one counted may be half done, so it is undone too.
        journal.position = min(journal.position, len(journal.steps) - 1) + 1
        journal.state = UNDOING
        _mark(session, journal)
    while journal.position > 0:
        step = journal.steps[journal.position - 1]
        journal.notes += ACTIONS[step["kind"]].undo(session, step)
        journal.position -= 1
        _mark(session, journal)


def forget(session: Session, schema: str) -> None:
    """Remove the journal: nothing can be undone any more."""
    session.execute(f"DROP TABLE IF EXISTS {quote(schema, JOURNAL)}")


def _mark(session: Session, journal: Journal) -> None:
    session.execute(
        f"UPDATE {quote(journal.schema, JOURNAL)} SET payload = %s WHERE step = -1",
        (json.dumps(journal.head()),),
    )
