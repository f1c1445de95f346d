"""The migration guide's two checklists: what was really checked, by what, and what was not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datajoint_migrate.console.report.story import Call, Story, TableStory
from datajoint_migrate.words import counted

# `yes` and `no` were found out; `open` could be, and was not yet; `yours` no program can know.
YES, NO, OPEN, YOURS = "yes", "no", "open", "yours"
COMPUTED = ("computed", "imported")


@dataclass(frozen=True)
class Item:
    """One line of a checklist."""

    text: str
    state: str
    by: str


Verdict = tuple[str, str]


def validation(story: Story) -> list[Item]:
    """The checklist before the cutover is planned (the guide's phase 4)."""
    return _items(story, VALIDATION)


def before_cutover(story: Story) -> list[Item]:
    """The checklist of the cutover (phase 5)."""
    return _items(story, CUTOVER)


def _items(story: Story, checks: tuple[tuple[str, Callable[[Story], Verdict]], ...]) -> list[Item]:
    return [Item(text, *check(story)) for text, check in checks]


def _compared(tables: list[TableStory], what: str) -> Verdict:
    if not tables:
        return OPEN, f"no {what} is in this record"
    every = f"1 {what}" if len(tables) == 1 else f"{len(tables)} {what}s"
    waiting = sum(table.comparison is None for table in tables)
    if waiting:
        return OPEN, f"{waiting} of {every} not compared yet: dj-migrate run"
    rows = sum(table.rows or 0 for table in tables)
    commands = " and ".join(sorted({table.compared_by for table in tables}))
    differing = [table.source for table in tables if table.state == "differs"]
    if differing:
        return NO, f"{commands}: {len(differing)} of {every} differ: " + ", ".join(differing[:5])
    return (
        YES,
        f"{commands}: {every}, {counted(rows, 'row')}, every column of every row equal on both"
        " sides",
    )


def _queries(story: Story) -> Verdict:
    state, by = _compared(list(story.tables.values()), "table")
    if state == YES:
        by += "; what queries read is equal, the queries of your code were not run"
    return state, by


def _computed(story: Story) -> Verdict:
    tables = [table for table in story.tables.values() if table.about["tier"] in COMPUTED]
    if story.tables and not tables:
        return YES, "there is no computed or imported table"
    state, by = _compared(tables, "computed or imported table")
    if state == YES:
        again = f"within {story.plan.get('tolerance')} when compared again"
        by += f"; floats bit for bit when copied, {again}; nothing was computed anew by 2.x"
    return state, by


def _external(story: Story) -> Verdict:
    stores = story.plan.get("stores", [])
    if story.plan and not stores:
        return YES, "no column points into a store"
    failed = next(
        (
            call.error
            for call in reversed(story.runs)
            if call.error and str(call.error.get("code", "")).startswith("DJM-14")
        ),
        None,
    )
    if failed is not None and story.runs[-1].error is failed:
        return NO, f"run: {failed['message']}"
    run = story.last("run")
    if run is None:
        return OPEN, "dj-migrate run looks for every file before it copies a row"
    unseen = sorted({store["store"] for store in stores if not store["seen"]})
    if unseen:
        return OPEN, (
            f"run: every pointer has its tracking row; no file of {', '.join(unseen)} was looked "
            "at: not configured, without keys, or of a protocol that is not read"
        )
    written = sum(store["written"] for store in stores)
    return YES, (
        f"run: every pointer has its file; {written} of {len(stores)} kinds of objects were "
        "written anew and verified by hash, the others stay where they are, each there and of its "
        "size"
    )


def _performance(_: Story) -> Verdict:
    return YOURS, "not measured: run your own queries on both"


def _errors(story: Story) -> Verdict:
    if not story.runs:
        return OPEN, "nothing was run"
    last = story.runs[-1]
    if last.outcome in ("refused", "stopped", "broken off"):
        return NO, f"the last run was {last.outcome}"
    earlier = sum(call.outcome == "refused" for call in story.calls)
    return YES, (
        "run: the last one met no error"
        + (f"; {counted(earlier, 'earlier call')} did" if earlier else "")
        + "; the logs of servers and of your code are yours to read"
    )


def _people(_: Story) -> Verdict:
    return YOURS, "no program knows"


def _validated(story: Story) -> Verdict:
    verdicts = [check(story)[0] for check in (_queries, _computed, _external)]
    run = story.last("run")
    ready = bool(run and run.result and run.result["compatible"])
    if NO in verdicts or (run and not ready):
        return NO, "see above, and the issues"
    if OPEN in verdicts or not ready:
        return OPEN, "see above"
    return YES, "run: see above; 2.x finds everything it needs in the new schemas"


def _backup(story: Story) -> Verdict:
    found = _preflight(story, "backup")
    if found is not None and found[0] == YES:
        return found
    saved = {str(call.said.get("schema")) for call in _good(story, "backup")}
    missing = sorted(set(story.schemas) - saved)
    if not saved:
        return found or (OPEN, "no backup is in this record: dj-migrate backup")
    if missing:
        return OPEN, "backup: none of " + ", ".join(missing) + " in this record"
    if not _good(story, "restore"):
        return OPEN, "backup: made, and every row compared; not restored: dj-migrate restore"
    return YES, "backup and restore: every row was compared both times"


def _rehearsed(story: Story) -> Verdict:
    done = [call for call in _good(story, "rollback") if (call.result or {}).get("executed")]
    if done:
        return YES, f"rollback: done at {done[-1].ended[:16].replace('T', ' ')} UTC"
    return OPEN, "no rollback is in this record: dj-migrate rollback"


def _stopped(story: Story) -> Verdict:
    return _preflight(story, "sessions") or (OPEN, "dj-migrate cutover looks, and names them")


def _preflight(story: Story, name: str) -> Verdict | None:
    """What the last look at a cutover said about one thing."""
    for call in reversed(story.calls):
        result = call.result or {}
        for check in result.get("checks", ()) if call.command == "cutover" else ():
            if check["name"] == name:
                said = "; ".join(check["detail"][:3])
                return YES if check["ok"] else NO, f"cutover, {call.ended[:10]}: {said}"
    return None


def _good(story: Story, command: str) -> list[Call]:
    return [call for call in story.calls if call.command == command and call.outcome == "done"]


VALIDATION = (
    ("All queries return same results", _queries),
    ("Computed values match (within tolerance)", _computed),
    ("External data accessible and correct", _external),
    ("Performance acceptable (< 2x slowdown)", _performance),
    ("No errors in logs", _errors),
    ("Team trained on 2.0 API", _people),
)
CUTOVER = (
    ("Phase 4 validation 100% successful", _validated),
    ("Full database backup completed and tested", _backup),
    ("Rollback procedure documented and rehearsed", _rehearsed),
    ("All 0.14.6 clients stopped (verify no processes running)", _stopped),
    ("Maintenance window scheduled", _people),
    ("Team notified and standing by", _people),
)
