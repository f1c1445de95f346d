"""A table a type of column, with values at its limits, and how to read them bit for bit."""

from __future__ import annotations

from servers import Server

# One column a type; values at their limits. TIMESTAMP 0 and zero dates need a relaxed sql_mode.
TYPES: dict[str, list[str]] = {
    "tinyint": ["-128", "127", "0"],
    "tinyint unsigned": ["0", "255"],
    "smallint": ["-32768", "32767"],
    "smallint unsigned": ["65535"],
    "mediumint": ["-8388608", "8388607"],
    "mediumint unsigned": ["16777215"],
    "int": ["-2147483648", "2147483647"],
    "int unsigned": ["4294967295"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "bigint unsigned": ["18446744073709551615", "9223372036854775808"],
    "float": ["1.2345679e0", "0.1e0", "-0.0e0", "3.4028235e38", "1.17549435e-38", "16777217e0"],
    "float unsigned": ["0.30000001e0"],
    "float(7,3)": ["1234.567", "-0.001", "9999.999"],
    "double": ["0.1e0", "1.7976931348623157e308", "2.2250738585072014e-308", "-0.0e0", "3e-323"],
    "decimal(65,30)": ["'12345678901234567890123456789012345.123456789012345678901234567891'"],
    "decimal(6,2)": ["-9999.99", "0.10"],
    "char(5)": ["'ab'", "''", "'é猴😀'"],
    "varchar(100)": ["''", "'a\\tb\\nc\\\\d\\'e\"f\\0g'", "'\\\\N'", "'😀'"],
    "varchar(40) character set latin1": ["_latin1 x'e9ff80'", "'plain'"],
    "varchar(40) character set ascii": ["'ascii'"],
    "text": ["''", "REPEAT('long ü', 20000)"],
    "enum('a','b c','d''e','ü:x','2')": ["1", "2", "3", "4", "5"],
    "set('x','y','z')": ["0", "5", "7"],
    "date": ["'0000-00-00'", "'1000-01-01'", "'9999-12-31'", "'2020-02-31'", "'2024-02-29'"],
    "datetime": ["'0000-00-00 00:00:00'", "'2024-05-06 23:59:59'"],
    "datetime(6)": ["'9999-12-31 23:59:59.999999'", "'1001-01-01 00:00:00.000001'"],
    "timestamp null": ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2024-03-31 02:30:00'"],
    "timestamp(3) null": ["'2024-05-06 01:02:03.456'"],
    "time": ["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'25:00:01'"],
    "time(3)": ["'-00:00:00.001'", "'100:10:10.250'"],
    "year": ["1901", "2155", "0"],
    "bit(13)": ["b'1010101010101'", "0"],
    "binary(16)": ["x'00010203040506070809090a0d5c2700'", "x'ff'"],
    "varbinary(20)": ["x''", "x'5c6e095c300a'"],
    "longblob": ["x''", "x'00'", "REPEAT(x'000a095c27ff', 30000)"],
    "json": ['\'{"a": [1, 2.5, null, "é\\\\n"]}\'', "'[]'", "'\"text\"'"],
    "geometry": ["ST_GeomFromText('POINT(1 2)')"],
}


def make_types(server: Server, schema: str) -> None:
    """A table a type, with a NULL row and its values, keyed by a number."""
    statements = [
        "SET time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES', NAMES utf8mb4;",
        f"CREATE DATABASE `{schema}` CHARACTER SET utf8mb4;",
    ]
    for number, (type_, values) in enumerate(TYPES.items()):
        table = f"`{schema}`.`t{number}`"
        statements.append(f"CREATE TABLE {table} (id int PRIMARY KEY, v {type_});")
        statements.append(f"INSERT INTO {table} VALUES (0, NULL);")
        for row, value in enumerate(values, start=1):
            statements.append(f"INSERT INTO {table} VALUES ({row}, {value});")
    server.sql("".join(statements))


def exact(server: Server, schema: str, table: str, type_: str) -> list[list[str | None]]:
    """Every value of `v` in a form that hides no bit."""
    value = {"float": "CAST(v AS DOUBLE)", "float unsigned": "CAST(v AS DOUBLE)"}.get(type_)
    if type_.startswith("float("):
        value = "CAST(v AS DOUBLE)"
    elif type_.startswith("enum"):
        value = "CONCAT(v + 0, HEX(v))"
    elif type_ in ("json", "year") or type_.startswith(("time", "date", "double", "decimal")):
        value = "CAST(v AS CHAR)"
    elif type_.startswith(("bit", "set")):
        value = "v + 0"
    return server.sql(
        "SET time_zone='+00:00';"
        f"SELECT id, {value or 'HEX(v)'} FROM `{schema}`.`{table}` ORDER BY id"
    )
