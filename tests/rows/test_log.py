"""The binary log names the keys that changed, on both servers, or says by name why it cannot."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

import pytest

import servers
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.tables import read_schema
from datajoint_migrate.rows.log import changed_keys, log_position
from servers import Server

NUMBERS = count(1)


class Lab:
    """A schema of its own, and what the log says of it since the last look."""

    def __init__(self, server: Server, *tables: str) -> None:
        self.name = f"log{next(NUMBERS)}"
        self.server = server
        server.sql(f"CREATE DATABASE {self.name}")
        self.sql(*tables)
        self.since = position(server)

    def sql(self, *statements: str) -> None:
        self.server.sql("SET NAMES utf8mb4;" + ";".join(statements), self.name)

    def look(self, **budget: Any) -> dict[str, Any]:
        tables = []
        with resolve(self.server.url).session(read_only=True) as session:
            tables = list(read_schema(session, self.name).tables.values())
        return changed_keys(resolve(self.server.url), self.since, tables, **budget)

    def table(self, name: str = "t", **budget: int) -> dict[str, Any]:
        said = self.look(**budget)
        assert said["unknown"] is None, said["unknown"]
        found: dict[str, Any] = next(table for table in said["tables"] if table["table"] == name)
        return found

    def keys(self, name: str = "t") -> set[tuple[str, ...]]:
        found = self.table(name)
        assert found["unknown"] is None, found["unknown"]
        keys = [tuple(literal(value) for value in key) for key in found["keys"]]
        assert len(keys) == len(set(keys))
        return set(keys)

    def why(self, name: str = "t", **budget: Any) -> str | None:
        said = self.look(**budget)
        table = next(table for table in said["tables"] if table["table"] == name)
        unknown = said["unknown"] or table["unknown"]
        assert table["unknown"] is None or table["keys"] == []
        return unknown and str(unknown["reason"])


def position(server: Server) -> dict[str, Any]:
    said = log_position(resolve(server.url))
    assert said["unknown"] is None, said["unknown"]
    found: dict[str, Any] = said["position"]
    return found


def literal(value: dict[str, Any]) -> str:
    if "number" in value:
        return str(value["number"])
    if "plain" in value:
        return f"'{value['plain']}'"
    held = value["bytes"]
    return f"_{held['charset']} x'{held['hex']}'"


INTEGERS = {
    "tinyint": ("-128", "127"),
    "tinyint unsigned": ("0", "255"),
    "smallint": ("-32768", "7"),
    "smallint unsigned": ("65535", "32768"),
    "mediumint": ("-8388608", "-1"),
    "mediumint unsigned": ("16777215", "0"),
    "int": ("-2147483648", "2147483647"),
    "int unsigned": ("4294967295", "2147483648"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "bigint unsigned": ("18446744073709551615", "9223372036854775808"),
    "year": ("1901", "2155"),
}
OTHERS = {
    "char(5)": ("'ab'", "'é'", "''"),
    "char(80) character set utf8mb4": ("'ab'", "repeat('é', 80)"),
    "char(90) character set utf8mb4": ("'ab'", "repeat('€', 90)"),
    "varchar(16)": ("'mouse 1'", "''", "'ab '"),
    "varchar(300) character set latin1": ("'é'", "repeat('x', 300)"),
    "varbinary(20)": ("x'00ff00'", "x''"),
    "binary(16)": (
        "x'00112233445566778899aabbccddee00'",
        "x'00'",
        "x'ffffffffffffffffffffffffffff0000'",
    ),
    "date": ("'2020-02-29'", "'0000-00-00'", "'9999-12-31'"),
    "time": ("'-838:59:59'", "'00:00:00'", "'25:01:02'", "'-00:00:01'"),
    "time(2)": ("'-10:00:00.25'", "'-00:00:00.01'", "'10:00:00.99'"),
    "time(3)": ("'-10:00:00.257'", "'-00:00:00.001'", "'10:00:00.999'"),
    "time(6)": ("'-838:59:59.000000'", "'-00:00:00.000001'", "'12:34:56.789012'"),
    "datetime": ("'2020-01-02 03:04:05'", "'0000-00-00 00:00:00'"),
    "datetime(3)": ("'1000-01-01 00:00:00.001'", "'2020-01-01 00:00:00'"),
    "datetime(6)": ("'2020-01-01 00:00:00.123456'", "'9999-12-31 23:59:59.999999'"),
    "timestamp": ("'2020-06-01 12:00:00'", "'2037-01-01 00:00:00'"),
    "timestamp(3)": ("'2020-06-01 12:00:00.5'",),
    "decimal(12,4)": ("-12345678.9012", "0.0001", "-0.5", "99999999.9999"),
    "decimal(65,30)": (
        "-1.000000000000000000000000000001",
        "99999999999999999999999999999999999.5",
    ),
    "decimal(9)": ("-999999999", "0", "12"),
    "float": ("1.2345679", "-3.4028234e38", "0"),
    "double": ("0.1", "-1e300", "5e-324"),
    "enum('a','b','ü')": ("'a'", "'ü'"),
    "set('x','y','z')": ("'x,z'", "''"),
    "bit(9)": ("b'101010101'", "b'0'"),
    "bit(64)": ("b'1'", "18446744073709551615"),
}


@pytest.mark.parametrize("image", ["FULL", "MINIMAL", "NOBLOB"])
def test_a_key_of_every_type_comes_out_of_the_log_as_the_value_that_finds_the_row(
    logged: Server, image: str
) -> None:
    kinds = list((INTEGERS | OTHERS).items())
    tables = [
        f"CREATE TABLE k{index} (before_it longblob, k {kind} NOT NULL, v int, j json,"
        " PRIMARY KEY (k))"
        for index, (kind, _) in enumerate(kinds)
    ]
    free = f"SET sql_mode='', time_zone='+02:00', binlog_row_image='{image}'"
    lab = Lab(logged, *tables)
    for index, (_, values) in enumerate(kinds):
        rows = ", ".join(f"(repeat('b', 300), {value}, 1, '{{}}')" for value in values)
        lab.sql(free, f"INSERT INTO k{index} VALUES {rows}")
    inserted = position(logged)
    lab.sql(free, *[f"UPDATE k{index} SET v = 2" for index in range(len(kinds))])
    for since in (lab.since, inserted):
        lab.since = since
        said = lab.look()
        assert said["unknown"] is None
        for found in said["tables"]:
            kind, values = kinds[int(found["table"][1:])]
            assert found["unknown"] is None, (kind, found["unknown"])
            assert len(found["keys"]) == len(values), (kind, found["keys"])
            number = kind.startswith(("enum", "set", "bit"))
            where = "k + 0" if number else "k"
            counts = [
                "(SELECT COUNT(*) FROM {} WHERE {} = {})".format(
                    found["table"], where, literal(key[0])
                )
                for key in found["keys"]
            ]
            ask = f"SET time_zone='+00:00', sql_mode=''; SELECT {', '.join(counts)}"
            assert logged.sql(ask, lab.name) == [("1",) * len(values)], (kind, found["keys"])


def test_inserts_updates_deletes_and_renamed_keys_are_named_once_each(logged: Server) -> None:
    table = "CREATE TABLE t (v int, b int unsigned, a varchar(9), PRIMARY KEY (a, b))"
    lab = Lab(logged, table, "INSERT INTO t VALUES (0, 1, 'a'), (0, 2, 'a'), (0, 3, 'b')")
    assert lab.keys() == set()
    lab.sql(
        "INSERT INTO t VALUES (0, 4294967295, 'c')",
        "UPDATE t SET v = 1 WHERE b = 4294967295",
        "UPDATE t SET v = 1 WHERE b = 1",
        "DELETE FROM t WHERE b = 2",
        "UPDATE t SET b = 33 WHERE b = 3",
        "REPLACE INTO t VALUES (5, 4294967295, 'c')",
        "BEGIN; INSERT INTO t VALUES (0, 99, 'x'); ROLLBACK",
    )
    text = {letter: f"_utf8mb4 x'{ord(letter):x}'" for letter in "abc"}
    assert lab.keys() == {
        (text["c"], "4294967295"),
        (text["a"], "1"),
        (text["a"], "2"),
        (text["b"], "3"),
        (text["b"], "33"),
    }


@pytest.mark.parametrize("image", ["FULL", "MINIMAL", "NOBLOB"])
def test_images_of_rows_may_leave_out_what_did_not_change(logged: Server, image: str) -> None:
    columns = "front longblob, k int, name varchar(20), j json, tail longblob, PRIMARY KEY (k)"
    lab = Lab(
        logged,
        f"CREATE TABLE t ({columns})",
        "INSERT INTO t VALUES (repeat('x', 70000), 1, 'a', '{\"a\": [1]}', 'y'),"
        " (NULL, 2, NULL, NULL, NULL), (NULL, 3, 'c', '[]', repeat('z', 300))",
    )
    lab.sql(
        f"SET binlog_row_image = '{image}'",
        "UPDATE t SET name = 'b' WHERE k = 1",
        "UPDATE t SET tail = repeat('q', 70000) WHERE k = 2",
        "UPDATE t SET k = 30 WHERE k = 3",
        "DELETE FROM t WHERE k = 2",
    )
    assert lab.keys() == {("1",), ("2",), ("3",), ("30",)}


def test_a_changed_part_of_a_json_value_is_a_change_of_its_row(logged_mysql: Server) -> None:
    lab = Lab(
        logged_mysql,
        "CREATE TABLE t (j json, k int, a int, l json, m json, PRIMARY KEY (k))",
        "INSERT INTO t SELECT value, k, 0, value, value FROM"
        " (SELECT JSON_OBJECT('a', 1, 'b', REPEAT('x', 500)) value) v,"
        " (SELECT 1 k UNION SELECT 2 UNION SELECT 3) n",
    )
    for image in ("FULL", "MINIMAL"):
        lab.sql(
            f"SET binlog_row_value_options = 'PARTIAL_JSON', binlog_row_image = '{image}'",
            "UPDATE t SET j = JSON_SET(j, '$.a', 2), m = JSON_SET(m, '$.a', 2) WHERE k < 3",
            "UPDATE t SET l = JSON_REPLACE(l, '$.a', 5), a = 1 WHERE k = 3",
        )
    assert lab.keys() == {("1",), ("2",), ("3",)}


def test_compressed_transactions_are_unwrapped(logged_mysql: Server) -> None:
    lab = Lab(logged_mysql, "CREATE TABLE t (k int PRIMARY KEY, v varchar(200))")
    lab.sql(
        "SET binlog_transaction_compression = ON",
        "INSERT INTO t VALUES (1, repeat('a', 200)), (2, repeat('b', 200))",
        "BEGIN; UPDATE t SET v = 'c' WHERE k = 1; INSERT INTO t VALUES (3, ''); COMMIT",
    )
    assert lab.keys() == {("1",), ("2",), ("3",)}


def test_compressed_events_of_mariadb_are_unwrapped(logged_mariadb: Server) -> None:
    lab = Lab(logged_mariadb, "CREATE TABLE t (k int PRIMARY KEY, v varchar(900))")
    try:
        lab.sql(
            "SET GLOBAL log_bin_compress_min_len = 10",
            "SET GLOBAL log_bin_compress = 1",
            "INSERT INTO t VALUES (1, repeat('a', 800)), (2, repeat('b', 800))",
            "UPDATE t SET v = repeat('c', 700) WHERE k = 1",
            "DELETE FROM t WHERE k = 2",
            f"ALTER TABLE t COMMENT '{'x' * 300}'",
        )
        assert lab.why() == "definition"
        lab.since = position(logged_mariadb)
        lab.sql("INSERT INTO t VALUES (5, repeat('a', 800))", "DELETE FROM t WHERE k = 1")
        assert lab.keys() == {("1",), ("5",)}
    finally:
        lab.sql("SET GLOBAL log_bin_compress = 0")


def test_the_log_is_read_across_its_files_and_without_checksums(logged: Server) -> None:
    lab = Lab(logged, "CREATE TABLE t (k int PRIMARY KEY, v int)")
    lab.sql("INSERT INTO t VALUES (1, 0)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (2, 0)")
    lab.sql("SET GLOBAL binlog_checksum = 'NONE'", "INSERT INTO t VALUES (3, 0)")
    bare = position(logged)
    lab.sql("INSERT INTO t VALUES (4, 0)", "SET GLOBAL binlog_checksum = 'CRC32'")
    lab.sql("INSERT INTO t VALUES (5, 0)")
    assert lab.keys() == {("1",), ("2",), ("3",), ("4",), ("5",)}
    lab.since = bare
    assert lab.keys() == {("4",), ("5",)}


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE t",
        "ALTER TABLE t ADD COLUMN w int",
        "ALTER TABLE `t` COMMENT 'not; changed'",
        "DROP TABLE t; CREATE TABLE t (k int PRIMARY KEY, v int)",
        "RENAME TABLE t TO x; RENAME TABLE x TO t",
        "CREATE INDEX v ON t (v)",
        "/* who */ /*!40000 ALTER TABLE t FORCE */",
    ],
)
def test_a_statement_about_a_table_sends_that_table_another_way_and_no_other(
    logged: Server, statement: str
) -> None:
    made = ["CREATE TABLE t (k int PRIMARY KEY, v int)", "CREATE TABLE o (k int PRIMARY KEY)"]
    lab = Lab(logged, *made, "INSERT INTO t VALUES (1, 0)")
    lab.sql(statement, "INSERT INTO o VALUES (1)", "REPLACE INTO t (k, v) VALUES (2, 0)")
    assert lab.why() == "definition"
    assert lab.keys("o") == {("1",)}


def test_a_statement_that_is_known_word_for_word_sends_nothing_another_way(logged: Server) -> None:
    comment = "ALTER TABLE t MODIFY COLUMN v int COMMENT ':int:ours'"
    lab = Lab(logged, "CREATE TABLE t (k int PRIMARY KEY, v int)")
    lab.sql("INSERT INTO t VALUES (1, 0)", comment, "INSERT INTO t VALUES (2, 0)")
    assert lab.why() == "definition"
    assert lab.why(harmless=[comment.replace("ours", "theirs")]) == "definition"
    said = lab.look(harmless=["ALTER TABLE x FORCE", comment])
    (table,) = said["tables"]
    assert (said["unknown"], table["unknown"]) == (None, None)
    assert {literal(key[0]) for key in table["keys"]} == {"1", "2"}
    lab.sql("ALTER TABLE t MODIFY COLUMN v bigint")
    assert lab.why(harmless=[comment]) == "definition"


def test_a_statement_about_a_schema_is_one_about_all_its_tables(logged: Server) -> None:
    lab = Lab(logged)
    lab.sql(
        f"DROP DATABASE {lab.name}; CREATE DATABASE {lab.name}; USE {lab.name}",
        "CREATE TABLE t (k int PRIMARY KEY)",
    )
    assert lab.why() == "definition"


def test_what_has_no_rows_sends_nothing_another_way(logged: Server) -> None:
    lab = Lab(logged, "CREATE TABLE t (k int PRIMARY KEY, v int)")
    lab.sql(
        "CREATE VIEW seen AS SELECT k FROM t",
        "CREATE TRIGGER fires BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 7",
        "CREATE TABLE other (k int PRIMARY KEY)",
        "ANALYZE TABLE t",
        "SAVEPOINT a",
        "INSERT INTO t (k) VALUES (1)",
    )
    assert lab.keys() == {("1",)}


def test_statements_that_are_logged_as_text_say_nothing_of_rows(logged: Server) -> None:
    lab = Lab(logged, "CREATE TABLE t (k int PRIMARY KEY)", "CREATE TABLE o (k int PRIMARY KEY)")
    lab.sql("SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO o VALUES (1)")
    assert lab.why() == "statement"


def test_a_server_that_may_log_statements_is_not_asked_for_rows(logged_mariadb: Server) -> None:
    lab = Lab(logged_mariadb, "CREATE TABLE t (k int PRIMARY KEY)")
    logged_mariadb.sql("SET GLOBAL binlog_format = 'MIXED'")
    try:
        assert lab.why() == "statement"
        assert log_position(resolve(logged_mariadb.url))["unknown"]["reason"] == "statement"
    finally:
        logged_mariadb.sql("SET GLOBAL binlog_format = 'ROW'")


CHILDREN = (
    "CREATE TABLE p (k int PRIMARY KEY, v int)",
    "CREATE TABLE c (k int, n int, PRIMARY KEY (k, n),"
    " FOREIGN KEY (k) REFERENCES p (k) ON UPDATE CASCADE)",
    "CREATE TABLE d (n int PRIMARY KEY, k int,"
    " FOREIGN KEY (k) REFERENCES p (k) ON UPDATE RESTRICT ON DELETE SET NULL)",
    "INSERT INTO p VALUES (1, 0), (2, 0), (3, 0)",
    "INSERT INTO c VALUES (1, 1), (1, 2)",
    "INSERT INTO d VALUES (7, 3)",
)


@pytest.mark.parametrize("image", ["FULL", "MINIMAL"])
def test_children_of_a_renamed_key_are_looked_at_where_cascades_are_not_logged(
    logged: Server, image: str
) -> None:
    lab = Lab(logged, *CHILDREN)
    lab.sql(f"SET binlog_row_image = '{image}'", "UPDATE p SET v = 5 WHERE k = 1")
    assert lab.why("c") is None
    lab.sql(f"SET binlog_row_image = '{image}'", "UPDATE p SET k = 10 WHERE k = 1")
    assert lab.keys("p") == {("1",), ("10",)}
    if logged.kind == "mariadb":
        assert lab.why("c") == "cascade"
        assert lab.why("d") is None
    else:
        # MySQL 9.7 makes cascades above the engine, and logs them.
        assert lab.keys("c") == {("1", "1"), ("1", "2"), ("10", "1"), ("10", "2")}
    lab.sql("DELETE FROM p WHERE k = 3")
    assert lab.why("d") == ("cascade" if logged.kind == "mariadb" else None)


def test_cascades_of_the_engine_are_not_taken_for_logged_ones() -> None:
    arguments = ["--log-bin=log", "--server-id=7", "--innodb-native-foreign-keys=ON"]
    server = servers.start("mysql", arguments=arguments)
    try:
        lab = Lab(server, *CHILDREN)
        lab.sql("UPDATE p SET k = 10 WHERE k = 1")
        assert lab.why("c") == "cascade"
        assert lab.keys("p") == {("1",), ("10",)}
        # A start of the server with the other setting: what was written before it was not logged.
        server.kill()
        server.started_with = (True, arguments[:2])
        server.restart()
        assert lab.why("c") == "cascade"
    finally:
        server.stop()


def test_a_log_that_was_purged_or_begun_anew_is_not_taken_for_the_old_one(logged: Server) -> None:
    lab = Lab(logged, "CREATE TABLE t (k int PRIMARY KEY)")
    lab.sql("FLUSH BINARY LOGS")
    last = position(logged)["file"]
    # MariaDB keeps a file until what was written to it has reached the tables.
    while logged.sql("SHOW BINARY LOGS")[0][0] != last:
        lab.sql(f"PURGE BINARY LOGS TO '{last}'")
    assert lab.why() == "purged"
    maria = logged.kind == "mariadb"
    logged.sql("RESET MASTER" if maria else "RESET BINARY LOGS AND GTIDS")
    first = position(logged)
    lab.since = first | {"began": first["began"] - 1}
    lab.sql("INSERT INTO t VALUES (1)")
    assert lab.why() == "reset"
    lab.since = first | {"offset": first["offset"] + (1 << 20)}
    assert lab.why() == "unreadable"
    lab.since = first | {"server": "another"}
    assert lab.why() == "other_server"


def test_a_user_without_the_right_is_told_so(logged: Server) -> None:
    lab = Lab(logged, "CREATE TABLE t (k int PRIMARY KEY)")
    client = "BINLOG MONITOR" if logged.kind == "mariadb" else "REPLICATION CLIENT"
    user = f"reader{next(NUMBERS)}"
    logged.sql(f"CREATE USER {user} IDENTIFIED BY 'x'; GRANT SELECT ON *.* TO {user}")
    server = resolve(f"mysql://{user}:x@{logged.host}:{logged.port}/")
    assert log_position(server)["unknown"]["reason"] == "no_right"
    assert changed_keys(server, lab.since, [])["unknown"]["reason"] == "no_right"
    logged.sql(f"GRANT {client} ON *.* TO {user}")
    assert log_position(server)["unknown"]["reason"] == "no_right"
    logged.sql(f"GRANT REPLICATION SLAVE ON *.* TO {user}")
    assert log_position(server)["position"] is not None
    logged.sql(f"REVOKE REPLICATION SLAVE ON *.* FROM {user}")
    assert changed_keys(server, lab.since, [])["unknown"]["reason"] == "no_right"


def test_a_server_without_a_log_says_so(server: Server) -> None:
    assert log_position(resolve(server.url))["unknown"]["reason"] == "no_log"


def test_more_keys_than_the_budget_send_their_table_another_way_and_no_other(
    logged: Server,
) -> None:
    lab = Lab(logged, *[f"CREATE TABLE {name} (k int PRIMARY KEY)" for name in "ot"])
    rows = ", ".join(f"({number})" for number in range(50))
    lab.sql(f"INSERT INTO t VALUES {rows}", "INSERT INTO o VALUES (1)")
    assert lab.why(max_keys=49) == "too_many"
    assert lab.why(max_keys=50) is None
    assert lab.why("o", max_keys=49) is None
    assert lab.why(max_bytes=500) == "too_many"


def test_a_table_without_a_key_and_one_that_has_columns_more_are_looked_at(logged: Server) -> None:
    lab = Lab(logged, "CREATE TABLE t (k int)", "CREATE TABLE b (k blob, PRIMARY KEY (k(9)))")
    lab.sql("INSERT INTO t VALUES (1)", "INSERT INTO b VALUES ('x')")
    assert lab.why() == "no_key"
    assert lab.why("b") == "type"


def test_what_was_prepared_before_and_committed_after_is_not_missed(logged: Server) -> None:
    lab = Lab(logged, "CREATE TABLE t (k int PRIMARY KEY)")
    prepare = "XA START 'a'; INSERT INTO t VALUES (1); XA END 'a'; XA PREPARE 'a'"
    ((session,),) = logged.sql(f"SELECT CONNECTION_ID(); {prepare}", lab.name)
    # MariaDB lets nobody else commit it before the session has ended.
    while session in {row[0] for row in logged.sql("SHOW PROCESSLIST")}:
        time.sleep(0.02)
    lab.since = position(logged)
    lab.sql("XA COMMIT 'a'")
    assert lab.why() == "xa"
