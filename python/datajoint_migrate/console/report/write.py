"""`write_report`: the page, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from datajoint_migrate._core import __version__
from datajoint_migrate.console.report import sections
from datajoint_migrate.console.report.elements import Node, document, element
from datajoint_migrate.console.report.story import Story, read
from datajoint_migrate.errors import InvalidArgument

GENERATOR = "datajoint-migrate report"
# A page that may load nothing: what it shows is in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(record: str | Path | Iterable[str | Path], to: str | Path) -> dict[str, Any]:
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
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(f"{target} cannot be written: {error.strerror}") from None
    sentence, colour = sections.verdict(story)
    return {
        "file": str(target),
        "bytes": len(text.encode()),
        "calls": len(story.calls),
        "tables": len(story.tables),
        "finding": sentence,
        "good": colour == "good",
    }


def _refuse_others(target: Path) -> None:
    try:
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
    title = ", ".join(f"{old} → {new}" for old, new in story.schemas.items()) or "Migration"
    sentence, colour = sections.verdict(story)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
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
    body = element(
        "main",
        element("h1", title),
        element("p", f"DataJoint 0.14 → 2.x, reported {made}", class_="soft"),
        element("div", sentence, class_=f"banner {colour}"),
        sections.summary(story),
        sections.calls(story),
        sections.problems(story),
        sections.differences(story),
        sections.checklists(story),
        sections.tables(story),
        sections.keys(story),
        sections.types(story),
        sections.files(story),
        sections.notes(story),
        sections.speed(story),
        element(
            "footer",
            f"datajoint-migrate {__version__}; {len(story.calls)} calls in the record"
            + (f"; {odd} lines of it could not be read" if odd else ""),
        ),
    )
    return element("html", head, element("body", body), lang="en")
