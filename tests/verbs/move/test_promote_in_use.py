"""A column is promoted in a table in use: who writes meanwhile, who waits, who is killed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import MigrationError, promote
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.verbs.move import exchanged
from datajoint_migrate.verbs.move import promote as module
from environments import python
from line import line
from promoting import client, literal, packed, seen, table
from servers import Server, ServerError

SCHEMA, OLD = "in_use", "_signal_old"
MANY = 3000


@pytest.fixture
def store(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "raw").mkdir()
    return {"raw": {"protocol": "file", "location": str(tmp_path / "raw")}}


def call(server: Server, store: dict[str, Any], url: str | None = None, **options: Any) -> Any:
    named = {"stores": store, "connection": url or server.url, **options}
    return promote(SCHEMA, "session", "signal", "npy@raw", **named)


def put(server: Server, at: int, *values: float) -> None:
    server.sql(f"REPLACE INTO {SCHEMA}.session (id, `signal`) VALUES ({at}, {value(*values)})")


def value(*values: float) -> str:
    return literal(packed(*values))


def nothing_is_left(server: Server, *columns: str) -> None:
    """No trigger, no hidden table, no other column."""
    assert server.sql(f"SHOW TRIGGERS FROM {SCHEMA}") == []
    assert server.sql(f"SHOW TABLES FROM {SCHEMA}") == [("session",)]
    found = server.sql(f"SHOW COLUMNS FROM {SCHEMA}.session")
    assert {one[0] for one in found} == {"id", "signal", *columns}


def arrays(server: Server, store: dict[str, Any]) -> dict[str, Any]:
    """What the 2.x client reads."""
    said = client(python("2.3.5"), server, SCHEMA, store, "read")
    return {row[0]["id"]: row[1]["signal"] for row in said["rows"]}


@contextmanager
def after(
    patch: pytest.MonkeyPatch, place: Any, name: str, then: Callable[[], None]
) -> Iterator[None]:
    """Something is done once, right after the first call of a function."""
    real, first = getattr(place, name), []

    def called(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        if not first:
            first.append(True)
            then()
        return result

    with patch.context() as patched:
        patched.setattr(place, name, called)
        yield
    assert first


@pytest.fixture
def read_under_lock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows the session has read each time that it held the table for itself."""
    real, found = exchanged.locked, []

    def reads(session: Any) -> int:
        rows = session.query("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(row[1]) for row in rows)

    @contextmanager
    def counted(session: Any, *names: Any) -> Iterator[None]:
        with real(session, *names):
            before = reads(session)
            yield
            found.append(reads(session) - before)

    monkeypatch.setattr(exchanged, "locked", counted)
    return found


def test_nobody_waits_while_a_whole_table_is_read(
    server: Server, fresh: Fresh, store: dict[str, Any], read_under_lock: list[int]
) -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, [packed(float(at)) for at in range(MANY)])
    assert call(server, store)["rows_promoted"] == MANY
    nothing_is_left(server, OLD)
    assert call(server, store, undo=True)["rows_restored"] == MANY
    nothing_is_left(server)
    assert len(read_under_lock) >= 2
    assert max(read_under_lock) < MANY / 10


def test_what_is_written_after_the_whole_look_is_promoted_alone(
    server: Server, fresh: Fresh, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, [packed(float(at)) for at in range(20)])
    engine, plans = module._core.promote, []

    def noting(plan: dict[str, Any], on_event: Any = None) -> Any:
        plans.append((plan.get("few"), done := engine(plan, on_event)))
        return done

    monkeypatch.setattr(module._core, "promote", noting)

    def write() -> None:
        put(server, 3, 9.0)
        put(server, 100, 8.0)
        server.sql(
            f"UPDATE {SCHEMA}.session SET `signal` = NULL WHERE id = 4;"
            f"UPDATE {SCHEMA}.session SET id = 50 WHERE id = 5;"
            f"DELETE FROM {SCHEMA}.session WHERE id = 6"
        )

    with after(monkeypatch, exchanged, "count_rows", write):
        result = call(server, store)
    # A dry pass, one over all, and one over what was noted.
    assert [few for few, _ in plans] == [None, None, True]
    # Two that were inserted, and one that has another key.
    assert plans[-1][1]["rows"] == 3
    assert (result["rows_promoted"], result["rows_null"]) == (19, 1)
    found = arrays(server, store)
    assert found["3"] == seen((9.0,))
    assert found["100"] == seen((8.0,))
    assert found["4"] == ["NoneType", "None"]
    assert found["50"] == seen((5.0,))
    assert "6" not in found
    nothing_is_left(server, OLD)


def test_a_row_that_came_again_while_its_value_was_read_names_its_new_value(
    server: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, [packed(float(at)) for at in range(8)])
    written = []

    def rule(packet: Any) -> None:
        # The values of the chunk are read, and their objects made; no row names one yet.
        if packet.upward and b"CREATE TEMPORARY TABLE" in packet.command and not written:
            written.append(True)
            put(server, 3, 9.0)
            server.sql(
                f"DELETE FROM {SCHEMA}.session WHERE id = 5;"
                f"UPDATE {SCHEMA}.session SET id = 5 WHERE id = 6"
            )

    with line(server, rule) as proxy:
        result = call(server, store, proxy.url)
    assert written
    assert (result["rows_promoted"], result["match"]) == (7, True)
    found = arrays(server, store)
    expected = {0: 0.0, 1: 1.0, 2: 2.0, 3: 9.0, 4: 4.0, 5: 6.0, 7: 7.0}
    assert found == {str(at): seen((value,)) for at, value in expected.items()}
    nothing_is_left(server, OLD)


def test_a_transaction_that_is_open_at_the_exchange_is_waited_for_and_nobody_behind_it(
    mysql: Server,
    fresh: Fresh,
    store: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0)])
    caplog.set_level(logging.INFO, "datajoint_migrate")
    gave_way = threading.Semaphore(0)

    class Noticed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "gives way: LOCK TABLES" in record.getMessage():
                gave_way.release()

    noticed = Noticed()
    logging.getLogger("datajoint_migrate").addHandler(noticed)
    opened = resolve(mysql.url).session()
    errors: list[ServerError] = []

    def others() -> None:
        """Written twice while somebody is waited for, by sessions that wait three seconds."""
        try:
            for at in (7, 8):
                gave_way.acquire()
                mysql.sql(
                    "SET SESSION lock_wait_timeout = 3, innodb_lock_wait_timeout = 3;"
                    f"INSERT INTO {SCHEMA}.session (id, `signal`) VALUES ({at}, {value(at)})"
                )
        except ServerError as error:
            errors.append(error)
        session.execute("COMMIT")

    with opened as session:
        beside = threading.Thread(target=others)

        def begin() -> None:
            session.execute("START TRANSACTION")
            session.execute(f"INSERT INTO {SCHEMA}.session (id, `signal`) VALUES (5, {value(5.0)})")
            beside.start()

        with after(monkeypatch, exchanged, "count_rows", begin):
            result = call(mysql, store)
        beside.join()
    logging.getLogger("datajoint_migrate").removeHandler(noticed)
    assert errors == []
    assert result["rows_promoted"] == 4
    assert arrays(mysql, store)["5"] == seen((5.0,))
    nothing_is_left(mysql, OLD)


def test_an_undo_names_the_rows_that_only_2x_has(
    server: Server, fresh: Fresh, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh(server, SCHEMA)
    table(server, SCHEMA, [packed(float(at)) for at in range(4)])
    call(server, store)
    # As 2.x writes: without what only a promotion writes.
    theirs = json.dumps({"path": "x.npy", "store": "raw", "dtype": "float64", "shape": [1]})

    def write() -> None:
        server.sql(
            f"UPDATE {SCHEMA}.session SET `signal` = '{theirs}' WHERE id = 2;"
            f"INSERT INTO {SCHEMA}.session (id, `signal`) VALUES (17, '{theirs}')"
        )

    # Written while the undo looks, and before it.
    for begun in (after(monkeypatch, module._core, "promote", write), nullcontext()):
        with begun, pytest.raises(MigrationError) as caught:
            call(server, store, undo=True)
        assert caught.value.code == "DJM-1703"
        assert "2 rows of in_use" in str(caught.value)
        assert "id=2; id=17" in str(caught.value)
        assert caught.value.context["keys"] == [{"id": 2}, {"id": 17}]
        nothing_is_left(server, OLD)
    server.sql(f"DELETE FROM {SCHEMA}.session WHERE id IN (2, 17)")
    assert call(server, store, undo=True)["rows_restored"] == 3
    now = server.sql(f"SELECT id, HEX(`signal`) FROM {SCHEMA}.session ORDER BY id")
    assert now == [(str(at), packed(float(at)).hex().upper()) for at in (0, 1, 3)]


@pytest.mark.parametrize("to", ["npy@raw", "blob@raw"])
def test_an_undo_names_the_row_that_has_the_object_of_another(
    server: Server, fresh: Fresh, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    fresh(server, SCHEMA)
    # The last one is too long to be read with the others.
    many = 1_100_000
    head = packed(0.5)[:13] + many.to_bytes(8, "little") + packed(0.5)[21:29]
    table(server, SCHEMA, [packed(1.0), packed(2.0), packed(3.0), packed(3.0), packed(5.0)])
    server.sql(
        f"INSERT INTO {SCHEMA}.session VALUES (5, CONCAT(x'{head.hex()}',"
        f" REPEAT(x'{packed(0.5)[29:].hex()}', {many})))"
    )
    named: Any = {"stores": store, "connection": server.url}
    promote(SCHEMA, "session", "signal", to, **named)

    def copy(at: int, other: int) -> str:
        return (
            f"UPDATE {SCHEMA}.session AS a JOIN {SCHEMA}.session AS b ON b.id = {other}"
            f" SET a.`signal` = b.`signal` WHERE a.id = {at};"
        )

    # An equal value is as good.
    server.sql(copy(2, 3))
    kept = server.sql(f"SELECT id, `signal` FROM {SCHEMA}.session WHERE id IN (1, 4, 5)")

    def write() -> None:
        server.sql(copy(1, 0) + copy(4, 5) + copy(5, 0))

    def restore() -> None:
        for at, value in kept:
            server.sql(f"UPDATE {SCHEMA}.session SET `signal` = '{value}' WHERE id = {at}")

    # Written before the undo, and while it looks.
    write()
    for begun in (nullcontext(), after(monkeypatch, module._core, "promote", write)):
        with begun, pytest.raises(MigrationError, match="id=1; id=4; id=5") as caught:
            promote(SCHEMA, "session", "signal", to, undo=True, **named)
        assert caught.value.code == "DJM-1703"
        assert caught.value.context["rows"] == 3
        assert caught.value.context["keys"] == [{"id": 1}, {"id": 4}, {"id": 5}]
        nothing_is_left(server, OLD)
        looked = promote(SCHEMA, "session", "signal", to, drop_old=True, dry_run=True, **named)
        assert any("3 rows have another value" in note for note in looked["notes"])
        restore()
    undone = promote(SCHEMA, "session", "signal", to, undo=True, **named)
    assert undone["rows_restored"] == 6
    nothing_is_left(server)


def test_an_undo_names_the_row_whose_old_object_is_gone(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(1.0), None, packed(2.0)])
    named: Any = {"stores": store, "connection": mysql.url}
    promote(SCHEMA, "session", "signal", "blob@raw", drop_old=True, **named)
    promote(SCHEMA, "session", "signal", "npy@raw", **named)
    ((old,),) = mysql.sql(f"SELECT {OLD} FROM {SCHEMA}.session WHERE id = 2")
    object_ = Path(store["raw"]["location"], json.loads(str(old))["path"])
    value = object_.read_bytes()
    object_.unlink()
    with pytest.raises(MigrationError, match="id=2") as caught:
        promote(SCHEMA, "session", "signal", "npy@raw", undo=True, **named)
    assert caught.value.context["keys"] == [{"id": 2}]
    object_.write_bytes(value)
    undone = promote(SCHEMA, "session", "signal", "npy@raw", undo=True, **named)
    assert undone["rows_restored"] == 2
    nothing_is_left(mysql)


def test_a_connection_that_is_lost_amid_the_rows_is_opened_again(
    mysql: Server, fresh: Fresh, store: dict[str, Any]
) -> None:
    fresh(mysql, SCHEMA)
    table(mysql, SCHEMA, [packed(float(at)) for at in range(5)])
    cut: list[bytes] = []

    def rule(packet: Any) -> Any:
        for words in (b"IF(LENGTH(s.`signal`)", b"UPDATE `in_use`.`session` AS s"):
            if words in packet.command and words not in cut:
                cut.append(words)
                return "cut"
        return None

    with line(mysql, rule) as proxy:
        result = call(mysql, store, proxy.url)
    assert len(cut) == 2
    assert (result["rows_promoted"], result["match"]) == (5, True)
    assert arrays(mysql, store)["4"] == seen((4.0,))
    nothing_is_left(mysql, OLD)
