"""rollback(bring_back=True): what 2.x has written since the cutover is in 0.14.6 again."""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Fresh
from datajoint_migrate import (
    InvalidArgument,
    MigrationError,
    NotReady,
    backup_schema,
    compare_schemas,
    cutover,
    migrate,
    rollback,
)
from datajoint_migrate.verbs.cutover import bring_back, occupants
from in_use import two_of_one_second
from program import program, write_stores
from servers import Server
from small import MICE, RECORDINGS, Small, make


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    """The small pipeline, cut over."""
    return over(mysql, fresh, "back", tmp_path)


def over(
    server: Server,
    fresh: Fresh,
    prefix: str,
    root: Path,
    besides: Callable[[Small], object] = lambda _: None,
) -> Small:
    """Make the small pipeline, migrate it and cut it over."""
    names = [
        f"{prefix}_{one}{end}" for one in ("lab", "rig") for end in ("", "_v20", "_old", "_bak")
    ]
    fresh(server, *names)
    made = make(server, prefix, root / "store")
    besides(made)
    result = migrate(made.map, **made.stores, connection=server.url)
    assert result["compatible"], result["issues"]
    backups = {name: f"{name}_bak" for name in made.map}
    for name, backup in backups.items():
        backup_schema(name, backup, connection=server.url)
    done = cutover(made.map, backups=backups, connection=server.url, execute=True)
    assert done["executed"]
    return made


def back(small: Small, **options: Any) -> dict[str, Any]:
    """The rollback that brings back."""
    said = {"bring_back": True, "connection": small.server.url, **small.stores, **options}
    return dict(rollback(small.map, **said))


def blob(small: Small, data: bytes) -> str:
    """Store a blob as 2.x does; its JSON."""
    digest = hashlib.md5(data).digest()
    name = base64.b32encode(digest).decode().lower().rstrip("=")
    path = f"_hash/{small.rig}/{name}"
    (small.root / path).parent.mkdir(parents=True, exist_ok=True)
    (small.root / path).write_bytes(data)
    return json.dumps(
        {"hash": name, "path": path, "schema": small.rig, "store": "raw", "size": len(data)}
    )


def write(small: Small) -> None:
    """What a week of 2.x does: rows of all kinds inserted, changed and deleted."""
    signal = blob(small, b"a new signal")
    paper = blob(small, b"new paper.pdf\0%PDF new")
    (small.root / "movies" / "new.avi").write_bytes(b"new avi")
    movie = json.dumps(
        {
            "path": "movies/new.avi",
            "store": "raw",
            "size": 7,
            "is_dir": False,
            "timestamp": "2026-01-01T00:00:00.123456+00:00",
        }
    )
    small.server.sql(
        f"INSERT INTO `{small.lab}`.mouse VALUES (100, 'mouse', 1.2345679, NULL);"
        f"UPDATE `{small.lab}`.mouse SET weight = 3.3333333 WHERE mouse_id = 1;"
        f"DELETE FROM `{small.lab}`.session__trial WHERE mouse_id = 2;"
        f"DELETE FROM `{small.lab}`.session WHERE mouse_id = 2;"
        f"INSERT INTO `{small.rig}`._recording (mouse_id, `signal`, paper, movie, rate)"
        f" VALUES (100, '{signal}', '{paper}', '{movie}', 0.3);"
        f"UPDATE `{small.rig}`._recording SET `signal` = '{signal}', paper = NULL"
        f" WHERE recording_id = 3;"
        f"DELETE FROM `{small.rig}`._recording WHERE recording_id = 4"
    )


WROTE = {"inserted": 1, "updated": 1, "deleted": 1}


def test_what_2x_wrote_is_in_production_again(server: Server, fresh: Fresh, tmp_path: Path) -> None:
    small = over(server, fresh, "back", tmp_path)
    write(small)
    look = back(small)
    assert not look["executed"]
    assert look["missing"] == []
    wanted = {
        f"{small.lab}.mouse": {"inserted": 1, "updated": 1, "deleted": 0},
        f"{small.lab}.session": {"inserted": 0, "updated": 0, "deleted": 1},
        f"{small.lab}.session__trial": {"inserted": 0, "updated": 0, "deleted": 1},
        f"{small.rig}._recording": WROTE,
    }
    assert look["brought_back"] == wanted
    assert look["files_brought_back"] == 3
    done = back(small, execute=True)
    assert done["executed"]
    assert done["brought_back"] == wanted
    assert (done["left"], done["left_counts"]) == ([], {})
    assert small.count(small.lab, "mouse") == MICE + 1
    assert small.count(small.rig, "_recording") == RECORDINGS
    rows = small.server.sql(
        f"SELECT HEX(r.`signal`), HEX(r.paper), p.attachment_name, p.size, m.filepath, m.size,"
        f" HEX(m.contents_hash) FROM `{small.rig}`._recording r"
        f" JOIN `{small.rig}`.`~external_raw` p ON p.hash = r.paper"
        f" JOIN `{small.rig}`.`~external_raw` m ON m.hash = r.movie WHERE r.mouse_id = 100"
    )
    signal, paper = (
        hashlib.md5(data).hexdigest() for data in (b"a new signal", b"new paper.pdf\0%PDF new")
    )
    avi = hashlib.md5(b"new avi").hexdigest()
    assert [tuple(rows[0])] == [
        (signal.upper(), paper.upper(), "new paper.pdf", "8", "movies/new.avi", "7", avi.upper())
    ]
    folder = small.root / small.rig
    assert (folder / signal[:2] / signal[2:4] / signal).read_bytes() == b"a new signal"
    named = folder / paper[:2] / paper[2:4] / f"{paper}.new paper.pdf"
    assert named.read_bytes() == b"%PDF new"
    assert not small.server.sql(f"SHOW TABLES FROM `{small.lab}` LIKE '~migrate%'")


def state(small: Small) -> list[Any]:
    """Rows under the pipeline's own names."""
    places = [(small.lab, "mouse"), (small.lab, "session"), (small.rig, "_recording")]
    rows = [
        small.server.sql(f"SELECT * FROM `{schema}`.`{table}` ORDER BY 1, 2")
        for schema, table in places
    ]
    return [*rows, small.count(small.lab, "session__trial")]


def test_what_ends_it_leaves_2x_production_and_the_same_call_goes_on(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(small)
    before = state(small)
    for place in ("_objects", "_sync", "_prove"):
        done = getattr(bring_back.BringBack, place)

        def ended(self: Any, *args: Any, done: Any = done, **options: Any) -> Any:
            result = done(self, *args, **options)
            if options.get("dry_run"):
                return result
            raise MigrationError("ended here")

        with monkeypatch.context() as patched:
            patched.setattr(bring_back.BringBack, place, ended)
            with pytest.raises(MigrationError, match="ended here"):
                back(small, execute=True)
        assert state(small) == before
    assert back(small, execute=True)["executed"]
    assert small.count(small.lab, "mouse") == MICE + 1
    assert unequal(small) == []


def unequal(small: Small) -> list[str]:
    """Tables of which the restored production and what 2.x had are not equal."""
    found = [
        compare_schemas(old, new, connection=small.server.url) for old, new in small.map.items()
    ]
    return [name for one in found for name, table in one["tables"].items() if not table["match"]]


def test_a_change_while_it_is_at_work_ends_it_and_comes_along_afterwards(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(small)
    proved = bring_back.BringBack._prove

    def late(self: Any, changed: Any) -> None:
        proved(self, changed)
        small.server.sql(f"INSERT INTO `{small.lab}`.mouse VALUES (200, 'rat', 1, NULL)")

    with monkeypatch.context() as patched:
        patched.setattr(bring_back.BringBack, "_prove", late)
        with pytest.raises(NotReady, match=r"back_lab\.mouse was written to"):
            back(small, execute=True)
    assert back(small, execute=True)["executed"]
    assert small.count(small.lab, "mouse") == MICE + 2


def test_a_transaction_that_ends_while_it_is_at_work_is_seen_whatever_time_it_leaves(
    server: Server, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = over(server, fresh, "back", tmp_path)
    insert = f"INSERT INTO `{small.lab}`.mouse VALUES (%s, 'rat', 1, NULL)"
    proved = bring_back.BringBack._prove
    with two_of_one_second(server, insert) as (first, second), monkeypatch.context() as patch:

        def late(self: Any, changed: Any) -> None:
            proved(self, changed)
            second.execute(insert, (2003,))
            second.execute("COMMIT")

        first.execute("COMMIT")
        small.server.rest(*small.map)
        patch.setattr(bring_back.BringBack, "_prove", late)
        # They are there for moments only.
        patch.setattr(occupants, "sessions_now", lambda *_: ([], []))
        with pytest.raises(NotReady, match=r"back_lab\.mouse was written to"):
            back(small, execute=True)
    assert back(small, execute=True)["executed"]
    assert small.count(small.lab, "mouse") == MICE + 2


def test_new_tables_and_columns_are_named_by_key_and_stay(small: Small) -> None:
    write(small)
    small.server.sql(
        f"CREATE TABLE `{small.rig}`.spikes (`recording_id` int unsigned NOT NULL,"
        " `unit` json NOT NULL COMMENT ':<npy@raw>:', PRIMARY KEY (`recording_id`),"
        f" FOREIGN KEY (`recording_id`) REFERENCES `{small.rig}`._recording (`recording_id`));"
        f"INSERT INTO `{small.rig}`.spikes VALUES (5, '{{}}');"
        f"ALTER TABLE `{small.lab}`.mouse ADD COLUMN photo json NULL COMMENT ':<object@raw>:';"
        f"UPDATE `{small.lab}`.mouse SET photo = '{{}}', weight = 5.5 WHERE mouse_id = 3"
    )
    done = back(small, execute=True)
    counts = {f"{small.rig}.spikes": 1, f"{small.lab}.mouse.photo": 1}
    assert done["left_counts"] == counts
    left = {one["table"]: one for one in done["left"]}
    assert left[f"{small.rig}.spikes"]["key"] == {"recording_id": 5}
    photo = left[f"{small.lab}.mouse"]
    assert (photo["key"], photo["column"]) == ({"mouse_id": 3}, "photo")
    assert "<object@raw>" in photo["why"]
    assert small.value(f"SELECT weight FROM `{small.lab}`.mouse WHERE mouse_id = 3") == "5.5"
    assert small.count(f"{small.rig}_v20", "spikes") == 1


def kept(small: Small) -> list[int]:
    """How many rows the archives have."""
    places = ((small.lab, "mouse"), (small.rig, "_recording"), (small.rig, "~external_raw"))
    return [small.count(f"{schema}_old", table) for schema, table in places]


def test_what_has_no_way_back_is_refused_before_anything_is_written(small: Small) -> None:
    gone = blob(small, b"soon gone")
    (small.root / json.loads(gone)["path"]).unlink()
    write(small)
    small.server.sql(
        f"UPDATE `{small.rig}`._recording SET `signal` = '{gone}' WHERE recording_id = 5;"
        f"ALTER TABLE `{small.lab}`.session MODIFY notes varchar(400) NOT NULL DEFAULT '';"
        f"UPDATE `{small.lab}`.session SET notes = REPEAT('x', 300) WHERE mouse_id = 7"
    )
    archive = kept(small)
    look = back(small)
    assert len(look["missing"]) == 2
    assert "back_lab.session" in look["missing"][0]
    assert "200 characters" in look["missing"][0]
    assert "{'recording_id': 5}" in look["missing"][1]
    with pytest.raises(NotReady, match="no such file") as refused:
        back(small, execute=True)
    assert refused.value.context["missing"] == look["missing"]
    assert kept(small) == archive
    assert rollback(small.map, connection=small.server.url, execute=True)["executed"]


def test_a_filepath_that_was_registered_again_has_its_new_checksum(small: Small) -> None:
    (small.root / "movies" / "m 3.avi").write_bytes(b"cut anew")
    movie = {"path": "movies/m 3.avi", "store": "raw", "size": 8, "is_dir": False}
    movie["timestamp"] = "2026-02-02T00:00:00.5+00:00"
    small.server.sql(
        f"UPDATE `{small.rig}`._recording SET movie = '{json.dumps(movie)}' WHERE recording_id = 3"
    )
    done = back(small, execute=True)
    assert (done["brought_back"], done["files_brought_back"]) == ({}, 1)
    found = small.server.sql(
        f"SELECT size, HEX(contents_hash) FROM `{small.rig}`.`~external_raw`"
        " WHERE filepath = 'movies/m 3.avi'"
    )
    assert [tuple(row) for row in found] == [("8", hashlib.md5(b"cut anew").hexdigest().upper())]


def test_triggers_of_production_do_not_fire_and_are_there_afterwards(
    server: Server, fresh: Fresh, tmp_path: Path
) -> None:
    def with_trigger(made: Small) -> None:
        server.sql(
            f"CREATE TRIGGER `{made.lab}`.guard BEFORE INSERT ON `{made.lab}`.mouse"
            " FOR EACH ROW SET NEW.weight = NEW.weight + 1"
        )

    small = over(server, fresh, "fired", tmp_path, with_trigger)
    write(small)
    assert back(small, execute=True)["executed"]
    assert small.value(f"SELECT ROUND(weight) FROM `{small.lab}`.mouse WHERE mouse_id = 100") == "2"
    assert server.sql(f"SHOW TRIGGERS FROM `{small.lab}`")[0][0] == "guard"


def test_an_undoing_that_was_begun_without_it_is_not_finished_with_it(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datajoint_migrate.verbs.cutover import rollback as verb

    def ended(*_: Any) -> None:
        raise MigrationError("ended here")

    with monkeypatch.context() as patched:
        patched.setattr(verb, "finish_undoing", ended)
        with pytest.raises(MigrationError, match="ended here"):
            rollback(small.map, connection=small.server.url, execute=True)
    with pytest.raises(InvalidArgument, match="without bring_back"):
        back(small, execute=True)
    assert rollback(small.map, connection=small.server.url, execute=True)["executed"]


KILLED = """
import os, signal, sys
from datajoint_migrate.verbs.cutover import bring_back, occupants
from dj_migrate import main
bring_back.keep_auto_increment = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[0] = "dj-migrate"
main()
"""


def test_killed_amid_the_work_the_same_command_goes_on(small: Small, tmp_path: Path) -> None:
    write(small)
    before = state(small)
    dj = program(small.server, tmp_path / "here")
    write_stores(small, dj.folder / "lab.toml")
    pairs = "".join(f'{old} = "{new}"\n' for old, new in small.map.items())
    plan = dj.folder / "lab.toml"
    plan.write_text(f"[schemas]\n{pairs}\n{plan.read_text()}")
    words = ("rollback", "lab.toml", "--bring-back")
    look = dj(*words)
    assert look.returncode == 0, look.stdout + look.stderr
    assert f"{small.rig}._recording: 1 inserted, 1 changed, 1 deleted would be back" in look.stdout
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *words, "--execute"],
        cwd=dj.folder,
        env=dj.environment,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # Rows are there and nothing else is done.
    assert small.count(f"{small.lab}_old", "mouse") == MICE + 1
    assert state(small) == before
    done = dj(*words, "--execute")
    assert done.returncode == 0, done.stdout + done.stderr
    assert small.count(small.lab, "mouse") == MICE + 1
    assert unequal(small) == []
