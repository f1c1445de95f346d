"""The old column goes when every object is there that a row names, and whole; not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import promoting
from conftest import Fresh
from datajoint_migrate import ExternalMissing, promote
from environments import python
from killing import killed_at
from promoting import client, objects, packed, seen, table
from servers import Server

SCHEMA, OLD = "dropped", "_signal_old"
VALUES = [packed(1.0), None, packed(2.0), packed(3.0), packed(4.0)]


@pytest.fixture
def store(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "raw").mkdir()
    return {"raw": {"protocol": "file", "location": str(tmp_path / "raw")}}


def root(store: dict[str, Any]) -> Path:
    return Path(store["raw"]["location"])


def call(server: Server, store: dict[str, Any], to: str, **options: Any) -> dict[str, Any]:
    return promote(SCHEMA, "session", "signal", to, stores=store, connection=server.url, **options)


def there(server: Server) -> set[str]:
    return {str(one[0]) for one in server.sql(f"SHOW COLUMNS FROM {SCHEMA}.session")}


def path_of(server: Server, store: dict[str, Any], at: int) -> Path:
    """The object that a row names."""
    ((path,),) = server.sql(
        "SELECT JSON_UNQUOTE(JSON_EXTRACT(`signal`, '$.path'))"
        f" FROM {SCHEMA}.session WHERE id = {at}"
    )
    return root(store) / str(path)


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def changed(path: Path) -> None:
    """Of the same length, and with a header that says the same."""
    value = path.read_bytes()
    path.write_bytes(value[:-1] + bytes([value[-1] ^ 1]))


HARMS: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "shortened": shortened,
    "changed": changed,
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("to", ["npy@raw", "blob@raw"])
def test_the_rows_whose_objects_are_missing_or_damaged_are_named_and_the_column_stays(
    server: Server, fresh: Fresh, store: dict[str, Any], to: str, harm: str
) -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, list(VALUES))
    assert call(server, store, to)["old_column"] == OLD
    lost = path_of(server, store, 3)
    value = lost.read_bytes()
    HARMS[harm](lost)
    look = call(server, store, to, drop_old=True, dry_run=True)
    assert (look["match"], look["refused"]) == (False, {"lost object": 1})
    assert [one["key"] for one in look["examples"]] == [{"id": "3"}]
    with pytest.raises(ExternalMissing, match=r"1 row of dropped\.session names objects") as caught:
        call(server, store, to, drop_old=True)
    assert caught.value.code == "DJM-1402"
    assert caught.value.context["keys"] == [{"id": "3"}]
    assert there(server) == {"id", "signal", OLD}
    # What the old column has is there to be promoted again.
    lost.unlink(missing_ok=True)
    assert call(server, store, to, undo=True)["rows_restored"] == 4
    again = call(server, store, to)
    assert (again["files_written"], lost.read_bytes()) == (1, value)
    assert call(server, store, to, drop_old=True)["old_column"] is None
    assert there(server) == {"id", "signal"}
    said = client(python("2.3.5"), server, SCHEMA, store, "read") if server.kind == "mysql" else {}
    for row in said.get("rows", []):
        at = int(row[0]["id"])
        none = ["NoneType", "None"]
        assert row[1]["signal"] == (none if at == 1 else seen((float(max(1, at)),)))


def test_objects_that_an_earlier_call_had_made_are_read_too(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    """A killed call had promoted everything; its files are gone when it is called again."""
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, list(VALUES))
    words = (SCHEMA, "session", "signal", "npy@raw")
    killed_at(mysql, "connection", "LOCK TABLES", False, "promote", *words, stores=store)
    (lost, *_) = objects(root(store))
    assert len(objects(root(store))) == 4
    lost.unlink()
    with pytest.raises(ExternalMissing, match=r"1 row of dropped\.session"):
        call(mysql, store, "npy@raw", drop_old=True)
    assert there(mysql) == {"id", "signal", OLD}


def test_values_that_lay_in_a_store_are_not_read_for_it_but_the_new_ones_are(
    mysql: Server, fresh: Fresh, store: dict[str, Any], tmp_path: Path
) -> None:
    fresh(mysql, SCHEMA)
    (tmp_path / "other").mkdir()
    stores = {**store, "other": {"protocol": "file", "location": str(tmp_path / "other")}}
    table(mysql, SCHEMA, list(VALUES))
    call(mysql, stores, "blob@other", drop_old=True)
    call(mysql, stores, "npy@raw")
    for old in objects(tmp_path / "other"):
        old.unlink()
    lost = path_of(mysql, store, 2)
    value = lost.read_bytes()
    lost.unlink()
    with pytest.raises(ExternalMissing, match="id=2"):
        call(mysql, stores, "npy@raw", drop_old=True)
    lost.write_bytes(value)
    assert call(mysql, stores, "npy@raw", drop_old=True)["old_column"] is None


def test_what_2x_has_written_since_is_told_and_its_objects_are_looked_at(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(float(at)) for at in range(40)])
    call(mysql, store, "npy@raw")
    # Rows with other values than the old column's come first, more than are shown.
    mysql.sql(
        f"UPDATE {SCHEMA}.session AS a JOIN {SCHEMA}.session AS b ON b.id = 39"
        " SET a.`signal` = b.`signal` WHERE a.id < 30"
    )
    client(python("2.3.5"), mysql, SCHEMA, store, "insert")
    theirs = path_of(mysql, store, 1000)
    value = theirs.read_bytes()
    theirs.unlink()
    with pytest.raises(ExternalMissing, match="id=1000") as caught:
        call(mysql, store, "npy@raw", drop_old=True)
    assert caught.value.context["rows"] == 1
    theirs.write_bytes(value)
    done = call(mysql, store, "npy@raw", drop_old=True)
    assert any("31 rows have another value" in note for note in done["notes"])
    assert there(mysql) == {"id", "signal"}


def test_kinds_that_are_all_promoted_are_all_proved(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    arrays = list(promoting.arrays().values())
    table(mysql, SCHEMA, list(arrays))
    call(mysql, store, "npy@raw")
    look = call(mysql, store, "npy@raw", drop_old=True, dry_run=True)
    assert (look["match"], look["refused"], look["old_column"]) == (True, {}, OLD)
    assert call(mysql, store, "npy@raw", drop_old=True)["old_column"] is None
