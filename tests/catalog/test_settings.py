"""What a server's or an account's defaults do to a session is set aside, or refused by name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

import small
from conftest import Fresh
from datajoint_migrate import (
    _core,
    backup_schema,
    check_backup,
    compare_schemas,
    copy_all_data,
    copy_table_data,
    create_parallel_schema,
    migrate,
    restore_schema,
    scan,
    verify_schema_v20,
)
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.errors import Mismatch, ServerError
from servers import Server
from small import Small

TRIALS = 400

# What an administrator may have set for everybody, on both kinds of server and on one.
GLOBALS = {
    "sql_select_limit": "7",
    "sql_safe_updates": "ON",
    "completion_type": "'RELEASE'",
    "max_join_size": "5",
    "max_sort_length": "8",
    "group_concat_max_len": "4",
    "autocommit": "OFF",
    "foreign_key_checks": "OFF",
    "unique_checks": "OFF",
    "time_zone": "'-08:00'",
    "sql_mode": "'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES'",
    "default_storage_engine": "'MyISAM'",
    "sql_quote_show_create": "OFF",
    "net_write_timeout": "1",
    "div_precision_increment": "0",
}
OF_KIND = {
    "mysql": {
        "max_execution_time": "1",
        "transaction_isolation": "'SERIALIZABLE'",
        "transaction_read_only": "ON",
        "show_gipk_in_create_table_and_information_schema": "OFF",
        "cte_max_recursion_depth": "2",
    },
    "mariadb": {
        "max_statement_time": "0.0001",
        "tx_isolation": "'SERIALIZABLE'",
        "tx_read_only": "ON",
        "sql_if_exists": "ON",
        "idle_transaction_timeout": "1",
        "system_versioning_asof": "'2001-01-01 00:00:00'",
        "max_recursive_iterations": "2",
        "old_mode": "''",
    },
}


@pytest.fixture
def harsh(server: Server) -> Iterator[Server]:
    """Each kind of server, whose defaults let nobody work; an account that is not exempt."""
    wanted = GLOBALS | OF_KIND[server.kind]
    before = {name: server.sql(f"SELECT @@GLOBAL.{name}")[0][0] for name in wanted}
    server.sql("".join(f"SET GLOBAL {name} = {value};" for name, value in wanted.items()))
    yield server
    root = resolve(server.url).session()
    for name, value in before.items():
        plain = value if value and value.replace(".", "").isdigit() else f"'{value}'"
        root.execute(
            f"SET GLOBAL {name} = "
            + ("DEFAULT" if name in ("max_join_size", "system_versioning_asof") else plain)
        )
    root.close()


@pytest.fixture
def pipeline(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    names = small.Small(server, "settings", tmp_path / "files")
    fresh(server, *names.map.keys(), *names.map.values(), "settings_kept", "settings_again")
    made = small.make(server, "settings", tmp_path / "files")
    server.sql(
        "".join(
            f"INSERT INTO `{made.lab}`.session__trial VALUES (3, '2024-01-04', {n}, 'x');"
            for n in range(2, TRIALS + 2)
        )
    )
    return made


def counts(pipeline: Small, schema: str) -> dict[str, int]:
    with resolve(pipeline.server.url).session(read_only=True) as session:
        return {
            table: int(session.query(f"SELECT COUNT(*) FROM `{schema}`.`{table}`")[0][0])
            for table in ("#species", "mouse", "session", "session__trial")
        }


def test_no_default_of_a_server_changes_what_is_moved(
    pipeline: Small, harsh: Server, mysql_b: Server, fresh: Fresh, tmp_path: Path
) -> None:
    whole = {"#species": 2, "mouse": 12, "session": 12, "session__trial": 12 + TRIALS}
    lab, copy = pipeline.lab, pipeline.map[pipeline.lab]
    free = (
        "SET SESSION max_join_size = 100000 /*M!100101 , SESSION max_statement_time = 0 */"
        " /*!80000 , SESSION max_execution_time = 0 */"
    )
    assert len(harsh.sql(f"{free}; SELECT * FROM `{lab}`.mouse")) == 7
    done = migrate(pipeline.map, connection=harsh.url, **pipeline.stores)
    assert done["match"]
    assert done["compatible"] or harsh.kind == "mariadb"
    assert counts(pipeline, copy) == whole
    assert compare_schemas(lab, copy, connection=harsh.url)["match"]
    assert verify_schema_v20(copy, connection=harsh.url)["lineage_exists"]

    kept = backup_schema(lab, "settings_kept", connection=harsh.url)
    assert kept["rows_backed_up"] == sum(whole.values()) + 1
    assert counts(pipeline, "settings_kept") == whole
    archive = tmp_path / "archive"
    assert backup_schema(lab, archive, connection=harsh.url)["rows_backed_up"] == (
        sum(whole.values()) + 1
    )
    assert check_backup(archive)["ok"]
    restore_schema(archive, "settings_again", connection=harsh.url)
    assert counts(pipeline, "settings_again") == whole

    fresh(mysql_b, copy)
    both = {"connection": harsh.url, "dest_connection": mysql_b.url}
    copy_all_data(lab, copy, **both)
    with resolve(mysql_b.url).session(read_only=True) as session:
        [(there,)] = session.query(f"SELECT COUNT(*) FROM `{copy}`.session__trial")
    assert there == whole["session__trial"]


class Liar:
    """A proxy that puts other words of the same length into what is said."""

    def __init__(self, server: Server, words: dict[bytes, bytes], engine: bool) -> None:
        self.engine = engine
        assert all(len(word) == len(other) for word, other in words.items())
        self.words = words
        self.target = (server.host, server.port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.url = f"mysql://{server.user}:{server.password}@127.0.0.1:{port}/?ssl-mode=disabled"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            for here, there, lies in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(here, there, lies), daemon=True).start()

    def _pump(self, here: socket.socket, there: socket.socket, lies: bool) -> None:
        with suppress(OSError):
            hello = here.recv(1 << 16)
            lies = lies and (not self.engine or b"datajoint-migrate" in hello)
            there.sendall(hello)
            while said := here.recv(1 << 16):
                for word, other in self.words.items() if lies else ():
                    said = said.replace(word, other)
                there.sendall(said)
        for end in (here, there):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


LIMIT = {b"sql_select_limit = 18446744073709551615": b"sql_select_limit = 00000000000000000007"}
# More than a server has collations, which are asked for too.
HIGHER = {b"sql_select_limit = 18446744073709551615": b"sql_select_limit = 00000000000000005000"}
# And the reading back is answered for.
UNSEEN = {b"@@SESSION.sql_select_limit": b"18446744073709551615      "}


@pytest.fixture
def liar(server: Server) -> Iterator[Callable[..., str]]:
    """`liar(words)`: the URL of a proxy that changes what is said to the server."""
    made: list[Liar] = []

    def make(words: dict[bytes, bytes], engine: bool = False) -> str:
        made.append(Liar(server, words, engine))
        return made[-1].url

    yield make
    for proxy in made:
        proxy.listener.close()


def test_a_setting_that_is_not_taken_is_refused_by_name(
    pipeline: Small, liar: Callable[..., str]
) -> None:
    url = liar(LIMIT)
    for call in (
        lambda: migrate(pipeline.map, connection=url, **pipeline.stores),
        lambda: backup_schema(pipeline.lab, "settings_kept", connection=url),
    ):
        with pytest.raises(ServerError, match="sql_select_limit = 7") as caught:
            call()
        assert caught.value.code == "DJM-1205"
    assert pipeline.schemas_there() == {pipeline.lab, pipeline.rig}


def test_rows_that_every_reading_misses_are_counted(
    pipeline: Small,
    liar: Callable[..., str],
    mysql_b: Server,
    fresh: Fresh,
    tmp_path: Path,
) -> None:
    url = liar(HIGHER | UNSEEN, engine=True)
    lab, copy = pipeline.lab, pipeline.map[pipeline.lab]
    rows = ", ".join(f"(5, '2024-01-06', {number}, 'x')" for number in range(2, 5002))
    pipeline.server.sql(f"INSERT INTO `{lab}`.session__trial VALUES {rows}")
    stream = scan(lab, "session__trial", connection=url, lanes=1)
    assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows == 5000
    fresh(mysql_b, copy)
    create_parallel_schema(lab, copy, connection=pipeline.server.url, dest_connection=mysql_b.url)
    both = {"connection": url, "dest_connection": mysql_b.url}
    for table in ("#species", "mouse", "session"):
        copy_table_data(lab, copy, table, **both)
    for call in (
        lambda: copy_table_data(lab, copy, "session__trial", **both),
        lambda: backup_schema(lab, tmp_path / "archive", connection=url),
        lambda: compare_schemas(lab, lab, connection=url),
    ):
        with pytest.raises(Mismatch, match="reading gave 5000 rows, counting 5412"):
            call()


def test_a_server_takes_all_its_settings_in_one_statement(server: Server) -> None:
    """One by one, which takes its time, they are tried only where something is in the way."""
    server.sql("DROP USER IF EXISTS settled; CREATE USER settled IDENTIFIED BY 'pw'")
    url = f"mysql://settled:pw@{server.host}:{server.port}/"
    with resolve(url).session() as session:
        for role in ("read", "load", "look", "write"):
            settings = _core.session_settings(session.banner, role)
            session.execute(settings["set"])
            [(line,)] = session.query(settings["read"])
            assert line.count("|") >= 40
            assert _core.unsettled(session.banner, role, "it", line) == []
    server.sql("DROP USER settled")
