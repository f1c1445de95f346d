"""Values of every type that a key can have, as SQL, for tests that generate tables."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def whole(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(str)


def texts(length: int, encoding: str = "utf-8") -> st.SearchStrategy[str]:
    letters = st.characters(codec=encoding) | st.sampled_from("\0\t\n\\'\" %")
    found = st.text(letters, max_size=length)
    return found.map(lambda value: f"CONVERT(x'{value.encode().hex()}' USING utf8mb4)")


def bytes_(length: int) -> st.SearchStrategy[str]:
    return st.binary(max_size=length).map(lambda value: f"x'{value.hex()}'")


def floats(width: int) -> st.SearchStrategy[str]:
    # MySQL has neither infinity nor NaN, and keeps no subnormal FLOAT in every expression.
    found = st.floats(allow_nan=False, allow_infinity=False, width=width, allow_subnormal=False)
    return found.map(lambda value: f"{value!r}" + ("" if "e" in repr(value) else "e0"))


def quoted(found: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return found.map(lambda value: f"'{value}'")


def times(value: int) -> str:
    sign, value = "-" if value < 0 else "", abs(value)
    seconds, micros = divmod(value, 1_000_000)
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"


# Of the years that every connector reads.
MOMENTS = st.datetimes().filter(lambda moment: moment.year >= 1000)

VALUES: dict[str, st.SearchStrategy[str]] = {
    "tinyint": whole(-128, 127),
    "smallint unsigned": whole(0, 65535),
    "mediumint": whole(-8388608, 8388607),
    "int": whole(-(2**31), 2**31 - 1),
    "bigint unsigned": whole(0, 2**64 - 1),
    "decimal(20,6)": st.decimals(-(10**13), 10**13, places=6).map(str),
    "float": floats(32),
    "double": floats(64),
    "char(4)": texts(4),
    "varchar(8)": texts(8),
    "varchar(8) character set latin1": texts(8, "latin-1"),
    "varchar(8) collate utf8mb4_bin": texts(8),
    "enum('z','a','','é')": whole(1, 4),
    "set('x','y','z')": whole(0, 7),
    "bit(13)": whole(0, 8191),
    "binary(6)": bytes_(6),
    "varbinary(8)": bytes_(8),
    "date": quoted(st.dates().filter(lambda day: day.year >= 1000))
    | st.sampled_from(["'0000-00-00'", "'2020-02-31'"]),
    "datetime(6)": quoted(MOMENTS) | st.just("'0000-00-00 00:00:00'"),
    "datetime": quoted(MOMENTS.map(lambda moment: moment.replace(microsecond=0))),
    "timestamp(3) null": st.integers(1, 2**31 - 1).map(
        lambda n: f"FROM_UNIXTIME({n}.{n % 1000:03})"
    ),
    "time(6)": st.integers(-3_020_399 * 10**6, 3_020_399 * 10**6).map(times).map(repr),
    "year": whole(1901, 2155) | st.just("0"),
}
