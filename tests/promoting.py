"""Tables whose blobs are promoted in tests, and what real clients read of them.

As a program, calls of `promote` that are killed: for each line `[N, arguments, options]` a process
of its own ends as SIGKILL would, before the N-th statement of its call that changes something.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import clients
import datajoint_migrate
from datajoint_migrate.catalog.session import Session

FOLDER = Path(__file__).parent / "pipelines" / "promote"
# What 2.x would take, too, and promote does not: characters, structures whose type the client
# cannot read back, and integers that it makes floats of.
ONLY_THEIRS = {
    "S1 (char) array", "S1 2d", "ml char (1,1)", "ml char (1,5)", "ml char (2,3)", "ml char empty",
    "ml complex integers", "recarray", "structured",
}  # fmt: skip


def kinds() -> dict[str, bytes]:
    """A packed value of every kind."""
    packed = json.loads((FOLDER / "kinds.json").read_text(encoding="utf-8"))
    return {name: base64.b64decode(value) for name, value in packed.items()}


def theirs() -> dict[str, Any]:
    """What 2.3.5 makes of each kind."""
    found: dict[str, Any] = json.loads((FOLDER / "npy.json").read_text(encoding="utf-8"))
    return found


def arrays() -> dict[str, bytes]:
    """The kinds that can be promoted."""
    told = theirs()
    return {
        name: blob
        for name, blob in kinds().items()
        if "npy" in told[name] and name not in ONLY_THEIRS
    }


def file_of(name: str) -> bytes:
    """The file that 2.3.5 writes for a kind."""
    return zlib.decompress(base64.b64decode(theirs()[name]["npy"]))


def packed(*values: float) -> bytes:
    """A blob of a float64 array."""
    head = b"mYm\0A" + struct.pack("<QQII", 1, len(values), 6, 0)
    return head + struct.pack(f"<{len(values)}d", *values)


def literal(value: bytes | None) -> str:
    return "NULL" if value is None else f"x'{value.hex()}'"


def table(
    server: Any, schema: str, values: list[bytes | None], marker: str = "<blob>", null: str = "NULL"
) -> None:
    """`schema.session`, keyed by id, with the values in `signal`."""
    rows = ", ".join(f"({at}, {literal(value)})" for at, value in enumerate(values))
    column = f"`signal` longblob {null} COMMENT ':{marker}:what was measured'"
    server.sql(
        f"CREATE DATABASE IF NOT EXISTS `{schema}`; CREATE TABLE `{schema}`.session (id int NOT"
        f" NULL, {column}, PRIMARY KEY (id)) COMMENT 'sessions';"
        f"INSERT INTO `{schema}`.session VALUES {rows};"
    )


def rows(server: Any, schema: str, column: str) -> list[Any]:
    """A column of JSON as objects, in the order of the key."""
    found = server.sql(f"SELECT `{column}` FROM {schema}.session ORDER BY id")
    return [None if value is None else json.loads(value) for (value,) in found]


def client(
    python: Path, server: Any, schema: str, stores: Any, action: str, name: str = "Session"
) -> Any:
    """What a real client says."""
    program = str(FOLDER / "client.py")
    reach = [server.host, str(server.port), server.user, server.password]
    words = [str(python), program, *reach, schema, json.dumps(stores), action, name]
    done = clients.run(words)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


class Staying:
    """A real client that stays for more than one action, each in a connection of its own."""

    def __init__(
        self, python: Path, server: Any, schema: str, stores: Any, name: str = "Session"
    ) -> None:
        reach = [server.host, str(server.port), server.user, server.password]
        words = [str(python), str(FOLDER / "client.py"), *reach, schema, json.dumps(stores)]
        self.process = clients.Talking([*words, "stay", name])

    def close(self) -> None:
        self.process.communicate()

    def __call__(self, action: str) -> Any:
        """What it says."""
        self.process.stdin.write(f"{action}\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        assert said, f"the client could not {action}"
        return json.loads(said)


def seen(values: tuple[float, ...], python_dtype: str = "float64") -> list[Any]:
    """What the client describes a float64 array as."""
    data = struct.pack(f"<{len(values)}d", *values)
    return [python_dtype, [len(values)], hashlib.sha256(data).hexdigest()]


def objects(root: Path) -> list[Path]:
    """All files of a store."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def killed(number: int, arguments: list[Any], options: dict[str, Any]) -> int:
    """Run one call that ends before its `number`-th change; its exit status."""
    process = _killing()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([number, arguments, options]) + "\n")
    process.stdin.flush()
    status = int(process.stdout.readline())
    assert status in (0, 9)
    return status


@functools.cache
def _killing() -> subprocess.Popen[str]:
    """What has loaded everything once; it ends with its input."""
    words = [sys.executable, __file__]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _die(*json.loads(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _die(number: int, arguments: list[Any], options: dict[str, Any]) -> None:
    counter = itertools.count(1)
    execute = Session.execute

    def counted(self: Session, sql: str, params: Any = ()) -> int:
        if not sql.startswith(("SET", "START", "COMMIT")) and next(counter) == number:
            os._exit(9)
        return execute(self, sql, params)

    Session.execute = counted  # type: ignore[method-assign]
    datajoint_migrate.promote(*arguments, **options)


if __name__ == "__main__":
    main()
