"""The whole job on a pipeline of its own: made, migrated, proved and taken away again."""

from __future__ import annotations

import io
import tempfile
import time
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from datajoint_migrate._core import quote
from datajoint_migrate.catalog.connection import Server, Session, resolve
from datajoint_migrate.errors import DestinationNotEmpty
from datajoint_migrate.steps.migrate import migrate
from datajoint_migrate.steps.moving.ends import schema_exists
from datajoint_migrate.steps.moving.route import OnEvent
from datajoint_migrate.steps.moving.turn import take_turn

# What DataJoint 0.14.6 declared and filled, as SQL, and the files of its store.
PIPELINE = files("datajoint_migrate.steps.demo")
SCHEMA_MAP = {
    "djm_demo_lab": "djm_demo_lab_v20",
    "djm_demo_ephys": "djm_demo_ephys_v20",
}
STORE = "raw"


def demonstrate(*, connection: Any = None, on_event: OnEvent = None) -> dict[str, Any]:
    """Migrate a small 0.14.6 pipeline that comes along, on your server, and leave nothing there.

    It makes the schemas `djm_demo_lab` and `djm_demo_ephys` as DataJoint 0.14.6 had declared and
    filled them, migrates them with their files, compares every value, and drops all four schemas
    again, whatever happened. Nothing else on the server is looked at or touched; the files lie in
    a temporary folder of this machine. It shows that the privileges and the server will do.

    Returns what `migrate` returned. Raises `DestinationNotEmpty` when there is a schema of one of
    these names, and whatever `migrate` raises.
    """
    server = resolve(connection)
    names = [*SCHEMA_MAP, *SCHEMA_MAP.values()]
    with server.session() as session, tempfile.TemporaryDirectory(prefix="djm-demo-") as folder:
        take_turn(session, SCHEMA_MAP)
        for name in names:
            if schema_exists(session, name):
                raise DestinationNotEmpty(
                    f"there is a schema {name!r} already",
                    hint=f"if a demonstration that was killed has left it: DROP DATABASE {name}",
                    context={"schema": name},
                )
        # Tables come in the order of their names.
        session.execute("SET SESSION foreign_key_checks = 0")
        try:
            return _migrate(server, session, Path(folder), on_event)
        finally:
            for name in reversed(names):
                session.execute(f"DROP DATABASE IF EXISTS {quote(name)}")


def _migrate(server: Server, session: Session, folder: Path, on_event: OnEvent) -> dict[str, Any]:
    began = time.monotonic()
    for statement in (PIPELINE / "pipeline.sql").read_text(encoding="utf-8").split(";\n"):
        if statement.strip():
            session.execute(statement)
    with zipfile.ZipFile(io.BytesIO((PIPELINE / "store.zip").read_bytes())) as kept:
        kept.extractall(folder / "0.14.6")
    (folder / "2.x").mkdir()
    specs = {
        side: {"protocol": "file", "location": str(folder / side)} for side in ("0.14.6", "2.x")
    }
    result = migrate(
        SCHEMA_MAP,
        source_stores={STORE: specs["0.14.6"]},
        dest_stores={STORE: specs["2.x"]},
        copy_files=True,
        connection=server,
        on_event=on_event,
    )
    return result | {"time_taken": time.monotonic() - began}
