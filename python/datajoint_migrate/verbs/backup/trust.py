"""Which programs of a backup are made: they run with their definers' rights, and whoever may write
to a backup can give them any text and any definer."""

from __future__ import annotations

from collections.abc import Iterable

from datajoint_migrate.call.ends import Ends
from datajoint_migrate.catalog.names import SYSTEM
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.programs import Program, read_programs
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.limits import LIMITS
from datajoint_migrate.target.programs import definer_of, rewritten, schemas_named
from datajoint_migrate.verbs.backup.origin import Origin
from datajoint_migrate.words import verb

# What the server keeps for itself; a view over it shows accounts and what others do.
OWN = SYSTEM - {"information_schema"}


def choose_programs(ends: Ends, origin: Origin, wanted: bool, definers: Iterable[str]) -> list[str]:
    """Leave those programs in `origin` that are to be made; sentences about them.

    Raises `InvalidArgument` for programs whose definer is neither the user nor accepted, unless
    the schema, or its backup on the server, holds the very program.
    """
    if not isinstance(wanted, bool):
        raise InvalidArgument(f"programs is {wanted!r}", hint="say True or False")
    if isinstance(definers, str):
        raise InvalidArgument(f"definers is {definers!r}", hint="give a list: ['alice@%']")
    programs = origin.programs
    if not wanted:
        origin.programs = []
        return [_listed(programs, "left out, as programs=False says")] if programs else []
    if origin.archived is None and origin.record is None:
        return []
    notes = []
    known = _known(ends, origin)
    foreign = [
        one for one in programs if (one.kind, one.name, one.create, one.definer) not in known
    ]
    reading = [one for one in foreign if schemas_named(one, OWN)]
    if reading:
        programs = [one for one in programs if one not in reading]
        foreign = [one for one in foreign if one not in reading]
        notes.append(_listed(reading, f"not made: they name {', '.join(sorted(OWN))}"))
    me = str(ends.destination.query("SELECT CURRENT_USER()")[0][0])
    accepted = {_plain(one) for one in (*definers, me)}
    refused = [one for one in foreign if _plain(definer_of(one) or me) not in accepted]
    if refused:
        others = sorted({str(definer_of(one)) for one in refused})
        raise InvalidArgument(
            f"{origin.name} holds programs that would run as somebody else than {me}: "
            + _names(refused),
            code="DJM-1505",
            hint="look at them, then say whose you accept, definers="
            f"{others} (--definer), or leave all programs out, programs=False (--no-programs)",
            context={"programs": [str(one) for one in refused], "definers": others},
        )
    if foreign:
        owners = ", ".join(sorted({definer_of(one) or me for one in foreign}))
        notes.append(_listed(foreign, f"made as {origin.name} has them, for {owners}"))
    origin.programs = programs
    return notes


def _known(ends: Ends, origin: Origin) -> set[tuple[str, str, str, str]]:
    """Programs that somebody with the right to do so has made, as `origin` would have them."""
    known = {
        (one.kind, one.name, one.create, one.definer)
        for session in (ends.source, ends.destination)
        for one in _there(session, origin.schema)
    }
    if origin.copy is not None:
        there = {(one.kind, one.name): one for one in _there(ends.source, origin.copy.name)}
        for one in origin.programs:
            copy = there.get((one.kind, one.name))
            written = rewritten(one, {origin.schema: origin.copy.name})
            if copy and (copy.create, copy.definer) == (written, one.definer):
                known.add((one.kind, one.name, one.create, one.definer))
    # What is claimed of the definer must be what the text says.
    return {
        (one.kind, one.name, one.create, one.definer)
        for one in origin.programs
        if (one.kind, one.name, one.create, one.definer) in known
        and _plain(definer_of(one) or one.definer) == _plain(one.definer)
    }


def _there(session: Session, schema: str) -> list[Program]:
    return read_programs(session, schema) if schema_exists(session, schema) else []


def _listed(programs: list[Program], what: str) -> str:
    many = f"{len(programs):,} views, triggers, routines or events are"
    return f"{verb(len(programs), 'one program is', many)} {what}: {_names(programs)}"


def _names(programs: list[Program]) -> str:
    named = [f"the {one} of {definer_of(one) or 'whoever restores it'}" for one in programs]
    more = (
        f" and {len(named) - LIMITS.shown_programs} more"
        if len(named) > LIMITS.shown_programs
        else ""
    )
    return ", ".join(named[: LIMITS.shown_programs]) + more


def _plain(account: str) -> str:
    return account.replace("`", "").replace("'", "").replace('"', "")
