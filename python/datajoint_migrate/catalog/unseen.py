"""What this user cannot see of a schema is not taken for absent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from datajoint_migrate.catalog.grants import Grants, read_grants
from datajoint_migrate.catalog.programs import Program
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import InvalidArgument, PermissionMissing

Unseen = Literal["refuse", "leave"]

# Any one of these on the whole schema shows programs of the kind; the first is what is asked for.
TRIGGERS = ("TRIGGER",)
EVENTS = ("EVENT",)
ROUTINES = ("EXECUTE", "ALTER ROUTINE", "CREATE ROUTINE")
# And these, on all schemas.
ROUTINES_OF_ALL = ("SELECT", "SHOW_ROUTINE")


def hidden_kinds(session: Session, schema: str, grants: Grants | None = None) -> dict[str, str]:
    """Kinds of programs that this user may not see in a schema → the privilege that shows them."""
    held = grants or read_grants(session)

    def sees(privileges: tuple[str, ...]) -> bool:
        return any(held.has(privilege, schema) for privilege in privileges)

    hidden = {}
    if not sees(TRIGGERS):
        hidden["triggers"] = "TRIGGER"
    if not sees(EVENTS):
        hidden["events"] = "EVENT"
    everywhere = not session.is_mariadb and any(held.has(one) for one in ROUTINES_OF_ALL)
    if not sees(ROUTINES) and not everywhere:
        hidden["functions and procedures"] = "EXECUTE"
    return hidden


def unseen_programs(
    session: Session, schema: str, programs: Iterable[Program], grants: Grants | None = None
) -> list[str]:
    """Sentences about what `read_programs` could not see of a schema, or not read."""
    said = [
        f"{kind} of {schema}, if there are any, cannot be seen by {session.server.user} without"
        f" {privilege}"
        for kind, privilege in hidden_kinds(session, schema, grants).items()
    ]
    said += [
        f"the definition of the {program} cannot be read by {session.server.user}"
        for program in programs
        if not program.create
    ]
    return said


def check_unseen(unseen: str) -> None:
    """Raises `InvalidArgument` for an option that does not exist."""
    if unseen not in get_args(Unseen):
        raise InvalidArgument(
            f"unseen={unseen!r} is unknown", hint="give 'refuse', or 'leave' to go on without them"
        )


def refuse_unseen(
    session: Session,
    programs_by_schema: Iterable[tuple[str, Iterable[Program]]],
    unseen: str,
    *,
    is_option: bool = True,
) -> list[str]:
    """What stays behind unseen, as notes, where that is accepted (`unseen="leave"`).

    Raises `PermissionMissing` where it is not; `is_option` says that the caller may accept it.
    """
    check_unseen(unseen)
    said = []
    schemas = []
    grants = read_grants(session)
    for schema, programs in programs_by_schema:
        found = unseen_programs(session, schema, programs, grants)
        said += found
        schemas += [schema] if found else []
    if not said:
        return []
    if unseen == "leave":
        return [f"{sentence}: left behind" for sentence in said]
    wanted = ", ".join(f"`{schema}`.*" for schema in schemas[:3])
    raise PermissionMissing(
        "; ".join(said[:8]) + (f"; and {len(said) - 8} more" if len(said) > 8 else ""),
        hint="let an administrator run: GRANT SHOW VIEW, TRIGGER, EVENT, EXECUTE ON"
        f" {wanted} TO '{session.server.user}'"
        + ("; or go on without what is not seen: unseen='leave'" if is_option else ""),
        context={"unseen": said, "schemas": schemas},
    )
