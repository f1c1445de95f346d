"""The command that writes a plan: which schemas belong together, and what they will take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.app import PLAN, Config, Json, Url, app, leave, running
from datajoint_migrate.console.meter import size, span
from datajoint_migrate.console.settings import load, write
from datajoint_migrate.console.speech import spoken
from datajoint_migrate.console.voice import VOICE
from datajoint_migrate.words import counted, verb

if TYPE_CHECKING:
    from datajoint_migrate.console.output import Output


@app.command()
def plan(
    schemas: Annotated[
        list[str] | None,
        typer.Argument(help="Schemas that belong together, or patterns of SQL: 'lab_%'."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All schemas of 0.14 that are on the server.")
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file; it must not be there yet.")
    ] = PLAN,
    suffix: Annotated[str, typer.Option(help="Of the new schemas' names.")] = "_v20",
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Write a plan file for `run`, parents first; changes nothing."""
    from datajoint_migrate.verbs.look.prospect import prospect

    with running("plan", json, writes=False) as shown:
        settings = load(config, connection)
        names, aside = _chosen(schemas or [], every, settings.source)
        seen = prospect(
            names,
            connection=settings.source,
            source_stores=settings.source_stores,
            adapters=settings.adapters,
            copy_files=settings.options.get("copy_files", False),
        )
        found = seen.found
        described = {one["name"]: one for one in found["schemas"]}
        ordered = [name for group in found["groups"] for name in group]
        if seen.strange:
            raise djm.InvalidArgument(
                f"{', '.join(seen.strange)}: not a schema of 0.14",
                hint="dj-migrate inspect tells what each schema is",
            )
        comments = {
            name: f"{counted(one['tables'], 'table')}, about {counted(one['rows'], 'row')}, "
            f"{size(one['bytes'])}"
            for name, one in described.items()
        }
        mapped = {name: settings.schemas.get(name, name + suffix) for name in ordered}

        def planned() -> dict[str, Any]:
            write(output, mapped, comments, settings)
            return {
                "file": str(output),
                "schemas": mapped,
                "estimate": seen.estimate,
                "groups": found["groups"],
                "left_out": seen.left_out,
            }

        written = shown.call(planned)
        shown.say(f"wrote {output}: {counted(len(mapped), 'schema')}")
        if aside:
            shown.say(f"left out, for what a restore has put there: {', '.join(aside)}")
        _tell_groups(shown, found["groups"])
        for line in _estimated(written["estimate"], described.values()):
            shown.say(line)
        for child, parents in seen.left_out.items():
            shown.say(
                f"{child} refers to {', '.join(parents)} and is not in the plan: after the cutover"
                " its keys would lead to what production is then called; add it to the plan",
                style="yellow",
            )
        for one in described.values():
            for obstacle in one["obstacles"]:
                shown.say(spoken(f"{one['name']}: {obstacle}"), style="yellow")
        obstacles = any(one["obstacles"] for one in described.values())
        if not obstacles:
            shown.say("next: dj-migrate doctor, then dj-migrate run")
        leave(not obstacles)


def _chosen(said: list[str], every: bool, source: Any) -> tuple[list[str], list[str]]:
    """The schemas that are named, patterns as the server's schemas of 0.14 match them.

    Beside them those that match and are no production by their names.
    """
    if not said and not every:
        raise djm.InvalidArgument(
            "no schema was named", hint="name schemas, a pattern such as 'lab_%', or --all"
        )
    patterns = [one for one in said if "%" in one]
    if not patterns and not every:
        return said, []
    from datajoint_migrate.verbs.look.inspect import schemas_of_old

    there, apart = schemas_of_old(source)
    chosen = dict.fromkeys(there if every else [])
    for one in said:
        matching = [name for name in there if _like(one).fullmatch(name)] if "%" in one else [one]
        if not matching:
            raise djm.NotFound(
                f"no schema of 0.14 matches {one!r}", hint="dj-migrate inspect lists them"
            )
        chosen |= dict.fromkeys(matching)
    if not chosen:
        raise djm.NotFound(
            "no schema of 0.14 is on the server", hint="dj-migrate inspect lists what is there"
        )
    aside = [name for name in apart if every or any(_like(one).fullmatch(name) for one in patterns)]
    return list(chosen), [name for name in aside if name not in chosen]


def _like(pattern: str) -> re.Pattern[str]:
    """As LIKE reads it, but that `_` is only itself: it is in every name."""
    return re.compile(".*".join(map(re.escape, pattern.split("%"))), re.IGNORECASE)


def _tell_groups(shown: Output, groups: list[list[str]]) -> None:
    together = [group for group in groups if len(group) > 1]
    for group in together:
        shown.say(f"belong together: {', '.join(group)}")
    if together and len(groups) > 1:
        alone = len(groups) - len(together)
        shown.say(
            f"{counted(len(groups), 'group')} could be {counted(len(groups), 'plan')} of their own"
            + (
                f"; {counted(alone, 'schema')} {verb(alone, 'stands', 'stand')} alone"
                if alone
                else ""
            )
        )


def _estimated(estimate: Mapping[str, Any], schemas: Iterable[Mapping[str, Any]]) -> list[str]:
    described = list(schemas)
    rows, stored = (sum(one[key] for one in described) for key in ("rows", "bytes"))
    said = f"about {counted(rows, 'row')}, {size(stored)}"
    if estimate["compare_seconds"] is not None:
        # A run copies, and compares what it has copied.
        least, most = (one + estimate["compare_seconds"] for one in estimate["copy_seconds"])
        said += f"; time: about {span(least)} to {span(most)}"
    based = [f"  {line}" for line in estimate["based_on"]]
    if not VOICE.verbose:
        # What a plan does by itself needs no word.
        based = [] if estimate["consistency"] == "snapshot" else based[-1:]
    return [
        said,
        f"disk: about {size(estimate['disk_bytes'])} on the destination server, "
        f"{size(estimate['file_bytes'])} in stores",
        *based,
    ]
