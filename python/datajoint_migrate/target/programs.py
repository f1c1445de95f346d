"""Views, triggers, routines and events of one schema as those of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.programs import Program
from datajoint_migrate.catalog.sql import Token, tokens

# After these a two-part name is schema and table, even where an alias has the schema's name.
BEFORE_TABLE = {"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "CALL", "VIEW", "STRAIGHT_JOIN"}

# What may stand between CREATE and the kind of program.
HEAD = {
    "OR", "REPLACE", "ALGORITHM", "UNDEFINED", "MERGE", "TEMPTABLE", "DEFINER", "SQL", "SECURITY",
    "INVOKER", "AGGREGATE",
}  # fmt: skip


def rewritten(program: Program, schema_map: Mapping[str, str]) -> str:
    """The statement that makes `program` in its mapped schema: every name of a mapped schema is
    exchanged, strings and comments stay. Where nothing gets another name the text is the same.

    Names without a schema resolve in the schema that is in use when the statement is run.
    """
    parts = tokens(program.create, program.sql_mode or "")
    for at in list(_schema_names(parts, changed(schema_map))):
        parts[at] = Token("name", quote(schema_map[parts[at].name]))
    return "".join(part.text for part in parts)


def changed(schema_map: Mapping[str, str]) -> set[str]:
    """Schemas that get another name."""
    return {old for old, new in schema_map.items() if old != new}


def schemas_named(program: Program, schemas: Iterable[str]) -> set[str]:
    """Which of `schemas` the text names before a dot."""
    parts = tokens(program.create, program.sql_mode or "")
    return {parts[at].name for at in _schema_names(parts, set(schemas))}


def named_in_strings(program: Program, schemas: Iterable[str]) -> set[str]:
    """Which of `schemas` stand in a string, where prepared statements keep names."""
    strings = [
        part.text
        for part in tokens(program.create, program.sql_mode or "")
        if part.kind == "string"
    ]
    return {name for name in schemas if any(name in text for text in strings)}


def _schema_names(parts: list[Token], schemas: Iterable[str]) -> Iterator[int]:
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


def _dotted(parts: list[Token], solid: list[int], place: int) -> bool:
    """Whether a dot and a further name follow."""
    follow = [parts[at] for at in solid[place + 1 : place + 3]]
    return len(follow) == 2 and follow[0].text == "." and follow[1].is_name


def _is_alias(parts: list[Token], solid: list[int], name: str) -> bool:
    for place, at in enumerate(solid):
        if parts[at].name != name or not place:
            continue
        before = parts[solid[place - 1]]
        alone = place + 1 == len(solid) or parts[solid[place + 1]].text != "."
        if alone and (before.is_name or before.text == ")"):
            return True
    return False


def _names_table(parts: list[Token], solid: list[int], place: int) -> bool:
    before = place - 1
    while before >= 0 and parts[solid[before]].text == "(":
        before -= 1
    return before >= 0 and parts[solid[before]].text.upper() in BEFORE_TABLE


def makes(program: Program) -> bool:
    """Whether the text is a CREATE of that very program, as one out of an archive or a journal need
    not be: before the name stands nothing but what SHOW CREATE puts there."""
    parts = tokens(program.create, program.sql_mode or "")
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


def definer_of(program: Program) -> str | None:
    """The account that the text names as its definer, `user@host` or a role's name; None where it
    names none, or whoever runs it."""
    solid = [
        part
        for part in tokens(program.create, program.sql_mode or "")
        if part.kind not in ("space", "comment")
    ]
    kind = program.kind.upper()
    for at, part in enumerate(solid):
        if part.kind == "word" and part.text.upper() == kind:
            return None
        if part.name.upper() != "DEFINER" or [one.text for one in solid[at + 1 : at + 2]] != ["="]:
            continue
        named = [_bare(one) for one in solid[at + 2 : at + 5]]
        if named[0].upper() == "CURRENT_USER" and solid[at + 2].kind == "word":
            return None
        return "@".join((named[0], named[2])) if named[1:2] == ["@"] else named[0]
    return None


def _bare(part: Token) -> str:
    return part.text[1:-1] if part.kind == "string" else part.name or part.text


def without_definer(sql: str, sql_mode: str) -> str:
    """The statement with DEFINER=… cut out of its head."""
    parts = tokens(sql, sql_mode)
    start = next((at for at, part in enumerate(parts) if part.name.upper() == "DEFINER"), None)
    if start is None:
        return sql
    end = start + 1
    while end < len(parts) and parts[end].name.upper() not in (
        "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "SQL", "AGGREGATE",
    ):  # fmt: skip
        end += 1
    return "".join(part.text for part in parts[:start] + parts[end:])
