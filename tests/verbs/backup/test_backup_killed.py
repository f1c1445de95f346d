"""A backup or a restore killed after any statement is finished by the same call."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backups import (
    LAB_ROWS,
    NAMES,
    add_programs,
    backup,
    definitions,
    problems,
    programs,
    restore,
    rows,
    schemas,
)
from conftest import SOAK, Fresh, drop
from datajoint_migrate import (
    DestinationNotEmpty,
    backup_schema,
    restore_schema,
)
from datajoint_migrate.catalog.session import Session
from servers import Server
from small import Small, make


@pytest.fixture
def small(server: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(server, *NAMES)
    return make(server, "bak", tmp_path / "store")


# -- killed --------------------------------------------------------------------------------------

VERBS: dict[str, Callable[..., Any]] = {"backup": backup_schema, "restore": restore_schema}


def killed_at(statement: int, verb: str, arguments: tuple[Any, ...], url: str) -> None:
    """In a process of its own: run the verb, and die by SIGKILL after so many statements."""
    plain = Session.execute
    said = 0

    def execute(self: Session, sql: str, params: Any = ()) -> int:
        nonlocal said
        done = plain(self, sql, params)
        if not self.read_only and not sql.startswith("SET "):
            said += 1
            if said == statement:
                os.kill(os.getpid(), signal.SIGKILL)
        return done

    Session.execute = execute  # type: ignore[method-assign]
    backup, dest, *overwrite = arguments
    options = {"overwrite": True} if overwrite else {}
    VERBS[verb](backup, dest, connection=url, **options)


def kills(verb: str, arguments: tuple[Any, ...], server: Server, first: int = 1) -> Iterator[int]:
    """Run the verb again and again, killed at a later statement each time; yields after each.

    Every statement from the `first` on in a soak; else a choice of them, for time's sake.
    """
    stride = 1 if SOAK else 7
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["datajoint_migrate"])
    for statement in itertools.count(first, stride):
        process = context.Process(target=killed_at, args=(statement, verb, arguments, server.url))
        process.start()
        process.join()
        if process.exitcode == 0:
            return
        assert process.exitcode == -signal.SIGKILL
        yield statement


@pytest.mark.timeout(600)
def test_a_backup_killed_after_any_statement_is_finished_by_the_same_call(small: Small) -> None:
    small.server.sql(f"DROP DATABASE `{small.rig}`")
    add_programs(small)
    made = programs(small, small.lab)
    del made["event clean"]
    for statement in kills("backup", (small.lab, "bak_lab_b"), small.server):
        # Killed after its last word, it is finished already.
        with contextlib.suppress(DestinationNotEmpty):
            assert backup(small, small.lab)["rows_backed_up"] == LAB_ROWS, statement
        assert problems(small, small.lab, "bak_lab_b") == [], statement
        assert rows(small.server, "bak_lab_b") == rows(small.server, small.lab)
        assert definitions(small.server, "bak_lab_b") == definitions(small.server, small.lab)
        assert programs(small, "bak_lab_b") == made, statement
        drop(small.server, "bak_lab_b")
    assert statement > 8


@pytest.mark.timeout(900)
def test_a_restore_killed_after_any_statement_is_finished_by_the_same_call(small: Small) -> None:
    add_programs(small)
    backup(small, small.lab)
    full, keys = rows(small.server, small.lab), definitions(small.server, small.rig)
    made = programs(small, small.lab)
    arguments = ("bak_lab_b", small.lab, True)
    for statement in kills("restore", arguments, small.server):
        if "bak_lab_restoring" in schemas(small):
            result = restore(small, *arguments)
            assert (result["tables_restored"], result["rows_restored"]) == (5, LAB_ROWS)
            assert result["kept"]
        assert rows(small.server, small.lab) == full, statement
        assert definitions(small.server, small.rig) == keys, statement
        assert programs(small, small.lab) == made, statement
        kept = {name for name in schemas(small) if "_before_restore" in name}
        # The first two ask whether the server can be written, and write nothing.
        assert len(kept) == (statement > 2), statement
        assert "bak_lab_restoring" not in schemas(small)
        drop(small.server, *kept)
    assert statement > 15


@pytest.mark.timeout(900)
def test_a_restore_of_an_archive_killed_after_any_statement_is_finished(
    small: Small, tmp_path: Path
) -> None:
    folder = str(tmp_path / "archive")
    backup_schema(small.rig, folder, connection=small.server.url)
    full, before = rows(small.server, small.rig), definitions(small.server, small.rig)
    arguments = (folder, small.rig, True)
    for statement in kills("restore", arguments, small.server):
        if "bak_rig_restoring" in schemas(small):
            assert restore(small, *arguments)["rows_restored"] == 23
        assert rows(small.server, small.rig) == full, statement
        assert definitions(small.server, small.rig) == before, statement
        drop(small.server, *(name for name in schemas(small) if "_before_restore" in name))
    assert statement > 10


def test_a_backup_killed_amid_its_rows_goes_on(small: Small) -> None:
    small.server.sql(
        ("" if small.server.kind == "mariadb" else "SET cte_max_recursion_depth=400000;")
        + ("SET max_recursive_iterations=400000;" if small.server.kind == "mariadb" else "")
        + f"INSERT INTO `{small.lab}`.session__trial"
        " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199999)"
        " SELECT i DIV 60000, '2024-01-01' + INTERVAL i DIV 60000 DAY, i % 60000 + 2,"
        " REPEAT('x', 100) FROM n"
    )
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=killed_amid_rows, args=(small.lab, small.server.url))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert backup(small, small.lab)["rows_backed_up"] == LAB_ROWS + 200_000
    assert problems(small, small.lab, "bak_lab_b") == []


def killed_amid_rows(schema: str, url: str) -> None:
    """In a process of its own: back up, and die when a good part of the rows is there."""

    def die(event: dict[str, Any]) -> None:
        if event["verb"] == "copy" and event["rows"] > 50_000:
            os.kill(os.getpid(), signal.SIGKILL)

    backup_schema(schema, f"{schema}_b", connection=url, on_event=die)
