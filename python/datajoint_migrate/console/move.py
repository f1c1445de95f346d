"""Commands that move rows and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.app import (
    PLAN,
    Config,
    DryRun,
    Json,
    LeaveUnseen,
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
from datajoint_migrate.console.meter import span
from datajoint_migrate.console.settings import load
from datajoint_migrate.console.speech import spoken
from datajoint_migrate.console.voice import VOICE
from datajoint_migrate.words import counted, difference, verb

if TYPE_CHECKING:
    from datajoint_migrate.console.output import Output

SYNCED = ("how", "rows", "inserted", "updated", "deleted", "conflicts")
# More tables than these are told in one line.
MANY = 30


@app.command()
def run(
    file: Plan = PLAN,
    dry_run: DryRun = False,
    max_bytes_per_second: Rate = None,
    max_load: Load = None,
    pause_file: PauseFile = None,
    leave_unseen: LeaveUnseen = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Migrate the schemas of a plan; run it again and it goes on where it was."""
    with running("run", json) as output:
        settings = with_schemas(load(file, connection), file)
        limits = settings.limits(max_bytes_per_second, max_load, pause_file)
        job = settings.job() | limits
        job |= {"unseen": "leave"} if leave_unseen else {}
        with settings.executing() as executor:
            job |= executor
            done = output.call(djm.migrate, **job, dry_run=dry_run, plan=file)
        if dry_run:
            output.say("nothing was changed; a run would not be refused", "green")
            return
        _tell_tables(output, done["tables"])
        for issue in done["issues"]:
            output.say(spoken(issue), style="red")
        good = done["match"] and done["compatible"]
        there = sum(one["row_count"] for one in done["tables"].values()) - done["rows_copied"]
        output.say(
            f"{counted(len(settings.schemas), 'schema')}, "
            f"{counted(done['rows_copied'], 'row')} copied"
            + (f", {there:,} were there already" if there > 0 else "")
            + f", {counted(done['files_copied'], 'file')}, {span(done['time_taken'])}: "
            + ("every value is equal" if done["match"] else "there are differences")
            + (", 2.x can read it" if done["compatible"] else ", 2.x would meet the above"),
            "green" if good else "red",
        )
        if good:
            output.say("next: dj-migrate report, then dj-migrate backup and dj-migrate cutover")
        leave(good)


def _tell_tables(output: Output, tables: dict[str, Any]) -> None:
    """Of many tables those that differ, unless all were asked for."""
    shown = tables
    if len(tables) > MANY and not VOICE.verbose:
        shown = {name: one for name, one in tables.items() if not one["match"]}
    if shown:
        output.table(
            ("table", "rows", "differences"),
            [(name, one["row_count"], len(one["discrepancies"])) for name, one in shown.items()],
        )
    if equal := len(tables) - len(shown):
        output.say(f"{counted(equal, 'table')} {verb(equal, 'is', 'are')} equal; -v lists them")


@app.command()
def sync(
    file: Plan = PLAN,
    on_conflict: Annotated[
        str, typer.Option(help="What becomes of rows that 2.x wrote: stop, or production.")
    ] = "stop",
    by: Annotated[str, typer.Option(help="How changes are found: auto, digest or log.")] = "auto",
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table. Repeatable.")
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop tables that production has dropped.")
    ] = False,
    final: Annotated[bool, typer.Option("--final", help="Prove every foreign key.")] = False,
    dry_run: DryRun = False,
    max_bytes_per_second: Rate = None,
    max_load: Load = None,
    pause_file: PauseFile = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Bring the copies of a plan up to date with production."""
    with running("sync", json, writes=not dry_run) as output:
        settings = with_schemas(load(file, connection), file)
        limits = settings.limits(max_bytes_per_second, max_load, pause_file)
        lanes = {key: settings.options[key] for key in ("lanes",) if key in settings.options}
        done = output.call(
            djm.sync,
            schema_map=settings.schemas,
            by=by,
            on_conflict=on_conflict,
            drop=drop,
            final=final,
            tables=table,
            **settings.ends(),
            source_stores=settings.source_stores,
            dest_stores=settings.dest_stores,
            **limits,
            **lanes,
            dry_run=dry_run,
            plan=file,
        )
        output.table(
            ("table", *SYNCED),
            [(name, *(one[key] for key in SYNCED)) for name, one in done["tables"].items()],
        )
        output.some([difference(conflict) for conflict in done["conflicts"]], "red")
        for said in done["issues"]:
            output.say(spoken(said), style="red")
        output.say(
            f"{counted(done['rows_inserted'], 'row')} inserted, {done['rows_updated']:,} updated, "
            f"{done['rows_deleted']:,} deleted, {counted(done['files_copied'], 'file')}, "
            f"{span(done['time_taken'])}: "
            + ("every table is equal" if done["match"] else "not every table is equal")
        )
        leave(done["match"])


@app.command()
def demo(
    prefix: Annotated[
        str, typer.Option(help="Of its four schemas' names, which you may make and drop.")
    ] = "djm_demo_",
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Migrate a small pipeline that comes along, on your server, and leave nothing there."""
    with running("demo", json) as output:
        done = output.call(
            djm.demonstrate, prefix=prefix, connection=load(config, connection).source
        )
        output.table(
            ("table", "rows", "differences"),
            [
                (name, one["row_count"], len(one["discrepancies"]))
                for name, one in done["tables"].items()
            ],
        )
        output.say(
            f"{counted(done['rows_copied'], 'row')} and {counted(done['files_copied'], 'file')} "
            f"of a 0.14.6 pipeline migrated in {span(done['time_taken'])}: "
            + ("every value is equal" if done["match"] else "there are differences")
            + (", 2.x can read it" if done["compatible"] else ", 2.x could not read it")
            + "; its schemas are dropped again"
        )
        leave(done["match"] and done["compatible"])


@app.command()
def external(
    schema: Annotated[str, typer.Argument(help="A parallel schema.")],
    table: Annotated[str, typer.Argument(help="Its class (Session.Trial) or table name.")],
    attribute: Annotated[str, typer.Argument(help="The external column.")],
    source_store: Annotated[str, typer.Argument(help="The store as 0.14.6 calls it.")],
    dest_store: Annotated[str, typer.Argument(help="The store as 2.x calls it.")],
    copy_files: Annotated[
        bool, typer.Option("--copy-files", help="Copy files that are elsewhere.")
    ] = False,
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
        output.say(
            f"{counted(done['rows_migrated'], 'pointer')} converted, "
            f"{counted(done['files_copied'], 'file')} copied"
        )
        leave(not done["errors"])


@app.command()
def promote(
    schema: Annotated[str, typer.Argument(help="A 2.x schema.")],
    table: Annotated[str, typer.Argument(help="Its class (Session.Trial) or table name.")],
    column: Annotated[str, typer.Argument(help="The column of blobs.")],
    to: Annotated[str, typer.Argument(help="npy@store, blob@store, attach@store or hash@store.")],
    on_other: Annotated[
        str, typer.Option(help="What cannot be promoted: stop, or report it only.")
    ] = "stop",
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Drop the old column: then nothing undoes it.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Put the old column back.")] = False,
    lanes: Annotated[int, typer.Option(help="Connections that read at once.")] = 4,
    dry_run: DryRun = False,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Turn a column of blobs into object storage, in a table that may be in use."""
    with running("promote", json) as output:
        settings = load(config, connection)
        done = output.call(
            djm.promote,
            schema,
            table,
            column,
            to,
            on_other=on_other,
            drop_old=drop_old,
            undo=undo,
            stores=settings.dest_stores,
            lanes=lanes,
            connection=settings.source,
            dry_run=dry_run,
            plan=config,
            said={"schema": schema, "table": table, "column": column, "to": to},
        )
        for sql in done.get("sql", []):
            output.say(sql)
        if "rows_restored" in done:
            output.say(f"{counted(done['rows_restored'], 'value')} back in the old column")
            return
        output.table(
            ("value", "rows", "can be promoted"),
            [
                (kind, count, "no" if kind in done["refused"] else "yes")
                for kind, count in done["kinds"].items()
            ],
        )
        for example in done["examples"]:
            key = ", ".join(f"{name}={value}" for name, value in example["key"].items())
            output.say(f"{done['table']} {key}: {example['kind']}: {example['why']}", style="red")
        if dry_run:
            output.say(
                f"{counted(sum(done['kinds'].values()), 'value')}, {done['rows_null']:,} NULL: "
                f"{counted(done['bytes_in'], 'byte')} would become {done['bytes_out']:,}; "
                "nothing was written"
            )
            leave(done["match"])
            return
        output.say(
            f"{counted(done['rows_promoted'], 'value')} promoted, {done['rows_null']:,} NULL, "
            f"{counted(done['files_written'], 'file')} written, "
            f"{counted(done['bytes_in'], 'byte')} became {done['bytes_out']:,}"
        )
        leave(done["match"])


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
        copied = sum(done["tables"].values())
        if dry_run:
            output.say(
                f"{counted(copied, 'row')} of {counted(len(done['tables']), 'table')} would be "
                "copied; nothing was changed"
            )
        else:
            output.say(
                f"{counted(copied, 'row')} of {counted(len(done['tables']), 'table')} and "
                f"{counted(done['files_copied'], 'file')} copied"
            )
            output.say(
                "these copies hold a sample, so that run refuses them: dj-migrate discard"
                " --execute takes them away before it"
                if copied
                else "the copies hold these rows already, or none meets the conditions"
            )


def _restriction(said: str) -> tuple[str, str | int]:
    table, equals, what = said.partition("=")
    if not equals or not table.strip() or not what.strip():
        raise djm.InvalidArgument(
            f"--rows {said!r} names no rows", hint="write Session=100 or 'Session=session_date > …'"
        )
    return table.strip(), int(what) if what.strip().isdigit() else what
