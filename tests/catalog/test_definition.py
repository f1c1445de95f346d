"""Definitions, however a server prints the names in them."""

from __future__ import annotations

from conftest import Fresh
from datajoint_migrate.catalog.constraints import foreign_keys
from datajoint_migrate.catalog.definition import definition, readable
from datajoint_migrate.catalog.server import resolve
from servers import Server

DOUBLED = """CREATE TABLE `c` (
  `a``b` int(11) NOT NULL COMMENT 'FOREIGN KEY (`x`)',
  `n` int(11) DEFAULT NULL,
  PRIMARY KEY (`a``b`),
  KEY `f``k` (`n`,`a``b`),
  CONSTRAINT `f``k` FOREIGN KEY (`n`, `a``b`) REFERENCES `o`.`p``x` (`e`, `c``d`) ON DELETE CASCADE,
  CONSTRAINT `usual` FOREIGN KEY (`n`) REFERENCES `p` (`a`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"""
AS_THEY_ARE = (
    DOUBLED.replace("CONSTRAINT `f``k`", "CONSTRAINT `f`k`")
    .replace("(`n`, `a``b`) REF", "(`n`, `a`b`) REF")
    .replace("(`e`, `c``d`)", "(`e`, `c`d`)")
)


def test_names_of_foreign_keys_are_doubled_where_the_server_did_not() -> None:
    assert AS_THEY_ARE != DOUBLED
    assert readable(AS_THEY_ARE) == readable(DOUBLED) == DOUBLED
    key, usual = foreign_keys("s", readable(AS_THEY_ARE), is_mariadb=True)
    assert (key.name, key.columns) == ("f`k", ("n", "a`b"))
    assert (key.ref_schema, key.ref_table, key.ref_columns) == ("o", "p`x", ("e", "c`d"))
    assert (key.on_update, key.on_delete) == ("RESTRICT", "CASCADE")
    assert usual.columns == ("n",)


def test_a_key_of_no_column_that_is_there_is_left_as_it_is() -> None:
    odd = AS_THEY_ARE.replace("(`n`, `a`b`) REF", "(`n`, `a`c`) REF")
    assert readable(odd) == odd


def test_what_a_server_says_of_odd_names_makes_the_same_table(server: Server, fresh: Fresh) -> None:
    fresh(server, "odd_names")
    server.sql(
        "CREATE DATABASE odd_names; CREATE TABLE odd_names.`p``x` (`a``b` int PRIMARY KEY);"
        "CREATE TABLE odd_names.c (`a``b` int PRIMARY KEY, CONSTRAINT `f``k` FOREIGN KEY (`a``b`)"
        " REFERENCES odd_names.`p``x` (`a``b`))"
    )
    with resolve(server.url).session() as session:
        said = definition(session, "odd_names", "c")
        session.execute("DROP TABLE odd_names.c")
        session.execute("USE odd_names")
        session.execute(said)
        assert definition(session, "odd_names", "c") == said
