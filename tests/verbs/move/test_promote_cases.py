"""Real pipelines of other people, promoted while they are migrated, read by 2.3.5 and 2.0.0."""

from __future__ import annotations

from pathlib import Path

import pytest

from cases import Case, Specs, all_cases, restore
from conftest import Fresh
from datajoint_migrate import Unconvertible, migrate
from datajoint_migrate.call.ends import open_ends
from datajoint_migrate.catalog.kinds import BLOBS
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.tables import read_schema, user_tables
from datajoint_migrate.files.pointers import Stores
from datajoint_migrate.verbs.move.promoted import chosen, refuse_others
from environments import python
from promoting import client
from servers import Server

# With how many columns become arrays, other values in a store, and attachments in one, at least.
COLUMNS = {
    "djplus": (1, 1, 0),
    "elements_ephys": (10, 1, 1),
    "microns": (5, 20, 0),
    "pose": (6, 1, 0),
}
CASES = {case.name: case for case in all_cases() if case.name in COLUMNS}

pytestmark = [
    pytest.mark.skipif(not CASES, reason="no real pipelines beside the checkout (DJM_CASES)"),
    pytest.mark.timeout(900),
]


def promotable(server: Server, case: Case, stores: Specs) -> dict[str, str]:
    """What every column of blobs can become in the store `objects`: arrays where it can."""
    found: dict[str, str] = {}
    with open_ends(resolve(server.url), looking=True) as ends:
        for name in case.schemas:
            schema = read_schema(ends.source, name)
            for table in user_tables(schema):
                for column in table.columns:
                    if column.data_type not in BLOBS or column.name in table.primary_key:
                        continue
                    for to in ("npy@objects", "blob@objects", "attach@objects"):
                        one = {f"{name}.{table.name}.{column.name}": to}
                        try:
                            wanted = chosen(
                                one, {name: schema}, Stores.find({}, stores), {name: name}
                            )
                            refuse_others(ends, wanted, 2, None)
                        except Unconvertible:
                            continue
                        found |= one
                        break
    return found


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_of_blobs_is_read_from_a_store_as_from_the_table(
    name: str, mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    case = CASES[name]
    plain, promoted = (case.schema_map(f"{end}_{case.name}_") for end in ("plain", "prom"))
    fresh(mysql, *case.schemas, *plain.values(), *promoted.values())
    restore(case, mysql, tmp_path / "stores")
    (tmp_path / "objects").mkdir()
    objects = {"protocol": "file", "location": str(tmp_path / "objects")}
    stores = {**case.destination_stores(tmp_path / "stores"), "objects": objects}
    given = {
        "source_stores": case.source_stores(tmp_path / "stores"),
        "dest_stores": stores,
        "connection": mysql.url,
        "adapters": case.adapters(),
    }
    promote = promotable(mysql, case, stores)
    many = [
        sum(to.startswith(codec) for to in promote.values()) for codec in ("npy", "blob", "att")
    ]
    assert all(one >= least for one, least in zip(many, COLUMNS[name], strict=True)), many
    assert migrate(plain, **given)["match"]
    result = migrate(promoted, promote=promote, **given)
    assert result["match"], result["tables"]
    assert result["compatible"], result["issues"]
    assert list((tmp_path / "objects").rglob("*.npy"))
    for version in ("2.3.5", "2.0.0"):
        read = []
        for new in (plain, promoted):
            said = client(python(version), mysql, ",".join(new.values()), stores, "everything", "-")
            own = {place.replace("`prom_", "`plain_"): found for place, found in said.items()}
            read.append(own)
        assert len(read[0]) > 5
        assert read[0].keys() == read[1].keys()
        for place, found in read[0].items():
            assert found == read[1][place], (version, place)
        values = [many for found in read[1].values() for many, _ in found.values()]
        assert sum(values) > 100
