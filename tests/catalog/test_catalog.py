"""The catalog reads servers, schemas, external columns and stores as they are."""

from __future__ import annotations

import datetime
import json
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from datajoint_migrate.catalog.externals import External, external_of
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.server import Server, resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.stores import (
    Store,
    dest_stores,
    get_store,
    map_store,
    source_stores,
    tracked_store,
)
from datajoint_migrate.catalog.tables import Index, Schema, find_table, read_schema
from datajoint_migrate.errors import (
    ConnectionFailed,
    InvalidArgument,
    NotFound,
    PermissionMissing,
    ServerError,
    StoreMissing,
    Unconvertible,
)

NAME = "catalog_lab"


class DataJointConnection:
    """What the connections of 0.14 and 2.x have in common."""

    def __init__(self, **info: Any) -> None:
        self.conn_info = info


# -- where the server is -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        Server(host="h", port=3307, user="u", password="p@/"),
        "mysql://u:p%40%2F@h:3307/",
        "mysql+pymysql://u:p%40%2F@h:3307",
        {"host": "h", "port": "3307", "user": "u", "passwd": "p@/"},
        DataJointConnection(
            host="h", port=3307, user="u", passwd="p@/", ssl={"ssl": {}}, ssl_input=None
        ),
        DataJointConnection(
            host="h", port=3307, user="u", passwd="p@/", database_name=None, ssl_input=None
        ),
        DataJointConnection(host="h:3307", user="u", passwd="p@/"),
    ],
)
def test_a_server_is_resolved_from_whatever_names_it(given: Any) -> None:
    assert resolve(given) == Server(host="h", port=3307, user="u", password="p@/")


def test_a_url_carries_the_options_of_tls() -> None:
    server = resolve("mysql://u@h/?ssl_mode=verify_ca&ssl_ca=/etc/ca.pem")
    assert (server.port, server.ssl_mode, server.ssl_ca) == (3306, "verify_ca", "/etc/ca.pem")


@pytest.mark.parametrize(
    ("tls", "mode"), [(False, "disabled"), (True, "required"), (None, "preferred")]
)
def test_the_tls_wish_of_a_datajoint_connection_is_kept(tls: bool | None, mode: str) -> None:
    assert (
        resolve(DataJointConnection(host="h", user="u", passwd="", ssl_input=tls)).ssl_mode == mode
    )


def test_nothing_means_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datajoint_migrate.catalog.server._datajoint_config", dict)
    for name, value in (("HOST", "h"), ("USER", "u"), ("PASS", "p"), ("PORT", "3307")):
        monkeypatch.setenv(f"DJ_{name}", value)
    assert resolve() == Server(host="h", port=3307, user="u", password="p")
    monkeypatch.delenv("DJ_USER")
    with pytest.raises(ConnectionFailed, match="DJ_HOST, DJ_USER, DJ_PASS"):
        resolve()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hostt": "h"}, "did you mean 'host'"),
        ({"port": "many"}, "is not a number"),
        ({"ssl_mode": "maybe"}, "use one of disabled"),
        ({"ssl_mode": "verify_ca"}, "ssl_ca"),
        ("postgresql://u:secret@h/", "mysql://user:password@host"),
        ("mysql://u:secret@h:many/", "port"),
        (42, "cannot be made of a int"),
    ],
)
def test_what_is_no_connection_is_refused_without_repeating_secrets(
    given: Any, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message) as refused:
        resolve(given)
    assert "secret" not in str(refused.value)


def test_no_repr_shows_a_password(mysql: Any) -> None:
    server = resolve(mysql.url)
    assert "password" not in repr(server)
    assert server.spec()["password"] == mysql.password
    with server.session() as session:
        assert "password" not in repr(session)
        assert mysql.user in repr(session)


# -- sessions ----------------------------------------------------------------------------------


@pytest.fixture(params=["mysql", "mariadb"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    with resolve(request.getfixturevalue(request.param).url).session() as session:
        yield session


def test_values_come_as_python_objects_and_text_never_as_bytes(session: Session) -> None:
    row = session.query(
        "SELECT 'é%', x'00FF', 1.50, CAST('2020-02-29 10:00:00' AS datetime), NULL, 7 % 4"
    )[0]
    when = datetime.datetime(2020, 2, 29, 10)
    assert row == ("é%", b"\x00\xff", Decimal("1.50"), when, None, 3)
    for row in session.query("SELECT * FROM information_schema.COLUMNS LIMIT 50"):
        assert not any(isinstance(value, bytes | bytearray) for value in row)
    assert session.query("SELECT %s, '100%'", ("a'b",)) == [("a'b", "100%")]


def test_a_session_keeps_utc_and_takes_zero_dates(session: Session) -> None:
    assert session.query("SELECT @@session.time_zone") == [("+00:00",)]
    assert "ZERO_DATE" not in session.query("SELECT @@session.sql_mode")[0][0]
    assert session.query("SELECT @@autocommit") == [(1,)]


def test_versions_and_kinds_are_told_apart(mysql: Any, mariadb: Any) -> None:
    with resolve(mysql.url).session() as one, resolve(mariadb.url).session() as other:
        assert not one.is_mariadb
        assert other.is_mariadb
        assert one.version >= (8, 0)
        assert other.version >= (10, 5)
        assert one.reaches(other) is False
        with resolve(mysql.url).session() as again:
            assert one.reaches(again)
            assert again.reaches(one)


def test_a_read_only_session_cannot_write(mysql: Any) -> None:
    with (
        resolve(mysql.url).session(read_only=True) as session,
        pytest.raises(ServerError, match="READ ONLY"),
    ):
        session.execute("CREATE DATABASE catalog_never")


def test_tls_is_insisted_on_when_it_is_required(mysql: Any, mariadb: Any) -> None:
    with resolve(f"{mysql.url}?ssl_mode=required").session() as session:
        assert session.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]
    with resolve(mariadb.url).session() as session:
        if session.query("SELECT @@have_ssl")[0][0] == "YES":
            pytest.skip("this MariaDB offers TLS")
    with pytest.raises(ConnectionFailed, match="offers no TLS"):
        resolve(f"{mariadb.url}?ssl_mode=required").session()


def test_a_certificate_nobody_vouches_for_is_refused(mysql: Any, tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="check ssl_mode"):
        resolve(f"{mysql.url}?ssl_mode=verify_ca&ssl_ca={tmp_path / 'none.pem'}").session()


def test_a_dead_server_and_a_wrong_password_are_connection_failures(mysql: Any) -> None:
    # Held, so that nobody else listens there.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(ConnectionFailed, match="check that the server is running"):
            resolve(f"mysql://u:hidden@127.0.0.1:{port}/").session()
    wrong = Server(mysql.host, mysql.port, mysql.user, "hidden")
    with pytest.raises(ConnectionFailed, match="check user and password") as failed:
        wrong.session()
    assert "hidden" not in str(failed.value)


def test_a_missing_privilege_is_named_with_its_place(mysql: Any) -> None:
    with resolve(mysql.url).session() as root:
        root.execute(f"DROP DATABASE IF EXISTS {NAME}_closed")
        root.execute(f"CREATE DATABASE {NAME}_closed")
        root.execute(f"CREATE TABLE {NAME}_closed.`#t` (a int)")
        root.execute("DROP USER IF EXISTS catalog_guest")
        root.execute("CREATE USER catalog_guest IDENTIFIED BY 'guest'")
        root.execute(f"GRANT INSERT ON {NAME}_closed.`#t` TO catalog_guest")
        server = Server(mysql.host, mysql.port, "catalog_guest", "guest")
        try:
            with server.session() as guest:
                with pytest.raises(PermissionMissing, match="SELECT") as denied:
                    guest.query(f"SELECT * FROM `{NAME}_closed`.`#t`")
                assert denied.value.context["on"] == f"table {NAME}_closed.#t"
                assert f"GRANT SELECT ON `{NAME}_closed`.*" in str(denied.value)
                with pytest.raises(PermissionMissing, match="lacks the privilege CREATE on") as no:
                    guest.execute("CREATE DATABASE catalog_never")
                assert no.value.context["on"] == "schema catalog_never"
                with pytest.raises(NotFound):
                    read_schema(guest, NAME)
        finally:
            root.execute("DROP USER catalog_guest")
            root.execute(f"DROP DATABASE {NAME}_closed")


# -- schemas -----------------------------------------------------------------------------------

TABLES = (
    """CREATE TABLE `~external_raw` (`hash` binary(16) NOT NULL, `size` bigint unsigned,
  `attachment_name` varchar(255), `filepath` varchar(1000), `contents_hash` binary(16),
  PRIMARY KEY (`hash`))""",
    "CREATE TABLE `#species` (`species` varchar(24) NOT NULL, PRIMARY KEY (`species`))",
    """CREATE TABLE `subject` (
  `z_last` int unsigned NOT NULL AUTO_INCREMENT COMMENT ':bool: is no marker: it is',
  `a_first` varchar(9) CHARACTER SET latin1 NOT NULL DEFAULT 'it''s' COMMENT 'plain',
  `twice` int GENERATED ALWAYS AS (char_length(`a_first`)) VIRTUAL,
  `uuid` binary(16) NOT NULL COMMENT ':uuid:global id', `blob` longblob COMMENT ':attach:',
  `species` varchar(24) NOT NULL,
  PRIMARY KEY (`z_last`, `species`), UNIQUE KEY `u` (`uuid`),
  CONSTRAINT `of` FOREIGN KEY (`species`) REFERENCES `#species` (`species`) ON UPDATE CASCADE
) COMMENT='animals: 100%'""",
    """CREATE TABLE `no_key` (`a` int NOT NULL, `b` int, `c` varchar(50) NOT NULL,
  UNIQUE KEY `loose` (`a`,`b`), UNIQUE KEY `prefix` (`c`(3)), UNIQUE KEY `strict` (`c`,`a`))""",
    "CREATE TABLE `heap` (`a` int, UNIQUE KEY `loose` (`a`))",
    "CREATE TABLE `_recording` (`id` int NOT NULL PRIMARY KEY)",
    "CREATE TABLE `__spike2_sort` (`id` int NOT NULL PRIMARY KEY)",
    "CREATE TABLE `__spike2_sort__unit_a` (`id` int NOT NULL PRIMARY KEY)",
    "CREATE TABLE `e_e_g` (`id` int NOT NULL PRIMARY KEY)",
    "CREATE TABLE `probe` (`id` int NOT NULL PRIMARY KEY)",
    "CREATE TABLE `#probe` (`id` int NOT NULL PRIMARY KEY)",
    """CREATE TABLE `pointers` (`id` int NOT NULL PRIMARY KEY,
  `plain` binary(16) COMMENT ':blob@raw:', `legacy` binary(16) COMMENT ':external-raw:',
  `older` char(51) COMMENT ':external-raw:',
  `as_attach` binary(16) COMMENT ':<graph>:', `as_path` binary(16) COMMENT ':<graph>:',
  `as_blob` binary(16) COMMENT ':<graph>:', `empty` binary(16) COMMENT ':<graph>:',
  `as_uuid` binary(16) COMMENT ':<graph>:', `in_table` longblob COMMENT ':<graph>:',
  CONSTRAINT `f1` FOREIGN KEY (`as_attach`) REFERENCES `~external_raw` (`hash`),
  CONSTRAINT `f2` FOREIGN KEY (`as_path`) REFERENCES `~external_raw` (`hash`),
  CONSTRAINT `f3` FOREIGN KEY (`as_blob`) REFERENCES `~external_raw` (`hash`),
  CONSTRAINT `f4` FOREIGN KEY (`empty`) REFERENCES `~external_raw` (`hash`))""",
    "CREATE VIEW `seen` AS SELECT 1 AS `a`",
    "CREATE TRIGGER `bang` BEFORE INSERT ON `heap` FOR EACH ROW SET NEW.a = 1",
    "CREATE PROCEDURE `routine`() SELECT 1",
    "INSERT INTO `~external_raw` VALUES (REPEAT('a', 16), 1, 'x.txt', NULL, NULL),"
    " (REPEAT('b', 16), 1, NULL, 'sub/x.txt', REPEAT('c', 16)),"
    " (REPEAT('d', 16), 1, NULL, NULL, NULL)",
    "INSERT INTO `pointers` (id, as_attach, as_path, as_blob)"
    " VALUES (1, REPEAT('a', 16), REPEAT('b', 16), REPEAT('d', 16)), (2, NULL, NULL, NULL)",
)


@pytest.fixture(scope="module", params=["mysql", "mariadb"])
def lab(request: pytest.FixtureRequest) -> Iterator[tuple[Session, Schema]]:
    with resolve(request.getfixturevalue(request.param).url).session() as session:
        session.execute(f"DROP DATABASE IF EXISTS {NAME}")
        session.execute(f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        session.execute(f"USE {NAME}")
        for sql in TABLES:
            session.execute(sql)
        yield session, read_schema(session, NAME)
        session.execute(f"DROP DATABASE {NAME}")


def test_a_schema_is_read_with_everything_in_it(lab: tuple[Session, Schema]) -> None:
    schema = lab[1]
    assert (schema.charset, schema.collation) == ("utf8mb4", "utf8mb4_bin")
    assert "~external_raw" in schema.tables
    assert schema.views == ("seen",)
    there = {(one.kind, one.name) for one in read_programs(lab[0], NAME)}
    assert there == {("view", "seen"), ("trigger", "bang"), ("procedure", "routine")}
    subject = schema.tables["subject"]
    assert [column.name for column in subject.columns] == [
        "z_last", "a_first", "twice", "uuid", "blob", "species",
    ]  # fmt: skip
    assert subject.primary_key == ("z_last", "species")
    assert subject.comment == "animals: 100%"
    assert (subject.charset, subject.collation) == ("utf8mb4", "utf8mb4_bin")
    assert subject.create.startswith("CREATE TABLE `subject`")
    assert Index("u", ("uuid",), unique=True) in subject.indexes
    (key,) = subject.foreign_keys
    assert (key.name, key.columns, key.ref_table) == ("of", ("species",), "#species")
    assert (key.ref_schema, key.ref_columns, key.on_update) == (NAME, ("species",), "CASCADE")


def test_a_column_tells_its_properties(lab: tuple[Session, Schema]) -> None:
    column = lab[1].tables["subject"].column
    assert column("z_last").auto_increment
    assert not column("z_last").nullable
    assert column("a_first").charset == "latin1"
    assert (column("a_first").marker, column("a_first").text) == (None, "plain")
    assert column("twice").generated
    assert (column("uuid").marker, column("uuid").text) == ("uuid", "global id")
    assert (column("blob").marker, column("blob").text) == ("attach", "")
    assert (column("z_last").marker, column("z_last").text) == ("bool", " is no marker: it is")
    with pytest.raises(NotFound, match="did you mean 'species'"):
        column("specis")


@pytest.mark.parametrize(
    ("table", "key"),
    [("subject", ("z_last", "species")), ("no_key", ("c", "a")), ("heap", ())],
)
def test_the_walk_key_tells_all_rows_apart(
    lab: tuple[Session, Schema], table: str, key: tuple[str, ...]
) -> None:
    assert lab[1].tables[table].walk_key == key


@pytest.mark.parametrize(
    ("table", "tier", "class_name"),
    [
        ("subject", "manual", "Subject"),
        ("#species", "lookup", "Species"),
        ("_recording", "imported", "Recording"),
        ("__spike2_sort", "computed", "Spike2Sort"),
        ("__spike2_sort__unit_a", "part", "Spike2Sort.UnitA"),
        ("~external_raw", "hidden", "~external_raw"),
        ("e_e_g", "manual", "EEG"),
    ],
)
def test_class_names_and_table_names_find_the_same_table(
    lab: tuple[Session, Schema], table: str, tier: str, class_name: str
) -> None:
    schema = lab[1]
    assert schema.tables[table].tier == tier
    assert schema.tables[table].class_name == class_name
    assert find_table(schema, table) is schema.tables[table]
    assert find_table(schema, class_name) is schema.tables[table]
    assert find_table(schema, f"`{NAME}`.`{table}`") is schema.tables[table]


def test_a_class_name_of_two_tables_is_refused_with_both(lab: tuple[Session, Schema]) -> None:
    with pytest.raises(InvalidArgument, match=r"use the SQL name: '#probe', 'probe'"):
        find_table(lab[1], "Probe")
    assert find_table(lab[1], "probe").name == "probe"


def test_names_that_do_not_exist_come_with_near_misses(lab: tuple[Session, Schema]) -> None:
    session, schema = lab
    with pytest.raises(NotFound, match="'Subject'"):
        find_table(schema, "Subjects")
    with pytest.raises(NotFound, match=f"did you mean '{NAME}'"):
        read_schema(session, "catalog_lap")


# -- external columns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "external"),
    [
        ("plain", External("blob", "raw")),
        ("legacy", External("blob", "raw", legacy=True)),
        ("as_attach", External("attach", "raw", codec="graph")),
        ("as_path", External("filepath", "raw", codec="graph")),
        ("as_blob", External("blob", "raw", codec="graph")),
        ("as_uuid", None),
        ("in_table", None),
        ("id", None),
    ],
)
def test_an_external_column_is_known_by_marker_key_and_rows(
    lab: tuple[Session, Schema], column: str, external: External | None
) -> None:
    session, schema = lab
    table = schema.tables["pointers"]
    assert external_of(session, schema, table, table.column(column)) == external


def test_an_adapter_without_rows_must_be_explained(lab: tuple[Session, Schema]) -> None:
    session, schema = lab
    table = schema.tables["pointers"]
    with pytest.raises(Unconvertible, match=r"pointers\.empty") as unknown:
        external_of(session, schema, table, table.column("empty"))
    assert 'adapters={"graph": "blob@raw"}' in str(unknown.value)
    said = external_of(session, schema, table, table.column("empty"), {"graph": "attach@raw"})
    assert said == External("attach", "raw", codec="graph")
    with pytest.raises(InvalidArgument, match="'longblob'"):
        external_of(session, schema, table, table.column("empty"), {"graph": "longblob"})


def test_a_column_from_before_0_12_is_refused(lab: tuple[Session, Schema]) -> None:
    session, schema = lab
    table = schema.tables["pointers"]
    with pytest.raises(Unconvertible, match=r"before 0\.12"):
        external_of(session, schema, table, table.column("older"))


def test_the_spelling_of_the_guide_means_the_tracked_store(lab: tuple[Session, Schema]) -> None:
    assert tracked_store(lab[1], "raw") == "raw"
    assert tracked_store(lab[1], "external-raw") == "raw"
    with pytest.raises(NotFound, match="did you mean 'raw'"):
        tracked_store(lab[1], "raw2")


# -- stores ------------------------------------------------------------------------------------

RAW = {"protocol": "file", "location": "/data/raw"}
S3 = {"protocol": "s3", "location": "lab", "secret_key": "hidden", "subfolding": [3, 1]}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty current folder and home, no DataJoint to be seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("datajoint_migrate.catalog.stores._client", lambda: "")
    return tmp_path


def test_source_stores_fold_twice_and_destination_stores_not_at_all() -> None:
    assert source_stores({"raw": RAW})["raw"].subfolding == (2, 2)
    assert dest_stores({"raw": RAW})["raw"].subfolding == ()
    assert source_stores({"s": S3})["s"].subfolding == (3, 1)
    assert source_stores({"raw": {**RAW, "subfolding": []}})["raw"].subfolding == ()


def test_no_repr_of_a_store_shows_its_secrets() -> None:
    store = source_stores({"s": S3})["s"]
    assert "hidden" not in repr(store)
    assert store.raw["secret_key"] == "hidden"


def test_source_stores_come_from_the_old_configuration_files(alone: Path) -> None:
    assert source_stores() == {}
    (alone / "home").mkdir()
    old = alone / "home" / ".datajoint_config.json"
    old.write_text(json.dumps({"stores": {"home": RAW}}))
    assert list(source_stores()) == ["home"]
    (alone / "dj_local_conf.json").write_text(json.dumps({"stores": {"here": RAW}}))
    assert list(source_stores()) == ["here"]


def test_destination_stores_come_from_datajoint_json_and_its_secrets(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = {"default": "main", "main": S3 | {"access_key": "in json"}}
    (alone / "datajoint.json").write_text(json.dumps({"stores": stores}))
    (alone / ".secrets").mkdir()
    (alone / ".secrets" / "stores.main.access_key").write_text("in a file\n")
    (alone / ".secrets" / "stores.main.session_token").write_text("token\n")
    (alone / "below").mkdir()
    monkeypatch.chdir(alone / "below")
    found = dest_stores()
    assert list(found) == ["main"]
    assert found["main"].raw["access_key"] == "in json"
    assert found["main"].raw["session_token"] == "token"
    (alone / "below" / ".git").mkdir()
    assert dest_stores() == {}


def test_a_missing_store_says_where_to_put_it() -> None:
    stores = {"raw": Store("raw", "file", "/data/raw")}
    assert get_store(stores, "raw", "source").location == "/data/raw"
    with pytest.raises(StoreMissing, match=r"dj_local_conf\.json") as missing:
        get_store(stores, "raw2", "source")
    assert "did you mean 'raw'" in str(missing.value)
    with pytest.raises(StoreMissing, match=r"datajoint\.json"):
        get_store({}, "main", "destination")


def test_a_store_without_a_location_and_a_broken_file_are_refused(alone: Path) -> None:
    with pytest.raises(InvalidArgument, match="lacks location"):
        source_stores({"raw": {"protocol": "file"}})
    (alone / "dj_local_conf.json").write_text("{")
    with pytest.raises(InvalidArgument, match="not valid JSON"):
        source_stores()


def test_a_store_keeps_its_name_unless_it_is_mapped() -> None:
    assert map_store("raw") == "raw"
    assert map_store("raw", {"raw": "main"}) == "main"
