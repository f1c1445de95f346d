"""Who else is on some schemas: sessions that use them now, did so lately, or may hold locks."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.errors import PermissionMissing, ServerError

# The server's own.
NOBODY = ("event_scheduler", "system user", "")
SHOWN = 200
MOMENTS = 5
MOMENT = 0.2


def other_sessions(
    session: Session, schemas: Iterable[str], own: Sequence[int] = ()
) -> tuple[list[str], list[str]]:
    """As `sessions_now`, but a session that is just ending has a moment to do so."""
    names = list(schemas)
    for _ in range(MOMENTS):
        problems, notes = sessions_now(session, names, own)
        if not problems:
            break
        time.sleep(MOMENT)
    return problems, notes


def sessions_now(
    session: Session, schemas: Iterable[str], own: Sequence[int] = ()
) -> tuple[list[str], list[str]]:
    """Sentences about sessions that are on the schemas, and others about what cannot be seen.

    Needs PROCESS, and on MySQL SELECT on performance_schema: what is not granted is named among
    the first, because unseen sessions are no proof. `own` sessions of the caller do not count.
    """
    names = list(schemas)
    try:
        transactions = _transactions(session)
    except PermissionMissing:
        user = session.server.user
        return [f"{user} lacks PROCESS: other users' sessions are not seen; GRANT PROCESS"], []
    problems: dict[int, str] = {}
    everybody = _processes(session, {session_id(session), *own})
    used, note = _used(session, names)
    pattern = re.compile("|".join(rf"(?<![\w$]){re.escape(name)}(?![\w$])" for name in names))
    for number, row in everybody.items():
        _, user, host, db, command, seconds, info = row
        who = f"session {number} of {user}@{host}"
        if db in names or (info and pattern.search(info)):
            problems[number] = f"{who} runs {_short(info) or command} ({seconds} s)"
        elif number in used:
            problems[number] = f"{who} has used {used[number]} ({command}, {seconds} s)"
        elif number in transactions and note:
            # Nothing tells which tables it holds, so it has to end.
            problems[number] = f"{who} has an open transaction ({transactions[number]} s)"
        elif note and db is None:
            # As every DataJoint client is: they name the schema in each statement.
            problems[number] = f"{who} is connected ({command}, {seconds} s), and {note}"
        if number in problems and number in transactions and "transaction" not in problems[number]:
            problems[number] += f", with an open transaction ({transactions[number]} s)"
    notes = []
    unknown = [f"{number} of {row[1]}@{row[2]}" for number, row in everybody.items()]
    if note and unknown and not problems:
        notes = [note + ": " + ", ".join(unknown)]
    denied = note if note and note.startswith("lacks") else None
    found = list(problems.values())
    return ([f"{session.server.user} {denied}", *found] if denied else found), notes


def session_id(session: Session) -> int:
    """The server's number for a session."""
    return int(session.query("SELECT CONNECTION_ID()")[0][0])


def _processes(session: Session, own: set[int]) -> dict[int, tuple[Any, ...]]:
    rows = session.query(
        "SELECT ID, USER, HOST, DB, COMMAND, TIME, INFO FROM information_schema.PROCESSLIST"
    )
    return {
        int(row[0]): row
        for row in rows
        if int(row[0]) not in own
        and row[1] not in NOBODY
        and row[4] not in ("Daemon", "Binlog Dump", "Binlog Dump GTID")
    }


def _transactions(session: Session) -> dict[int, int]:
    """Sessions with an open transaction, and for how many seconds."""
    return {
        int(number): int(seconds or 0)
        for number, seconds in session.query(
            "SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, NOW())"
            " FROM information_schema.INNODB_TRX"
        )
    }


def _used(session: Session, names: list[str]) -> tuple[dict[int, str], str | None]:
    """Sessions that hold or lately used one of the schemas; and why that is not known."""
    if not int(session.query("SELECT @@performance_schema")[0][0]):
        return {}, "performance_schema is off, so what idle sessions used is not known"
    marks = ", ".join(["%s"] * len(names))
    likes = " OR ".join(["LOCATE(%s, h.SQL_TEXT) > 0"] * len(names))
    found: dict[int, str] = {}
    try:
        recent = session.query(
            "SELECT t.PROCESSLIST_ID, h.SQL_TEXT FROM performance_schema.threads t"
            " JOIN performance_schema.events_statements_history h USING (THREAD_ID)"
            f" WHERE t.PROCESSLIST_ID IS NOT NULL AND ({likes})",
            names,
        )
        held = session.query(
            "SELECT t.PROCESSLIST_ID, m.OBJECT_SCHEMA, m.OBJECT_NAME, m.LOCK_TYPE"
            " FROM performance_schema.metadata_locks m JOIN performance_schema.threads t"
            " ON t.THREAD_ID = m.OWNER_THREAD_ID"
            f" WHERE t.PROCESSLIST_ID IS NOT NULL AND m.OBJECT_SCHEMA IN ({marks})",
            names,
        )
    except (PermissionMissing, ServerError):
        return {}, "lacks SELECT on performance_schema.*, so what idle sessions used is not known"
    pattern = re.compile("|".join(rf"(?<![\w$]){re.escape(name)}(?![\w$])" for name in names))
    for number, text in recent:
        if text and (match := pattern.search(str(text))):
            found[int(number)] = f"{match[0]}: {_short(str(text))}"
    for number, schema, table, kind in held:
        found[int(number)] = f"{schema}.{table} and holds a lock on it ({kind})"
    return found, None


def _short(text: str | None) -> str:
    words = " ".join((text or "").split())
    return words if len(words) <= SHOWN else words[: SHOWN - 1] + "…"
