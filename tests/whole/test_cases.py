"""Real pipelines of other people, migrated by one call and read back with DataJoint 2.3.5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cases import Case, Specs, all_cases, check, restore
from conftest import Fresh, drop
from datajoint_migrate import migrate
from servers import Server

CASES = all_cases()

pytestmark = [
    pytest.mark.skipif(not CASES, reason="no real pipelines beside the checkout (DJM_CASES)"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def restored(
    request: pytest.FixtureRequest, mysql: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Case, Path]]:
    """A case in the `mysql` server, and the root of its stores."""
    case: Case = request.param
    root = tmp_path_factory.mktemp(case.name) / "stores"
    restore(case, mysql, root)
    yield case, root
    drop(mysql, *case.schemas)


@pytest.mark.parametrize("copy_files", [False, True], ids=["in place", "files copied"])
def test_every_table_reads_back_equal(
    restored: tuple[Case, Path], mysql: Server, fresh: Fresh, tmp_path: Path, copy_files: bool
) -> None:
    case, root = restored
    prefix = f"new_{case.name}_"
    schema_map = case.schema_map(prefix)
    fresh(mysql, *schema_map.values())
    stores: Specs = case.destination_stores(tmp_path / "copies" if copy_files else root)

    result = migrate(
        schema_map,
        source_stores=case.source_stores(root),
        dest_stores=stores,
        copy_files=copy_files,
        connection=mysql.url,
        adapters=case.adapters(),
    )

    assert result["match"], result["issues"]
    assert result["compatible"], result["issues"]
    equal, said = check(case, mysql, prefix, stores, tmp_path)
    assert equal, said
