"""Blob columns that go from store to store and into buckets, and services that lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import promoting
from conftest import Fresh
from datajoint_migrate import Mismatch, promote
from environments import python
from faulty import Rule, faulty
from promoting import client, packed, seen, table
from s3 import Bucket
from servers import Server

SCHEMA = "promoted_into"


def test_what_lies_in_a_store_becomes_arrays_and_goes_to_another_store(
    mysql: Server, fresh: Fresh, tmp_path: Path
) -> None:
    fresh(mysql, SCHEMA)
    stores: dict[str, Any] = {}
    for name in ("raw", "deep"):
        (tmp_path / name).mkdir()
        stores[name] = {"protocol": "file", "location": str(tmp_path / name)}
    stores["deep"] |= {"subfolding": [2, 2]}
    options: dict[str, Any] = {"stores": stores, "connection": mysql.url, "drop_old": True}
    table(mysql, SCHEMA, [packed(1.0), None, packed(2.0)])
    promote(SCHEMA, "session", "signal", "blob@raw", **options)
    promote(SCHEMA, "session", "signal", "blob@deep", **options)
    path = promoting.rows(mysql, SCHEMA, "signal")[0]["path"]
    assert path.split("/")[2:4] == [path.split("/")[-1][:2], path.split("/")[-1][2:4]]
    result = promote(SCHEMA, "session", "signal", "npy@raw", **options)
    assert (result["rows_promoted"], result["rows_null"]) == (2, 1)
    said = client(python("2.3.5"), mysql, SCHEMA, stores, "read")
    values = [row[1]["signal"] for row in said["rows"]]
    assert values == [seen((1.0,)), ["NoneType", "None"], seen((2.0,))]


def test_a_bucket_takes_them_as_a_folder_does(mysql: Server, fresh: Fresh, bucket: Bucket) -> None:
    fresh(mysql, SCHEMA)
    stores = {"raw": bucket.spec("lab/data")}
    names = ["2d float64", "complex64 2d", "empty 2d (0,3)", "large random f32 (2d)"]
    every = promoting.kinds()
    table(mysql, SCHEMA, [every[name] for name in names])
    mysql.sql(f"ALTER TABLE {SCHEMA}.session MODIFY id varchar(40) NOT NULL")
    mysql.sql(f"UPDATE {SCHEMA}.session SET id = 'ünï / new\\nline' WHERE id = '1'")
    result = promote(SCHEMA, "session", "signal", "npy@raw", stores=stores, connection=mysql.url)
    assert (result["rows_promoted"], result["files_written"]) == (4, 4)
    said = client(python("2.3.5-s3"), mysql, SCHEMA, stores, "read")
    told = promoting.theirs()
    shapes = sorted((told[name]["dtype"], told[name]["shape"]) for name in names)
    assert sorted((row[1]["signal"][0], row[1]["signal"][1]) for row in said["rows"]) == shapes
    undone = promote(
        SCHEMA, "session", "signal", "npy@raw", stores=stores, connection=mysql.url, undo=True
    )
    assert undone["rows_restored"] == 4
    again = promote(SCHEMA, "session", "signal", "npy@raw", stores=stores, connection=mysql.url)
    assert (again["rows_promoted"], again["files_written"]) == (4, 0)


def test_objects_of_a_bucket_become_arrays_in_it_and_in_a_folder(
    mysql: Server, fresh: Fresh, bucket: Bucket, tmp_path: Path
) -> None:
    folder = {"protocol": "file", "location": str(tmp_path)}
    stores = {"bucket": bucket.spec("lab/data"), "raw": folder}
    options: dict[str, Any] = {"stores": stores, "connection": mysql.url, "drop_old": True}
    values = [packed(1.0), None, packed(2.0, 3.0)]
    for to in ("bucket", "raw"):
        fresh(mysql, SCHEMA)
        table(mysql, SCHEMA, list(values))
        promote(SCHEMA, "session", "signal", "blob@bucket", **options)
        assert promoting.rows(mysql, SCHEMA, "signal")[0]["store"] == "bucket"
        result = promote(SCHEMA, "session", "signal", f"npy@{to}", **options)
        assert (result["rows_promoted"], result["rows_null"], result["files_written"]) == (2, 1, 2)
        said = client(python("2.3.5-s3"), mysql, SCHEMA, stores, "read")
        read = [row[1]["signal"] for row in said["rows"]]
        assert read == [seen((1.0,)), ["NoneType", "None"], seen((2.0, 3.0))]


@pytest.mark.parametrize("to", ["npy@raw", "blob@raw"])
def test_a_store_that_gives_other_bytes_back_is_refused_before_a_row_names_them(
    mysql: Server, fresh: Fresh, bucket: Bucket, to: str
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0, 2.0), packed(3.0)])
    before = mysql.sql(f"SELECT id, HEX(`signal`) FROM {SCHEMA}.session ORDER BY id")
    rule: Rule = lambda method, _: "other bytes" if method == "GET" else None  # noqa: E731
    with faulty(bucket.service.endpoint, rule) as proxy:
        lying = {"raw": bucket.spec("lab/data", proxy.endpoint)}
        with pytest.raises(Mismatch, match="does not hold what was to be written"):
            promote(SCHEMA, "session", "signal", to, stores=lying, connection=mysql.url)
        assert proxy.faults > 0
    assert mysql.sql(f"SELECT id, HEX(`signal`) FROM {SCHEMA}.session ORDER BY id") == before
    assert promoting.rows(mysql, SCHEMA, "_signal_new") == [None, None]
    # The service has the right ones: it is only asked again.
    assert len(bucket.objects()) == 2
    stores = {"raw": bucket.spec("lab/data")}
    result = promote(SCHEMA, "session", "signal", to, stores=stores, connection=mysql.url)
    assert (result["rows_promoted"], result["files_written"]) == (2, 0)
