"""`write_report`: the page, in one file that needs no network."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from datajoint_migrate._core import __version__
from datajoint_migrate.console.report import schemas, sections
from datajoint_migrate.console.report.elements import Node, document, element
from datajoint_migrate.console.report.standing import verdict
from datajoint_migrate.console.report.story import Story, read
from datajoint_migrate.errors import InvalidArgument
from datajoint_migrate.results import ReportResult
from datajoint_migrate.words import counted

GENERATOR = "datajoint-migrate report"
# A page that may load nothing: what it shows is in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(record: str | Path | Iterable[str | Path], to: str | Path) -> ReportResult:
    """Write a report on a migration: one HTML page, of all that its record tells.

    `record` is what the commands that take a plan file keep beside it (`migration.jsonl`), what
    `Record` has kept, what a command printed with `--json`, or several such files. It may be of a
    run that failed, was killed, or is still going on. A report that is there already is replaced.

    Returns `file`, `bytes`, `calls`, `tables`, `finding` (a sentence) and `good`. Raises
    `NotFound`, and `InvalidArgument` when the record is none or `to` is another file.
    """
    paths = [record] if isinstance(record, str | Path) else list(record)
    story = read(Path(path) for path in paths)
    target = Path(to)
    text = document(_page(story))
    _refuse_others(target)
    try:
        _write(target, text)
    except OSError as error:
        raise InvalidArgument(f"{target} cannot be written: {error.strerror}") from None
    sentence, colour = verdict(story)
    return {
        "file": str(target),
        "bytes": len(text.encode()),
        "calls": len(story.calls),
        "tables": len(story.tables),
        "finding": sentence,
        "good": colour == "good",
    }


def _write(target: Path, text: str) -> None:
    """Beside its place and then into it: whoever reads it sees the old page or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if target.exists():
            shutil.copymode(target, name)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _refuse_others(target: Path) -> None:
    try:
        # A pipe would be waited for, and a link lead into another file.
        if not stat.S_ISREG(target.lstat().st_mode):
            raise InvalidArgument(f"{target} is no plain file", hint="write to another file")
        with target.open(encoding="utf-8", errors="replace") as file:
            start = file.read(2000)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidArgument(f"{target} cannot be written: {error.strerror}") from None
    if GENERATOR not in start:
        raise InvalidArgument(
            f"{target} is there already, and is no report", hint="write to another file"
        )


def _page(story: Story) -> Node:
    title = _title(story)
    sentence, colour = verdict(story)
    made = datetime.now(UTC)
    here = made.astimezone()
    local = "" if here.utcoffset() == made.utcoffset() else here.strftime(" (%H:%M %Z)")
    when = made.strftime("%Y-%m-%d %H:%M UTC") + local
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=GENERATOR),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Migration report: {title}"),
        element("style", style),
    )
    odd = story.unreadable
    parts = [
        section(story)
        for section in (
            # What needs a decision comes first.
            sections.differences,
            sections.problems,
            schemas.graphs,
            schemas.tables,
            sections.checklists,
            sections.notes,
            schemas.types,
            sections.files,
            sections.settings,
            sections.calls,
            sections.speed,
        )
    ]
    there = [part for part in parts if part is not None]
    body = element(
        "main",
        element("h1", title),
        element(
            "p",
            f"DataJoint 0.14 → 2.x, reported {when} by datajoint-migrate {__version__}",
            class_="soft",
        ),
        element("div", sentence, class_=f"banner {colour}"),
        sections.standing(story),
        sections.summary(story),
        sections.contents(str(part[0].text) for part in there),
        there,
        element(
            "footer",
            f"{counted(len(story.calls), 'call')} in the record"
            + (f"; {counted(odd, 'line')} of it could not be read" if odd else ""),
        ),
    )
    return element("html", head, element("body", body), lang="en")


def _title(story: Story) -> str:
    if not story.schemas:
        return "Migration"
    if len(story.schemas) == 1:
        return " → ".join(next(iter(story.schemas.items())))
    return f"{len(story.schemas):,} schemas, {counted(len(story.tables), 'table')} → DataJoint 2.x"
