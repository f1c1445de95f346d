"""rollback(bring_back=True) between the real clients: 0.14.6 fetches what 2.x has stored."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import drop
from datajoint_migrate import backup_schema, cutover, migrate, rollback
from full_pipeline import ADAPTERS, FullPipeline, fill, read_with, reread, work_with
from servers import Server

ENDS = ("", "_v20", "_old", "_bak")
PLAIN = (
    "a_computed_table_populates_with_reserved_jobs",
    "a_delete_cascades_across_schemas",
)


@pytest.fixture
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FullPipeline]:
    """A full pipeline of one's own on the server that is asked for, backed up."""
    server: Server = request.getfixturevalue(request.param)
    names = [f"again_{name}{end}" for name in ("colony", "imaging", "altered") for end in ENDS]
    drop(server, *names)
    made = fill(server, "again", tmp_path)
    # It refers to itself, and then 2.3.5 deletes nothing that it can reach.
    drop(server, "again_altered")
    server.sql("DELETE FROM again_imaging.`~jobs` WHERE status = 'reserved'")
    for name in made.schemas[:2]:
        backup_schema(name, f"{name}_bak", connection=server.url)
    yield made
    drop(server, *names)


@pytest.mark.parametrize(
    ("full", "client", "copy_files"),
    [("mysql", "2.3.5", True), ("mysql", "2.0.0", False), ("mariadb", "2.3.5", False)],
    indirect=["full"],
)
def test_0146_fetches_what_2x_has_stored(
    full: FullPipeline, tmp_path: Path, client: str, copy_files: bool
) -> None:
    server, schema_map = full.server, {name: f"{name}_v20" for name in full.schemas[:2]}
    new = full.stores_elsewhere(tmp_path / "new") if copy_files else full.stores_in_place()
    stores: dict[str, Any] = {"source_stores": full.source_stores, "dest_stores": new}
    stores |= {"connection": server.url, "adapters": ADAPTERS}
    result = migrate(schema_map, **stores, copy_files=copy_files)
    assert result["compatible"], result["issues"]
    backups = {name: f"{name}_bak" for name in schema_map}
    on: dict[str, Any] = {"connection": server.url, "execute": True}
    cutover(schema_map, backups=backups, adapters=ADAPTERS, **on)
    # On MariaDB 2.x cannot insert what lies in a store.
    steps = () if server.kind == "mysql" else PLAIN
    well, said = work_with(client, server, "again", new, tmp_path, steps)
    assert well, said
    done = rollback(schema_map, bring_back=True, execute=True, **stores)
    assert done["executed"]
    assert done["brought_back"]["again_colony.visit"]["deleted"] > 0
    if server.kind == "mysql":
        assert done["brought_back"]["again_imaging.files"]["inserted"] == 1
        assert done["files_brought_back"] >= 3
        assert "again_imaging_v20.new_child" in done["tables_new"]
        assert list(done["left_counts"]) == ["again_imaging.~~spike2_rate"]
    dump = tmp_path / "again.json"
    dump.write_text(json.dumps(reread(full, server, tmp_path)))
    reading = read_with(
        client, dataclasses.replace(full, dump=dump), server, schema_map, new, tmp_path,
        structure=False,
    )  # fmt: skip
    assert reading.equal, reading.different()[:5]
