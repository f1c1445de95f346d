"""SQL taken apart is the same SQL put together again, whoever wrote it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datajoint_migrate.catalog.sql import Token, text_of, tokens
from datajoint_migrate.target.ddl import parse

PIECES = [
    "`a``b`",
    "'it''s'",
    '"x"',
    "/*!80003 ",
    "/*M!100301 ",
    "*/",
    "/* c */",
    "-- c\n",
    "# c\n",
]
PIECES += ["1.5e3", "word", " ", "(", ")", "*", "/", "-", ".", "\\", "`", "'", "ü"]


def kinds(sql: str, mode: str = "") -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokens(sql, mode) if token.kind != "space"]


# A busy machine stops for longer than an example may take by default.
@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(PIECES)).map("".join), st.sampled_from(["", "ANSI_QUOTES"]))
def test_nothing_of_a_statement_is_lost_or_added(sql: str, mode: str) -> None:
    assert text_of(tokens(sql, mode)) == sql


def test_a_version_comment_is_opened_and_closed_and_a_product_before_a_comment_is_neither() -> None:
    assert kinds("/*!80003 a */") == [("open", "/*!80003"), ("word", "a"), ("close", "*/")]
    assert kinds("a*/* c */b") == [
        ("word", "a"), ("mark", "*"), ("comment", "/* c */"), ("word", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize(("mode", "name"), [("", ""), ("ANSI_QUOTES", 'a"b'), ("ORACLE", 'a"b')])
def test_double_quotes_quote_names_where_the_mode_says_so(mode: str, name: str) -> None:
    (token,) = tokens('"a""b"', mode)
    assert token.name == name
    assert token.word == ""


def test_a_name_is_told_without_its_quotes_and_a_word_in_capitals() -> None:
    assert Token("name", "`a``b`").name == "a`b"
    assert Token("word", "Select").word == "SELECT"
    assert Token("word", "Select").name == "Select"


def test_what_only_mariadb_reads_of_a_column_is_a_comment_to_others() -> None:
    create = "CREATE TABLE `t` (\n  `a` longblob /*M!100301 COMPRESSED*/ DEFAULT NULL\n) ENGINE=x"
    (column,) = parse(create).columns
    assert [clause.keyword for clause in column.clauses] == ["comment", "DEFAULT"]
    assert column.find("COMPRESSED") is None
