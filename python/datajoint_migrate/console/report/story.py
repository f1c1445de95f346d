"""What a record tells, put together: the calls, and what became of each table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from datajoint_migrate.errors import InvalidArgument, NotFound

ENDS = ("result", "error")


@dataclass
class Call:
    """One call of a command, as far as the record goes."""

    command: str
    began: str
    said: dict[str, Any] = field(default_factory=dict)
    package: str = ""
    ended: str = ""
    plan: dict[str, Any] | None = None
    progress: list[dict[str, Any]] = field(default_factory=list)
    copied: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    @property
    def outcome(self) -> str:
        """done, dry run, looked, not ready, different, refused (an error), stopped, broken off."""
        if self.error is not None:
            return "stopped" if self.error.get("error") == "Interrupted" else "refused"
        if self.result is None:
            return "broken off"
        if "plan" in self.result and self.command in ("run", "sample"):
            return "dry run"
        if self.command in ("cutover", "rollback") and not self.result.get("executed"):
            return "not ready" if self.result.get("missing") else "looked"
        bad = (
            not self.result.get("match", True)
            or not self.result.get("compatible", True)
            or not self.result.get("ok", True)
            or self.result.get("missing")
            or self.result.get("errors")
        )
        return "different" if bad else "done"

    @property
    def seconds(self) -> float:
        """From its first line to its last."""
        return max((_when(self.ended) - _when(self.began)).total_seconds(), 0.0)


@dataclass
class TableStory:
    """One table of the plan and what became of it."""

    source: str
    destination: str
    about: Mapping[str, Any]
    rows: int | None = None
    bytes: int = 0
    seconds: float = 0.0
    comparison: dict[str, Any] | None = None
    compared_by: str = ""
    begun: bool = False

    @property
    def schema(self) -> str:
        """The source's schema."""
        return self.source.partition(".")[0]

    @property
    def state(self) -> str:
        """equal, differs, copied (and not compared), begun, or waiting."""
        if self.comparison is not None:
            return "equal" if self.comparison["match"] else "differs"
        if self.rows is not None:
            return "copied"
        return "begun" if self.begun else "waiting"


@dataclass
class Story:
    """A whole record."""

    calls: list[Call]
    tables: dict[str, TableStory]
    schemas: dict[str, str]
    unreadable: int

    def last(self, command: str) -> Call | None:
        """The last call of a command that came to its end, a dry run left out."""
        return next(
            (
                call
                for call in reversed(self.calls)
                if call.command == command and call.result and call.outcome != "dry run"
            ),
            None,
        )

    @property
    def plan(self) -> dict[str, Any]:
        """What was decided last."""
        plans = [call.plan for call in self.calls if call.plan]
        return plans[-1] if plans else {}

    @property
    def runs(self) -> list[Call]:
        """The calls that moved rows."""
        return [call for call in self.calls if call.command == "run" and call.outcome != "dry run"]

    def notes(self) -> list[str]:
        """Sentences of the last run, or of the plan when there was no end to it."""
        run = self.last("run")
        said = run.result["notes"] if run and run.result else self.plan.get("notes", [])
        return list(dict.fromkeys(str(note) for note in said))


def read(records: Iterable[Path]) -> Story:
    """The story of these records, in the order of their calls.

    Raises `NotFound` when a file is not there, `InvalidArgument` when none of its lines is one
    that a command writes.
    """
    calls: list[Call] = []
    unreadable = 0
    for path in records:
        found, odd = _calls(path)
        if not found:
            raise InvalidArgument(
                f"{path} holds no line of a migration",
                hint="give a record that dj-migrate run has written (migration.jsonl), or what a "
                "command printed with --json",
            )
        calls += found
        unreadable += odd
    calls.sort(key=lambda call: call.began)
    schemas: dict[str, str] = {}
    for call in calls:
        schemas |= (call.plan or {}).get("schemas", {})
    return Story(calls, _tables(calls), schemas, unreadable)


def _calls(path: Path) -> tuple[list[Call], int]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise NotFound(
            f"there is no record {path}",
            hint="dj-migrate run writes one beside its plan file; `Record` does for a program",
        ) from None
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None
    calls: list[Call] = []
    # Two commands may write at the same time; each has its own calls.
    going: dict[str, Call] = {}
    unreadable = 0
    for line in text.splitlines():
        try:
            said = json.loads(line)
            command, event, time = str(said["command"]), str(said["event"]), str(said["time"])
            _when(time)
        except (ValueError, TypeError, KeyError):
            unreadable += bool(line.strip())
            continue
        call = going.get(command)
        if call is None or event == "begin":
            call = going[command] = Call(command, time)
            calls.append(call)
        call.ended = time
        _add(call, event, said)
        if event in ENDS:
            del going[command]
    return calls, unreadable


def _add(call: Call, event: str, said: dict[str, Any]) -> None:
    if event == "begin":
        call.said = said.get("said") or {}
        call.package = str(said.get("package", ""))
    elif event == "plan":
        call.plan = said
    elif event == "copied":
        call.copied += said["tables"]
    elif event == "progress":
        call.progress.append(said)
    elif event == "result" and isinstance(said.get("result"), dict):
        call.result = said["result"]
    elif event == "error":
        call.error = said


def _when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _tables(calls: list[Call]) -> dict[str, TableStory]:
    tables: dict[str, TableStory] = {}
    for call in calls:
        for about in (call.plan or {}).get("tables", ()):
            before = tables.get(about["source"])
            if before is not None and _did_nothing(call):
                continue
            tables[about["source"]] = story = TableStory(
                about["source"], about["destination"], about
            )
            if before is not None:
                # A new call of the same job goes on where the last one was.
                story.bytes, story.seconds, story.begun = before.bytes, before.seconds, before.begun
                story.rows = before.rows
        by_destination = {table.destination: table for table in tables.values()}
        for one in call.progress:
            story_of = tables.get(one.get("table", ""))
            if story_of is not None and one.get("verb") == "copy":
                story_of.begun = True
        for one in call.copied:
            copied = by_destination.get(f"{one['destination_schema']}.{one['destination_table']}")
            if copied is not None:
                copied.rows = (copied.rows or 0) + one["rows_copied"]
                copied.bytes += one["bytes"]
                copied.seconds += one["time_taken"]
        for name, comparison in _comparisons(call):
            if name in tables:
                tables[name].comparison = comparison
                tables[name].rows = comparison["row_count"]
                tables[name].compared_by = call.command
    return tables


def _did_nothing(call: Call) -> bool:
    """Whether a call was refused before it moved a row: all is as the call before left it."""
    moved = any(one.get("verb") == "copy" for one in call.progress)
    return call.outcome == "refused" and not call.copied and not moved


def _comparisons(call: Call) -> list[tuple[str, dict[str, Any]]]:
    result = call.result or {}
    if call.command == "run":
        return list(result.get("tables", {}).items())
    if call.command == "compare" and "prod" in call.said:
        found = result.get("tables", {})
        if call.said.get("table"):
            return [(f"{call.said['prod']}.{call.said['table']}", result)]
        return [(f"{call.said['prod']}.{name}", one) for name, one in found.items()]
    return []
