"""The values the pipeline holds: every kind a blob can be, every limit a column has."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import datajoint as dj
import numpy as np


def unique(number: int) -> uuid.UUID:
    """The same UUID for the same number on every run."""
    return uuid.UUID(int=number * 0x0123456789ABCDEF01234567)


def limits() -> list[dict[str, Any]]:
    """Rows of `Limits`: lowest and highest of every type, then NULLs and defaults."""
    low = {
        "row_id": 1,
        "t_tinyint": -128,
        "t_tinyint_u": 0,
        "t_smallint": -32768,
        "t_smallint_u": 0,
        "t_mediumint": -8388608,
        "t_mediumint_u": 0,
        "t_int": -(2**31),
        "t_int_u": 0,
        "t_integer": -12,
        "t_bigint": -(2**63),
        "t_bigint_u": 0,
        "t_int11": -11,
        "t_tiny1": 0,
        "t_bool": False,
        "t_boolean": True,
        "t_float": -0.0,
        "t_float_u": 1e-30,
        "t_double": -0.0,
        "t_real": -1e300,
        "t_float_p": -1.234,
        "t_decimal": decimal.Decimal("-99999999.9999"),
        "t_decimal_u": decimal.Decimal("0.00"),
        "t_decimal_d": decimal.Decimal("-9999999999"),
        "t_numeric": decimal.Decimal("-12345.678"),
        "t_char": "",
        "t_varchar": "",
        "t_enum": "a",
        "t_date": "1000-01-01",
        "t_time": "-838:59:59",
        "t_time3": "-00:00:00.001",
        "t_datetime": "1000-01-01 00:00:00",
        "t_datetime6": "1000-01-01 00:00:00.000001",
        "t_timestamp": "1970-01-01 00:00:01",
        "t_timestamp3": "1970-01-01 00:00:01.001",
        "t_year": 1901,
        "t_uuid": uuid.UUID(int=0),
    }
    high = {
        "row_id": 2,
        "t_tinyint": 127,
        "t_tinyint_u": 255,
        "t_smallint": 32767,
        "t_smallint_u": 65535,
        "t_mediumint": 8388607,
        "t_mediumint_u": 16777215,
        "t_int": 2**31 - 1,
        "t_int_u": 2**32 - 1,
        "t_integer": 12,
        "t_bigint": 2**63 - 1,
        "t_bigint_u": 2**64 - 1,
        "t_int11": 11,
        "t_tiny1": 127,
        "t_bool": True,
        "t_boolean": False,
        "t_float": 3.4e38,
        "t_float_u": 0.1,
        "t_double": 5e-324,
        "t_real": 1e300,
        "t_float_p": 1234.567,
        "t_decimal": decimal.Decimal("99999999.9999"),
        "t_decimal_u": decimal.Decimal("9999.99"),
        "t_decimal_d": decimal.Decimal("9999999999"),
        "t_numeric": decimal.Decimal("12345.678"),
        "t_char": "ab ",
        "t_varchar": "trailing blanks  ",
        "t_enum": "d'e",
        "t_date": "9999-12-31",
        "t_time": "838:59:59",
        "t_time3": "123:34:56.789",
        "t_datetime": "9999-12-31 23:59:59",
        "t_datetime6": "9999-12-31 23:59:59.999999",
        "t_timestamp": "2038-01-19 03:14:07",
        "t_timestamp3": "2038-01-19 03:14:07.999",
        "t_year": 2155,
        "t_uuid": uuid.UUID(int=2**128 - 1),
    }
    text = {
        "row_id": 3,
        "t_char": "猴🐀\t\n\\",
        "t_varchar": "tab\t line\n return\r ctrl\x1a back\\slash 'q' \"d\" `b` % %s NULL \\N 猴🐀",
        "t_enum": "ü:x",
        "t_year": 0,
        "t_uuid": unique(77),
        "d_string": "",
    }
    return [low, high, text, {"row_id": 7}, {"row_id": 4294967294, "t_varchar": "\\N"}]


JSON_VALUES: dict[int, Any] = {
    1: {"a": [1, 2.5, None, "ü 🐀"], "b": {"c": True, "": 1e300}, "q": "'\"\\\n\t%"},
    2: [],
    3: 1.5,
}
"""What `Limits.t_json` holds, by row_id."""


def precise() -> list[tuple[int, float, float]]:
    """Rows of `Precision`: floats that six printed digits do not tell apart."""
    singles = [
        1.2345679,
        16777217.0,
        0.1,
        1 / 3,
        9.87654321e-30,
        1.17549435e-38,
        8388607.5,
        -7654321.0,
    ]
    return [(i, float(np.float32(x)), x * (1 + 2**-52)) for i, x in enumerate(singles)]


def kinds() -> dict[str, Any]:
    """Everything a blob of 0.14.6 can hold, by a name."""
    record = np.rec.array([(1, 2.5), (3, 4.5)], dtype=[("x", "i4"), ("y", "f8")])
    fields = np.zeros((2, 3), dtype=[("x", "i4"), ("y", "f8"), ("z", "O")])
    fields["z"][:] = "s"
    fields["x"] = np.arange(6).reshape(2, 3)
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = np.arange(3.0), np.array([[1.0]])
    struct = np.array([[(np.array([[1.0]]), "t")]], dtype=[("a", "O"), ("b", "O")])
    return {
        **_scalars(),
        **_containers(),
        **_arrays(),
        "record_array": record,
        "structured": fields,
        "mat_cell_ragged": cell.view(dj.MatCell),
        "mat_cell_numbers": np.array([[1.0, 2.0, 3.0]], dtype=object).view(dj.MatCell),
        "mat_cell_empty": np.empty((0, 0), dtype=object).view(dj.MatCell),
        "mat_struct": struct.view(dj.MatStruct),
    }


def _scalars() -> dict[str, Any]:
    return {
        "nothing": None,
        "true": True,
        "false": False,
        "zero": 0,
        "negative": -1,
        "big_integer": 2**70,
        "float": 1.5,
        "minus_zero": -0.0,
        "nan": float("nan"),
        "minus_infinity": float("-inf"),
        "complex": 1 + 2j,
        "text": "häuser 猴 🐀 \0 end",
        "text_empty": "",
        "text_long": "lorem ipsum " * 300,
        "bytes": b"\0\1\xff",
        "bytes_empty": b"",
        "bytearray": bytearray(b"xyz"),
        "decimal": decimal.Decimal("1.2300"),
        "date": datetime.date(2020, 2, 29),
        "time": datetime.time(1, 2, 3, 4),
        "time_midnight": datetime.time(0, 0, 0),
        "datetime": datetime.datetime(2020, 2, 29, 1, 2, 3, 4),
        "datetime_midnight": datetime.datetime(2020, 2, 29),
        "uuid": unique(9),
        "np_float64": np.float64(2.5),
        "np_float32": np.float32(2.5),
        "np_int32": np.int32(-4),
        "np_uint8": np.uint8(200),
        "np_bool": np.bool_(True),
        "np_complex": np.complex128(1 - 1j),
        "np_datetime": np.datetime64("2024-01-02T03:04:05", "s"),
        "np_text": np.str_("numpy text"),
    }


def _containers() -> dict[str, Any]:
    return {
        "tuple": (1, "a", None),
        "tuple_empty": (),
        "list": [1, [2, [3, []]], "x"],
        "set": {1, 2, "3"},
        "dict": {"a": 1, 2: "b", (1, 2): [None, {"n": {}}]},
        "dict_empty": {},
        "nested": {
            "array": np.arange(3),
            "list": [np.float32(1), {"u": unique(3)}],
            "tuple": (datetime.date(2000, 1, 1),),
        },
    }


def _arrays() -> dict[str, Any]:
    return {
        "array_float64": np.arange(6.0).reshape(2, 3),
        "array_float32": np.arange(6, dtype="f4"),
        "array_int8": np.arange(-3, 3, dtype="i1"),
        "array_uint64": np.array([2**64 - 1], dtype="u8"),
        "array_bool": np.array([[True, False]]),
        "array_complex128": np.array([1 + 1j, 2 - 3j]),
        "array_complex64": np.array([1 + 1j, 2 - 3j], dtype="c8"),
        "array_0d": np.array(3.5),
        "array_empty": np.zeros((0, 4)),
        "array_text": np.array(["a", "häus", ""]),
        "array_text_2d": np.array([["a", "b"], ["c", "d"]]),
        "array_char": np.array([b"a", b"b"], dtype="c"),
        "array_object": np.array([None, 1, "x", [1, 2]], dtype=object),
        "array_date": np.array(["2024-01-01", "2024-06-30"], dtype="datetime64[D]"),
        "array_nanosecond": np.array(["2024-01-01T00:00:00.123456789"], dtype="datetime64[ns]"),
        "array_fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "array_1x1": np.ones((1, 1)),
        "array_compressible": np.arange(4000, dtype="i4"),
        "bytes_random": np.random.RandomState(0).bytes(4000),
    }


FILE_NAMES = (
    "plain.txt",
    "no_extension",
    "two.dots.tar.gz",
    "with space (1).csv",
    "ünïcode 猴.dat",
    ".hidden",
    "UPPER.TXT",
    "quote's.txt",
    "hash#semi;amp&.txt",
    "trailing.",
    "n" * 200 + ".long",
)
"""Names of attachments that 0.14.6 stores and fetches."""
