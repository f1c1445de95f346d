"""Views, triggers, routines and events of one schema as those of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Session
from datajoint_migrate.catalog.programs import Program
from datajoint_migrate.catalog.sql import Word, words
from datajoint_migrate.errors import MigrationError, PermissionMissing

# After these a two-part name is schema and table, even where an alias has the schema's name.
BEFORE_TABLE = {"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "CALL", "VIEW", "STRAIGHT_JOIN"}

# What may stand between CREATE and the kind of program.
HEAD = {
    "OR", "REPLACE", "ALGORITHM", "UNDEFINED", "MERGE", "TEMPTABLE", "DEFINER", "SQL", "SECURITY",
    "INVOKER", "AGGREGATE",
}  # fmt: skip


def rewritten(program: Program, schema_map: Mapping[str, str]) -> str:
    """The statement that makes `program` in its mapped schema: every name of a mapped schema is
    exchanged, strings and comments stay.

    Names without a schema resolve in the schema that is in use when the statement is run.
    """
    parts = words(program.create, program.sql_mode or "")
    for at in _schema_names(parts, schema_map):
        parts[at] = Word("name", quote(schema_map[parts[at].name]))
    return "".join(part.text for part in parts)


def schemas_named(program: Program, schemas: Iterable[str]) -> set[str]:
    """Which of `schemas` the text names before a dot."""
    parts = words(program.create, program.sql_mode or "")
    return {parts[at].name for at in _schema_names(parts, set(schemas))}


def named_in_strings(program: Program, schemas: Iterable[str]) -> set[str]:
    """Which of `schemas` stand in a string, where prepared statements keep names."""
    strings = [
        part.text for part in words(program.create, program.sql_mode or "") if part.kind == "string"
    ]
    return {name for name in schemas if any(name in text for text in strings)}


def _schema_names(parts: list[Word], schemas: Iterable[str]) -> Iterator[int]:
    """Where a name of one of `schemas` begins a dotted name."""
    wanted = set(schemas)
    solid = [at for at, part in enumerate(parts) if part.kind not in ("space", "comment")]
    for place, at in enumerate(solid):
        part = parts[at]
        if not part.is_name or part.name not in wanted or not _dotted(parts, solid, place):
            continue
        if place and parts[solid[place - 1]].text in (".", "@"):
            continue
        three = _dotted(parts, solid, place + 2)
        if three or not _is_alias(parts, solid, part.name) or _names_table(parts, solid, place):
            yield at


def _dotted(parts: list[Word], solid: list[int], place: int) -> bool:
    """Whether a dot and a further name follow."""
    follow = [parts[at] for at in solid[place + 1 : place + 3]]
    return len(follow) == 2 and follow[0].text == "." and follow[1].is_name


def _is_alias(parts: list[Word], solid: list[int], name: str) -> bool:
    for place, at in enumerate(solid):
        if parts[at].name != name or not place:
            continue
        before = parts[solid[place - 1]]
        alone = place + 1 == len(solid) or parts[solid[place + 1]].text != "."
        if alone and (before.is_name or before.text == ")"):
            return True
    return False


def _names_table(parts: list[Word], solid: list[int], place: int) -> bool:
    before = place - 1
    while before >= 0 and parts[solid[before]].text == "(":
        before -= 1
    return before >= 0 and parts[solid[before]].text.upper() in BEFORE_TABLE


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
    for name in sorted(named_in_strings(program, schema_map)):
        notes.append(f"the {program} names {name!r} in a string, which stays as it is")
    session.execute(f"USE {quote(dest)}")
    session.execute("SET SESSION sql_mode = %s", (program.sql_mode or "",))
    if program.time_zone is not None:
        session.execute("SET SESSION time_zone = %s", (program.time_zone,))
    _speak_as(session, program)
    sql = rewritten(program, schema_map)
    try:
        session.execute(sql)
    except PermissionMissing:
        session.execute(_without_definer(sql, program.sql_mode or ""))
        notes.append(
            f"the {program} belongs to {session.server.user} now, not to {program.definer}: "
            "another definer needs the privilege SET_ANY_DEFINER (SUPER on MariaDB)"
        )
    return notes


def makes(program: Program) -> bool:
    """Whether the text is a CREATE of that very program, as one out of an archive or a journal need
    not be: before the name stands nothing but what SHOW CREATE puts there."""
    parts = words(program.create, program.sql_mode or "")
    solid = [part for part in parts if part.kind not in ("space", "comment")]
    said = [part.text.upper() if part.kind == "word" else "" for part in solid]
    if not said or said[0] != "CREATE":
        return False
    at = 1
    while at < len(solid) and (said[at] in HEAD or solid[at].text == "="):
        if said[at] == "DEFINER" and at + 2 < len(solid) and solid[at + 1].text == "=":
            at += 3
            if at + 1 < len(solid) and solid[at].text == "@":
                at += 2
            if [part.text for part in solid[at : at + 2]] == ["(", ")"]:
                at += 2
        else:
            at += 1
    if said[at : at + 1] != [program.kind.upper()]:
        return False
    at += 4 if said[at + 1 : at + 4] == ["IF", "NOT", "EXISTS"] else 1
    at += 2 if [part.text for part in solid[at + 1 : at + 2]] == ["."] else 0
    named = solid[at].name if at < len(solid) else ""
    return named.casefold() == program.name.casefold()


def _speak_as(session: Session, program: Program) -> None:
    """The character set and collation that literals of the text are understood in."""
    charset, collation = program.charset or "utf8mb4", program.collation
    if not all(part.isalnum() for part in (charset, (collation or "x").replace("_", ""))):
        return
    # The text is sent as utf8mb4 and kept with the character set that it was made under.
    said = f"SET NAMES utf8mb4, character_set_client = {charset}"
    if charset not in ("utf8mb4", "utf8mb3", "utf8"):
        # Bytes beyond ASCII would be read wrongly; such a text keeps utf8mb4.
        said = "SET NAMES utf8mb4" if not program.create.isascii() else said
    session.execute(said + (f", collation_connection = {collation}" if collation else ""))


def _without_definer(sql: str, sql_mode: str) -> str:
    """The statement with DEFINER=… cut out of its head."""
    parts = words(sql, sql_mode)
    start = next((at for at, part in enumerate(parts) if part.name.upper() == "DEFINER"), None)
    if start is None:
        return sql
    end = start + 1
    while end < len(parts) and parts[end].name.upper() not in (
        "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "SQL", "AGGREGATE",
    ):  # fmt: skip
        end += 1
    return "".join(part.text for part in parts[:start] + parts[end:])


def drop_program(session: Session, program: Program) -> None:
    """Drop it where it is, if it is there."""
    name = quote(program.schema, program.name)
    session.execute(f"DROP {program.kind.upper()} IF EXISTS {name}")
