"""2.x's own garbage collector, run dry on migrated stores: it must not offer what is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import clients
import environments
from conftest import Fresh
from datajoint_migrate import migrate, migrate_external, migrate_filepath
from places import PIPELINES
from servers import Server
from small import RECORDINGS, Small, make

PROGRAM = PIPELINES / "collector" / "scan.py"


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, "col_rig", "col_lab", "col_rig_v20", "col_lab_v20")
    return make(mysql, "col", tmp_path / "store")


def scan(version: str, small: Small, stores: Any, *schemas: str) -> dict[str, Any]:
    """What the collector of DataJoint `version` finds in the store `raw`."""
    specs = small.root.parent / "stores.json"
    specs.write_text(json.dumps(stores))
    server = small.server
    words = [str(environments.python(version)), str(PROGRAM), server.host, str(server.port)]
    words += [server.user, server.password, str(specs), "raw", *schemas]
    done = clients.run(words)
    if done.returncode:
        raise RuntimeError(f"DataJoint {version}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("final", [True, False], ids=["final names", "names of the copy"])
def test_after_copying_nothing_is_orphaned_and_nothing_is_absent(
    small: Small, tmp_path: Path, final: bool
) -> None:
    (tmp_path / "new").mkdir()
    there = {"raw": {"protocol": "file", "location": str(tmp_path / "new")}}
    result = migrate(
        small.map,
        source_stores=small.source_stores,
        dest_stores=there,
        copy_files=True,
        connection=small.server.url,
        final_names=None if final else {name: name for name in small.map.values()},
    )
    assert result["match"]
    found = scan("2.3.5", small, there, *small.map.values())
    # Four signals and the papers; filepaths are the user's own and no collector's business.
    assert len(found["referenced"]) == 4 + RECORDINGS - 1
    assert (found["absent"], found["orphaned"]) == ([], [])
    before = files(tmp_path / "new")
    small.server.sql(f"DELETE FROM `{small.map[small.rig]}`._recording")
    # What the migration wrote has names that the collector does not list, so it stays, too.
    assert scan("2.3.5", small, there, *small.map.values())["orphaned"] == []
    assert files(tmp_path / "new") == before


def test_beside_production_nothing_that_0146_still_uses_is_offered(small: Small) -> None:
    result = migrate(small.map, connection=small.server.url, **small.stores)
    assert result["match"]
    for schemas in (
        tuple(small.map.values()),
        (small.lab, small.rig),
        (*small.map.values(), small.rig),
    ):
        found = scan("2.3.5", small, small.dest_stores, *schemas)
        assert (found["absent"], found["orphaned"]) == ([], []), schemas


def test_after_the_migration_in_place_nothing_that_0146_wrote_is_offered(small: Small) -> None:
    words = {"connection": small.server.url, **small.stores}
    for verb in (migrate_external, migrate_filepath):
        verb(small.rig, False, **words)
    assert scan("2.3.5", small, small.dest_stores, small.rig)["orphaned"] == []
    for verb in (migrate_external, migrate_filepath):
        verb(small.rig, finalize=True, **words)
    found = scan("2.3.5", small, small.dest_stores, small.rig, small.lab)
    assert len(found["referenced"]) == 4 + RECORDINGS - 1
    assert (found["absent"], found["orphaned"]) == ([], [])


def test_200_offers_what_0146_still_uses_and_the_result_says_so(small: Small) -> None:
    result = migrate(small.map, connection=small.server.url, **small.stores)
    offered = scan("2.0.0", small, small.dest_stores, *small.map.values())["orphaned"]
    assert any(small.rig in path for path in offered), offered
    # Not even 2.0.0 offers what the migration itself wrote.
    assert not any(".blob" in path for path in offered)
    assert any("2.0.0" in note and "garbage" in note for note in result["notes"])
