"""scan: nothing is held on production before and after it is read."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from conftest import Fresh
from datajoint_migrate import scan
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.limits import LIMITS
from servers import Server

ROWS = 20_000


@pytest.fixture
def filled(server: Server, fresh: Fresh) -> Server:
    fresh(server, "scn")
    depth = "cte_max_recursion_depth" if server.kind == "mysql" else "max_recursive_iterations"
    server.sql(
        f"SET {depth} = 1000000; CREATE DATABASE scn;"
        "CREATE TABLE scn.trial (a int, b int, x varchar(400), PRIMARY KEY (a, b));"
        "INSERT INTO scn.trial WITH RECURSIVE s (n) AS"
        f" (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS - 1})"
        " SELECT n DIV 1000, n % 1000, REPEAT('x', 300) FROM s; ANALYZE TABLE scn.trial"
    )
    return server


def sessions(server: Server) -> list[str]:
    """What the sessions of the engine do."""
    rows = server.sql(
        "SELECT ID, COALESCE(INFO, '') FROM information_schema.PROCESSLIST"
        " WHERE ID <> CONNECTION_ID() AND USER <> 'event_scheduler' AND USER <> 'system user'"
    )
    return [row[1] for row in rows]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_stream_that_nobody_reads_holds_no_session(filled: Server, lanes: int) -> None:
    before = len(sessions(filled))
    stream = scan("scn", "trial", connection=filled.url, lanes=lanes)
    reader = pa.RecordBatchReader.from_stream(stream)
    until(lambda: len(sessions(filled)) <= before)
    # Those of the server itself have no session.
    transactions = (
        "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id <> 0"
    )
    until(lambda: filled.sql(transactions) == [("0",)])
    # It is of the instant of the first batch.
    filled.sql("DELETE FROM scn.trial WHERE a = 0")
    assert reader.read_all().num_rows == ROWS - 1000
    until(lambda: len(sessions(filled)) <= before)


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_stream_that_is_dropped_ends_its_statements_on_the_server(
    filled: Server, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(sessions(filled))
    monkeypatch.setattr(LIMITS, "batch_bytes", 1000)
    # After the first thousand rows a statement that says nothing for minutes.
    slow = "IF(a = 0, 1, SLEEP(0.05) = 0)"
    stream = scan("scn", "trial", where_clause=slow, connection=filled.url, lanes=lanes)
    reader = pa.RecordBatchReader.from_stream(stream)
    reader.read_next_batch()
    assert any("SLEEP" in said for said in sessions(filled))
    begun = time.monotonic()
    del reader, stream
    gc.collect()
    assert time.monotonic() - begun < 5
    until(lambda: not any("SLEEP" in said for said in sessions(filled)))
    until(lambda: len(sessions(filled)) <= before)


CHANGES = {
    "child": (
        "CREATE TABLE scn.child (a INT, b INT, FOREIGN KEY (a, b) REFERENCES scn.trial (a, b))"
    ),
    "column": "ALTER TABLE scn.trial ADD COLUMN more INT",
    "truncate": "TRUNCATE TABLE scn.trial",
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("lanes", [1, 4])
def test_a_stream_that_stands_still_gives_way_to_what_production_changes(
    filled: Server, lanes: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(sessions(filled))
    monkeypatch.setattr(LIMITS, "batch_bytes", 1000)
    monkeypatch.setattr(LIMITS, "chunk_bytes", 50_000)
    stream = scan("scn", "trial", connection=filled.url, lanes=lanes)
    reader = pa.RecordBatchReader.from_stream(stream)
    reader.read_next_batch()
    began = time.monotonic()
    # Where nobody gives way this is an error after ten seconds.
    filled.sql(f"SET SESSION lock_wait_timeout = 10; {CHANGES[what]}")
    assert time.monotonic() - began < 3
    if filled.kind == "mariadb" and what == "child":
        # MariaDB needs no lock on the table that a new one refers to.
        assert reader.read_all().num_rows > ROWS // 2
    else:
        with pytest.raises((OSError, pa.ArrowException), match="snapshot was given up"):
            reader.read_all()
    until(lambda: len(sessions(filled)) <= before)


def test_with_one_lane_chunks_come_in_the_order_of_the_key(
    filled: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMITS, "chunk_bytes", 200_000)
    stream = scan("scn", "trial", ["a", "b"], connection=filled.url, lanes=1)
    batches = list(pa.RecordBatchReader.from_stream(stream))
    assert len(batches) > 10
    table = pa.Table.from_batches(batches)
    first, second = (column.to_pylist() for column in table.columns)
    keys = [1000 * a + b for a, b in zip(first, second, strict=True)]
    assert keys == list(range(ROWS))


@pytest.mark.parametrize("lanes", [1, 4])
def test_with_several_lanes_chunks_come_as_they_are_read_each_of_them_in_order(
    filled: Server, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And every row once, whatever is late; with one lane what is late is waited for.

    With several it is late until another chunk has come.
    """
    monkeypatch.setattr(LIMITS, "chunk_bytes", 200_000)
    late = "IF(a = 0 AND b = 0, GET_LOCK('late', 60), 1)"
    came, batches = threading.Event(), []
    if lanes == 1:
        came.set()
    with resolve(filled.url).session() as holder, ThreadPoolExecutor(1) as beside:
        holder.query("SELECT GET_LOCK('late', 0)")

        def let_go() -> None:
            assert came.wait(60)
            until(lambda: any("GET_LOCK('late', 60)" in said for said in sessions(filled)))
            holder.query("SELECT RELEASE_LOCK('late')")

        released = beside.submit(let_go)
        stream = scan("scn", "trial", ["a", "b"], late, connection=filled.url, lanes=lanes)
        for batch in pa.RecordBatchReader.from_stream(stream):
            came.set()
            batches.append([1000 * row["a"] + row["b"] for row in batch.to_pylist()])
        released.result()
    # A batch is a piece of the key without a gap.
    assert all(keys == list(range(keys[0], keys[0] + len(keys))) for keys in batches)
    firsts = [keys[0] for keys in batches]
    assert sum(map(len, batches)) == ROWS
    assert sorted(key for keys in batches for key in keys) == list(range(ROWS))
    assert len(batches) > 10
    assert (firsts == sorted(firsts)) == (lanes == 1)
    assert (firsts[0] == 0) == (lanes == 1)
    assert "order of the key with `lanes=1` only" in " ".join(str(scan.__doc__).split())


def test_a_filter_is_evaluated_once_for_each_row(
    mysql: Server, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMITS, "chunk_bytes", 500_000)
    fresh(mysql, "scn")
    rows = 60_000
    mysql.sql(
        "SET cte_max_recursion_depth = 1000000; CREATE DATABASE scn;"
        "CREATE TABLE scn.trial (a int, b int, x varchar(100), PRIMARY KEY (a, b));"
        "INSERT INTO scn.trial WITH RECURSIVE s (n) AS"
        f" (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {rows - 1})"
        " SELECT n DIV 1000, n % 1000, REPEAT('x', 60) FROM s; ANALYZE TABLE scn.trial"
    )
    ranges = " OR ".join(f"(a >= {n} AND a < {n + 1})" for n in range(100))

    def read() -> int:
        (before,) = mysql.sql("SHOW GLOBAL STATUS LIKE 'Innodb_rows_read'")
        stream = scan("scn", "trial", where_clause=ranges, connection=mysql.url)
        assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows == rows
        (after,) = mysql.sql("SHOW GLOBAL STATUS LIKE 'Innodb_rows_read'")
        return int(after[1]) - int(before[1])

    # Counting rows to a bound under the filter would read them all once more.
    assert read() < rows * 3 // 2
