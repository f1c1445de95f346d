"""Declarations keep everything that need not change, on MySQL and from MariaDB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from datajoint_migrate.catalog.externals import External, externals_of
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import tokens
from datajoint_migrate.catalog.tables import Schema, Table, read_schema
from datajoint_migrate.errors import ForeignKeyLeavesMap, InvalidArgument, Unconvertible
from datajoint_migrate.target import Declaration, check_map, declare
from datajoint_migrate.target.ddl import literal, parse
from datajoint_migrate.target.mariadb import mysql_collation

LAB, EPHYS = "declare_lab", "declare_ephys"
MAP = {LAB: "declare_lab_v20", EPHYS: "declare_ephys_v20"}

TRACKING = """CREATE TABLE `~external_raw` (
  `hash` binary(16) NOT NULL COMMENT ':uuid:hash of contents',
  `size` bigint unsigned NOT NULL COMMENT 'size of object in bytes',
  `attachment_name` varchar(255) DEFAULT NULL,
  `filepath` varchar(1000) DEFAULT NULL,
  `contents_hash` binary(16) DEFAULT NULL COMMENT ':uuid:used for the filepath datatype',
  `timestamp` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (`hash`)
) COMMENT='external storage tracking'"""

# Two schemas that refer to each other in a circle, with everything a hand-altered pipeline has.
LAB_TABLES = (
    TRACKING,
    """CREATE TABLE `~jobs` (
  `table_name` varchar(255) NOT NULL, `key_hash` char(32) NOT NULL,
  `key` blob, `pid` int unsigned DEFAULT '0', PRIMARY KEY (`table_name`,`key_hash`)
)""",
    """CREATE TABLE `subject` (
  `subject_id` int unsigned NOT NULL AUTO_INCREMENT COMMENT 'the id: ''quoted'', ünïcode 猴, 100%',
  `back``tick` varchar(10) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT 'it''s \\\\ 5%',
  `sex` enum('a','b c','d,e)','f''g') NOT NULL DEFAULT 'b c' COMMENT 'COMMENT ''DEFAULT'' (',
  `seen` timestamp(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
  `zero` date NOT NULL DEFAULT '0000-00-00',
  `weight` decimal(5,2) NOT NULL DEFAULT '1.50' COMMENT 'line\\nbreak',
  `made` int DEFAULT (abs(-(7))),
  `flags` bit(3) DEFAULT b'101',
  `doubled` decimal(6,2) GENERATED ALWAYS AS ((`weight` * 2)) STORED COMMENT 'g',
  `hidden` int DEFAULT '3' /*!80023 INVISIBLE */ COMMENT 'unseen',
  `_0123456789abcdef_timestamp` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  `scan` longblob NOT NULL COMMENT 'the scan',
  `last_probe` int unsigned DEFAULT NULL,
  PRIMARY KEY (`subject_id`),
  UNIQUE KEY `expression` ((lower(`back``tick`)),`sex`),
  KEY `down` (`weight` DESC) COMMENT 'an index; with, commas',
  KEY `unseen` (`zero`) /*!80000 INVISIBLE */,
  FULLTEXT KEY `words` (`back``tick`),
  CONSTRAINT `light` CHECK ((`weight` < 100)),
  CONSTRAINT `named` CHECK ((`sex` <> _utf8mb4'x,)')) /*!80016 NOT ENFORCED */
) ENGINE=InnoDB AUTO_INCREMENT=41 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC
  COMMENT='a ''table'', 100%; ünïcode'""",
    """CREATE TABLE `parted` (`id` int NOT NULL, `b` blob, PRIMARY KEY (`id`)) COMMENT='p'
  PARTITION BY RANGE (`id`) (PARTITION p0 VALUES LESS THAN (10),
  PARTITION p1 VALUES LESS THAN MAXVALUE)""",
)
EPHYS_TABLES = (
    TRACKING,
    """CREATE TABLE `probe` (
  `subject_id` int unsigned NOT NULL, `probe` int unsigned NOT NULL,
  `raw` binary(16) NOT NULL COMMENT ':blob@raw:big',
  `pic` binary(16) DEFAULT NULL COMMENT ':attach@raw:',
  `again` binary(16) DEFAULT NULL COMMENT ':blob@raw:', `parent` int unsigned DEFAULT NULL,
  PRIMARY KEY (`subject_id`,`probe`), KEY `probe` (`probe`),
  UNIQUE KEY `only_once` (`again`), KEY `both` (`pic`,`parent`),
  CONSTRAINT `to_raw` FOREIGN KEY (`raw`) REFERENCES `~external_raw` (`hash`),
  CONSTRAINT `to_subject` FOREIGN KEY (`subject_id`)
    REFERENCES `declare_lab`.`subject` (`subject_id`) ON DELETE RESTRICT ON UPDATE CASCADE,
  CONSTRAINT `to_self` FOREIGN KEY (`subject_id`, `parent`)
    REFERENCES `probe` (`subject_id`, `probe`)
)""",
)  # fmt: skip


def _make(session: Session, schema: str, tables: tuple[str, ...], options: str = "") -> None:
    session.execute(f"DROP DATABASE IF EXISTS `{schema}`")
    session.execute(f"CREATE DATABASE `{schema}` {options}")
    session.execute(f"USE `{schema}`")
    for sql in tables:
        session.execute(sql)


@pytest.fixture(scope="module")
def session(mysql: Any) -> Iterator[Session]:
    with resolve(mysql.url).session() as session:
        session.execute("SET foreign_key_checks = 0")
        _make(session, LAB, LAB_TABLES)
        _make(session, EPHYS, EPHYS_TABLES)
        session.execute(
            f"ALTER TABLE {LAB}.subject ADD CONSTRAINT back FOREIGN KEY (subject_id, last_probe)"
            f" REFERENCES {EPHYS}.probe (subject_id, probe)"
        )
        yield session
        for name in (LAB, EPHYS, *MAP.values()):
            session.execute(f"DROP DATABASE IF EXISTS `{name}`")


def _declare_all(
    session: Session, schema: Schema, run_on: Session | None = None, **options: Any
) -> dict[str, Declaration]:
    """Declare every table of a schema, and make them when there is a server to make them on."""
    dest = MAP.get(schema.name, schema.name + "_v20")
    if run_on:
        run_on.execute("SET foreign_key_checks = 0")
        run_on.execute(f"DROP DATABASE IF EXISTS `{dest}`")
        run_on.execute(f"CREATE DATABASE `{dest}`")
    taken: set[tuple[str, str]] = set()
    made = {}
    for name, table in schema.tables.items():
        made[name] = declare(
            table,
            dest_schema=dest,
            schema_map=MAP,
            externals=externals_of(session, schema, table),
            taken=taken,
            **options,
        )
        if run_on:
            run_on.execute(made[name].create_sql)
    return made


def _body(create: str) -> str:
    return create.split("(", 1)[1]


def test_a_table_taken_apart_and_put_together_is_the_same_text(session: Session) -> None:
    for schema in (LAB, EPHYS):
        for table in read_schema(session, schema).tables.values():
            assert parse(table.create).render() == table.create
            assert "".join(token.text for token in tokens(table.create)) == table.create
            lines = parse(table.create).columns
            assert [line.name for line in lines] == [column.name for column in table.columns]
            assert [line.base for line in lines] == [c.column_type for c in table.columns]


def test_only_the_marker_and_the_repointed_key_change(session: Session) -> None:
    table = read_schema(session, LAB).tables["subject"]
    declaration = declare(table, dest_schema=MAP[LAB], schema_map=MAP)
    expected = _body(table.create).replace("COMMENT 'the scan'", "COMMENT ':<blob>:the scan'")
    expected = expected.replace(f"`{EPHYS}`.", f"`{MAP[EPHYS]}`.")
    assert _body(declaration.create_sql) == expected
    assert declaration.create_sql.startswith(f"CREATE TABLE `{MAP[LAB]}`.`subject` (")
    assert declaration.notes == ()


def test_the_declared_tables_read_back_as_their_sources(session: Session) -> None:
    pairs = []
    for name in (LAB, EPHYS):
        source = read_schema(session, name)
        _declare_all(session, source, session, external="convert")
        pairs.append((source, read_schema(session, MAP[name])))
    for source, made in pairs:
        assert made.tables.keys() == source.tables.keys()
        for name, table in source.tables.items():
            twin = made.tables[name]
            for old, new in zip(table.columns, twin.columns, strict=True):
                if old.marker == new.marker:
                    assert new == old
            assert twin.primary_key == table.primary_key
            assert (twin.collation, twin.comment) == (table.collation, table.comment)
            assert twin.checks == table.checks
    assert "AUTO_INCREMENT=41" in pairs[0][1].tables["subject"].create
    assert "PARTITION p1" in pairs[0][1].tables["parted"].create


def test_external_columns_become_json_without_keys_and_indexes(session: Session) -> None:
    schema = read_schema(session, EPHYS)
    probe = _declare_all(session, schema, external="convert", store_map={"raw": "main"})["probe"]
    assert probe.column("raw").definition == "`raw` json NOT NULL COMMENT ':<blob@main>:big'"
    assert probe.column("pic").definition == "`pic` json DEFAULT NULL COMMENT ':<attach@main>:'"
    assert "~external" not in probe.create_sql
    assert probe.foreign_keys == 2
    assert "only_once" not in probe.create_sql
    assert "`both`" not in probe.create_sql
    assert "KEY `probe` (`probe`)" in probe.create_sql
    assert [note for note in probe.notes if "UNIQUE index 'only_once'" in note]
    assert [note for note in probe.notes if "index 'both'" in note]
    assert not [note for note in probe.notes if "to_raw" in note or "index 'raw'" in note]


def test_deferred_external_columns_lose_only_their_key(session: Session) -> None:
    schema = read_schema(session, EPHYS)
    probe = _declare_all(session, schema, external="defer")["probe"]
    assert "`raw` binary(16) NOT NULL COMMENT ':blob@raw:big'" in probe.create_sql
    assert "~external" not in probe.create_sql


def test_references_follow_the_map_and_unqualified_ones_stay(session: Session) -> None:
    schema = read_schema(session, EPHYS)
    sql = _declare_all(session, schema)["probe"].create_sql
    assert f"REFERENCES `{MAP[LAB]}`.`subject` (`subject_id`)" in sql
    assert "REFERENCES `probe` (`subject_id`, `probe`)" in sql


def test_a_key_that_leaves_the_map_names_the_schema_to_add(session: Session) -> None:
    schema = read_schema(session, EPHYS)
    with pytest.raises(ForeignKeyLeavesMap, match=f"add '{LAB}' to schema_map") as left:
        declare(schema.tables["probe"], dest_schema="x", schema_map={EPHYS: "x"})
    assert left.value.context["missing"] == [LAB]
    with pytest.raises(ForeignKeyLeavesMap, match=rf"{EPHYS}\.probe refers to {LAB}\.subject"):
        check_map([schema], {EPHYS: "x"})
    check_map([schema, read_schema(session, LAB)], MAP)


def test_hidden_tables_stay_as_they_are(session: Session) -> None:
    schema = read_schema(session, LAB)
    for options in ({}, {"unsigned": "widen", "external": "convert"}):
        made = _declare_all(session, schema, **options)
        for name in ("~jobs", "~external_raw"):
            assert _body(made[name].create_sql) == _body(schema.tables[name].create)


def test_widening_reaches_keys_and_their_foreign_keys_alike(session: Session) -> None:
    for name in MAP.values():
        session.execute(f"DROP DATABASE IF EXISTS {name}")
    for name in (LAB, EPHYS):
        _declare_all(session, read_schema(session, name), session, unsigned="widen")
    session.execute("SET foreign_key_checks = 1")
    lab, ephys = (read_schema(session, name) for name in MAP.values())
    key = lab.tables["subject"].column("subject_id")
    assert (key.column_type, key.auto_increment) == ("bigint", True)
    assert key.comment == ":int64:the id: 'quoted', ünïcode 猴, 100%"
    child = ephys.tables["probe"].column("subject_id")
    assert (child.column_type, child.comment) == ("bigint", ":int64:")
    session.execute(f"INSERT INTO {MAP[LAB]}.subject (subject_id, scan) VALUES (1, '')")
    session.execute(f"INSERT INTO {MAP[EPHYS]}.probe VALUES (1, 2, x'00', NULL, NULL, NULL)")
    session.execute("SET foreign_key_checks = 0")


def test_a_constraint_name_that_is_taken_is_changed(session: Session) -> None:
    table = read_schema(session, EPHYS).tables["probe"]
    taken = {("foreign", "to_subject"), ("foreign", "probe_ibfk_1"), ("check", "to_self")}
    declaration = declare(table, dest_schema="x", schema_map=MAP, taken=taken)
    assert "CONSTRAINT `probe_ibfk_2` FOREIGN KEY (`subject_id`)" in declaration.create_sql
    assert "CONSTRAINT `to_self` FOREIGN KEY" in declaration.create_sql
    assert [note for note in declaration.notes if "'to_subject' is 'probe_ibfk_2'" in note]
    assert ("foreign", "to_self") in taken


def test_a_changed_constraint_name_has_at_most_64_characters(session: Session) -> None:
    table = read_schema(session, EPHYS).tables["probe"]
    long = Table(**{**vars(table), "name": "p" * 64})
    declaration = declare(long, dest_schema="x", schema_map=MAP, taken={("foreign", "to_subject")})
    names = re.findall(r"CONSTRAINT `(.*?)`", declaration.create_sql)
    assert "p" * 57 + "_ibfk_1" in names


def test_an_expression_over_an_external_column_is_refused(session: Session) -> None:
    session.execute(
        f"CREATE TABLE {LAB}.hexed (id int PRIMARY KEY, b binary(16) COMMENT ':blob@raw:',"
        " h char(32) AS (hex(b)))"
    )
    try:
        schema = read_schema(session, LAB)
        with pytest.raises(Unconvertible, match="uses the external column 'b'"):
            _declare_all(session, schema)
    finally:
        session.execute(f"DROP TABLE {LAB}.hexed")


def test_a_schema_name_that_is_too_long_is_refused(session: Session) -> None:
    table = read_schema(session, LAB).tables["parted"]
    with pytest.raises(InvalidArgument, match="longer than 64"):
        declare(table, dest_schema="x" * 65)


def test_mysql_tables_are_not_declared_on_mariadb(session: Session) -> None:
    table = read_schema(session, LAB).tables["parted"]
    with pytest.raises(Unconvertible, match="cannot be declared on MariaDB"):
        declare(table, dest_schema="x", dest_is_mariadb=True)


@pytest.mark.parametrize("text", ["it's", "a\\b", "a\nb\r", "nul\0", '"`%', "ünïcode 猴"])
def test_a_literal_means_its_text_again(session: Session, text: str) -> None:
    assert session.query(f"SELECT {literal(text)}") == [(text,)]


# -- MariaDB -----------------------------------------------------------------------------------

MARIA = "declare_maria"
MARIA_TABLES = (
    """CREATE TABLE `zoo` (
  `id` int(10) unsigned NOT NULL AUTO_INCREMENT COMMENT 'the id',
  `tiny` tinyint(4) DEFAULT NULL, `flag` tinyint(1) NOT NULL DEFAULT 1,
  `medium` mediumint(8) unsigned DEFAULT 3, `big` bigint(20) NOT NULL DEFAULT -3,
  `year` year(4) DEFAULT NULL, `z` int(5) unsigned zerofill DEFAULT NULL,
  `f` float NOT NULL DEFAULT 12.5, `d` decimal(5,2) DEFAULT 1.50, `e` double DEFAULT 1e10,
  `js` json DEFAULT NULL, `js2` json NOT NULL COMMENT 'an object' ,
  `checked` int(11) DEFAULT NULL CHECK (`checked` > 0),
  `stamp` timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp() COMMENT 's',
  `stamp3` datetime(3) DEFAULT current_timestamp(3),
  `day` date DEFAULT curdate(), `sum` int(11) DEFAULT (`big` + 1), `u` char(36) DEFAULT uuid(),
  `blob` blob DEFAULT NULL, `words` text DEFAULT 'it''s', `sig` longblob NOT NULL COMMENT 'signal',
  `unseen` int(11) INVISIBLE DEFAULT NULL,
  `virt` int(11) GENERATED ALWAYS AS (`big` * 2) VIRTUAL,
  `kept` int(11) AS (`big` * 3) PERSISTENT COMMENT 'stored',
  `nopad` varchar(10) COLLATE utf8mb4_nopad_bin DEFAULT 'x',
  `latin` varchar(10) CHARACTER SET latin1 DEFAULT 'é',
  `packed` varchar(100) COMPRESSED DEFAULT NULL,
  `enum` enum('a','b c') NOT NULL DEFAULT 'b c',
  PRIMARY KEY (`id`), KEY `ignored` (`tiny`) IGNORED,
  CONSTRAINT `CONSTRAINT_1` CHECK (`big` < 100)
) ENGINE=InnoDB AUTO_INCREMENT=9 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_nopad_ci
  PAGE_CHECKSUM=1 `PAGE_COMPRESSED`=1 COMMENT='zoo: 100%'""",
    """CREATE TABLE `other` (`id` int(10) unsigned NOT NULL, `n` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`), CONSTRAINT `CONSTRAINT_1` CHECK (`n` < 100),
  CONSTRAINT `other_ibfk_1` FOREIGN KEY (`id`) REFERENCES `zoo` (`id`) ON UPDATE CASCADE)""",
    "CREATE TABLE `aria` (`id` int(11) NOT NULL PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=1",
    """CREATE TABLE `parted` (`id` int(11) NOT NULL PRIMARY KEY)
  PARTITION BY HASH (`id`) PARTITIONS 3""",
)


@pytest.fixture(scope="module")
def maria(mariadb: Any) -> Iterator[Session]:
    with resolve(mariadb.url).session() as session:
        _make(session, MARIA, MARIA_TABLES, "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
        yield session
        session.execute(f"DROP DATABASE {MARIA}")


def test_what_mariadb_prints_is_made_on_mysql(maria: Session, session: Session) -> None:
    source = read_schema(maria, MARIA)
    made = _declare_all(maria, source, session, external="convert")
    try:
        twin = read_schema(session, MARIA + "_v20").tables["zoo"]
        types = {column.name: column.column_type for column in twin.columns}
        assert types["id"] == "int unsigned"
        assert types["flag"] == "tinyint(1)"
        assert types["z"] == "int(5) unsigned zerofill"
        assert (types["js"], types["js2"]) == ("json", "json")
        assert (types["medium"], types["year"]) == ("mediumint unsigned", "year")
        defaults = {column.name: column.default for column in twin.columns}
        assert defaults["f"] == "12.5"
        assert defaults["big"] == "-3"
        assert defaults["latin"] == "é"
        assert defaults["stamp3"] == "CURRENT_TIMESTAMP(3)"
        assert "curdate" in str(defaults["day"])
        assert twin.column("unseen").invisible
        assert twin.column("sig").comment == ":<blob>:signal"
        assert twin.column("js2").comment == "an object"
        assert "on update CURRENT_TIMESTAMP" in twin.column("stamp").extra
        assert "STORED" in twin.column("kept").extra.upper()
        assert twin.column("latin").charset == "latin1"
        assert twin.column("nopad").collation == "utf8mb4_0900_bin"
        assert twin.collation == "utf8mb4_unicode_ci"
        assert "AUTO_INCREMENT=9" in twin.create
        assert twin.comment == "zoo: 100%"
        notes = " ".join(made["zoo"].notes)
        assert "PAGE_CHECKSUM" in notes
        assert "utf8mb4_unicode_nopad_ci is utf8mb4_unicode_ci" in notes
        assert "ENGINE=InnoDB" in made["aria"].create_sql
        assert "PARTITION BY HASH" in made["parted"].create_sql
    finally:
        session.execute(f"DROP DATABASE {MARIA}_v20")


def test_check_names_that_mariadb_repeats_are_told_apart(maria: Session) -> None:
    made = _declare_all(maria, read_schema(maria, MARIA))
    names = [
        name
        for declaration in made.values()
        for name in re.findall(r"CONSTRAINT `(.*?)` CHECK", declaration.create_sql)
    ]
    assert len(names) == len(set(names)) == 2


def test_mariadb_tables_stay_as_they_are_on_mariadb(maria: Session) -> None:
    table = read_schema(maria, MARIA).tables["other"]
    declaration = declare(table, dest_schema="x", dest_is_mariadb=True)
    assert _body(declaration.create_sql) == _body(table.create)


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("CREATE TABLE `odd` (`a` int) WITH SYSTEM VERSIONING", "SYSTEM VERSIONING"),
        ("CREATE TABLE `odd` (`a` uuid)", "uuid"),
        ("CREATE TABLE `odd` (`a` inet6)", "inet6"),
        ("CREATE TABLE `odd` (`a` int DEFAULT nextval(`counter`))", "nextval"),
    ],
)
def test_what_only_mariadb_has_is_refused_by_name(maria: Session, sql: str, what: str) -> None:
    maria.execute(f"USE {MARIA}")
    maria.execute("CREATE SEQUENCE IF NOT EXISTS `counter`")
    maria.execute(sql)
    try:
        schema = read_schema(maria, MARIA)
        assert "counter" not in schema.tables
        with pytest.raises(Unconvertible, match=what) as refused:
            declare(schema.tables["odd"], dest_schema="x")
        assert "declare_maria.odd" in str(refused.value)
    finally:
        maria.execute("DROP TABLE `odd`")
        maria.execute("DROP SEQUENCE `counter`")


@pytest.mark.parametrize(
    ("maria_name", "charset", "mysql_name"),
    [
        ("utf8mb4_uca1400_ai_ci", None, "utf8mb4_0900_ai_ci"),
        ("utf8mb4_uca1400_as_cs", None, "utf8mb4_0900_as_cs"),
        ("uca1400_ai_ci", "utf8mb3", "utf8mb3_unicode_520_ci"),
        ("utf8mb4_unicode_520_nopad_ci", None, "utf8mb4_unicode_520_ci"),
        ("utf8_general_ci", None, "utf8mb3_general_ci"),
        ("latin1_swedish_ci", None, "latin1_swedish_ci"),
    ],
)
def test_a_collation_becomes_the_nearest_that_mysql_has(
    session: Session, maria_name: str, charset: str | None, mysql_name: str
) -> None:
    assert mysql_collation(maria_name, charset) == mysql_name
    assert session.query("SHOW COLLATION WHERE Collation = %s", (mysql_name,))


def test_an_adapted_external_column_names_codec_and_store(session: Session) -> None:
    session.execute(
        f"CREATE TABLE {EPHYS}.adapted (id int PRIMARY KEY, g binary(16) COMMENT ':<graph>:g')"
    )
    try:
        table = read_schema(session, EPHYS).tables["adapted"]
        external = {"g": External("attach", "raw", codec="graph")}
        column = declare(table, dest_schema="x", externals=external, external="convert").column("g")
        assert column.definition == "`g` json DEFAULT NULL COMMENT ':<graph@raw>:g'"
    finally:
        session.execute(f"DROP TABLE {EPHYS}.adapted")
