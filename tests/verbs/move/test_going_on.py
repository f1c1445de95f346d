"""What an error or a kill leaves is what the same call needs to go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import datajoint_migrate
import small as pipelines
from conftest import Fresh
from datajoint_migrate import (
    DestinationNotEmpty,
    Mismatch,
    ServerError,
    copy_sample,
    copy_table_data,
    create_parallel_schema,
    migrate,
)
from datajoint_migrate.verbs.move import copy as copying
from datajoint_migrate.verbs.move import sample
from killing import killed_at, nothing_hidden
from servers import Server
from small import Small

TRIALS = 600


@pytest.fixture
def lab(mysql: Server, mysql_b: Server, fresh: Fresh, tmp_path: Path) -> Small:
    names = ["on_lab_v20", "on_rig_v20", "on_rig", "on_lab"]
    fresh(mysql, *names)
    fresh(mysql_b, *names)
    pipeline = pipelines.make(mysql, "on", tmp_path / "store")
    pipelines.add_trials(pipeline, TRIALS)
    return pipeline


MARK = "VALUES ('session__trial', 0, 'emptying'"
TRUNCATE = "TRUNCATE TABLE `on_lab_v20`.`session__trial`"
FORGET = "DELETE FROM `on_lab_v20`.`~migrate_journal`"
DROP = "DROP TABLE `on_lab_v20`.`~migrate_journal`"
CARRY = " AFTER INSERT ON "


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("words", [MARK, TRUNCATE, FORGET, DROP], ids=lambda words: words[:8])
def test_a_refused_copy_that_is_killed_while_it_is_taken_back_goes_on(
    lab: Small, mysql_b: Server, words: str, done: bool
) -> None:
    old, new = lab.lab, lab.map[lab.lab]
    both = {"connection": lab.server.url, "dest_connection": mysql_b.url}
    create_parallel_schema(old, new, **both)
    for table in ("#species", "mouse"):
        copy_table_data(old, new, table, **both)
    copy_table_data(old, new, "session", limit=6, **both)
    call = ("copy_table_data", old, new, "session__trial")
    killed_at(mysql_b, "dest_connection", words, done, *call, connection=lab.server.url)
    mysql_b.sql(
        "".join(
            f"INSERT INTO `{new}`.session VALUES ({mouse}, '2024-01-{mouse + 1:02}', 'a%');"
            for mouse in range(6, pipelines.MICE)
        )
    )
    copied = copy_table_data(old, new, "session__trial", **both)
    assert copied["rows_copied"] in (0, TRIALS + pipelines.MICE)
    rows = "SELECT COUNT(*), SUM(trial), MAX(data) FROM `{}`.session__trial"
    assert mysql_b.sql(rows.format(new)) == lab.server.sql(rows.format(old))
    nothing_hidden(mysql_b, new)


Fail = Callable[[str], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """`failing("copying")`: the next proof of keys in that module ends as by a lock wait."""

    def fail(module: str) -> None:
        where = {"copying": copying, "sample": sample}[module]
        real = where.prove_keys  # type: ignore[attr-defined]

        def once(*_: Any) -> None:
            monkeypatch.setattr(where, "prove_keys", real)
            raise ServerError("Lock wait timeout exceeded")

        monkeypatch.setattr(where, "prove_keys", once)

    return fail


def test_a_proof_of_keys_that_could_not_be_made_is_made_by_the_same_call(
    lab: Small, failing: Fail
) -> None:
    old, new = lab.lab, lab.map[lab.lab]
    create_parallel_schema(old, new, connection=lab.server.url)
    for table in ("#species", "mouse"):
        copy_table_data(old, new, table, connection=lab.server.url)
    failing("copying")
    with pytest.raises(ServerError, match="Lock wait"):
        copy_table_data(old, new, "session", connection=lab.server.url)
    assert copy_table_data(old, new, "session", connection=lab.server.url)["rows_copied"] == 0
    assert lab.count(new, "session") == lab.count(old, "session")
    nothing_hidden(lab.server, new)


def test_a_sample_whose_proof_could_not_be_made_is_proved_by_the_same_call(
    lab: Small, mysql_b: Server, failing: Fail
) -> None:
    options: dict[str, Any] = {"connection": lab.server.url, "dest_connection": mysql_b.url}
    options["restrictions"] = {"Session": "mouse_id < 3"}
    failing("sample")
    with pytest.raises(ServerError, match="Lock wait"):
        copy_sample(lab.lab, lab.map[lab.lab], **options)
    copy_sample(lab.lab, lab.map[lab.lab], **options)
    assert mysql_b.sql(f"SELECT COUNT(*) FROM `{lab.map[lab.lab]}`.session") == [("3",)]
    nothing_hidden(mysql_b, lab.map[lab.lab])


def test_a_sample_that_goes_on_and_is_refused_leaves_the_rows_of_another_sample(
    lab: Small, failing: Fail
) -> None:
    old, new = lab.lab, lab.map[lab.lab]
    server = lab.server
    copy_sample(old, new, restrictions={"Session": "mouse_id < 3"}, connection=server.url)
    more: dict[str, Any] = {"restrictions": {"Session": "mouse_id = 7"}, "connection": server.url}
    failing("sample")
    with pytest.raises(ServerError, match="Lock wait"):
        copy_sample(old, new, **more)
    server.sql(f"SET foreign_key_checks = 0; DELETE FROM `{new}`.mouse WHERE mouse_id = 7")
    with pytest.raises(Mismatch, match="mouse"):
        copy_sample(old, new, **more)
    assert lab.count(new, "session") == 4
    nothing_hidden(server, new)


def count_sessions(lab: Small) -> None:
    """A trigger of production that counts rows of `session`, and would count those of a load."""
    lab.server.sql(
        f"ALTER TABLE `{lab.lab}`.mouse ADD COLUMN counted int NOT NULL DEFAULT 0;"
        f"CREATE TRIGGER `{lab.lab}`.counts AFTER INSERT ON `{lab.lab}`.session FOR EACH ROW"
        f" UPDATE `{lab.lab}`.mouse SET counted = counted + 1 WHERE mouse_id = NEW.mouse_id"
    )


@pytest.mark.parametrize(
    ("words", "done"),
    [(CARRY, False), (CARRY, True), (FORGET, False)],
    ids=["before the trigger", "after the trigger", "before the journal goes"],
)
def test_a_migration_killed_at_its_end_goes_on_after_a_new_row_and_carries_triggers(
    lab: Small, words: str, done: bool
) -> None:
    count_sessions(lab)
    new = lab.map[lab.lab]
    url, options = lab.server.url, {"assume_quiet": True}
    killed_at(lab.server, "connection", words, done, "migrate", {lab.lab: new}, **options)
    lab.server.sql(f"INSERT INTO `{lab.lab}`.session VALUES (1, '2025-05-05', 'late')")
    lab.server.sql(f"UPDATE `{lab.lab}`.mouse SET weight = 1 WHERE mouse_id = 2")
    result = migrate({lab.lab: new}, connection=url)
    assert result["match"], result["issues"]
    triggers = (
        f"SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{new}'"
    )
    assert lab.server.sql(triggers) == [("counts",)]
    # Only the late row was counted, by production; the copy has what production counted.
    assert lab.value(f"SELECT SUM(counted) FROM `{new}`.mouse") == "1"
    nothing_hidden(lab.server, new)


def test_a_load_does_not_fire_a_trigger_that_an_earlier_call_has_carried(lab: Small) -> None:
    count_sessions(lab)
    old, new = lab.lab, lab.map[lab.lab]
    server = lab.server
    server.sql(
        f"CREATE TABLE `{old}`.later (mouse_id int unsigned NOT NULL PRIMARY KEY);"
        f"CREATE TRIGGER `{old}`.later_counts AFTER INSERT ON `{old}`.later FOR EACH ROW"
        f" UPDATE `{old}`.mouse SET counted = counted + 10 WHERE mouse_id = NEW.mouse_id"
    )
    assert migrate({old: new}, connection=server.url)["match"]
    server.sql(f"SET @stop = 1; INSERT INTO `{old}`.later VALUES (1)")
    server.sql(f"UPDATE `{old}`.mouse SET counted = 0")
    assert migrate({old: new}, connection=server.url)["match"]
    assert lab.count(new, "later") == 1
    assert lab.value(f"SELECT SUM(counted) FROM `{new}`.mouse") == "0"
    triggers = f"SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{new}'"
    assert lab.value(triggers) == "2"


def test_a_load_refuses_a_trigger_that_is_not_production_s(lab: Small) -> None:
    count_sessions(lab)
    old, new = lab.lab, lab.map[lab.lab]
    create_parallel_schema(old, new, connection=lab.server.url)
    lab.server.sql(
        f"CREATE TRIGGER `{new}`.counts AFTER INSERT ON `{new}`.session FOR EACH ROW"
        f" UPDATE `{new}`.mouse SET counted = 99 WHERE mouse_id = NEW.mouse_id"
    )
    for verb in ("migrate", "copy_all_data"):
        names: Any = ({old: new},) if verb == "migrate" else (old, new)
        with pytest.raises(DestinationNotEmpty, match="counts"):
            getattr(datajoint_migrate, verb)(*names, connection=lab.server.url)
    assert lab.count(new, "session") == 0
