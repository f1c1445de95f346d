"""DDL as MySQL 5.7 and old MariaDB print it is made, equal in meaning, on the MySQL of today.

MySQL 5.7 itself runs on no current Debian: its DDL is written down here as it prints it, and read
by the declaration as if it came from there. A live MariaDB stands in for the server that still
prints display widths and does not know foreign keys of MyISAM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Fresh
from datajoint_migrate import Unconvertible, compare_schemas, migrate
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.session import Session
from datajoint_migrate.catalog.sql import tokens
from datajoint_migrate.catalog.tables import Column, Index, Schema, Table, read_schema
from datajoint_migrate.target import declare
from datajoint_migrate.target.ddl import ColumnText, Item, literal, parse
from datajoint_migrate.target.declare import Declaration
from servers import Server

SOURCE, DEST = "old57", "old57_v20"

# As SHOW CREATE TABLE of MySQL 5.7 writes it: widths, utf8, no collation where it is the default.
RECORDED = {
    "everything": r"""CREATE TABLE `everything` (
  `id` int(10) unsigned NOT NULL AUTO_INCREMENT COMMENT 'the id: (10) unsigned',
  `tiny` tinyint(4) NOT NULL DEFAULT '-1',
  `tiny_u` tinyint(3) unsigned DEFAULT NULL,
  `flag` tinyint(1) NOT NULL DEFAULT '0',
  `small` smallint(6) DEFAULT '7' COMMENT 'int(11)',
  `small_u` smallint(5) unsigned zerofill NOT NULL DEFAULT '00003',
  `medium` mediumint(9) DEFAULT NULL,
  `medium_u` mediumint(8) unsigned NOT NULL,
  `plain` int(11) DEFAULT NULL,
  `odd` int(3) NOT NULL DEFAULT '0',
  `big` bigint(20) DEFAULT NULL,
  `big_u` bigint(20) unsigned zerofill DEFAULT NULL,
  `f` float DEFAULT NULL,
  `f_md` float(7,3) NOT NULL DEFAULT '1.500',
  `d` double NOT NULL,
  `d_md` double(10,2) unsigned DEFAULT NULL,
  `dec` decimal(12,4) NOT NULL DEFAULT '0.0000',
  `dec_z` decimal(8,3) unsigned zerofill DEFAULT NULL,
  `b` bit(3) DEFAULT b'101',
  `y` year(4) DEFAULT '2001',
  `da` date NOT NULL DEFAULT '0000-00-00',
  `dt` datetime NOT NULL DEFAULT '0000-00-00 00:00:00',
  `ts` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  `ts0` timestamp NOT NULL DEFAULT '0000-00-00 00:00:00',
  `ts3` timestamp(3) NULL DEFAULT CURRENT_TIMESTAMP(3),
  `t` time(2) DEFAULT NULL,
  `c` char(3) NOT NULL DEFAULT '',
  `v` varchar(24) COLLATE utf8_bin NOT NULL DEFAULT 'it''s',
  `v1` varchar(10) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT NULL,
  `v4` varchar(10) CHARACTER SET utf8mb4 DEFAULT NULL,
  `e` enum('a','b,c','d''e') NOT NULL DEFAULT 'b,c',
  `s` set('x','y') DEFAULT NULL,
  `tx` mediumtext,
  `js` json DEFAULT NULL,
  `u` binary(16) NOT NULL COMMENT ':uuid:the uuid',
  `bl` longblob NOT NULL COMMENT 'the blob',
  `at` longblob COMMENT ':attach:the paper',
  `st` int(11) /*!50606 STORAGE DISK */ /*!50606 COLUMN_FORMAT DYNAMIC */ DEFAULT '4',
  `gv` int(11) GENERATED ALWAYS AS ((`odd` + 1)) VIRTUAL,
  `gs` varchar(30) GENERATED ALWAYS AS (concat(`c`,'x')) STORED COMMENT 'stored',
  PRIMARY KEY (`id`) USING BTREE,
  UNIQUE KEY `v` (`v`,`c`) USING BTREE COMMENT 'both',
  KEY `tx` (`tx`(20)) KEY_BLOCK_SIZE=4,
  FULLTEXT KEY `words` (`tx`)
) ENGINE=InnoDB AUTO_INCREMENT=41 DEFAULT CHARSET=utf8 CHECKSUM=1 DELAY_KEY_WRITE=1
  ROW_FORMAT=DYNAMIC COMMENT='everything: 5.7'""",
    "child": """CREATE TABLE `child` (
  `id` int(10) unsigned NOT NULL,
  `child` smallint(5) unsigned NOT NULL COMMENT 'number',
  `v` varchar(24) COLLATE utf8_bin NOT NULL,
  PRIMARY KEY (`id`,`child`),
  KEY `v` (`v`),
  CONSTRAINT `child_ibfk_1` FOREIGN KEY (`id`) REFERENCES `everything` (`id`) ON UPDATE CASCADE,
  CONSTRAINT `FK_old name` FOREIGN KEY (`v`) REFERENCES `everything` (`v`) ON DELETE NO ACTION
) ENGINE=InnoDB DEFAULT CHARSET=utf8 COLLATE=utf8_bin ROW_FORMAT=COMPACT""",
    "mb4": """CREATE TABLE `mb4` (
  `name` varchar(50) NOT NULL,
  PRIMARY KEY (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 STATS_PERSISTENT=0 ROW_FORMAT=COMPRESSED
  KEY_BLOCK_SIZE=8""",
    "isam": """CREATE TABLE `isam` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `txt` varchar(40) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `txt` (`txt`)
) ENGINE=MyISAM AUTO_INCREMENT=9 DEFAULT CHARSET=latin1 PACK_KEYS=1 ROW_FORMAT=FIXED""",
    "parted": """CREATE TABLE `parted` (
  `id` int(11) NOT NULL,
  `b` blob,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=latin1
/*!50100 PARTITION BY RANGE (id)
(PARTITION p0 VALUES LESS THAN (10) ENGINE = InnoDB,
 PARTITION p1 VALUES LESS THAN MAXVALUE ENGINE = InnoDB) */""",
}

# The collation a server of that time gives to a character set when none is written.
DEFAULTS = {
    "latin1": "latin1_swedish_ci",
    "utf8": "utf8_general_ci",
    "utf8mb4": "utf8mb4_general_ci",
}
TEXT = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"}


def _word_after(parts: list[str], *words: str) -> str | None:
    for at in range(len(parts) - len(words)):
        if [part.upper() for part in parts[at : at + len(words)]] == list(words):
            return parts[at + len(words)]
    return None


def _column(line: ColumnText, charset: str, collation: str) -> Column:
    """A column as information_schema of that server describes it."""
    said = line.find("COMMENT")
    comment = said.tokens[1].text[1:-1].replace("''", "'") if said else ""
    given = line.find("CHARACTER")
    collate = line.find("COLLATE")
    own = given.tokens[2].text if given else charset
    default = DEFAULTS[own] if given else collation
    own_collation = collate.tokens[1].text if collate else default
    is_text = line.type_name in TEXT
    return Column(
        name=line.name,
        column_type=line.base,
        data_type=line.type_name,
        charset=own if is_text else None,
        collation=own_collation if is_text else None,
        nullable=line.find("NOT") is None,
        default=None,
        extra="auto_increment" if line.find("AUTO_INCREMENT") else "",
        comment=comment,
        generated=line.find("GENERATED") is not None,
        invisible=False,
        auto_increment=line.find("AUTO_INCREMENT") is not None,
    )


def table_of(create: str, is_mariadb: bool = False) -> Table:
    """The table that a recorded SHOW CREATE TABLE is the text of."""
    text = parse(create)
    options = [token.text for token in text.options if token.kind != "space"]
    charset = _word_after(options, "CHARSET", "=") or "latin1"
    collation = _word_after(options, "COLLATE", "=") or DEFAULTS[charset]
    keys: list[Item] = [item for item in text.items if item.kind in ("primary", "index")]
    columns = {
        item.name if item.kind == "index" else "PRIMARY": tuple(
            token.name
            for token in item.parts[item.parts.index(_open(item)) :]
            if token.kind == "name"
        )
        for item in keys
    }
    primary = columns.pop("PRIMARY", ())
    return Table(
        schema=SOURCE,
        name=tokens(text.head)[-2].name,
        columns=tuple(_column(line, charset, collation) for line in text.columns),
        primary_key=primary,
        indexes=tuple(Index(name, names, False) for name, names in columns.items()),
        foreign_keys=(),
        checks=(),
        charset=charset,
        collation=collation,
        comment="",
        rows=0,
        data_bytes=0,
        create=create,
        is_mariadb=is_mariadb,
    )


def _open(item: Item) -> Any:
    return next(token for token in item.parts if token.text == "(")


@pytest.fixture(scope="module")
def session(mysql: Server) -> Iterator[Session]:
    with resolve(mysql.url).session() as session:
        session.execute("SET SESSION foreign_key_checks = 0")
        yield session
        session.execute(f"DROP DATABASE IF EXISTS `{DEST}`")


def _make(session: Session, *declared: Declaration) -> Schema:
    session.execute(f"DROP DATABASE IF EXISTS `{DEST}`")
    session.execute(f"CREATE DATABASE `{DEST}`")
    for declaration in declared:
        session.execute(declaration.create_sql)
    return read_schema(session, DEST)


def _meaning(kind: str) -> str:
    """A type without the display width that says nothing about its values."""
    if kind != "tinyint(1)" and "zerofill" not in kind:
        kind = re.sub(r"^(tinyint|smallint|mediumint|int|bigint)\(\d+\)", r"\1", kind)
    return {"year(4)": "year"}.get(kind, kind)


def _modern(name: str | None) -> str | None:
    return re.sub(r"^utf8(?=_|$)", "utf8mb3", name) if name else None


def _is_equal(old: Table, new: Table) -> None:
    """Everything a column means is what it meant."""
    for was, now in zip(old.columns, new.columns, strict=True):
        assert now.name == was.name
        assert _meaning(now.column_type) == _meaning(was.column_type), was.name
        assert now.nullable == was.nullable, was.name
        assert now.auto_increment == was.auto_increment, was.name
        assert now.generated == was.generated, was.name
        assert now.charset == _modern(was.charset), was.name
        assert now.collation == _modern(was.collation), was.name
    assert new.primary_key == old.primary_key
    assert {index.name: index.columns for index in new.indexes} == {
        index.name: index.columns for index in old.indexes
    }


@pytest.fixture(scope="module")
def made(session: Session) -> tuple[dict[str, Table], Schema, dict[str, Declaration]]:
    """The recorded tables, and what became of them on a server of today."""
    old = {name: table_of(create) for name, create in RECORDED.items()}
    declared = {name: declare(table, dest_schema=DEST) for name, table in old.items()}
    return old, _make(session, *declared.values()), declared


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_5_7_ddl_is_made_with_every_column_equal_in_meaning(
    made: tuple[dict[str, Table], Schema, dict[str, Declaration]], name: str
) -> None:
    old, new, _ = made
    _is_equal(old[name], new.tables[name])


def test_defaults_and_comments_of_5_7_stay(
    made: tuple[dict[str, Table], Schema, dict[str, Declaration]],
) -> None:
    found = {column.name: column for column in made[1].tables["everything"].columns}
    defaults = {
        "tiny": "-1", "small": "7", "small_u": "00003", "f_md": "1.500", "dec": "0.0000",
        "b": "b'101'", "y": "2001", "da": "0000-00-00", "dt": "0000-00-00 00:00:00",
        "ts": "CURRENT_TIMESTAMP", "ts0": "0000-00-00 00:00:00", "ts3": "CURRENT_TIMESTAMP(3)",
        "c": "", "v": "it's", "e": "b,c", "st": "4", "js": None, "d": None,
    }  # fmt: skip
    assert {name: found[name].default for name in defaults} == defaults
    assert found["ts"].extra.lower().endswith("on update current_timestamp")
    assert found["id"].comment == "the id: (10) unsigned"
    assert found["u"].comment == ":uuid:the uuid"
    assert found["bl"].comment == ":<blob>:the blob"
    assert found["at"].comment == ":<attach>:the paper"
    assert "ROW_FORMAT=COMPRESSED" in made[1].tables["mb4"].create


def test_old_constraint_names_and_rules_stay(
    made: tuple[dict[str, Table], Schema, dict[str, Declaration]],
) -> None:
    keys = {key.name: key for key in made[1].tables["child"].foreign_keys}
    assert keys.keys() == {"child_ibfk_1", "FK_old name"}
    assert keys["child_ibfk_1"].on_update == "CASCADE"
    assert keys["FK_old name"].ref_columns == ("v",)


def test_a_myisam_table_becomes_innodb_and_the_notes_say_so(
    made: tuple[dict[str, Table], Schema, dict[str, Declaration]],
) -> None:
    _, new, declared = made
    assert "ENGINE=InnoDB" in new.tables["isam"].create
    said = " ".join(declared["isam"].notes)
    assert "ENGINE MyISAM is InnoDB" in said
    assert "ROW_FORMAT FIXED is DYNAMIC" in said
    assert "AUTO_INCREMENT=9" in new.tables["isam"].create
    assert not declared["child"].notes


@pytest.mark.parametrize(
    ("create", "said"),
    [
        (
            "CREATE TABLE `m` (\n  `a` int(11) DEFAULT NULL\n) ENGINE=MRG_MyISAM UNION=(`x`)",
            "no rows",
        ),
        ("CREATE TABLE `m` (\n  `a` int(11) DEFAULT NULL\n) ENGINE=FEDERATED", "no rows"),
        (
            "CREATE TABLE `m` (\n  `g` int(11) NOT NULL,\n  `n` int(11) NOT NULL AUTO_INCREMENT,\n"
            "  PRIMARY KEY (`g`,`n`)\n) ENGINE=MyISAM DEFAULT CHARSET=latin1",
            "numbered within a group",
        ),
    ],
)
def test_what_only_an_old_engine_can_do_is_refused(create: str, said: str) -> None:
    with pytest.raises(Unconvertible, match=said):
        declare(table_of(create), dest_schema=DEST)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_5_7_ddl_is_made_as_utf8mb4_too(session: Session, name: str) -> None:
    old = table_of(RECORDED[name])
    declaration = declare(old, dest_schema=DEST, charset="utf8mb4")
    session.execute(f"DROP DATABASE IF EXISTS `{DEST}`")
    session.execute(f"CREATE DATABASE `{DEST}`")
    session.execute(declaration.create_sql)
    for was, now in zip(old.columns, read_schema(session, DEST).tables[name].columns, strict=True):
        if was.charset:
            assert now.charset == "utf8mb4"
            kept = was.charset == "utf8mb4"
            assert now.collation == ("utf8mb4_general_ci" if kept else "utf8mb4_bin")


# -- any table of that time --------------------------------------------------------------------

OTHERS = [
    "float", "double", "decimal", "year", "char", "varchar", "text", "date", "datetime",
    "timestamp", "enum", "blob",
]  # fmt: skip
WIDTHS = {"tinyint": 4, "smallint": 6, "mediumint": 9, "int": 11, "bigint": 20}


@st.composite
def column_lines(draw: st.DrawFn) -> str:
    """Type and clauses of a column as 5.7 prints them."""
    kind = draw(st.sampled_from([*WIDTHS, *OTHERS]))
    default: str | None = None
    if kind in WIDTHS:
        unsigned = draw(st.booleans())
        zerofill = unsigned and draw(st.booleans())
        width = draw(st.sampled_from([1, 3, WIDTHS[kind] - unsigned, WIDTHS[kind]]))
        base = f"{kind}({width})" + " unsigned" * unsigned + " zerofill" * zerofill
        default = draw(st.sampled_from([None, "0", "7"]))
    elif kind in ("float", "double"):
        base = kind + draw(st.sampled_from(["", "(7,3)", " unsigned", "(10,2) unsigned zerofill"]))
        default = draw(st.sampled_from([None, "0"]))
    elif kind == "decimal":
        base = "decimal" + draw(st.sampled_from(["(10,0)", "(5,2)", "(8,3) unsigned zerofill"]))
    elif kind in ("char", "varchar"):
        base = f"{kind}({draw(st.integers(4, 60))})"
        base += draw(st.sampled_from(["", " COLLATE utf8_bin", " CHARACTER SET latin1",
                                      " CHARACTER SET utf8mb4"]))  # fmt: skip
        default = draw(st.sampled_from([None, "", "it''s", "a"]))
    else:
        bases = {"year": "year(4)", "enum": "enum('a','b')"}
        base = bases.get(kind, kind)
        fits = {"date": "0000-00-00", "datetime": "0000-00-00 00:00:00", "enum": "a"}
        default = draw(st.sampled_from([None, fits.get(kind)]))
    if kind == "timestamp":
        tail = draw(st.sampled_from([" NULL DEFAULT NULL", " NOT NULL DEFAULT CURRENT_TIMESTAMP",
                                     " NOT NULL DEFAULT '0000-00-00 00:00:00'"]))  # fmt: skip
    elif default is not None:
        tail = draw(st.sampled_from([" NOT NULL", ""])) + f" DEFAULT '{default}'"
    elif kind in ("text", "blob"):
        tail = draw(st.sampled_from([" NOT NULL", ""]))
    else:
        tail = draw(st.sampled_from([" NOT NULL", " DEFAULT NULL"]))
    comment = draw(st.sampled_from(["", "int(11) unsigned", "ENGINE=MyISAM", "it's 100%"]))
    return base + tail + (f" COMMENT {literal(comment)}" if comment else "")


@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(lines=st.lists(column_lines(), min_size=1, max_size=8),
       row_format=st.sampled_from(["", " ROW_FORMAT=COMPACT", " ROW_FORMAT=FIXED"]),
       engine=st.sampled_from(["InnoDB", "MyISAM"]))  # fmt: skip
def test_any_table_of_5_7_is_made_with_every_column_equal_in_meaning(
    session: Session, lines: list[str], row_format: str, engine: str
) -> None:
    columns = ",\n".join(f"  `c{at}` {line}" for at, line in enumerate(lines))
    old = table_of(
        f"CREATE TABLE `t` (\n  `id` int(10) unsigned NOT NULL,\n{columns},\n"
        f"  PRIMARY KEY (`id`)\n) ENGINE={engine} DEFAULT CHARSET=utf8{row_format}"
    )
    new = _make(session, declare(old, dest_schema=DEST))
    _is_equal(old, new.tables["t"])
    assert "ENGINE=InnoDB" in new.tables["t"].create


# -- a live server -----------------------------------------------------------------------------

LIVE = """CREATE DATABASE `live`; CREATE TABLE `live`.`parent` (
  `id` int(10) unsigned zerofill NOT NULL AUTO_INCREMENT, `y` year(4) DEFAULT '2001',
  `t` tinyint(3) unsigned DEFAULT NULL, `flag` tinyint(1) NOT NULL DEFAULT 1,
  `d` double(10,2) NOT NULL DEFAULT 0.00, `da` date NOT NULL DEFAULT '0000-00-00',
  `v` varchar(24) CHARACTER SET utf8 COLLATE utf8_bin DEFAULT 'ü', PRIMARY KEY (`id`) USING BTREE
) ENGINE=InnoDB DEFAULT CHARSET=latin1 ROW_FORMAT=COMPACT;
CREATE TABLE `live`.`isam` (`id` int(10) unsigned NOT NULL, `n` smallint(5) NOT NULL,
  `x` longblob, PRIMARY KEY (`id`,`n`), KEY `n` (`n`) USING BTREE)
  ENGINE=MyISAM DEFAULT CHARSET=utf8 ROW_FORMAT=FIXED;
CREATE TABLE `live`.`aria` (`id` int(11) PRIMARY KEY) ENGINE=Aria PAGE_CHECKSUM=1;
INSERT INTO `live`.`parent` (y, t, flag, d, v) VALUES (2001, 255, 0, 1.25, 'é'), (0, 0, 7, -3, '');
INSERT INTO `live`.`isam` VALUES (1, -5, x'6d596d0001'), (4, 3, NULL);
INSERT INTO `live`.`aria` VALUES (-1), (5);"""


@pytest.mark.parametrize("charset", ["keep", "utf8mb4"])
def test_tables_of_old_engines_on_a_live_server_arrive_whole(
    mariadb: Server, mysql: Server, fresh: Fresh, charset: Any
) -> None:
    fresh(mariadb, "live")
    fresh(mysql, "live_v20")
    mariadb.sql(LIVE)
    result = migrate(
        {"live": "live_v20"}, charset=charset, connection=mariadb.url, dest_connection=mysql.url
    )
    assert result["match"], result["issues"]
    assert result["rows_copied"] == 6
    engines = mysql.sql(
        "SELECT DISTINCT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'live_v20'"
    )
    assert engines == [("InnoDB",)]
    assert any("ENGINE MyISAM" in note for note in result["notes"])
    again = compare_schemas("live", "live_v20", connection=mariadb.url, dest_connection=mysql.url)
    assert again["match"]
