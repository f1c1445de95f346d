"""Ctrl-C ends a command within five seconds, whatever it waits for."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path

import pytest

from conftest import Fresh
from first_served import first_served
from line import Harm, Packet, line
from program import Program, program, write_stores
from servers import Server
from small import Small, make

SECONDS = 5.0


@pytest.fixture
def small(mysql: Server, fresh: Fresh, tmp_path: Path) -> Small:
    fresh(mysql, *(f"intr_{name}{end}" for name in ("lab", "rig") for end in ("", "_v20")))
    return make(mysql, "intr", tmp_path / "store")


@pytest.fixture
def dj(small: Small, tmp_path: Path) -> Program:
    made = program(small.server, tmp_path / "here")
    write_stores(small, made.folder / "lab.toml")
    assert made("plan", small.lab, small.rig, "-c", "lab.toml").returncode == 0
    return made


# A statement of each stage, whose answer does not come.
STAGES = {
    "before anything": r"SELECT VERSION\(\)",
    "files": r"FROM `intr_rig`\.`~external_raw`",
    "declare": r"CREATE TABLE `intr_lab_v20`\.`session`",
    "copy": r"(INSERT|LOAD DATA).*`intr_lab_v20`\.`session__trial`",
    "the journal": r"UPDATE `intr_lab_v20`\.`~migrate_journal`",
    "compare": r"SELECT s\..*`data` FROM `intr_lab_v20`\.`session__trial` AS s",
    "keys": r"SELECT .*FROM `intr_lab_v20`\.`mouse` .*(JOIN|NOT EXISTS)",
    "lineage": r"DELETE FROM `intr_lab_v20`\.`~lineage`",
    "verify": r"SELECT table_name, attribute_name, lineage FROM `intr_lab_v20`\.`~lineage`",
}


def ended_after(dj: Program, small: Small, pattern: str, whole: bool) -> tuple[float, int, str]:
    """Seconds from Ctrl-C at such a statement to the end; exit code; what was said."""
    seen = threading.Event()
    sought = re.compile(pattern.encode(), re.DOTALL)

    def rule(packet: Packet) -> Harm:
        if seen.is_set() and whole:
            return "stall"
        if not packet.upward and sought.search(packet.command[:2000]):
            seen.set()
            return "stall"
        return None

    with line(small.server, rule) as proxy:
        dj.environment["DJ_PORT"] = str(proxy.port)
        process = dj.start("run")
        try:
            while not seen.wait(0.05):
                assert process.poll() is None, process.communicate()[1]
            # It waits now: nothing has come since.
            with first_served(process.pid, small.server.pid):
                pressed = time.monotonic()
                process.send_signal(signal.SIGINT)
                said = process.communicate(timeout=120)[1]
                return time.monotonic() - pressed, process.returncode, said
        finally:
            process.kill()


# One connection without an answer; at some stages the whole server.
CASES = [(stage, False) for stage in STAGES] + [("files", True), ("copy", True), ("verify", True)]


@pytest.mark.parametrize(("stage", "whole"), CASES)
def test_ctrl_c_ends_it_at_every_stage(small: Small, dj: Program, stage: str, whole: bool) -> None:
    took, code, said = ended_after(dj, small, STAGES[stage], whole)
    assert code == 130, said
    assert "stopping" in said
    assert "go on with: dj-migrate run" in said
    assert took < SECONDS, (took, said)
