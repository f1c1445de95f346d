"""The engine alone: every type and key arrives bit for bit, by each way rows can travel."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from conftest import Fresh
from datajoint_migrate import _core
from datajoint_migrate.errors import ConnectionFailed, NotFound, Unconvertible
from every_type import TYPES, exact, make_types
from line import Harm, Line, Packet, line
from people import wait_for
from servers import Server, ServerError


def spec(server: Server) -> dict[str, Any]:
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
    }


def kind(type_: str) -> str:
    if type_ == "json":
        return "json"
    return "enum_index" if type_.startswith("enum") else "value"


def types_plan(source: Server, destination: Server, old: str, new: str) -> dict[str, Any]:
    tables = [
        {
            "source_schema": old,
            "source_table": f"t{number}",
            "destination_schema": new,
            "destination_table": f"t{number}",
            "key": ["id"],
            "index": "PRIMARY",
            "columns": [
                {"source": "id", "destination": "id", "kind": "value"},
                {"source": "v", "destination": "v", "kind": kind(type_)},
            ],
        }
        for number, type_ in enumerate(TYPES)
    ]
    return {
        "source": spec(source),
        "destination": spec(destination),
        "route": "river",
        "snapshot": True,
        "journal": True,
        "tables": tables,
    }


@pytest.mark.parametrize("way", ["server", "infile", "insert"])
def test_every_type_arrives_bit_for_bit(mysql: Server, fresh: Fresh, way: str) -> None:
    fresh(mysql, "eng_old", "eng_new")
    make_types(mysql, "eng_old")
    make_types(mysql, "eng_new")
    for number in range(len(TYPES)):
        mysql.sql(f"DELETE FROM `eng_new`.t{number}")
    plan = types_plan(mysql, mysql, "eng_old", "eng_new")
    plan |= {"route": "server"} if way == "server" else {"load": way}
    result = _core.copy(plan)
    assert result["rows_copied"] == sum(len(values) + 1 for values in TYPES.values())
    for number, type_ in enumerate(TYPES):
        copied = exact(mysql, "eng_new", f"t{number}", type_)
        assert copied == exact(mysql, "eng_old", f"t{number}", type_), type_
    assert not mysql.sql("SHOW TABLES FROM eng_new LIKE '~%'")
    compared = _core.compare(comparison(plan))
    assert compared["match"], [t for t in compared["tables"] if not t["match"]]


def test_mariadb_to_mysql_without_local_infile(
    mariadb: Server, mysql_b: Server, fresh: Fresh
) -> None:
    fresh(mariadb, "eng_old")
    fresh(mysql_b, "eng_new")
    make_types(mariadb, "eng_old")
    make_types(mysql_b, "eng_new")
    for number in range(len(TYPES)):
        mysql_b.sql(f"DELETE FROM `eng_new`.t{number}")
    plan = types_plan(mariadb, mysql_b, "eng_old", "eng_new")
    result = _core.copy(plan)
    assert result["load"] == "insert"
    assert result["snapshot"] == "shared"
    for number, type_ in enumerate(TYPES):
        there = exact(mariadb, "eng_old", f"t{number}", type_)
        here = exact(mysql_b, "eng_new", f"t{number}", type_)
        if type_ != "json":  # MySQL writes JSON anew, MariaDB keeps the text
            assert [[a, _plain(b)] for a, b in here] == [[a, _plain(b)] for a, b in there], type_
    compared = _core.compare(comparison(plan))
    assert compared["match"], [t for t in compared["tables"] if not t["match"]]


def _plain(text: str | None) -> str | None:
    """MySQL prints 1e308, MariaDB 1e+308 or more digits of the same double."""
    try:
        return repr(float(text)) if text is not None and "e" in text else text
    except ValueError:
        return text


def comparison(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan that compares what a plan copies."""
    known = ("source", "destination", "lanes", "chunk_bytes", "snapshot", "throttle")
    tables = [
        {
            **table,
            "columns": [
                {**column, "kind": "json" if column["kind"] == "json" else "value"}
                for column in table["columns"]
            ],
        }
        for table in plan["tables"]
    ]
    return {**{key: plan[key] for key in known if key in plan}, "tables": tables}


KEYS = {
    "int": lambda n: str(n * 7919 % 100003 - 50000),
    "bigint unsigned": lambda n: str(18446744073709551615 - n * 97),
    "varchar(30)": lambda n: f"'käy {n * 31 % 1000} {n}'",
    "varchar(30) character set latin1": lambda n: f"'ké {n}'",
    "binary(16)": lambda n: f"UNHEX(LPAD(HEX({n * 7919}), 32, '5c'))",
    "date": lambda n: f"DATE_ADD('1990-01-01', INTERVAL {n} DAY)",
    "datetime(3)": lambda n: f"DATE_ADD('1990-01-01', INTERVAL {n * 1500} MICROSECOND)",
    "timestamp": lambda n: f"FROM_UNIXTIME({1000000 + n * 3600})",
    "time": lambda n: f"SEC_TO_TIME({n * 60 - 30000})",
    "decimal(12,4)": lambda n: f"{n}.{n % 10000:04}",
    "double": lambda n: f"{n}e0 / 7",
    "float": lambda n: f"{n}e0 / 7",
    "enum('z','m','a')": lambda n: str(n % 3 + 1),
    "year": lambda n: str(1901 + n % 250),
}


@pytest.mark.parametrize("leading", KEYS)
def test_chunks_of_a_composite_key_cover_every_row_once(
    mysql: Server, fresh: Fresh, leading: str
) -> None:
    fresh(mysql, "eng_old", "eng_new")
    rows = 700
    define = f"CREATE TABLE `{{}}`.t (a {leading}, b smallint, c varchar(9), PRIMARY KEY (a, b, c))"
    for schema in ("eng_old", "eng_new"):
        mysql.sql(f"CREATE DATABASE {schema} CHARACTER SET utf8mb4;" + define.format(schema))
    values = ",".join(f"({KEYS[leading](n // 3)}, {n % 3 - 1}, 'c{n}')" for n in range(rows))
    mysql.sql(f"SET time_zone='+00:00'; INSERT INTO eng_old.t VALUES {values}")
    columns = [{"source": c, "destination": c, "kind": "value"} for c in "abc"]
    if leading.startswith("enum"):
        columns[0]["kind"] = "enum_index"
    table = {
        "source_schema": "eng_old",
        "source_table": "t",
        "destination_schema": "eng_new",
        "destination_table": "t",
        "key": ["a", "b", "c"],
        "index": "PRIMARY",
        "columns": columns,
    }
    plan = {
        "source": spec(mysql),
        "destination": spec(mysql),
        "route": "river",
        "chunk_bytes": 1000,
        "tables": [table],
    }
    result = _core.copy(plan)
    assert result["rows_copied"] == rows
    assert result["tables"][0]["chunks"] > 5
    assert mysql.sql("SELECT COUNT(*) FROM eng_new.t") == [(str(rows),)]
    assert _core.compare(comparison(plan))["match"]


def big_table(server: Server, schema: str, rows: int, *, fill: bool = True) -> dict[str, Any]:
    server.sql(
        f"CREATE DATABASE `{schema}`;"
        f"CREATE TABLE `{schema}`.t (a int, b int, x double, n varchar(40), PRIMARY KEY (a, b));"
    )
    if fill:
        server.sql(
            "SET SESSION cte_max_recursion_depth = 10000000;"
            f"INSERT INTO `{schema}`.t WITH RECURSIVE s (n) AS"
            f" (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {rows - 1})"
            " SELECT n DIV 100, n % 100, SQRT(n), CONCAT('row ', n) FROM s"
        )
    return {"key": ["a", "b"], "index": "PRIMARY"}


def big_plan(source: Server, destination: Server, **options: Any) -> dict[str, Any]:
    columns = [{"source": c, "destination": c, "kind": "value"} for c in ("a", "b", "x", "n")]
    table = {
        "source_schema": "eng_old",
        "source_table": "t",
        "destination_schema": "eng_new",
        "destination_table": "t",
        "key": ["a", "b"],
        "index": "PRIMARY",
        "columns": columns,
        "rows": 100_000,
        "data_bytes": 10_000_000,
    }
    return {
        "source": spec(source),
        "destination": spec(destination),
        "route": "river",
        "journal": True,
        "chunk_bytes": 100_000,
        "tables": [table],
        **options,
    }


def test_ctrl_c_leaves_a_state_that_the_same_call_finishes(
    mysql: Server, mysql_b: Server, fresh: Fresh
) -> None:
    fresh(mysql, "eng_old")
    fresh(mysql_b, "eng_new")
    big_table(mysql, "eng_old", 100_000)
    big_table(mysql_b, "eng_new", 0, fill=False)
    plan = big_plan(mysql, mysql_b, lanes=2, snapshot=True)
    # It would take half a minute: whenever it is interrupted, it is not done.
    slow = {**plan, "throttle": {"max_bytes_per_second": 200_000}}
    events: list[dict[str, Any]] = []
    with pytest.raises(KeyboardInterrupt):
        _core.copy(slow, _interrupt_after(events, 5_000))
    done = int(str(mysql_b.sql("SELECT COUNT(*) FROM eng_new.t")[0][0]))
    assert 0 < done < 100_000
    result = _core.copy(plan)
    assert result["tables"][0]["resumed_chunks"] > 0
    assert result["rows_copied"] == 100_000 - done
    assert not mysql_b.sql("SHOW TABLES FROM eng_new LIKE '~%'")
    assert _core.compare(comparison(plan))["match"]
    assert {"verb", "event", "table", "rows", "bytes", "rows_expected", "retries"} <= set(events[0])


def _interrupt_after(events: list[dict[str, Any]], rows: int) -> Callable[[dict[str, Any]], None]:
    def seen(event: dict[str, Any]) -> None:
        events.append(event)
        if event["rows"] >= rows:
            signal.raise_signal(signal.SIGINT)

    return seen


def _kill_all(server: Server) -> None:
    """Ends every session of the mover, also those that say nothing at the moment."""
    for (number,) in server.sql(
        "SELECT id FROM information_schema.PROCESSLIST WHERE user = 'dj' AND id <> CONNECTION_ID()"
    ):
        with contextlib.suppress(ServerError):
            server.sql(f"KILL {number}")


class Killing:
    """Ends all sessions right before the server gets some of the statements that begin so."""

    def __init__(self, server: Server, begins: bytes, *numbers: int) -> None:
        self.server, self.begins, self.left, self.seen = server, begins, list(numbers), 0

    def __call__(self, packet: Packet) -> Harm:
        if packet.upward and packet.number == 1 and packet.command.startswith(self.begins):
            self.seen += 1
            if self.left and self.seen >= self.left[0]:
                self.left.pop(0)
                _kill_all(self.server)
        return None


def through(plan: dict[str, Any], side: str, proxy: Line) -> dict[str, Any]:
    return {**plan, side: {**plan[side], "port": proxy.port}}


INSERTS, READS = b"\x03INSERT INTO `eng_new`.`t`", b"\x17"


def test_destination_connections_that_are_killed_are_opened_again(
    mysql: Server, mysql_b: Server, fresh: Fresh
) -> None:
    fresh(mysql, "eng_old")
    fresh(mysql_b, "eng_new")
    big_table(mysql, "eng_old", 100_000)
    big_table(mysql_b, "eng_new", 0, fill=False)
    # The planner's own session, which notes chunks, is needed after each kill.
    plan = big_plan(mysql, mysql_b, lanes=2, snapshot=True)
    events: list[dict[str, Any]] = []
    killing = Killing(mysql_b, INSERTS, 3, 12)
    with line(mysql_b, killing) as proxy:
        result = _core.copy(through(plan, "destination", proxy), events.append)
    assert killing.left == []
    assert result["rows_copied"] == 100_000
    assert max(event["retries"] for event in events) >= 2
    assert mysql_b.sql("SELECT COUNT(*), SUM(b) FROM eng_new.t") == mysql.sql(
        "SELECT COUNT(*), SUM(b) FROM eng_old.t"
    )
    assert not mysql_b.sql("SHOW TABLES FROM eng_new LIKE '~%'")


def _large_comparison(
    source: Server, destination: Server, fresh: Fresh, **options: Any
) -> dict[str, Any]:
    fresh(source, "eng_old")
    fresh(destination, "eng_new")
    big_table(source, "eng_old", 100_000)
    big_table(destination, "eng_new", 100_000)
    return comparison(big_plan(source, destination, lanes=2, **options))


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_comparison_goes_on_when_connections_are_killed(
    mysql: Server, mysql_b: Server, fresh: Fresh, side: str
) -> None:
    plan = _large_comparison(mysql, mysql_b, fresh)
    mysql_b.sql("UPDATE eng_new.t SET n = 'other' WHERE a = 990 AND b = 3")
    server = mysql if side == "source" else mysql_b
    killing = Killing(server, READS, 3, 12)
    with line(server, killing) as proxy:
        table = _core.compare(through(plan, side, proxy))["tables"][0]
    assert killing.left == []
    assert (table["row_count"], table["destination_row_count"]) == (100_000, 100_000)
    assert [d["key"] for d in table["discrepancies"]] == [{"a": "990", "b": "3"}]


def test_a_comparison_of_one_instant_ends_when_its_snapshot_is_lost(
    mysql: Server, mysql_b: Server, fresh: Fresh
) -> None:
    plan = _large_comparison(mysql, mysql_b, fresh, snapshot=True)
    killing = Killing(mysql, READS, 3)
    with line(mysql, killing) as proxy, pytest.raises(ConnectionFailed, match="snapshot"):
        _core.compare(through(plan, "source", proxy))
    assert killing.left == []


def test_a_comparison_names_the_rows_that_differ(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "eng_old", "eng_new")
    big_table(mysql, "eng_old", 20_000)
    big_table(mysql, "eng_new", 20_000)
    mysql.sql(
        "UPDATE eng_new.t SET n = 'other' WHERE a = 7 AND b = 3;"
        "UPDATE eng_new.t SET x = x + 1e-9 WHERE a = 8 AND b = 4;"
        "DELETE FROM eng_new.t WHERE a = 199 AND b = 99;"
        "INSERT INTO eng_new.t VALUES (300, 1, 0, '');"
    )
    plan = big_plan(mysql, mysql)
    plan = comparison(plan)
    table = _core.compare({**plan, "tolerance": 1e-6})["tables"][0]
    found = {(d["kind"], d["key"]["a"], d["key"]["b"]) for d in table["discrepancies"]}
    assert found == {("differs", "7", "3"), ("missing", "199", "99"), ("extra", "300", "1")}
    assert not table["match"]
    differs = next(d for d in table["discrepancies"] if d["kind"] == "differs")
    assert differs["columns"] == {"n": ("row 703", "other")}
    strict = _core.compare(plan)["tables"][0]
    assert len(strict["discrepancies"]) == 4


def test_scan_gives_arrow_with_every_row_once(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "eng_old")
    big_table(mysql, "eng_old", 50_000)
    plan = {
        "source": spec(mysql),
        "schema": "eng_old",
        "table": "t",
        "key": ["a", "b"],
        "columns": ["a", "b", "x", "n"],
        "chunk_bytes": 200_000,
        "rows": 50_000,
        "data_bytes": 5_000_000,
    }
    for lanes in (1, 3):
        table = pa.RecordBatchReader.from_stream(_core.scan({**plan, "lanes": lanes})).read_all()
        assert table.num_rows == 50_000
        assert table.schema.types == [pa.int32(), pa.int32(), pa.float64(), pa.large_string()]
        keys = table.column("a").to_numpy() * 100 + table.column("b").to_numpy()
        assert sorted(keys) == list(range(50_000))
    partial = _core.scan({**plan, "where_clause": "a < 2"})
    assert pa.RecordBatchReader.from_stream(partial).read_all().num_rows == 200


def test_a_stream_that_is_dropped_half_read_ends_its_threads(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "eng_old")
    big_table(mysql, "eng_old", 50_000)
    plan = {
        "source": spec(mysql),
        "schema": "eng_old",
        "table": "t",
        "key": ["a", "b"],
        "columns": ["a", "n"],
        "batch_bytes": 1000,
    }
    reader = pa.RecordBatchReader.from_stream(_core.scan(plan))
    reader.read_next_batch()

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    reading = threads()
    begun = time.monotonic()
    del reader
    assert time.monotonic() - begun < 5
    wait_for(lambda: threads() < reading)


def test_a_date_that_arrow_cannot_hold_is_an_error_that_names_it(
    mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "eng_old")
    mysql.sql(
        "SET sql_mode=''; CREATE DATABASE eng_old;"
        "CREATE TABLE eng_old.t (a int PRIMARY KEY, d date);"
        "INSERT INTO eng_old.t VALUES (1, '0000-00-00')"
    )
    plan = {"source": spec(mysql), "schema": "eng_old", "table": "t", "columns": ["a", "d"]}
    with pytest.raises(Exception, match="column `d` holds a date"):
        pa.RecordBatchReader.from_stream(_core.scan(plan)).read_all()


def test_a_value_that_does_not_fit_stops_the_run_and_leaves_no_row_of_its_chunk(
    mysql: Server, fresh: Fresh
) -> None:
    fresh(mysql, "eng_old", "eng_new")
    mysql.sql(
        "CREATE DATABASE eng_old; CREATE DATABASE eng_new;"
        "CREATE TABLE eng_old.t (a int PRIMARY KEY, b int, x double, n varchar(40));"
        "CREATE TABLE eng_new.t (a int PRIMARY KEY, b tinyint, x double, n varchar(40));"
        "INSERT INTO eng_old.t VALUES (1, 1, 1, ''), (2, 1000, 1, '')"
    )
    for load in ("infile", "insert"):
        plan = big_plan(mysql, mysql, load=load)
        plan["tables"][0]["key"] = ["a"]
        with pytest.raises(Exception, match="Out of range value for column 'b'"):
            _core.copy(plan)
        assert mysql.sql("SELECT COUNT(*) FROM eng_new.t") == [("0",)]
        mysql.sql("DROP TABLE IF EXISTS eng_new.`~migrate_journal`")


def test_a_pointer_without_a_tracking_row_is_named(mysql: Server, fresh: Fresh) -> None:
    fresh(mysql, "eng_old", "eng_new")
    tracking = (
        "CREATE TABLE eng_old.`~external_raw` (hash binary(16) PRIMARY KEY,"
        " size bigint unsigned NOT NULL,"
        " attachment_name varchar(255), filepath varchar(1000), contents_hash binary(16),"
        " timestamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP);"
    )
    mysql.sql(
        "CREATE DATABASE eng_old; CREATE DATABASE eng_new;"
        + tracking
        + "CREATE TABLE eng_old.t (a int PRIMARY KEY, p binary(16));"
        "CREATE TABLE eng_new.t (a int PRIMARY KEY, p json);"
        "INSERT INTO eng_old.t VALUES (1, x'00112233445566778899aabbccddeeff')"
    )
    pointer = {
        "kind": "blob",
        "store": "raw",
        "tracking_schema": "eng_old",
        "tracking_table": "~external_raw",
        "source_schema": "eng_old",
        "schema": "eng_old",
        "layout": "in_place",
        "source_subfolding": [2, 2],
    }
    plan = big_plan(mysql, mysql)
    plan["tables"][0]["key"] = ["a"]
    plan["tables"][0]["columns"] = [
        {"source": "a", "destination": "a", "kind": "value"},
        {"source": "p", "destination": "p", "kind": "pointer", "pointer": pointer},
    ]
    with pytest.raises(Exception, match="00112233445566778899aabbccddeeff"):
        _core.copy(plan)
    mysql.sql(
        "INSERT INTO eng_old.`~external_raw` (hash, size)"
        " VALUES (x'00112233445566778899aabbccddeeff', 5)"
    )
    assert _core.copy(plan)["rows_copied"] == 1
    path = mysql.sql("SELECT p->>'$.path' FROM eng_new.t")[0][0]
    assert path == "eng_old/00/11/00112233445566778899aabbccddeeff"


def test_errors_say_where_and_what_to_do(mysql: Server) -> None:
    nobody = {**spec(mysql), "port": 1}
    plan = {"source": nobody, "schema": "x", "table": "t", "columns": ["a"]}
    with pytest.raises(
        ConnectionFailed, match=r"cannot connect to dj@.*:1.*Hint: check host"
    ) as error:
        _core.scan(plan)
    assert error.value.code == "DJM-1101"
    with pytest.raises(ConnectionFailed) as error:
        _core.scan({**plan, "source": {**spec(mysql), "password": "s3cret-wrong"}})
    assert "s3cret" not in str(error.value)
    with pytest.raises(NotFound, match=r"x\.t"):
        _core.scan({**plan, "source": spec(mysql)})
    assert issubclass(Unconvertible, Exception)


@pytest.mark.parametrize("mode", ["required", "disabled", "preferred"])
def test_every_ssl_mode_logs_in(mysql: Server, mode: str) -> None:
    plan = {"source": {**spec(mysql), "ssl_mode": mode}, "schema": "mysql", "table": "user"}
    stream = _core.scan({**plan, "columns": ["User"], "key": ["Host", "User"]})
    assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows > 0


def test_a_certificate_that_nobody_signed_is_refused(mysql: Server) -> None:
    source = {**spec(mysql), "ssl_mode": "verify_identity"}
    with pytest.raises(ConnectionFailed, match="certificate"):
        _core.scan({"source": source, "schema": "mysql", "table": "user", "columns": ["User"]})
