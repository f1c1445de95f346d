"""Programs made, held against what they were, given their rights, and dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.programs import Program, Right, read_programs
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import MigrationError, PermissionMissing
from datajoint_migrate.target.programs import (
    changed,
    makes,
    named_in_strings,
    rewritten,
    without_definer,
)

UNICODE = ("utf8mb4", "utf8mb3", "utf8")


def create_programs(
    session: Session, programs: Iterable[Program], schema_map: Mapping[str, str]
) -> list[str]:
    """Make the programs in their mapped schemas, as sessions like those of their makers would.

    What cannot be made is left out. Returns a sentence for each of these, with the reason, and
    for each that is not quite as it was.
    """
    notes: list[str] = []
    # A session of its own: the schema in use and the character set cannot be given back.
    with session.server.session() as own:
        for program in programs:
            try:
                notes += _create(own, program, schema_map)
            except MigrationError as error:
                notes.append(f"the {program} is not carried over: {error.message}")
    return notes


def _create(session: Session, program: Program, schema_map: Mapping[str, str]) -> list[str]:
    if not program.create:
        return [
            f"the {program} is not carried over: its definition cannot be read (SHOW VIEW, SELECT "
            "on mysql.proc or SHOW_ROUTINE, TRIGGER or EVENT is needed, and what it reads must be "
            "there)"
        ]
    if not makes(program):
        return [
            f"the {program} is not carried over: its text does something else than make it, so it"
            " was not run"
        ]
    notes = []
    dest = schema_map[program.schema]
    for name in sorted(named_in_strings(program, changed(schema_map))):
        notes.append(f"the {program} names {name!r} in a string, which stays as it is")
    session.execute(f"USE {quote(dest)}")
    session.execute("SET SESSION sql_mode = %s", (program.sql_mode or "",))
    if program.time_zone is not None:
        session.execute("SET SESSION time_zone = %s", (program.time_zone,))
    sql = rewritten(program, schema_map)
    charset = program.charset if (program.charset or "").isalnum() else None
    charset = charset or "utf8mb4"
    if charset not in UNICODE and not sql.isascii() and _bytes(session, sql, charset) is None:
        notes.append(
            f"the {program} has characters that {charset} does not have: it is kept as utf8mb4 now"
        )
        charset = "utf8mb4"
    _speak_as(session, charset, program.collation)
    try:
        _run(session, sql, charset)
    except PermissionMissing:
        _run(session, without_definer(sql, program.sql_mode or ""), charset)
        notes.append(
            f"the {program} belongs to {session.server.user} now, not to {program.definer}: "
            "another definer needs the privilege SET_ANY_DEFINER (SUPER on MariaDB)"
        )
    return notes


def _speak_as(session: Session, charset: str, collation: str | None) -> None:
    """The character set and collation that literals of the text are understood in."""
    said = f"SET NAMES utf8mb4, character_set_client = {charset}"
    if collation and collation.replace("_", "").isalnum():
        said += f", collation_connection = {collation}"
    session.execute(said)


def _run(session: Session, sql: str, charset: str) -> None:
    """Run a statement in the character set that the session speaks."""
    raw = None if charset in UNICODE or sql.isascii() else _bytes(session, sql, charset)
    if raw is None:
        session.execute(sql)
    else:
        session.execute_bytes(raw, sql)


def _bytes(session: Session, sql: str, charset: str) -> bytes | None:
    """A text in another character set, None if it does not have all its characters."""
    # The server, not Python, knows what the bytes of its character sets are; in a session of our
    # own, because the other's sql_mode is the program's.
    with session.server.session() as own:
        raw, back = own.query(
            f"SELECT CAST(CONVERT(%s USING {charset}) AS BINARY),"
            f" CONVERT(CONVERT(%s USING {charset}) USING utf8mb4)",
            (sql, sql),
        )[0]
    return bytes(raw) if back == sql else None


def unlike(session: Session, programs: Iterable[Program]) -> list[str]:
    """Read the programs again where they were; a sentence for each that is not what it was.

    One that is missing is in its sentence with its text, which may be nowhere else any more.
    """
    wanted = list(programs)
    notes = []
    for schema in dict.fromkeys(one.schema for one in wanted):
        there = read_programs(session, schema)
        found = {(one.kind, one.name): one for one in there}
        mine = [one for one in wanted if one.schema == schema]
        for one in mine:
            now = found.get((one.kind, one.name))
            if now is None:
                notes.append(f"the {one} could not be put back; its text: {one.create}")
                continue
            # What an older version wrote down says nothing of its schema's collation.
            told = [name for name in SAME if one.database_collation or name != SAME[4]]
            changed = [name for name in told if getattr(one, name) != getattr(now, name)]
            if changed:
                notes.append(
                    f"the {one} is not as it was: its {', its '.join(changed)} differs; what it"
                    f" was: {', '.join(repr(getattr(one, name)) for name in changed)}"
                )
        after = _firing(there)
        for table, names in _firing(mine).items():
            now_firing = [name for name in after.get(table, []) if name in names]
            if now_firing != names and sorted(now_firing) == sorted(names):
                notes.append(
                    f"the triggers of {schema}.{table} fire in the order {', '.join(now_firing)},"
                    f" not {', '.join(names)}"
                )
    return notes


SAME = (
    "create", "sql_mode", "charset", "collation", "database_collation", "time_zone", "definer",
)  # fmt: skip


def _firing(programs: Iterable[Program]) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for one in programs:
        if one.table is not None:
            tables.setdefault(one.table, []).append(one.name)
    return tables


def give_rights(session: Session, program: Program, rights: Iterable[Right]) -> list[str]:
    """Let others do with a routine what they could do with the one of that name before.

    A DROP takes all rights on a routine with it. Returns a sentence for each that the server
    refuses.
    """
    notes = []
    place = f"{program.kind.upper()} {quote(program.schema, program.name)}"
    with no_new_accounts(session):
        for user, host, said in rights:
            held = [word.upper() for word in said if word in ("execute", "alter routine")]
            option = " WITH GRANT OPTION" if "grant" in said else ""
            # A role of MariaDB has no host.
            account = "%s@%s" if host else "%s"
            try:
                session.execute(
                    f"GRANT {', '.join(held) or 'USAGE'} ON {place} TO {account}{option}",
                    (user, host) if host else (user,),
                )
            except MigrationError as error:
                notes.append(
                    f"'{user}'@'{host}' could {' and '.join(said)} the {program} and cannot any"
                    f" more: {error.message}"
                )
    return notes


@contextmanager
def no_new_accounts(session: Session) -> Iterator[None]:
    """A GRANT to an account that is gone is refused: MariaDB would make one without a password."""
    if not session.is_mariadb:
        yield
        return
    before = session.query("SELECT @@SESSION.sql_mode")[0][0]
    mode = ",".join(sorted(before)) if isinstance(before, set | frozenset) else str(before)
    session.execute("SET SESSION sql_mode = %s", (f"{mode},NO_AUTO_CREATE_USER",))
    try:
        yield
    finally:
        session.execute("SET SESSION sql_mode = %s", (mode,))


def drop_program(session: Session, program: Program) -> None:
    """Drop it where it is, if it is there."""
    name = quote(program.schema, program.name)
    session.execute(f"DROP {program.kind.upper()} IF EXISTS {name}")
