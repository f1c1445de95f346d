"""Schema `altered`: what people do to tables by hand with SQL, which no DataJoint can declare."""

# ruff: noqa: E501  (SQL is read more easily in whole lines)
from __future__ import annotations

from collections.abc import Iterator

ZERO_ALLOWED = "NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"

BOTH: tuple[str, ...] = (
    """CREATE TABLE derived_columns (id int NOT NULL COMMENT 'the "id": it''s', a int DEFAULT NULL,
    stored_twice int GENERATED ALWAYS AS (a * 2) STORED COMMENT 'stored: 100%',
    virtual_text varchar(60) GENERATED ALWAYS AS (concat('a=', a, '%')) VIRTUAL,
    b varchar(20) NOT NULL DEFAULT 'x''y', PRIMARY KEY (id), KEY stored_twice (stored_twice),
    KEY virtual_text (virtual_text)) COMMENT 'generated; "columns"'""",
    "INSERT INTO derived_columns (id, a, b) VALUES (1, 21, ''), (2, NULL, 'it''s'), (3, -5, '100%')",
    """CREATE TABLE concealed (id int NOT NULL, seen int DEFAULT 1, secret int INVISIBLE DEFAULT 5,
    PRIMARY KEY (id))""",
    "INSERT INTO concealed (id, seen, secret) VALUES (1, 1, 1), (2, NULL, NULL), (3, 3, -3)",
    """CREATE TABLE touched (id int NOT NULL,
    stamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP COMMENT 'when',
    moment datetime(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
    fine timestamp(6) NULL DEFAULT NULL, PRIMARY KEY (id))""",
    """INSERT INTO touched VALUES (1, '2001-02-03 04:05:06', '2001-02-03 04:05:06.789', NULL),
    (2, '1970-01-01 00:00:01', NULL, '2038-01-19 03:14:07.999999')""",
    """CREATE TABLE checked (id int NOT NULL, a int DEFAULT NULL, b varchar(10) DEFAULT NULL,
    PRIMARY KEY (id), CONSTRAINT a_is_small CHECK (a < 100), CHECK (b <> 'no%'))""",
    "INSERT INTO checked VALUES (1, 99, 'yes'), (2, NULL, NULL)",
    """CREATE TABLE zeros (id int NOT NULL AUTO_INCREMENT, d date NOT NULL DEFAULT '0000-00-00',
    dt datetime NOT NULL DEFAULT '0000-00-00 00:00:00', dt6 datetime(6) DEFAULT NULL,
    ts timestamp NOT NULL DEFAULT '0000-00-00 00:00:00', e enum('a','b') NOT NULL DEFAULT 'a',
    y year NOT NULL DEFAULT '0000', PRIMARY KEY (id)) AUTO_INCREMENT=1000""",
    """INSERT INTO zeros VALUES (0, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00', '0000-00-00',
    'no such', '0000'), (-1, '2020-00-10', '2020-01-00 01:02:03', '2020-00-00 00:00:00.000001',
    '2020-01-01 00:00:00', 'b', '2155')""",
    """CREATE TABLE octets (id int NOT NULL, fixed binary(4) DEFAULT NULL,
    variable varbinary(300) DEFAULT NULL, tiny tinytext, words text, medium mediumtext,
    long_words longtext, choice set('a','b c','d''e') DEFAULT NULL, flag bit(1) DEFAULT NULL,
    many bit(64) DEFAULT NULL, place geometry DEFAULT NULL, spot point DEFAULT NULL,
    PRIMARY KEY (id))""",
    """INSERT INTO octets VALUES (1, x'00FF0A00', x'00', '', 'ü猴🐀\\n\\t\\0\\\\', 'm', 'l', 'a,d''e',
    b'1', b'1111111111111111111111111111111111111111111111111111111111111111',
    ST_GeomFromText('LINESTRING(0 0, 1 1.5, -2 1e300)'), ST_GeomFromText('POINT(-0.5 2)')),
    (2, x'20202020', x'2020', ' ', 'trailing  ', repeat('m', 70000), repeat('猴', 100000), '',
    b'0', b'0', NULL, NULL), (3, x'0000', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)""",
    """CREATE TABLE old_letters (id int NOT NULL, name varchar(40) DEFAULT NULL, body text,
    code char(5) DEFAULT NULL, kind enum('é','ü') DEFAULT NULL, PRIMARY KEY (id),
    KEY name (name)) CHARSET=latin1""",
    """INSERT INTO old_letters VALUES (1, 'é€ÿ', 'Müller', 'ñ', 'é'), (2, '', '', '', 'ü'),
    (3, NULL, NULL, NULL, NULL)""",
    """CREATE TABLE letters (name varchar(40) CHARACTER SET latin1 COLLATE latin1_general_cs NOT NULL,
    wide varchar(20) CHARACTER SET utf16 DEFAULT NULL, three varchar(20) CHARACTER SET utf8mb3,
    plain varchar(20) CHARACTER SET ascii DEFAULT NULL,
    exact varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL,
    PRIMARY KEY (name))""",
    "INSERT INTO letters VALUES ('é', '🐀', '猴', 'a', 'A'), ('É', '', '', '', 'a')",
    """CREATE TABLE numbers (id bigint unsigned NOT NULL, exact decimal(65,30) DEFAULT NULL,
    small decimal(1,1) DEFAULT NULL, minus_zero double DEFAULT NULL, minus_zero_f float DEFAULT NULL,
    tenth float DEFAULT NULL, padded int(8) unsigned zerofill DEFAULT NULL,
    scaled double(10,3) DEFAULT NULL, PRIMARY KEY (id))""",
    """INSERT INTO numbers VALUES (18446744073709551615,
    99999999999999999999999999999999999.999999999999999999999999999999, 0.9, -1e0 * 0e0, -1e0 * 0e0, 0.1, 42, 1.5),
    (9223372036854775808, -0.000000000000000000000000000001, -0.9, 2.2250738585072014e-308,
    1.17549435e-38, 16777217, 4294967295, -9999999.999), (0, NULL, NULL, NULL, NULL, NULL, NULL, NULL)""",
    """CREATE TABLE keyed (words varchar(64) COLLATE utf8mb4_bin NOT NULL, day date NOT NULL,
    octets binary(3) NOT NULL, n smallint NOT NULL, f float NOT NULL, value int DEFAULT NULL,
    PRIMARY KEY (words, day, octets, n, f))""",
    """INSERT INTO keyed SELECT w, d, o, n, f, n * 10 FROM (SELECT 'a' w UNION SELECT 'A' UNION
    SELECT '' UNION SELECT 'ä' UNION SELECT '猴🐀' UNION SELECT '%s\\\\') x, (SELECT date '0001-01-01' d
    UNION SELECT date '9999-12-31') y, (SELECT x'00FF00' o UNION SELECT x'800000') z,
    (SELECT -32768 n UNION SELECT 0 UNION SELECT 32767) q, (SELECT 1.2345679 f UNION SELECT -0.5) p""",
    "CREATE TABLE keyless (a int DEFAULT NULL, b varchar(10) DEFAULT NULL)",
    "INSERT INTO keyless VALUES (1, 'a'), (1, 'a'), (NULL, NULL), (2, '')",
    """CREATE TABLE unique_only (a int NOT NULL, b varchar(10) COLLATE utf8mb4_bin NOT NULL,
    c int DEFAULT NULL, UNIQUE KEY by_b_a (b, a))""",
    "INSERT INTO unique_only VALUES (1, 'x', 1), (1, 'X', NULL), (-1, '', 3)",
    """CREATE TABLE indexed (id int NOT NULL, a int DEFAULT (1 + 1), words text,
    name varchar(200) DEFAULT NULL, PRIMARY KEY (id), KEY part_of_words (words(10)),
    KEY both_ways (a, name(20)), FULLTEXT KEY name (name)) ROW_FORMAT=COMPRESSED""",
    "INSERT INTO indexed VALUES (1, 1, 'words', 'full text'), (2, NULL, NULL, NULL)",
    "CREATE TABLE parted (id int NOT NULL PRIMARY KEY, a int) PARTITION BY HASH (id) PARTITIONS 4",
    "INSERT INTO parted VALUES (1, 1), (2, 2), (3, 3), (4, NULL), (-5, 5)",
    """CREATE TABLE names (`sel``ect` int NOT NULL, `100%` int DEFAULT NULL, `käse` int DEFAULT NULL,
    `a b` int DEFAULT NULL, `select` int DEFAULT NULL, PRIMARY KEY (`sel``ect`),
    KEY `in``dex 100%` (`100%`))""",
    "INSERT INTO names VALUES (1, 2, 3, 4, 5), (2, NULL, NULL, NULL, NULL)",
    """CREATE TABLE tree (id int NOT NULL, up int DEFAULT NULL, animal_id int unsigned DEFAULT NULL,
    PRIMARY KEY (id), CONSTRAINT up_the_tree FOREIGN KEY (up) REFERENCES tree (id)
    ON DELETE SET NULL ON UPDATE CASCADE, FOREIGN KEY (animal_id) REFERENCES
    `{colony}`.animal (animal_id) ON UPDATE CASCADE)""",
    "INSERT INTO tree VALUES (1, NULL, 4294967295), (2, 1, 1), (3, 3, NULL)",
    "CREATE TABLE empty_table (id int NOT NULL PRIMARY KEY, b longblob)",
)

ONLY_MYSQL: tuple[str, ...] = (
    """CREATE TABLE by_expression (id int NOT NULL PRIMARY KEY, name varchar(20) DEFAULT NULL,
    a int DEFAULT NULL, UNIQUE KEY low_name ((lower(name))), KEY falling (a DESC, (a * 2)),
    KEY asleep (a) INVISIBLE, CONSTRAINT lax CHECK (a > 0) NOT ENFORCED)""",
    "INSERT INTO by_expression VALUES (1, 'Ab', -1), (2, NULL, NULL)",
    "CREATE TABLE earthly (id int NOT NULL PRIMARY KEY, place point NOT NULL SRID 4326)",
    "INSERT INTO earthly VALUES (1, ST_GeomFromText('POINT(47.5 8.5)', 4326))",
    "CREATE TABLE documents (id int NOT NULL PRIMARY KEY, body json DEFAULT (json_array()))",
    """INSERT INTO documents VALUES (1, '{{"b": 1, "a": [1.0, 1e100, 18446744073709551615, "ü"]}}'),
    (2, 'null'), (3, NULL), (4, '[]')""",
)

ONLY_MARIADB: tuple[str, ...] = (
    "CREATE TABLE documents (id int NOT NULL PRIMARY KEY, body json DEFAULT NULL)",
    'INSERT INTO documents VALUES (1, \'{{"b": 1, "a": [1.5, "ü"]}}\'), (2, \'null\'), (3, NULL)',
)


def statements(schema: str, colony: str, is_mariadb: bool) -> Iterator[str]:
    """The SQL that makes and fills schema `schema`, whose keys point into schema `colony`."""
    yield f"CREATE DATABASE `{schema}` CHARACTER SET utf8mb4"
    yield f"USE `{schema}`"
    yield f"SET SESSION sql_mode='{ZERO_ALLOWED}'"
    for statement in (*BOTH, *(ONLY_MARIADB if is_mariadb else ONLY_MYSQL)):
        if "{colony}" in statement or "{{" in statement:
            statement = statement.format(colony=colony)
        yield statement
