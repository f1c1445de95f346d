"""A journal is a table that others may write too: it is believed as far as a rename goes.

Whoever finishes or undoes a rename does so with rights that the writer of the journal need not
have. So every step must be of a known kind, concern no schema but those the work is about, and
hold no SQL where a word belongs. What programs it makes is proved where they are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from datajoint_migrate.catalog.programs import Kind
from datajoint_migrate.catalog.sql import tokens
from datajoint_migrate.errors import InvalidArgument

WORD = re.compile(r"[0-9a-zA-Z_]+")
RIGHT = re.compile(r"[A-Z][A-Z_ ]*")
ROUTINE_RIGHTS = {"execute", "alter routine", "grant"}
STATES = ("doing", "done", "undoing")


def prove(schema: str, head: Mapping[str, Any], steps: list[dict[str, Any]]) -> None:
    """Raises `InvalidArgument` when the journal in `schema` says what no rename or cutover does."""
    try:
        _prove(schema, head, steps)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(
            f"the journal in {schema!r} is none that this program wrote: {error}",
            hint="nothing was done; look at its table ~rename_journal, who may write there?",
        ) from None


def _prove(schema: str, head: Mapping[str, Any], steps: list[dict[str, Any]]) -> None:
    facts = head["facts"]
    if head["verb"] not in ("cutover", "rename_schema") or head["state"] not in STATES:
        raise ValueError(f"it is of a {head['verb']!r} that is {head['state']!r}")
    if not 0 <= int(head["position"]) <= len(steps):
        raise ValueError(f"{head['position']} of {len(steps)} steps are done")
    if head["verb"] == "cutover":
        own = {*facts["schema_map"], *facts["schema_map"].values(), *facts["archives"].values()}
    else:
        own = {facts["old"], facts["new"]}
        _words(facts["charset"])
    if schema not in own:
        raise ValueError(f"it is not about {schema!r}")
    for step in steps:
        for name in _schemas(step):
            if name not in own:
                raise ValueError(f"a step of it is about the schema {name!r}")


def _schemas(step: Mapping[str, Any]) -> Iterator[str]:
    """The schemas that a step changes; raises `ValueError` for what is no step."""
    kind = step["kind"]
    if kind == "rename":
        for old, _, new in step["pairs"]:
            yield from (old, new)
    elif kind in ("drop_program", "create_program"):
        program = step["program"]
        if program["kind"] not in get_args(Kind):
            raise ValueError(f"{program['kind']!r} is no kind of program")
        for user, host, said in [*step.get("rights", ()), *(program.get("rights") or ())]:
            if not (isinstance(user, str) and isinstance(host, str)):
                raise ValueError(f"{user!r} is no account")
            if not set(said) <= ROUTINE_RIGHTS:
                raise ValueError(f"{said} are no privileges on a routine")
        yield program["schema"]
        yield from step["map"].values()
    elif kind == "lineage":
        yield from step["names"]
        yield from step["names"].values()
    elif kind == "grants":
        yield from (step["old"], step["new"])
        for grant in step["grants"]:
            if not all(RIGHT.fullmatch(right) for right in grant["rights"]):
                raise ValueError(f"{grant['rights']} are no privileges")
            if any(
                part.text in ("--", ";") or part.kind == "comment" for part in tokens(grant["to"])
            ):
                raise ValueError(f"{grant['to']!r} is no account")
    elif kind == "charset":
        _words([*step["before"], *step["after"]])
        yield step["schema"]
    elif kind == "fence":
        yield step["schema"]
    else:
        raise ValueError(f"{kind!r} is no step")


def _words(names: list[str]) -> None:
    for name in names:
        if not WORD.fullmatch(name):
            raise ValueError(f"{name!r} is no charset or collation")
