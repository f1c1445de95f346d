"""The exceptions of this package: one tree, whose leaves say what kind of trouble it is.

Every exception carries a stable ``code`` (``DJM-1201``), a ``hint`` where there is a way out, and
``context`` with the names of the place. Errors of the engine arrive here too: it names the class,
this module defines it.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

# Names that a hint lists where none is near.
SHOWN = 5

try:
    with warnings.catch_warnings():
        # DataJoint 2.1 and later import the module this package replaces, and warn of it.
        warnings.filterwarnings("ignore", "datajoint.migrate is deprecated", DeprecationWarning)
        # Scripts that catch DataJoint's own error go on working.
        from datajoint import DataJointError as _Base
except Exception:  # noqa: BLE001  (an installed but unconfigured DataJoint must not keep this package from importing)
    _Base = Exception


class MigrationError(_Base):  # type: ignore[misc, valid-type, unused-ignore]
    """Anything this package refuses or fails to do."""

    default_code = "DJM-1000"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.context = dict(context or {})

    def __str__(self) -> str:
        hint = f" Hint: {self.hint}." if self.hint else ""
        return f"{self.message} ({self.code}).{hint}"


class ConnectionFailed(MigrationError):
    """A server cannot be reached, refuses the login, or went away."""

    default_code = "DJM-1101"


class PermissionMissing(MigrationError):
    """The user lacks a privilege; the message names it."""

    default_code = "DJM-1201"


class NotFound(MigrationError):
    """No such schema, table or column; the message names the near misses."""

    default_code = "DJM-1202"

    @classmethod
    def among(cls, what: str, name: str, known: Iterable[str], where: str = "") -> NotFound:
        """The error for ``name``; its hint has the nearest of the ``known`` names, or some."""
        known = list(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        if near:
            hint = "did you mean " + " or ".join(repr(one) for one in near) + "?"
        else:
            there = sorted(known)
            hint = "there are " + ", ".join(there[:SHOWN]) + (", …" if there[SHOWN:] else "")
            hint = hint if there else "there is none"
        return cls(f"there is no {what} {name!r}{where}", hint=hint, context={what: name})


class ServerError(MigrationError):
    """The server refused a statement for a reason that has no class of its own."""

    default_code = "DJM-1203"


class Unconvertible(MigrationError):
    """A type, marker or value that cannot go where it was asked to go."""

    default_code = "DJM-1301"


class ExternalMissing(MigrationError):
    """A tracking row or a file of an external store is not there."""

    default_code = "DJM-1401"


class ArchiveFailed(MigrationError):
    """An archive cannot be written or read, or is not what its manifest says."""

    default_code = "DJM-1406"


class StoreMissing(MigrationError):
    """A store is not configured."""

    default_code = "DJM-1403"


class StoreFailed(MigrationError):
    """A store refuses access, is full, or cannot be written."""

    default_code = "DJM-1405"


class InvalidArgument(MigrationError, ValueError):
    """The call itself does not make sense."""

    default_code = "DJM-1501"


class DestinationNotEmpty(MigrationError):
    """The destination holds something that this call did not put there."""

    default_code = "DJM-1502"


class DestinationBusy(MigrationError):
    """Another call is at work on the destination; the message says whose."""

    default_code = "DJM-1504"


class ForeignKeyLeavesMap(MigrationError):
    """A foreign key refers to a schema that is not in ``schema_map``."""

    default_code = "DJM-1503"


class GaveWay(MigrationError):
    """Production waited for tables that were being read, so the snapshot was let go."""

    default_code = "DJM-1105"


class Interrupted(MigrationError):
    """Stopped on request; what is finished stays finished."""

    default_code = "DJM-1601"


class Mismatch(MigrationError):
    """Source and destination differ where they must not."""

    default_code = "DJM-1701"


class NotReady(MigrationError):
    """A check of a cutover or rollback did not pass; `context["missing"]` has the sentences."""

    default_code = "DJM-1703"


class InternalError(MigrationError):
    """A fault of this package; please report it."""

    default_code = "DJM-1901"
