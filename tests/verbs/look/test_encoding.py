"""check_text finds what was encoded twice, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import InvalidArgument, NotFound, check_text
from servers import Server

SCHEMA = "enc"
# What a table holds, and what each text should have been where that is something else.
PLAIN = ["", "abc", "Müller", "größer ÄÖÜ", "Ã", "¼ Ã", "é é", "Ã© Müller"]
BEYOND = ["猴 🐀", "Ã© 猴", "“quoted” — ’"]


def twice(text: str, charset: str) -> str:
    """Text whose UTF-8 was read in another character set."""
    return text.encode().decode(charset)


def make(server: Server, rows: list[tuple[int, str | None, str | None]]) -> None:
    def quoted(text: str | None) -> str:
        return "NULL" if text is None else f"CONVERT(x'{text.encode().hex()}' USING utf8mb4)"

    values = ", ".join(f"({key}, 'é', {quoted(old)}, {quoted(new)})" for key, old, new in rows)
    server.sql(
        f"CREATE DATABASE `{SCHEMA}` CHARACTER SET latin1;"
        f"CREATE TABLE `{SCHEMA}`.`_note` (`id` int NOT NULL, `lang` char(2) NOT NULL,"
        " `old` varchar(200), `new` text CHARACTER SET utf8mb4, `b` longblob,"
        " PRIMARY KEY (`id`,`lang`));"
        f"CREATE TABLE `{SCHEMA}`.`plain` (`id` int PRIMARY KEY);"
        f"INSERT INTO `{SCHEMA}`.`_note` (id, lang, old, new) VALUES {values};"
    )


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    server: Server = request.getfixturevalue(request.param)
    fresh(server, SCHEMA)
    return server


def test_text_encoded_twice_is_found_by_key_with_what_it_reads_as(server: Server) -> None:
    wanted = {1: "Müller", 2: "größer", 3: "“ü” 5 €", 4: "naïve café"}
    rows: list[tuple[int, str | None, str | None]] = [
        (key, None, None if key == 3 else twice(text, "latin1")) for key, text in wanted.items()
    ]
    rows += [(10 + key, twice(text, "cp1252"), None) for key, text in wanted.items() if key != 3]
    rows += [(20, None, twice("ß Ü", "latin1")), (21, None, twice("“ü”"[:2], "cp1252"))]
    rows += [(100 + at, text, text) for at, text in enumerate(PLAIN)]
    rows += [(200 + at, None, text) for at, text in enumerate(BEYOND)]
    make(server, rows)
    found = check_text(SCHEMA, connection=server.url)
    assert not found["ok"]
    assert not found["truncated"]
    read = {(row["key"]["id"], row["column"]): row["reads_as"] for row in found["damaged"]}
    assert read == {
        **{(key, "new"): text for key, text in wanted.items() if key != 3},
        **{(10 + key, "old"): text for key, text in wanted.items() if key != 3},
        (20, "new"): "ß Ü",
        (21, "new"): "“ü",
    }
    assert found["damaged"][0]["key"] == {"id": 11, "lang": "é"}
    assert found["damaged"][0]["text"] == "MÃ¼ller"
    counts = {column["column"]: column for column in found["columns"]}
    assert counts["old"] == {
        "table": f"{SCHEMA}._note",
        "column": "old",
        "charset": "latin1",
        "collation": "latin1_swedish_ci",
        "rows": len(rows),
        "non_ascii": 3 + 6,
        "double_encoded": 3,
    }
    assert counts["new"]["double_encoded"] == 5
    assert counts["lang"]["double_encoded"] == 0


def test_sound_text_is_left_alone(server: Server) -> None:
    make(server, [(at, text, text) for at, text in enumerate(PLAIN)])
    found = check_text(SCHEMA, "Note", connection=server.url)
    assert found["ok"]
    assert found["damaged"] == []
    assert [column["rows"] for column in found["columns"]] == [len(PLAIN)] * 3


def test_a_long_text_is_found_and_cut_in_the_report(server: Server) -> None:
    long = "x" * 50_000 + twice("Müller", "cp1252")
    make(server, [(1, None, long), (2, None, "x" * 60_000)])
    (row,) = check_text(SCHEMA, connection=server.url)["damaged"]
    assert (row["key"]["id"], len(row["text"])) == (1, 200)


def test_the_report_is_bounded_and_says_so(server: Server) -> None:
    make(server, [(at, None, twice("ü", "cp1252")) for at in range(20)])
    found = check_text(SCHEMA, connection=server.url, limit=7)
    assert [row["key"]["id"] for row in found["damaged"]] == list(range(7))
    assert found["truncated"]
    assert found["columns"][-1]["double_encoded"] == 20
    assert not check_text(SCHEMA, connection=server.url, limit=0)["ok"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"table": "Nothing"}, NotFound),
        ({"limit": -1}, InvalidArgument),
        ({"limit": True}, InvalidArgument),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(
    mysql: Server, fresh: Fresh, call: dict[str, Any], error: type[Exception]
) -> None:
    fresh(mysql, SCHEMA)
    make(mysql, [(1, "a", "b")])
    with pytest.raises(error):
        check_text(SCHEMA, connection=mysql.url, **call)
