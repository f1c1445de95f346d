"""Steps that end whatever kills them: a journal on the server, gone through or gone back.

The journal is a hidden table in the schema that the work makes: one row a step, and row -1 with the
work's facts and how many steps are done. Statements that define tables commit by themselves, so the
step after the last one counted may be done, half done or not begun: every action looks first
what is there, and does what is left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.call.exchanges import journals
from datajoint_migrate.catalog.grants import read_grants
from datajoint_migrate.catalog.names import RENAMING
from datajoint_migrate.catalog.server import Server
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import InvalidArgument, ServerError
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.verbs.cutover.actions import ACTIONS, left_of, move, move_back, together
from datajoint_migrate.verbs.cutover.changes import Mark, Name
from datajoint_migrate.verbs.cutover.hold import BEHIND, Ready
from datajoint_migrate.verbs.cutover.proof import prove

TURN = "datajoint_migrate.rename"
# The fact that is there while a RENAME waits: tables of production, and when each was written to.
MARKS = "marks"

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
    # When this call began to hold tables; not written down.
    held_since: float | None = None

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
    """A session that waits for locks no longer than the limit says, and alone renames.

    One that is only `looking` cannot write.

    A client that was killed may have left the server at work on its last statement; the turn
    comes when that has ended.
    """
    with server.session(read_only=looking) as session:
        session.execute(f"SET SESSION lock_wait_timeout = {LIMITS.rename_lock_seconds}")
        session.execute(f"SET SESSION innodb_lock_wait_timeout = {LIMITS.rename_lock_seconds}")
        for name in (TURN, BEHIND):
            got = session.query("SELECT GET_LOCK(%s, %s)", (name, LIMITS.rename_turn_seconds))
            if not got[0][0]:
                raise ServerError(
                    f"another rename, cutover or rollback is at work on {server.address}",
                    hint="call again when it has ended",
                )
        session.query("SELECT RELEASE_LOCK(%s)", (BEHIND,))
        yield session


def begin(session: Session, journal: Journal) -> None:
    """Write the journal; its schema is there. From here on the work ends or is undone."""
    table = quote(journal.schema, RENAMING)
    session.execute(CREATE.format(table=table))
    _write(session, journal)


def rewrite(session: Session, journal: Journal) -> None:
    """Put other steps into a journal, in one transaction."""
    _write(session, journal)


def _write(session: Session, journal: Journal) -> None:
    table = quote(journal.schema, RENAMING)
    rows = [(-1, journal.head()), *enumerate(journal.steps)]
    session.execute("START TRANSACTION")
    session.execute(f"DELETE FROM {table}")
    for start in range(0, len(rows), LIMITS.journal_rows_per_insert):
        part = rows[start : start + LIMITS.journal_rows_per_insert]
        session.execute(
            f"INSERT INTO {table} (step, payload) VALUES {', '.join(['(%s, %s)'] * len(part))}",
            [value for step, payload in part for value in (step, json.dumps(payload))],
        )
    session.execute("COMMIT")


def open_journal(session: Session, schema: str) -> Journal | None:
    """The journal in that schema; None when there is none, or none was begun.

    Raises `InvalidArgument` when it says what no rename does.
    """
    if schema not in journals(session) and not (
        session.folds and schema.lower() in map(str.lower, journals(session))
    ):
        return None
    rows = dict(session.query(f"SELECT step, payload FROM {quote(schema, RENAMING)}"))
    if -1 not in rows:
        return None
    try:
        head = json.loads(rows.pop(-1))
        steps = [json.loads(rows[number]) for number in sorted(rows)]
    except ValueError:
        head, steps = {}, []
    schema = _as_written(session, schema, head)
    prove(schema, head, steps)
    return Journal(
        schema, head["verb"], head["facts"], steps, head["state"], head["position"], head["notes"]
    )


def _as_written(session: Session, schema: str, head: Mapping[str, Any]) -> str:
    """The schema as the journal in it spells it, and all others it names from now on."""
    facts = head.get("facts") if isinstance(head, Mapping) else None
    for said in facts.values() if session.folds and isinstance(facts, Mapping) else ():
        pairs = said.items() if isinstance(said, Mapping) else [(said, said)]
        session.spell(name for pair in pairs for name in pair if isinstance(name, str))
    return session.spelt(schema)


def all_journals(session: Session) -> Iterator[Journal]:
    """Every journal there is. What is none is left out: whoever writes nonsense into a schema of
    theirs keeps nobody else from a cutover or rollback."""
    for name in journals(session):
        with suppress(InvalidArgument):
            if journal := open_journal(session, name):
                yield journal


def has_renamed(session: Session, journal: Journal) -> bool:
    """Whether tables have changed places: from there on the work is finished, not begun anew."""
    return any(
        len(left_of(session, step["pairs"])) < len(step["pairs"])
        for step in journal.steps
        if step["kind"] == "rename"
    )


def without_triggers(session: Session, journal: Journal) -> list[str]:
    """Triggers that a call dropped which was killed before the tables changed places.

    They go last of all before that, under the locks; what is written from then on until the next
    call runs none of them.
    """
    if journal.state != DOING or has_renamed(session, journal):
        return []
    there = {
        (str(schema).lower(), str(name).lower())
        for schema, name in session.query(
            "SELECT TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS"
        )
    }
    dropped = [
        (str(step["program"]["schema"]), str(step["program"]["name"]))
        for step in journal.steps
        if step["kind"] == "drop_program"
        and step["program"]["kind"] == "trigger"
        and not step["map"]
    ]
    gone = [pair for pair in dropped if (pair[0].lower(), pair[1].lower()) not in there]
    if not gone:
        return []
    held = read_grants(session)
    # Whoever may not see triggers sees none.
    return [f"{schema}.{name}" for schema, name in gone if held.has("TRIGGER", schema)]


def go_on(
    session: Session,
    journal: Journal,
    ready: Ready | None = None,
    last: Callable[[], None] | None = None,
    proves: Collection[str] = (),
    evicts: bool = False,
) -> None:
    """Do what is left. Tables change places when it is `ready` and all of them are locked.

    `last` is called right before, to do what had better be done as late as possible; locks that it
    leaves to this session are exchanged for those of the rename. `proves` names schemas that nobody
    may have written to while their tables went; with `evicts` sessions that wait for them are
    ended.
    """
    while journal.position < len(journal.steps):
        triggers = _triggers_before_rename(journal)
        step = journal.steps[journal.position + len(triggers)]
        if step["kind"] == "rename":
            names = [(one["program"]["schema"], one["program"]["name"]) for one in triggers]
            journal.held_since = journal.held_since or time.monotonic()
            if last is not None:
                last()
            journal.notes += move(
                session,
                step["pairs"],
                names,
                ready,
                proves=proves,
                evicts=evicts,
                note=lambda other, marks: _note(other, journal, marks),
            )
            journal.facts.pop(MARKS, None)
            if ready is not None:
                journal.facts["window_seconds"] = time.monotonic() - journal.held_since
            journal.position += len(triggers) + 1
            mark(session, journal)
        else:
            steps = list(together(journal.steps[journal.position :]))
            action = ACTIONS[steps[0]["kind"]]
            with action.around(session, steps) if action.around else nullcontext():
                for step in steps:
                    journal.notes += action.do(session, step)
                    journal.position += 1
                    mark(session, journal)
    journal.state = DONE
    mark(session, journal)


def _note(session: Session, journal: Journal, marks: Mapping[Name, Mark]) -> None:
    """Write down when production was written to last, for whoever goes on after a kill."""
    journal.facts[MARKS] = [
        [schema, table, one.number, one.updated.isoformat() if one.updated else None]
        for (schema, table), one in marks.items()
        if schema in journal.facts.get("schema_map", ()) and not table.startswith("~")
    ]
    mark(session, journal)


def _triggers_before_rename(journal: Journal) -> list[dict[str, Any]]:
    """The steps from here on that only drop triggers, where a rename follows: they go with it."""
    found: list[dict[str, Any]] = []
    for step in journal.steps[journal.position :]:
        if step["kind"] == "rename":
            return found
        if step["kind"] != "drop_program" or step["program"]["kind"] != "trigger" or step["map"]:
            return []
        found.append(step)
    return []


def go_back(session: Session, journal: Journal, ready: Ready | None = None) -> None:
    """Undo what is done, last step first. The journal stays, at position 0."""
    if journal.state != UNDOING:
        # The step after the last one counted may be half done, and triggers go with the rename
        # behind them: all of that is undone too.
        behind = len(_triggers_before_rename(journal))
        journal.position = min(journal.position + behind, len(journal.steps) - 1) + 1
        journal.state = UNDOING
        mark(session, journal)
    while journal.position > 0:
        steps = list(together(reversed(journal.steps[: journal.position])))
        action = ACTIONS[steps[0]["kind"]]
        with action.around(session, steps) if action.around else nullcontext():
            for step in steps:
                if step["kind"] == "rename":
                    journal.notes += move_back(session, step, ready)
                else:
                    journal.notes += action.undo(session, step)
                journal.position -= 1
                mark(session, journal)


def forget(session: Session, schema: str) -> None:
    """Remove the journal: nothing can be undone any more."""
    session.execute(f"DROP TABLE IF EXISTS {quote(schema, RENAMING)}")


def mark(session: Session, journal: Journal) -> None:
    """Write down how far the work is, and what is known of all of it."""
    session.execute(
        f"UPDATE {quote(journal.schema, RENAMING)} SET payload = %s WHERE step = -1",
        (json.dumps(journal.head()),),
    )
