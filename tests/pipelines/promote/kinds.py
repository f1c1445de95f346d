"""Values of every kind as blobs, and what 2.x writes for those that become `.npy` files.

    python kinds.py pack > kinds.json           # with 0.14.6: name -> the packed value, in base64
    python kinds.py npy < kinds.json > npy.json # with 2.3.5: name -> dtype, shape, file, or why not

MATLAB's own forms and damaged values are put together by hand.
"""

import base64
import datetime
import decimal
import io
import json
import struct
import sys
import uuid
import warnings
import zlib

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402

UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32",
    "float64",
)  # fmt: skip


def u64(number):
    return struct.pack("<Q", number)


def u32(number):
    return struct.pack("<I", number)


def doubles(*values):
    return struct.pack(f"<{len(values)}d", *values)


def sized(value):
    return u64(len(value)) + value


def matlab(body, compressed=False):
    """What datajoint-matlab's mYm writes."""
    inner = b"mYm\0" + body
    return b"ZL123\0" + u64(len(inner)) + zlib.compress(inner) if compressed else inner


def array(shape, number, real, imaginary=None):
    axes = b"".join(map(u64, shape))
    parts = u32(number) + u32(0 if imaginary is None else 1)
    return b"A" + u64(len(shape)) + axes + parts + real + (imaginary or b"")


def arrays():
    random = np.random.default_rng(0)
    for name in DTYPES:
        yield f"1d {name}", (random.random(7) * 100).astype(name)
        yield f"2d {name}", (random.random((3, 4)) * 100).astype(name)
        yield f"0d {name}", np.array(5).astype(name)
        yield f"scalar np.{name}", np.dtype(name).type(3)
    yield "3d F order", np.asfortranarray(random.random((2, 3, 4)))
    yield "3d C order", random.random((2, 3, 4))
    yield "non-contiguous", random.random((6, 6))[::2, 1::2]
    yield "empty 1d", np.zeros(0)
    yield "empty 2d (0,3)", np.zeros((0, 3))
    yield "empty 2d (3,0) int32", np.zeros((3, 0), np.int32)
    yield "row (1,5)", random.random((1, 5))
    yield "column (5,1)", random.random((5, 1))
    yield "one element (1,)", np.array([7.0])
    yield "one element (1,1)", np.array([[7.0]])
    yield "complex128 1d", random.random(5) + 1j * random.random(5)
    yield "complex64 2d", (random.random((2, 3)) + 1j).astype(np.complex64)
    yield "0d complex128", np.array(1 + 2j)
    payload = np.array([0x7FF8000000000ABC], "u8").view("f8")[0]
    yield "nan inf -0.0", np.array([np.nan, payload, np.inf, -np.inf, -0.0])
    yield "large zeros (compressed)", np.zeros(20000)
    yield "large random f32 (2d)", random.random((50, 30)).astype("f4")
    for unit in UNITS:
        first = "1970-01-01" if unit in ("ps", "fs", "as") else "2020-01-01"
        yield f"datetime64[{unit}]", np.array([first, "NaT"], dtype=f"M8[{unit}]")


def others():
    yield "str U array", np.array(["ab", "cde"])
    yield "S1 (char) array", np.array([b"a", b"b"])
    yield "S1 2d", np.array([[b"a", b"b"]])
    yield "object array", np.array([1, "x", None], dtype=object)
    pairs = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    yield "structured", pairs
    yield "recarray", pairs.view(np.recarray)
    yield "list of floats", [1.0, 2.0, 3.0]
    yield "list of ints", [1, 2]
    yield "tuple", (1, 2)
    yield "list of arrays", [np.arange(3), np.arange(2)]
    yield "dict", {"a": np.arange(3), "b": "x"}
    yield "set", {1, 2}
    yield "str", "héllo"
    yield "bytes", b"abc"
    yield "int", 5
    yield "big int", 2**70
    yield "float", 1.5
    yield "bool", True
    yield "complex", 1 + 2j
    yield "None inside", [None]
    yield "Decimal", decimal.Decimal("1.50")
    yield "datetime", datetime.datetime(2020, 1, 1, 2)
    yield "uuid", uuid.UUID(int=5)
    yield "np.str_", np.str_("x")
    yield "large list (compressed)", list(range(500))


def by_hand():
    text = "utf-16-le"
    yield "ml double scalar (1,1)", matlab(array((1, 1), 6, doubles(3.5)))
    yield "ml row (1,3)", matlab(array((1, 3), 6, doubles(1, 2, 3)))
    yield "ml matrix (2,3)", matlab(array((2, 3), 6, doubles(1, 2, 3, 4, 5, 6)))
    yield "ml complex (1,2)", matlab(array((1, 2), 6, doubles(1, 2), doubles(3, 4)))
    yield "ml complex integers", matlab(array((1, 2), 8, b"\1\2", b"\3\4"))
    yield "ml empty (0,0)", matlab(array((0, 0), 6, b""))
    yield "ml logical", matlab(array((1, 3), 3, b"\1\0\1"))
    yield (
        "ml single zl",
        matlab(array((1, 300), 7, struct.pack("<300f", *range(300))), compressed=True),
    )
    yield "ml char (1,5)", matlab(array((1, 5), 4, "hello".encode(text)))
    yield "ml char (2,3)", matlab(array((2, 3), 4, "adbecf".encode(text)))
    yield "ml char (1,1)", matlab(array((1, 1), 4, "x".encode(text)))
    yield "ml char empty", matlab(array((0, 0), 4, b""))
    yield "ml char é", matlab(array((1, 2), 4, "é€".encode(text)))
    one, letter = array((1, 1), 6, doubles(1)), array((1, 1), 4, "a".encode(text))
    two = array((1, 2), 6, doubles(1, 2))
    yield (
        "ml cell {1,'a'}",
        matlab(b"C" + u64(2) + u64(1) + u64(2) + sized(one) + sized(letter)),
    )
    yield "ml cell empty", matlab(b"C" + u64(2) + u64(0) + u64(0))
    fields = u64(2) + u64(1) + u64(1) + u32(2) + b"x\0yy\0"
    yield "ml struct", matlab(b"S" + fields + sized(one) + sized(two))
    yield "ml struct no fields", matlab(b"S" + u64(2) + u64(1) + u64(1) + u32(0))
    yield "ml sparse", matlab(b"P" + u64(3) + b"\0" * 40)
    yield "ml int8 3d", matlab(array((2, 2, 2), 8, bytes(range(8))))
    short = u32(2) + u32(1) + u32(3) + u32(6) + u32(0)
    yield "32-bit dims", b"mYm\0A" + short + doubles(1, 2, 3)
    yield "not a blob", b"\x89PNG\r\n\x1a\n\0\0"
    yield "empty bytes", b""
    yield "str(array)", b"[0 1 2]"
    yield "trailing byte", matlab(one + b"x")
    yield "cut", matlab(array((1, 3), 6, doubles(1, 2)))
    yield "ZL wrong size", b"ZL123\0" + u64(5) + zlib.compress(matlab(one))
    packed = matlab(array((1, 300), 7, struct.pack("<300f", *range(300))), compressed=True)
    yield "ZL cut", packed[:-6]
    yield "ZL damaged", packed[:60] + b"\xff\xff\xff\xff" + packed[64:]
    yield "ZL bomb", b"ZL123\0" + u64(1 << 60) + zlib.compress(bytes(1 << 16))


def pack():
    from datajoint import blob

    packed = {name: blob.pack(value) for name, value in (*arrays(), *others())}
    packed["large random uncompressed"] = blob.pack(
        np.random.default_rng(1).random(500), compress=False
    )
    packed.update(by_hand())
    return {name: base64.b64encode(bytes(value)).decode() for name, value in packed.items()}


def npy(packed):
    """As `NpyCodec` of 2.x does: an array that is no array of objects goes through `np.save`."""
    from datajoint import blob
    from datajoint.builtin_codecs.npy import NpyCodec

    found = {}
    for name, value in packed.items():
        try:
            unpacked = blob.unpack(base64.b64decode(value))
            NpyCodec().validate(unpacked)
            file = io.BytesIO()
            np.save(file, unpacked, allow_pickle=False)
        except Exception as error:  # noqa: BLE001 - what it says is kept
            found[name] = {"refused": f"{type(error).__name__}: {error}"[:100]}
            continue
        found[name] = {
            "dtype": str(unpacked.dtype),
            "shape": list(unpacked.shape),
            "npy": base64.b64encode(zlib.compress(file.getvalue())).decode(),
        }
    return found


if __name__ == "__main__":
    made = pack() if sys.argv[1] == "pack" else npy(json.load(sys.stdin))
    print(json.dumps(made, indent=0, ensure_ascii=False))
