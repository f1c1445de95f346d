"""Cut schemas over and back, killed after one statement after the other; what is wrong is printed.

    python kills.py cutover|rename URL WHAT

WHAT is JSON: `{"map": {...}, "stride": 1, "options": {}}`; with a stride of n every nth statement,
with options of the cutover. A process of
its own that forks before it does anything, so that what is killed is a whole client with all its
connections.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from datajoint_migrate import NotFound, cutover, rename_schema, rollback
from datajoint_migrate.catalog.names import RENAMING
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.verbs.cutover import preflight
from datajoint_migrate.verbs.cutover.occupants import sessions_now
from snapshot import snapshot

Call = Callable[[], Any]
SYNCED = "~migrate_sync"


def main() -> int:
    verb, url, what = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    schemas = what["map"]
    # They only read, and would take most of the time.
    preflight.CHECKS = ()
    names = [f"{name}{end}" for pair in schemas.items() for name in pair for end in ("", "_old")]
    if verb == "cutover":
        there: Call = lambda: cutover(  # noqa: E731
            schemas, connection=url, execute=True, **what.get("options", {})
        )
        back: Call = lambda: rollback(schemas, connection=url, execute=True)  # noqa: E731
        undo = back
    else:
        ((old, new),) = schemas.items()
        there = lambda: rename_schema(old, new, connection=url)  # noqa: E731
        back = lambda: rename_schema(new, old, connection=url)  # noqa: E731
        undo = lambda: rollback(new, connection=url, execute=True)  # noqa: E731

    def seen() -> dict[str, Any]:
        with resolve(url).session(read_only=True) as session:
            return snapshot(session.query, *names)

    def left() -> bool:
        with resolve(url).session(read_only=True) as session:
            return not sessions_now(session, names)[0]

    _all_kills(there, back, undo, seen, left, what["stride"])
    return 0


def _all_kills(there: Call, back: Call, undo: Call, seen: Call, left: Call, stride: int) -> None:
    first = _whole(seen())
    _must(there)
    last = _whole(seen())
    _must(back)

    def expect(what: str, *wanted: dict[str, Any]) -> None:
        found = _whole(seen())
        if found not in wanted:
            raise SystemExit(f"{what}: {_first(wanted[0], found)}")

    expect("going back without any kill", first)
    number, more = 1 - stride, True
    while more:
        number += stride
        at = f"killed after statement {number}"
        more = _killed(there, number, left)
        if more:
            _must(there, but=NotFound)
        expect(f"there {at}, called again", last)
        if _killed(back, number, left):
            more = True
            _must(back, but=NotFound)
        expect(f"back {at}, called again", first)

        # An undo finds nothing where nothing was begun, and where a rename was finished.
        if not _killed(there, number, left) or not _must(undo, but=NotFound):
            expect(f"there {at}, nothing to undo", first, last)
            if _whole(seen()) == last:
                _must(back)
        expect(f"there {at}, undone", first)
    print(f"{number - stride} statements")


def _whole(found: dict[str, Any]) -> dict[str, Any]:
    """Without what a name taken and given up leaves: an empty schema, an empty journal."""
    kept = {}
    for name, schema in found.items():
        tables = {
            table: seen
            for table, seen in schema["tables"].items()
            # What a sync has noted of a copy is there until the copy is.
            if (table != RENAMING or seen[1] != [(0,)]) and table != SYNCED
        }
        if tables or schema["programs"]:
            kept[name] = {**schema, "tables": tables}
    return kept


def _killed(call: Call, number: int, left: Call) -> bool:
    """Run in a process killed after a statement, until the server has missed it; whether it was.

    A server under load needs a moment to see that a client is gone, and a session that is still
    there is one more reason to refuse.
    """
    if not _run(call, number):
        return False
    until = time.monotonic() + 60
    while not left():
        if time.monotonic() > until:
            raise SystemExit(f"the sessions of what was killed after statement {number} are there")
        time.sleep(0.05)
    return True


def _run(call: Call, kill_after: int | None) -> bool:
    """Run in a forked process; whether it was killed. What it raises is raised here."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(call, kill_after, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise (NotFound if said.startswith("NotFound") else RuntimeError)(said)
    return False


def _child(call: Call, kill_after: int | None, writer: int) -> None:
    execute = Session.execute
    count = 0

    def counted(session: Session, sql: str, params: Any = ()) -> int:
        nonlocal count
        changed = execute(session, sql, params)
        if not sql.startswith("SET SESSION"):
            count += 1
            if count == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
        return changed

    try:
        Session.execute = counted  # type: ignore[method-assign]
        call()
    except BaseException as error:  # noqa: BLE001  (the parent tells it)
        os.write(writer, f"{type(error).__name__}: {traceback.format_exc()}".encode()[:60000])
        os._exit(1)
    os._exit(0)


def _must(call: Call, but: type[Exception] | None = None) -> bool:
    """Run it to its end; whether it had anything to do: `but` says that it had not."""
    try:
        _run(call, None)
    except Exception as error:
        if but is None or not isinstance(error, but):
            raise
        return False
    return True


def _first(want: dict[str, Any], found: dict[str, Any]) -> str:
    for schema in sorted({*want, *found}):
        mine, other = want.get(schema, {}), found.get(schema, {})
        for part in ("collation", "programs"):
            if mine.get(part) != other.get(part):
                return f"{schema} {part}: {mine.get(part)} but {other.get(part)}"
        tables = mine.get("tables", {}), other.get("tables", {})
        for name in sorted({*tables[0], *tables[1]}):
            if tables[0].get(name) != tables[1].get(name):
                return f"{schema}.{name}: {tables[0].get(name)} but {tables[1].get(name)}"
    return "nothing"


if __name__ == "__main__":
    sys.exit(main())
