"""Views, triggers, routines and events under another schema's name."""

from __future__ import annotations

import pytest

from conftest import Fresh
from datajoint_migrate.build.creating import create_programs, drop_program
from datajoint_migrate.catalog.programs import Program, read_programs
from datajoint_migrate.catalog.server import resolve
from datajoint_migrate.catalog.sql import tokens
from datajoint_migrate.target.programs import makes, rewritten
from servers import Server

LAB, RIG, COPY, RIG_COPY = "prg_lab", "prg`rig 100%", "prg_lab_v20", "prg`rig 100%_v20"
RIG_SQL, RIG_COPY_SQL = RIG.replace("`", "``"), RIG_COPY.replace("`", "``")

TABLES = """CREATE DATABASE `{lab}`; CREATE DATABASE `{rig}`;
CREATE TABLE `{lab}`.`mouse` (`id` int NOT NULL PRIMARY KEY, `prg_lab` int, `told` varchar(40));
CREATE TABLE `{rig}`.`probe` (`id` int NOT NULL PRIMARY KEY);"""

# In an order in which their names do not sort.
PROGRAMS = (
    "CREATE FUNCTION `{lab}`.`zz half`(x int) RETURNS int DETERMINISTIC RETURN x DIV 2",
    "CREATE VIEW `{lab}`.`b view` AS SELECT m.id, `{lab}`.`zz half`(m.prg_lab) AS half,"
    " 'prg_lab.mouse' AS `text` FROM `{lab}`.mouse m JOIN `{rig}`.probe p ON p.id = m.id",
    "CREATE VIEW `{lab}`.`a view` AS SELECT half FROM `{lab}`.`b view`",
    "CREATE VIEW `{lab}`.`alias` AS SELECT prg_lab.id FROM `{lab}`.mouse prg_lab",
    "CREATE TRIGGER `{lab}`.`t2` BEFORE INSERT ON `{lab}`.mouse FOR EACH ROW"
    " SET NEW.told = CONCAT(COALESCE(NEW.told, ''), ' prg_lab. é ', \"it's\")",
    "CREATE TRIGGER `{lab}`.`t1` BEFORE INSERT ON `{lab}`.mouse FOR EACH ROW FOLLOWS `t2`"
    " SET NEW.told = CONCAT(NEW.told, '+')",
    "CREATE PROCEDURE `{lab}`.`count`(OUT n int) BEGIN -- it's prg_lab.mouse\n"
    " SELECT COUNT(*) INTO n FROM prg_lab.mouse; END",
    "CREATE EVENT `{lab}`.`nightly` ON SCHEDULE EVERY 1 DAY DISABLE DO"
    " DELETE FROM `{lab}`.mouse WHERE id < 0",
)


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest, fresh: Fresh) -> Server:
    found: Server = request.getfixturevalue(request.param)
    fresh(found, LAB, RIG_SQL, COPY, RIG_COPY_SQL)
    found.sql(TABLES.format(lab=LAB, rig=RIG_SQL) + TABLES.format(lab=COPY, rig=RIG_COPY_SQL))
    with resolve(found.url).session() as session:
        for program in PROGRAMS:
            session.execute(program.format(lab=LAB, rig=RIG_SQL))
    return found


def test_programs_do_in_the_copy_what_they_did_in_the_original(server: Server) -> None:
    schema_map = {LAB: COPY, RIG: RIG_COPY}
    with resolve(server.url).session() as session:
        programs = read_programs(session, LAB)
        names = [program.name for program in programs]
        assert names.index("zz half") < names.index("b view") < names.index("a view")
        assert names.index("t2") < names.index("t1")
        assert create_programs(session, programs, schema_map) == [
            "the view prg_lab.b view names 'prg_lab' in a string, which stays as it is",
            "the trigger prg_lab.t2 names 'prg_lab' in a string, which stays as it is",
        ]
        copies = {(one.kind, one.name): one for one in read_programs(session, COPY)}
        assert set(copies) == {(one.kind, one.name) for one in programs}
        for one in programs:
            copy = copies[one.kind, one.name]
            assert (copy.sql_mode, copy.definer) == (one.sql_mode, one.definer)
            assert (copy.charset, copy.time_zone) == (one.charset, one.time_zone)
        # The original away, the copy has to stand on its own.
        session.execute("SET foreign_key_checks = 0")
        server.sql(f"DROP DATABASE `{LAB}`; DROP DATABASE `{RIG_SQL}`")
        session.execute(f"INSERT INTO `{COPY}`.mouse VALUES (1, 8, 'a')")
        session.execute(f"INSERT INTO `{RIG_COPY_SQL}`.probe VALUES (1)")
        assert session.query(f"SELECT told FROM `{COPY}`.mouse") == [("a prg_lab. é it's+",)]
        assert session.query(f"SELECT id, half, text FROM `{COPY}`.`b view`") == [
            (1, 4, "prg_lab.mouse")
        ]
        assert session.query(f"SELECT * FROM `{COPY}`.`a view`") == [(4,)]
        assert session.query(f"SELECT * FROM `{COPY}`.`alias`") == [(1,)]
        session.execute(f"CALL `{COPY}`.`count`(@n)")
        assert session.query("SELECT @n") == [(1,)]
        for copy in reversed(list(copies.values())):
            drop_program(session, copy)
        assert read_programs(session, COPY) == []


def test_what_cannot_be_made_is_named_with_the_reason(server: Server) -> None:
    with resolve(server.url).session() as session:
        session.execute(f"DROP TABLE `{COPY}`.mouse")
        programs = [one for one in read_programs(session, LAB) if one.kind == "view"]
        notes = create_programs(session, programs, {LAB: COPY, RIG: RIG_COPY})
    assert [note.split(" is not carried over: ")[0] for note in notes if "is not" in note] == [
        "the view prg_lab.alias",
        "the view prg_lab.b view",
        "the view prg_lab.a view",
    ]


def test_a_view_that_cannot_be_read_is_named(server: Server) -> None:
    server.sql(
        f"DROP USER IF EXISTS prg_reader; CREATE USER prg_reader IDENTIFIED BY 'prg';"
        f"GRANT SELECT ON `{LAB}`.* TO prg_reader"
    )
    reader = resolve(server.url).__class__(server.host, server.port, "prg_reader", "prg")
    with reader.session() as session, resolve(server.url).session() as other:
        views = [one for one in read_programs(session, LAB) if one.kind == "view"]
        notes = create_programs(other, views, {LAB: COPY})
    assert len(notes) == 3
    assert all("its definition cannot be read" in note for note in notes)
    server.sql("DROP USER prg_reader")


def test_another_definer_needs_a_privilege_and_is_else_noted(server: Server) -> None:
    server.sql(
        "DROP USER IF EXISTS prg_maker; CREATE USER prg_maker IDENTIFIED BY 'prg';"
        f"GRANT ALL ON `prg\\_%`.* TO prg_maker; GRANT ALL ON `{COPY}`.* TO prg_maker"
    )
    maker = resolve(server.url).__class__(server.host, server.port, "prg_maker", "prg")
    with maker.session() as session, resolve(server.url).session() as reader:
        programs = [one for one in read_programs(reader, LAB) if one.name == "nightly"]
        (note,) = create_programs(session, programs, {LAB: COPY})
        assert "belongs to prg_maker now" in note
        (made,) = read_programs(reader, COPY)
        assert made.definer.startswith("prg_maker@")
    server.sql("DROP USER prg_maker")


@pytest.mark.parametrize(
    ("sql", "mode", "wanted"),
    [
        ("SELECT a.t.x, a . t, `a`.`t`", "", "SELECT `b`.t.x, `b` . t, `b`.`t`"),
        ("SELECT 'a.t', \"a.t\", t.a, a FROM t", "", "SELECT 'a.t', \"a.t\", t.a, a FROM t"),
        ('SELECT "a"."t"', "ANSI_QUOTES", 'SELECT `b`."t"'),
        ("SELECT 'x\\', a.t -- it''s a.t\n'", "NO_BACKSLASH_ESCAPES", None),
        ("SELECT 1 -- a.t it's\n, a.t # a.t\n", "", "SELECT 1 -- a.t it's\n, `b`.t # a.t\n"),
        ("SELECT /* a.t ' */ a.t", "", "SELECT /* a.t ' */ `b`.t"),
        ("SELECT @a.t, s.a.t", "", "SELECT @a.t, s.a.t"),
        ("SELECT a.x FROM a.t a JOIN (a.u)", "", "SELECT a.x FROM `b`.t a JOIN (`b`.u)"),
        ("SELECT 1.5e3, ab.t, A.t", "", "SELECT 1.5e3, ab.t, A.t"),
    ],
)
def test_only_names_of_the_schema_are_exchanged(sql: str, mode: str, wanted: str | None) -> None:
    program = Program("view", "a", "v", sql, "", mode, None, None)
    assert "".join(word.text for word in tokens(sql, mode)) == sql
    if wanted is None:
        assert rewritten(program, {"a": "b"}) == sql.replace(", a.t", ", `b`.t", 1)
    else:
        assert rewritten(program, {"a": "b"}) == wanted


@pytest.mark.parametrize(
    "sql",
    [
        "DROP DATABASE `other`",
        "CREATE TABLE `t` (a int)",
        "CREATE USER `t`",
        "CREATE DEFINER=`me`@`%` PROCEDURE `t`() SELECT 1",
        "CREATE DEFINER=`me`@`%` TRIGGER `u` BEFORE INSERT ON `m` FOR EACH ROW SET @a = 1",
        "CREATE TRIGGER",
        "CREATE TABLE TRIGGER (`t` int)",
        "",
    ],
)
def test_a_text_that_makes_something_else_is_not_run(sql: str) -> None:
    assert not makes(Program("trigger", "lab", "t", sql, "me@%", "", None, None))


def test_every_text_of_a_server_makes_what_it_says(server: Server) -> None:
    with resolve(server.url).session() as session:
        session.execute(f"USE `{LAB}`")
        session.execute("CREATE FUNCTION IF NOT EXISTS plain() RETURNS int RETURN 1")
        session.execute(
            "CREATE DEFINER = CURRENT_USER() SQL SECURITY INVOKER VIEW plain AS SELECT 1 AS one"
        )
        session.execute(
            "CREATE DEFINER = CURRENT_USER TRIGGER prg_lab.plain AFTER INSERT ON mouse FOR EACH ROW"
            " SET @one = 1"
        )
        programs = read_programs(session, LAB)
    assert len(programs) == len(PROGRAMS) + 3
    assert all(makes(program) for program in programs)


def test_a_text_is_one_statement(server: Server) -> None:
    text = f"CREATE VIEW `{LAB}`.two AS SELECT 1 AS one; DROP TABLE `{LAB}`.mouse"
    liar = Program("view", LAB, "two", text, "me@%", "", None, None)
    with resolve(server.url).session() as session:
        (note,) = create_programs(session, [liar], {LAB: LAB})
        assert "is not carried over" in note
        assert session.query(f"SELECT COUNT(*) FROM `{LAB}`.mouse") == [(0,)]
        assert "two" not in {program.name for program in read_programs(session, LAB)}
