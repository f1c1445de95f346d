"""Where a migration stands: what is behind it, and what is production now."""

from __future__ import annotations

from dataclasses import dataclass

from datajoint_migrate.console.report.story import Call, Story
from datajoint_migrate.words import counted

DONE, PART, NOT = "done", "part", "not"


@dataclass(frozen=True)
class Stage:
    """One step of the way: done, in part, or not; and what that means."""

    name: str
    state: str
    said: str


def verdict(story: Story) -> tuple[str, str]:
    """One sentence about what was migrated, and its colour."""
    tables = story.tables.values()
    differing = sum(table.state == "differs" for table in tables)
    if differing:
        differ = "differs" if differing == 1 else "differ"
        return f"{differing} of {counted(len(tables), 'table')} {differ} from production.", "bad"
    run = story.last("run")
    is_whole = bool(run and tables) and all(table.comparison for table in tables)
    last = story.runs[-1] if story.runs else story.calls[-1]
    if last.outcome == "refused":
        refused = f"{last.command} ended with an error: {(last.error or {}).get('message')}"
        if is_whole and run is not None and last.began > run.began:
            return f"Every value was equal on {day(run.ended)}. After that {refused}", "wait"
        return refused, "bad"
    if run is None or not story.tables:
        if last.outcome in ("stopped", "broken off"):
            return f"{last.command} is not finished; the same command resumes it.", "wait"
        return "Nothing was migrated yet.", "calm"
    if last.outcome in ("stopped", "broken off"):
        return "The last run is not finished; the same command resumes it.", "wait"
    if not is_whole:
        return "Not every table is compared.", "wait"
    if not (run.result or {}).get("compatible"):
        return "Every value is equal, and 2.x would meet the issues below.", "bad"
    return "Every value is equal on both sides, and 2.x finds everything it needs.", "good"


def afterwards(story: Story) -> str | None:
    """A sentence about the last call, where it was refused and the verdict is about another."""
    last = story.calls[-1]
    if last.outcome != "refused" or last.command == "run" or not story.runs:
        return None
    said = (last.error or {}).get("message")
    return f"The last command, {last.command}, was refused and changed nothing of this: {said}"


def now(story: Story) -> str:
    """Which side is production at the end of the record."""
    swapped = _swapped(story)
    if swapped is None:
        if not story.tables:
            return "Production is DataJoint 0.14.6; there is no copy yet."
        return "Production is DataJoint 0.14.6; the copy stands beside it."
    when = day(swapped.ended)
    if swapped.command == "cutover":
        return (
            f"Production is DataJoint 2.x since {when}. `dj-migrate rollback --execute` swaps back."
        )
    return f"Production is DataJoint 0.14.6 again: the cutover was rolled back on {when}."


def stages(story: Story) -> list[Stage]:
    """The way from production to cutover, as far as this record goes."""
    tables = list(story.tables.values())
    whole = len(tables)
    copied = sum(table.rows is not None for table in tables)
    equal = sum(table.state == "equal" for table in tables)
    differing = sum(table.state == "differs" for table in tables)
    saved = {str(call.said.get("schema")) for call in _done(story, "backup")}
    saved = (saved & set(story.schemas)) or _backed_up(story)
    found = [
        Stage("copied", _share(copied, whole), f"{copied:,} of {counted(whole, 'table')}"),
        Stage(
            "compared",
            PART if differing else _share(equal, whole),
            f"{differing:,} differ" if differing else f"{equal:,} of {whole:,} equal",
        ),
        Stage(
            "backed up",
            _share(len(saved), len(story.schemas)),
            f"{len(saved):,} of {counted(len(story.schemas), 'schema')}",
        ),
    ]
    swapped = _swapped(story)
    cut = [call for call in _executed(story) if call.command == "cutover"]
    found.append(
        Stage("cut over", DONE, day(cut[-1].ended)) if cut else Stage("cut over", NOT, "not yet")
    )
    if swapped is not None and swapped.command == "rollback":
        found.append(Stage("rolled back", DONE, day(swapped.ended)))
    return found


def day(moment: str) -> str:
    """A moment of the record, to the minute."""
    return moment[:16].replace("T", " ") + " UTC"


def _share(count: int, whole: int) -> str:
    if not count or not whole:
        return NOT
    return DONE if count >= whole else PART


def _done(story: Story, command: str) -> list[Call]:
    return [call for call in story.calls if call.command == command and call.outcome == "done"]


def _executed(story: Story) -> list[Call]:
    return [
        call
        for call in story.calls
        if call.command in ("cutover", "rollback") and (call.result or {}).get("executed")
    ]


def _swapped(story: Story) -> Call | None:
    return next(iter(reversed(_executed(story))), None)


def _backed_up(story: Story) -> set[str]:
    """All schemas, where the last look at a cutover found a backup of each."""
    for call in reversed(story.calls):
        checks = (call.result or {}).get("checks", ()) if call.command == "cutover" else ()
        for check in checks:
            if check["name"] == "backup":
                return set(story.schemas) if check["ok"] else set()
    return set()
