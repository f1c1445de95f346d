"""Commands that prove what was done: compare, verify, check. Without names they take the plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.app import (
    Config,
    Json,
    Load,
    PauseFile,
    Rate,
    Url,
    app,
    leave,
    meant,
    plan_of,
    planned,
    running,
)
from datajoint_migrate.console.record import archives_of, record_of
from datajoint_migrate.console.settings import load
from datajoint_migrate.console.speech import spoken
from datajoint_migrate.words import counted, difference, structural, verb

if TYPE_CHECKING:
    from datajoint_migrate.console.output import Output

# Differing rows of a table that are printed.
SHOWN = 10


@app.command()
def compare(
    prod: Annotated[
        str | None, typer.Argument(help="A schema of production; by default all of the plan.")
    ] = None,
    test: Annotated[str | None, typer.Argument(help="Its copy; by default the plan's.")] = None,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Of floats, absolute or relative. Default: the plan's, 1e-6"),
    ] = None,
    max_bytes_per_second: Rate = None,
    max_load: Load = None,
    pause_file: PauseFile = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Compare schemas with their copies, row by row; exit 2 when they differ."""
    with running("compare", json, writes=False) as output:
        config = plan_of(config, connection, *filter(None, (prod, test)))
        if prod is None or test is None:
            config, settings = planned(config, connection, "two schemas")
            pairs = {prod: settings.schemas[prod]} if prod in settings.schemas else settings.schemas
            if prod is not None and prod not in settings.schemas:
                raise djm.NotFound.among("schema", prod, settings.schemas, f" in {config}")
        else:
            settings, pairs = load(config, connection), {prod: test}
        common = {
            **settings.ends(),
            **settings.limits(max_bytes_per_second, max_load, pause_file),
            "tolerance": tolerance if tolerance is not None else settings.tolerance,
            "adapters": settings.adapters,
            "plan": config,
        }
        good = True
        rows = tables = 0
        for ours, theirs in pairs.items():
            said = {"prod": ours, "test": theirs, "table": table}
            if table is None:
                found = output.call(djm.compare_schemas, ours, theirs, said=said, **common)
                compared = found["tables"]
            else:
                found = output.call(
                    djm.compare_query_results, ours, theirs, table, said=said, **common
                )
                compared = {table: found}
            structure: list[dict[str, Any]] = found.get("structure", [])
            _tell(output, f"{ours} and {theirs}: " if len(pairs) > 1 else "", compared, structure)
            good = good and found["match"] and not structure
            rows += sum(one["row_count"] for one in compared.values())
            tables += len(compared)
        if len(pairs) > 1:
            many = f"{counted(len(pairs), 'schema')}, {counted(tables, 'table')}"
            verdict = "everything is equal" if good else "there are differences"
            output.say(f"{many}, {counted(rows, 'row')}: {verdict}", "green" if good else "red")
        leave(good)


def _tell(
    output: Output,
    place: str,
    tables: dict[str, Any],
    structure: list[dict[str, Any]],
) -> None:
    output.table(
        ("table", "rows", "differences"),
        [(name, one["row_count"], len(one["discrepancies"])) for name, one in tables.items()],
    )
    for name, one in tables.items():
        for row in one["discrepancies"][:SHOWN]:
            output.say(difference(row, name), style="red")
        more = len(one["discrepancies"]) - SHOWN
        if more > 0:
            others = f"{more:,} or more" if one["truncated"] else f"{more:,}"
            output.say(f"{name}: and {others} more; --json lists them", style="red")
    for changed in structure:
        output.say(structural(changed), style="red")
    match = all(one["match"] for one in tables.values())
    if match and structure:
        many = counted(len(structure), "difference")
        there = verb(len(structure), "there is", "there are")
        output.say(f"{place}every value is equal, and {there} {many} of structure", "red")
    else:
        output.say(f"{place}{'equal' if match else 'different'}", "green" if match else "red")


@app.command()
def verify(
    schema: Annotated[
        str | None, typer.Argument(help="A schema of 2.x; by default all copies of the plan.")
    ] = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Are schemas ready for 2.x; exit 2 when one is not."""
    with running("verify", json, writes=False) as output:
        config, settings, names = meant(config, connection, schema)
        if schema is None:
            names = list(settings.schemas.values())
        where = settings.destination or settings.source
        good = True
        for name in names:
            found = output.call(
                djm.verify_schema_v20, name, connection=where, plan=config, said={"schema": name}
            )
            for issue in found["issues"]:
                output.say(spoken(issue), style="red")
            ready = bool(found["compatible"])
            said = "ready for 2.x" if ready else "not ready"
            output.say(f"{name}: {said}", "green" if ready else "red")
            good = good and ready
        leave(good)


@app.command()
def check(
    archive: Annotated[
        str | None,
        typer.Argument(help="A folder, or s3://bucket/prefix; by default all of the record."),
    ] = None,
    subset: Annotated[str, typer.Option(help="all, n/m, x% or a size such as 500M.")] = "all",
    config: Config = None,
    json: Json = False,
) -> None:
    """Prove archives without a server; exit 2 when one is damaged."""
    from datajoint_migrate.verbs.backup.archive import is_archive

    with running("check", json, writes=False) as output:
        archives = _archives_at(archive) if archive else []
        if archive is None:
            config, _ = planned(plan_of(config, None), None, "an archive")
            archives = [one for one in archives_of(record_of(config)) if is_archive(one)]
            if not archives:
                raise djm.InvalidArgument(
                    f"no archive was made by the plan {config}",
                    hint="a backup on a server is proved by: dj-migrate cutover; name an archive",
                )
        good = True
        for one in archives:
            found = output.call(djm.check_backup, one, subset, plan=config, said={"archive": one})
            for problem in found["problems"]:
                output.say(f"{problem['file']}: {problem['problem']}", style="red")
            sound = bool(found["ok"])
            verdict = "everything is as it was written" if sound else "damaged"
            place = f"{one}: " if len(archives) > 1 else ""
            read = f"{found['files_read']} of {counted(found['files'], 'file')} read"
            output.say(f"{place}{read}: {verdict}", "green" if sound else "red")
            good = good and sound
        leave(good)


def _archives_at(place: str) -> list[str]:
    """The place itself, or the archives in a folder that is none and holds some."""
    from datajoint_migrate.verbs.backup.archive import MANIFEST

    folder = Path(place)
    inner = [] if (folder / MANIFEST).exists() else sorted(folder.glob(f"*/{MANIFEST}"))
    return [str(one.parent) for one in inner] or [place]
