"""Commands that move rows and files."""

from __future__ import annotations

from typing import Annotated

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.app import (
    PLAN,
    Config,
    DryRun,
    Json,
    Load,
    PauseFile,
    Plan,
    Rate,
    Url,
    app,
    leave,
    running,
    with_schemas,
)
from datajoint_migrate.console.settings import load


@app.command()
def run(
    file: Plan = PLAN,
    dry_run: DryRun = False,
    max_bytes_per_second: Rate = None,
    max_load: Load = None,
    pause_file: PauseFile = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Migrate the schemas of a plan; run it again and it goes on where it was."""
    with running("run", json) as output:
        settings = with_schemas(load(file, connection), file)
        limits = settings.limits(
            max_bytes_per_second=max_bytes_per_second,
            max_load=max_load,
            pause_file=pause_file,
        )
        job = settings.job() | limits
        done = output.call(djm.migrate, **job, dry_run=dry_run, plan=file)
        if dry_run:
            return
        output.table(
            ("table", "rows", "differences"),
            [
                (name, one["row_count"], len(one["discrepancies"]))
                for name, one in done["tables"].items()
            ],
        )
        for issue in done["issues"]:
            output.say(issue, style="red")
        output.say(
            f"{len(settings.schemas)} schemas, {done['rows_copied']:,} rows copied, "
            f"{done['files_copied']:,} files, {done['time_taken']:.1f} s: "
            + ("every value is equal" if done["match"] else "there are differences")
            + (", 2.x can read it" if done["compatible"] else ", 2.x would meet the above")
        )
        leave(done["match"] and done["compatible"])


@app.command()
def demo(config: Config = None, connection: Url = None, json: Json = False) -> None:
    """Migrate a small pipeline that comes along, on your server, and leave nothing there."""
    with running("demo", json) as output:
        done = output.call(djm.demonstrate, connection=load(config, connection).source)
        output.table(
            ("table", "rows", "differences"),
            [
                (name, one["row_count"], len(one["discrepancies"]))
                for name, one in done["tables"].items()
            ],
        )
        output.say(
            f"{done['rows_copied']:,} rows and {done['files_copied']:,} files of a 0.14.6 pipeline "
            f"migrated in {done['time_taken']:.1f} s: "
            + ("every value is equal" if done["match"] else "there are differences")
            + (", 2.x can read it" if done["compatible"] else ", 2.x could not read it")
            + "; its schemas are dropped again"
        )
        leave(done["match"] and done["compatible"])


@app.command()
def external(
    schema: Annotated[str, typer.Argument(help="A parallel schema.")],
    table: str,
    attribute: str,
    source_store: str,
    dest_store: str,
    copy_files: Annotated[bool, typer.Option("--copy-files")] = False,
    dry_run: DryRun = False,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Convert one external column of a parallel schema to JSON."""
    with running("external", json) as output:
        settings = load(config, connection)
        done = output.call(
            djm.migrate_external_to_v20,
            schema,
            table,
            attribute,
            source_store,
            dest_store,
            copy_files,
            **settings.ends(),
            source_stores=settings.source_stores,
            dest_stores=settings.dest_stores,
            dry_run=dry_run,
            plan=config,
            said={"schema": schema, "table": table, "attribute": attribute},
        )
        for sql in done.get("sql", []):
            output.say(sql)
        output.say(f"{done['rows_migrated']:,} pointers, {done['files_copied']:,} files copied")
        leave(not done["errors"])


@app.command()
def sample(
    file: Plan = PLAN,
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", help="TABLE=NUMBER or 'TABLE=SQL condition'. Repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Rows of a table that names none.")] = None,
    children: Annotated[bool, typer.Option("--children", help="And what refers to them.")] = False,
    dry_run: DryRun = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Copy chosen rows of a plan's schemas, with every row they refer to."""
    with running("sample", json) as output:
        settings = with_schemas(load(file, connection), file)
        done = output.call(
            djm.copy_sample,
            restrictions=dict(map(_restriction, rows or [])),
            schema_map=settings.schemas,
            children=children,
            limit=limit,
            **settings.ends(),
            **settings.stores(),
            copy_files=settings.options.get("copy_files", False),
            adapters=settings.adapters,
            dry_run=dry_run,
            plan=file,
        )
        output.table(("table", "rows"), [(name, count) for name, count in done["tables"].items()])


def _restriction(said: str) -> tuple[str, str | int]:
    table, equals, what = said.partition("=")
    if not equals or not table.strip() or not what.strip():
        raise djm.InvalidArgument(
            f"--rows {said!r} names no rows", hint="write Session=100 or 'Session=session_date > …'"
        )
    return table.strip(), int(what) if what.strip().isdigit() else what
