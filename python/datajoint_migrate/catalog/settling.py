"""A session is set to the engine's list of settings, and what it was set to is read back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from datajoint_migrate import _core
from datajoint_migrate.errors import MigrationError, ServerError

if TYPE_CHECKING:
    from datajoint_migrate.catalog.session import Session


# Defaults of an administrator's own making: a server as it comes has none of them.
CUTTING = {
    "autocommit",
    "completion_type",
    "enforce_storage_engine",
    "max_execution_time",
    "max_join_size",
    "max_statement_time",
    "sql_auto_is_null",
    "sql_big_selects",
    "sql_if_exists",
    "sql_safe_updates",
    "sql_select_limit",
    "system_versioning_asof",
}


def settle(session: Session, banner: str) -> None:
    """Set the session; raises `ServerError` for a setting that it must have and does not take."""
    role = "look" if session.read_only else "write"
    settings = _core.session_settings(banner, role)
    try:
        session.execute(settings["set"])
    except ServerError:
        for statement in settings["set_each"]:
            _try(session, statement)
    for is_last in (False, True):
        wrong = _core.unsettled(banner, role, session.server.address, _said(session, settings))
        for setting in wrong:
            if not is_last:
                _try(session, setting["statement"])
            elif setting["refusal"]:
                raise ServerError(
                    setting["refusal"],
                    code="DJM-1205",
                    hint=_core.REFUSAL_HINT,
                    context={"setting": setting["name"], "value": setting["value"]},
                )
        if not wrong:
            return


def defaults(session: Session) -> dict[str, str]:
    """Defaults of the server that would cut a session short: set apart for our sessions, in force
    for those of other clients."""
    settings = _core.session_settings(session.banner, "look")
    shown = session.query(settings["read_known"].replace("SHOW SESSION", "SHOW GLOBAL"))
    said = [_pair(*row) for row in shown]
    wrong = _core.unsettled(session.banner, "look", session.server.address, said)
    return {one["name"]: str(one["value"]) for one in wrong if one["name"] in CUTTING}


def _said(session: Session, settings: dict[str, Any]) -> str | list[tuple[str, str | None]]:
    try:
        return str(session.query(settings["read"])[0][0])
    except ServerError:
        return [_pair(*row) for row in session.query(settings["read_known"])]


def _pair(name: Any, value: Any) -> tuple[str, str | None]:
    return str(name), None if value is None else str(value)


def _try(session: Session, statement: str) -> None:
    # What is refused here is seen when the values are read back.
    with suppress(MigrationError):
        session.execute(statement)
