"""Who else is on some schemas: sessions that use them now, did so lately, or may hold locks."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import NotFound, PermissionMissing, ServerError
from datajoint_migrate.limits import LIMITS

# The server's own.
NOBODY = ("event_scheduler", "system user", "")


def other_sessions(
    session: Session,
    schemas: Iterable[str],
    own: Sequence[int] = (),
    among: Collection[int] | None = None,
) -> tuple[list[str], list[str]]:
    """As `sessions_now`, but a session that is just ending has a moment to do so."""
    names = list(schemas)
    for _ in range(LIMITS.ended_moments):
        problems, notes = sessions_now(session, names, own, among)
        if not problems:
            break
        time.sleep(LIMITS.ended_moment)
    return problems, notes


def sessions_now(
    session: Session,
    schemas: Iterable[str],
    own: Sequence[int] = (),
    among: Collection[int] | None = None,
) -> tuple[list[str], list[str]]:
    """Sentences about sessions that are on the schemas, and others about what cannot be seen.

    Needs PROCESS, and on MySQL SELECT on performance_schema: what is not granted is named among
    the first, because unseen sessions are no proof. `own` sessions of the caller do not count, nor
    do any but those `among`, where that is given.
    """
    try:
        problems, note, unknown = _found(session, list(schemas), own)
    except PermissionMissing:
        user = session.server.user
        return [f"{user} lacks PROCESS: other users' sessions are not seen; GRANT PROCESS"], []
    notes = []
    if note and unknown and not problems:
        notes = [note + ": " + ", ".join(unknown)]
    denied = note if note and " lacks SELECT " in note else None
    found = [said for number, said in problems.items() if among is None or number in among]
    return ([denied, *found] if denied else found), notes


def _found(
    session: Session, schemas: list[str], own: Sequence[int]
) -> tuple[dict[int, str], str | None, list[str]]:
    """Sentences by session, why they are not all that could be said, and all other sessions."""
    # A server that folds names takes every spelling, and a worker may have one of its own.
    case = re.IGNORECASE if session.folds else re.NOFLAG
    names = [session.folded(name) for name in schemas]
    transactions = _transactions(session)
    problems: dict[int, str] = {}
    everybody = _processes(session, {session_id(session), *own})
    used, note = _used(session, names)
    reaching = _reaching(session, names) if note else None
    clients = _clients(session)
    pattern = _naming(names, case)
    for number, row in everybody.items():
        _, user, host, db, command, seconds, info = row
        who = f"session {number} of {user}@{host}" + clients.get(number, "")
        used_now = session.folded(db) if db else db
        if used_now in names or (info and pattern.search(info)):
            problems[number] = f"{who} runs {_short(info) or command} ({seconds} s)"
        elif number in used:
            problems[number] = f"{who} has used {used[number]} ({command}, {seconds} s)"
        elif number in transactions and note:
            # Nothing tells which tables it holds, so it has to end.
            problems[number] = f"{who} has an open transaction ({transactions[number]} s)"
        elif note and (reaching is None or user in reaching):
            # DataJoint clients name the schema in each statement and hold headings for long.
            problems[number] = f"{who} is connected ({command}, {seconds} s), and {note}"
        if number in problems and number in transactions and "transaction" not in problems[number]:
            problems[number] += f", with an open transaction ({transactions[number]} s)"
    unknown = [f"{number} of {row[1]}@{row[2]}" for number, row in everybody.items()]
    return problems, note, unknown


def end_sessions(session: Session, schemas: Iterable[str], own: Sequence[int] = ()) -> list[str]:
    """End every session that `sessions_now` names; a sentence for each of them."""
    ended = []
    for number, said in _found(session, list(schemas), own)[0].items():
        with suppress(NotFound, ServerError):
            session.execute(f"KILL {number}")
            ended.append(
                f"{said}: it was ended; a 0.14.6 client connects again by itself and would write"
                " with the headings it remembers, so end its process, too"
            )
    return ended


def present(session: Session) -> set[int]:
    """Every session that there is now. Needs PROCESS."""
    return set(_processes(session, set()))


def session_id(session: Session) -> int:
    """The server's number for a session."""
    return int(session.query("SELECT CONNECTION_ID()")[0][0])


def spelt(names: Iterable[str]) -> list[str]:
    """Names as statements have them: plain, or as they stand between back ticks."""
    return sorted({spelling for name in names for spelling in (name, quote(name)[1:-1])})


def _naming(names: Iterable[str], case: re.RegexFlag) -> re.Pattern[str]:
    """What finds one of the names in a statement."""
    words = "|".join(rf"(?<![\w$]){re.escape(word)}(?![\w$])" for word in spelt(names))
    return re.compile(words, case)


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


def _clients(session: Session) -> dict[int, str]:
    """The program and the process behind a session, where the server keeps what clients say."""
    found: dict[int, dict[str, str]] = {}
    with suppress(PermissionMissing, ServerError, NotFound):
        for number, name, value in session.query(
            "SELECT PROCESSLIST_ID, ATTR_NAME, ATTR_VALUE"
            " FROM performance_schema.session_connect_attrs"
            " WHERE ATTR_NAME IN ('program_name', '_client_name', '_pid')"
        ):
            found.setdefault(int(number), {})[str(name)] = str(value)
    return {
        number: f" ({said.get('program_name') or said.get('_client_name')},"
        f" process {said.get('_pid')})"
        for number, said in found.items()
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
    text = "LOWER(h.SQL_TEXT)" if session.folds else "h.SQL_TEXT"
    words = spelt(names)
    likes = " OR ".join([f"LOCATE(%s, {text}) > 0"] * len(words))
    found: dict[int, str] = {}
    try:
        recent = session.query(
            "SELECT t.PROCESSLIST_ID, h.SQL_TEXT FROM performance_schema.threads t"
            " JOIN performance_schema.events_statements_history h USING (THREAD_ID)"
            f" WHERE t.PROCESSLIST_ID IS NOT NULL AND ({likes})",
            words,
        )
        held = session.query(
            "SELECT t.PROCESSLIST_ID, m.OBJECT_SCHEMA, m.OBJECT_NAME, m.LOCK_TYPE"
            " FROM performance_schema.metadata_locks m JOIN performance_schema.threads t"
            " ON t.THREAD_ID = m.OWNER_THREAD_ID"
            f" WHERE t.PROCESSLIST_ID IS NOT NULL AND m.OBJECT_SCHEMA IN ({marks})",
            names,
        )
    except (PermissionMissing, ServerError):
        user = session.server.user
        return {}, (
            f"{user} lacks SELECT on performance_schema.*, so what idle sessions used is not known"
        )
    may_have = _forgotten(session, names)
    pattern = _naming(names, re.IGNORECASE if session.folds else re.NOFLAG)
    for number, count, kept in may_have:
        found[int(number)] = (
            f"something: of its {count} statements the server knows the last {kept}, so it may"
            f" hold headings of {', '.join(names)}"
        )
    for number, text in recent:
        if text and (match := pattern.search(str(text))):
            found[int(number)] = f"{match[0]}: {_short(str(text))}"
    for number, schema, table, kind in held:
        found[int(number)] = f"{schema}.{table} and holds a lock on it ({kind})"
    return found, None


def _forgotten(session: Session, names: list[str]) -> list[tuple[Any, ...]]:
    """Sessions of users who may use the schemas, with more statements than the server remembers."""
    rows = session.query(
        "SELECT t.PROCESSLIST_ID, t.PROCESSLIST_USER, s.VARIABLE_VALUE, COUNT(h.EVENT_ID)"
        " FROM performance_schema.threads t"
        " JOIN performance_schema.status_by_thread s USING (THREAD_ID)"
        " LEFT JOIN performance_schema.events_statements_history h USING (THREAD_ID)"
        " WHERE t.PROCESSLIST_ID IS NOT NULL AND s.VARIABLE_NAME = 'Questions' GROUP BY 1, 2, 3"
    )
    reaching = _reaching(session, names)
    return [
        (number, count, kept)
        for number, user, count, kept in rows
        if int(count) > int(kept) and (reaching is None or user in reaching)
    ]


def _reaching(session: Session, names: list[str]) -> set[str] | None:
    """Users who may use one of the schemas; None where that cannot be read, or roles decide."""
    likes = " OR ".join(["%s LIKE Db"] * len(names))
    marks = ", ".join(["%s"] * len(names))
    try:
        roles = "roles_mapping" if session.is_mariadb else "role_edges"
        if session.query(f"SELECT 1 FROM mysql.{roles} LIMIT 1"):
            return None
        rows = session.query(
            "SELECT User FROM mysql.user WHERE 'Y' IN (Select_priv, Insert_priv, Update_priv,"
            f" Delete_priv) UNION SELECT User FROM mysql.db WHERE {likes}"
            f" UNION SELECT User FROM mysql.tables_priv WHERE Db IN ({marks})"
            f" UNION SELECT User FROM mysql.columns_priv WHERE Db IN ({marks})",
            [*names, *names, *names],
        )
    except (PermissionMissing, ServerError, NotFound):
        return None
    return {str(user) for (user,) in rows}


def _short(text: str | None) -> str:
    words = " ".join((text or "").split())
    return (
        words if len(words) <= LIMITS.shown_statement else words[: LIMITS.shown_statement - 1] + "…"
    )
