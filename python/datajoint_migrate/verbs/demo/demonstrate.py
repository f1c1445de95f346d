"""The whole job on a pipeline of its own: made, migrated, proved and taken away again."""

from __future__ import annotations

import io
import re
import tempfile
import time
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.call.progress import OnEvent
from datajoint_migrate.call.turn import take_turn
from datajoint_migrate.catalog.presence import schema_exists
from datajoint_migrate.catalog.server import Server, resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.errors import DestinationNotEmpty, InvalidArgument, PermissionMissing
from datajoint_migrate.results import MigrateResult
from datajoint_migrate.verbs.move.migrate import migrate

# What DataJoint 0.14.6 declared and filled, as SQL, and the files of its store.
PIPELINE = files("datajoint_migrate.verbs.demo")
PREFIX = "djm_demo_"
STORE = "raw"


def schema_map(prefix: str = PREFIX) -> dict[str, str]:
    """The schemas that are made, with a prefix that the account has privileges on."""
    return {f"{prefix}{name}": f"{prefix}{name}_v20" for name in ("lab", "ephys")}


def demonstrate(
    *, prefix: str = PREFIX, connection: Any = None, on_event: OnEvent = None
) -> MigrateResult:
    """Migrate a small 0.14.6 pipeline that comes along, on your server, and leave nothing there.

    It makes the schemas `djm_demo_lab` and `djm_demo_ephys` as DataJoint 0.14.6 had declared and
    filled them, migrates them with their files, compares every value, and drops all four schemas
    again, whatever happened. Nothing else on the server is looked at or touched; the files lie in
    a temporary folder of this machine. It shows that the privileges and the server will do. For an
    account that may make schemas of certain names only, `prefix` takes the place of `djm_demo_`.

    Returns what `migrate` returned. Raises `DestinationNotEmpty` when there is a schema of one of
    these names, `InvalidArgument` for a prefix that is none, and whatever `migrate` raises.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", prefix):
        raise InvalidArgument(
            f"prefix is {prefix!r}",
            hint="give small letters, digits and _, 40 at most, a letter first",
        )
    server = resolve(connection)
    named = schema_map(prefix)
    names = [*named, *named.values()]
    with server.session() as session, tempfile.TemporaryDirectory(prefix="djm-demo-") as folder:
        take_turn(session, named)
        for name in names:
            if schema_exists(session, name):
                raise DestinationNotEmpty(
                    f"there is a schema {name!r} already",
                    hint="a demonstration that was killed may have left it: look what it holds; the"
                    " demonstration needs the name",
                    context={"schema": name},
                )
        # Tables come in the order of their names.
        session.execute("SET SESSION foreign_key_checks = 0")
        try:
            return _migrate(server, session, Path(folder), prefix, on_event)
        except PermissionMissing as error:
            error.hint = (
                f"{error.hint}; or give a prefix of names with which this account may make schemas"
            )
            raise
        finally:
            for name in reversed(names):
                # Without a privilege nothing was made, and to drop it would be refused, too.
                if schema_exists(session, name):
                    session.execute(f"DROP DATABASE {quote(name)}")


def _migrate(
    server: Server, session: Session, folder: Path, prefix: str, on_event: OnEvent
) -> MigrateResult:
    began = time.monotonic()
    text = (PIPELINE / "pipeline.sql").read_text(encoding="utf-8").replace(PREFIX, prefix)
    for statement in text.split(";\n"):
        if statement.strip():
            session.execute(statement)
    with zipfile.ZipFile(io.BytesIO((PIPELINE / "store.zip").read_bytes())) as kept:
        kept.extractall(folder / "0.14.6")
    # A store has a folder for each schema.
    for made in list((folder / "0.14.6").iterdir()):
        made.rename(made.with_name(made.name.replace(PREFIX, prefix)))
    (folder / "2.x").mkdir()
    specs = {
        side: {"protocol": "file", "location": str(folder / side)} for side in ("0.14.6", "2.x")
    }
    result = migrate(
        schema_map(prefix),
        source_stores={STORE: specs["0.14.6"]},
        dest_stores={STORE: specs["2.x"]},
        copy_files=True,
        connection=server,
        on_event=on_event,
    )
    result["time_taken"] = time.monotonic() - began
    return result
