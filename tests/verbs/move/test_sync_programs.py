"""sync of copies with programs, however their text was sent."""

from __future__ import annotations

from conftest import Fresh
from datajoint_migrate import cutover, migrate, sync
from datajoint_migrate.catalog.programs import read_programs
from datajoint_migrate.catalog.server import resolve
from servers import Server

SOURCE, COPY = "spro_lab", "spro_lab_v20"


def test_a_program_that_was_sent_among_other_statements_is_productions_own(
    server: Server, fresh: Fresh
) -> None:
    """MySQL keeps the semicolon in the text then, and none when the copy's is made."""
    fresh(server, SOURCE, COPY, f"{SOURCE}_old")
    server.sql(
        f"CREATE DATABASE {SOURCE}; USE {SOURCE};"
        "CREATE TABLE mouse (mouse_id int PRIMARY KEY, note varchar(9));"
        "CREATE TABLE said (id int AUTO_INCREMENT PRIMARY KEY, what varchar(9));"
        "CREATE TRIGGER tell AFTER UPDATE ON mouse FOR EACH ROW"
        " INSERT INTO said (what) VALUES (NEW.note) ;\n"
        "CREATE PROCEDURE ask() SELECT 1;"
        "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM said;"
        "INSERT INTO mouse VALUES (1, 'a')"
    )
    assert migrate({SOURCE: COPY}, connection=server.url)["match"]
    server.sql(f"UPDATE {SOURCE}.mouse SET note = 'b'")

    def made() -> list[tuple[str | None, ...]]:
        return server.sql(
            "SELECT TRIGGER_NAME, CREATED FROM information_schema.TRIGGERS"
            f" WHERE TRIGGER_SCHEMA = '{COPY}' UNION SELECT ROUTINE_NAME, CREATED FROM"
            f" information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{COPY}' ORDER BY 1"
        )

    before = made()
    done = sync({SOURCE: COPY}, connection=server.url)
    assert done["match"], done["issues"]
    assert server.sql(f"SELECT what FROM {COPY}.said") == [("b",)]
    # What is as production has it is left as it is; triggers are made after each load.
    assert [one for one in made() if one[0] == "ask"] == [one for one in before if one[0] == "ask"]
    with resolve(server.url).session() as session:
        texts = [one.create for one in read_programs(session, SOURCE)]
    assert not [text for text in texts if text.rstrip().endswith(";")]
    done = cutover({SOURCE: COPY}, backups="rename", connection=server.url, execute=True)
    assert done["executed"]
    server.sql(f"UPDATE {SOURCE}.mouse SET note = 'c'")
    assert server.sql(f"SELECT what FROM {SOURCE}.said ORDER BY 1") == [("b",), ("c",)]
