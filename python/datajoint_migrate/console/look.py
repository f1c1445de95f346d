"""Commands that look and change nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import datajoint_migrate as djm
from datajoint_migrate.console import promotable
from datajoint_migrate.console.app import (
    PLAN,
    Config,
    Json,
    Plan,
    Url,
    app,
    leave,
    plan_of,
    running,
    style_of,
    with_schemas,
)
from datajoint_migrate.console.meter import size
from datajoint_migrate.console.record import record_of
from datajoint_migrate.console.settings import Settings, load
from datajoint_migrate.console.speech import spoken
from datajoint_migrate.console.tables import written
from datajoint_migrate.words import counted

if TYPE_CHECKING:
    from datajoint_migrate.results import SetupCheck

# A time as a copy notes it.
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00")
# So many lines that say the same become one.
FOLDED = 3


@app.command()
def inspect(
    schemas: Annotated[list[str] | None, typer.Argument(help="All of DataJoint's if none.")] = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """What is on a server and what stands in the way; changes nothing."""
    with running("inspect", json, writes=False) as output:
        settings = load(config, connection)
        found = output.call(
            djm.inspect_schemas,
            schemas or None,
            connection=settings.source,
            source_stores=settings.source_stores,
            adapters=settings.adapters,
        )
        output.table(
            ("schema", "kind", "tables", "about", "size", "charset", "stores", "clients"),
            [
                (
                    one["name"],
                    one["kind"],
                    one["tables"],
                    counted(one["rows"], "row"),
                    size(one["bytes"]),
                    one["charset"],
                    ", ".join(f"{s} ({' '.join(k)})" for s, k in one["stores"].items()),
                    len(one["clients"]),
                )
                for one in found["schemas"]
            ],
        )
        for one in found["schemas"]:
            for client in one["clients"]:
                output.say(f"{one['name']}: in use by {client}")
            for line in promotable.lines(one["promotable"]):
                output.say(line)
            for note in one["notes"]:
                output.say(f"{one['name']}: {note}")
            for obstacle in one["obstacles"]:
                output.say(spoken(f"{one['name']}: {obstacle}"), style="yellow")
        for group in found["groups"]:
            if len(group) > 1:
                output.say(f"belong together: {', '.join(group)}")
        hindered = sum(bool(one["obstacles"]) for one in found["schemas"])
        old = sum(map(len, found["groups"]))
        if hindered:
            output.say(f"something stands in the way of {counted(hindered, 'schema')}")
        elif old:
            output.say(
                f"nothing is in the way of {counted(old, 'schema')} of 0.14; next: dj-migrate plan",
                style="green",
            )
        leave(not hindered)


@app.command()
def doctor(
    file: Annotated[Path | None, typer.Argument(help="A plan file.")] = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Check connections, privileges, servers and stores; changes nothing."""
    with running("doctor", json, writes=False) as output:
        file = file or plan_of(None, connection)
        settings = load(file, connection)
        found = output.call(
            djm.check_setup,
            settings.schemas,
            **settings.ends(),
            **settings.stores(),
            adapters=settings.adapters,
            copy_files=settings.options.get("copy_files", False),
        )
        for name, check in folded(found["checks"]):
            mark = ("✓" if not check["hint"] else "!") if check["ok"] else "✗"
            output.say(spoken(f"{mark} {name}: {check['detail']}"), style_of(check))
            if check["hint"]:
                output.say(spoken(f"  → {check['hint']}"))
        output.say(*_ready(found["checks"], settings, file))
        leave(found["ok"])


def folded(checks: list[SetupCheck]) -> list[tuple[str, SetupCheck]]:
    """Names and checks; those that say the same of several schemas in one line."""
    alike: dict[tuple[Any, ...], list[SetupCheck]] = {}
    for number, check in enumerate(checks):
        kind, _, of = check["name"].rpartition(" ")
        key = (kind, check["ok"], check["detail"], check["hint"]) if kind and of else (number,)
        alike.setdefault(key, []).append(check)
    lines: list[tuple[str, SetupCheck]] = []
    for key, same in alike.items():
        if len(same) >= FOLDED:
            kind = str(key[0]).removesuffix(" of")
            lines.append((f"{kind}, {len(same)} times", same[0]))
        else:
            lines += [(check["name"], check) for check in same]
    return lines


def _ready(
    checks: list[SetupCheck], settings: Settings, file: Path | None
) -> tuple[str, str | None]:
    """One sentence at the end, and its colour."""
    faults = sum(not check["ok"] for check in checks)
    if faults:
        mend = "mend it" if faults == 1 else "mend them"
        return f"not ready: {counted(faults, 'line')} marked ✗; {mend}, then doctor again", "red"
    if not settings.schemas:
        return "the connection is good; next: dj-migrate plan", "green"
    command = "dj-migrate run" + ("" if file in (None, PLAN) else f" {file}")
    if gone := settings.cut_over():
        is_2x = f"{gone[0]} is" if len(gone) == 1 else f"{counted(len(gone), 'schema')} are"
        return f"{is_2x} cut over; dj-migrate status says what is left to do", "green"
    remarks = sum(bool(check["hint"]) for check in checks)
    if remarks:
        return f"ready: {command}; {counted(remarks, 'remark')} marked ! can wait", "green"
    return f"ready: {command}", "green"


@app.command()
def status(
    file: Plan = PLAN,
    count: Annotated[bool, typer.Option("--count", help="Count the rows that differ.")] = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Where each schema of a plan stands, and the next command; changes nothing."""
    with running("status", json, writes=False) as output:
        settings = with_schemas(load(file, connection), file)
        found = output.call(djm.status, settings.schemas, **settings.ends(), count=count)
        output.table(
            ("schema", "copy", "state", "tables", "copied (UTC)", "backup proved", "cut over"),
            [
                (
                    one["source"],
                    one["destination"],
                    one["state"] + (", at work now" if one["at_work"] else ""),
                    one["copied"]["tables"] if one["copied"] else "",
                    (one["copied"]["at"] or "not known") if one["copied"] else "",
                    max((b["at"] or "" for b in one["backups"] if b["proved"]), default=""),
                    (one["cutover"] or {}).get("at") or "",
                )
                for one in found["schemas"]
            ],
        )
        for one in found["schemas"]:
            if one["progress"]:
                so_far = one["progress"]
                output.say(
                    f"{one['source']}: {so_far['chunks_done']:,} of"
                    f" {counted(so_far['chunks'], 'chunk')} of {counted(so_far['tables'], 'table')}"
                    f" copied, {counted(so_far['rows'], 'row')}"
                )
            if one["compared"]:
                at = _utc(one["compared"])
                output.say(f"{one['source']}: compared, equal to production at {at}")
            if one["rolled_back"]:
                output.say(f"{one['source']}: rolled back at {_utc(one['rolled_back'])}")
            if one["state"] == "copied" and one["behind"] is None:
                output.say(
                    f"{one['source']}: what is behind is not known, the copy has no notes of it;"
                    " a sync compares all of it"
                )
            if (behind := one["behind"]) and behind["tables"]:
                rows = "" if behind["rows"] is None else f", {counted(behind['rows'], 'row')}"
                may = "may be" if behind["rows"] is None else "are"
                said = ", ".join(behind["tables"][:10])
                output.say(
                    f"{one['source']}: {counted(len(behind['tables']), 'table')} {may} behind"
                    f"{rows}: {said}"
                )
            elif behind and count:
                output.say(f"{one['source']}: no row is behind")
        for (command, why), names in _alike(
            ((one["next"], ISO.sub(lambda at: _utc(at[0]), one["why"])), one["source"])
            for one in found["schemas"]
        ).items():
            output.say(f"{', '.join(names)}: next {command}: {why}")


def _utc(at: str) -> str:
    """A time as a person reads it."""
    return f"{at[:19].replace('T', ' ')} UTC"


def _alike(said: Iterable[tuple[tuple[str, str], str]]) -> dict[tuple[str, str], list[str]]:
    """What is said → of whom."""
    alike: dict[tuple[str, str], list[str]] = {}
    for what, name in said:
        alike.setdefault(what, []).append(name)
    return alike


@app.command()
def scan(
    schema: Annotated[str, typer.Argument(help="A schema.")],
    table: Annotated[str, typer.Argument(help="Its class (Session.Trial) or table name.")],
    to: Annotated[Path, typer.Option("--to", "-o", help="A new .parquet or .csv file.")],
    columns: Annotated[list[str] | None, typer.Option("--column", help="Repeatable.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL of your own.")] = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Read a table into a Parquet or CSV file."""
    with running("scan", json, writes=False) as output:
        server = load(config, connection).source
        done = output.call(
            lambda: written(djm.scan(schema, table, columns or None, where, connection=server), to)
        )
        output.say(f"{counted(done['rows'], 'row')} in {to}")


@app.command()
def report(
    file: Annotated[
        list[Path] | None,
        typer.Argument(help="Plan files, or records (.jsonl). Default: migration.toml"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The page.")] = None,
    json: Json = False,
) -> None:
    """Write what was done, found and checked into one HTML page; works after a failed run too."""
    with running("report", json, writes=False) as shown:
        given = file or [PLAN]
        records = [one if one.suffix == ".jsonl" else record_of(one) for one in given]
        done = shown.call(djm.write_report, records, output or records[0].with_suffix(".html"))
        shown.say(f"{done['file']}: {done['finding']}")
