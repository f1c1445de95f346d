"""Commands that keep production safe: backup and restore, cutover and rollback."""

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
    style_of,
    with_schemas,
)
from datajoint_migrate.console.settings import load


@app.command()
def backup(
    schema: str,
    name: Annotated[
        str, typer.Argument(help="A schema, a folder (./my_backup), s3://bucket/prefix.")
    ],
    with_files: Annotated[
        bool, typer.Option("--with-files", help="Objects of stores too.")
    ] = False,
    dry_run: DryRun = False,
    max_bytes_per_second: Rate = None,
    max_load: Load = None,
    pause_file: PauseFile = None,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Copy a schema bit for bit, to another schema or into an archive."""
    with running("backup", json) as output:
        settings = load(config, connection)
        limits = settings.limits(
            max_bytes_per_second=max_bytes_per_second,
            max_load=max_load,
            pause_file=pause_file,
        )
        done = output.call(
            djm.backup_schema,
            schema,
            name,
            connection=settings.source,
            with_files=with_files,
            source_stores=settings.source_stores,
            **limits,
            dry_run=dry_run,
            plan=config,
            said={"schema": schema, "name": name},
        )
        if not dry_run:
            output.say(
                f"{done['tables_backed_up']} tables, {done['rows_backed_up']:,} rows in "
                f"{done['backup_location']}"
            )


@app.command()
def restore(
    backup: Annotated[str, typer.Argument(help="A schema, or where an archive is.")],
    dest: str,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there; it is kept beside.")
    ] = False,
    with_files: Annotated[
        bool, typer.Option("--with-files", help="Put the objects of stores back, too.")
    ] = False,
    dry_run: DryRun = False,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Make a schema of a backup: beside its place, proved, then exchanged."""
    with running("restore", json) as output:
        settings = load(config, connection)
        done = output.call(
            djm.restore_schema,
            backup,
            dest,
            overwrite=overwrite,
            with_files=with_files,
            source_stores=settings.source_stores,
            **settings.ends(),
            dry_run=dry_run,
            plan=config,
            said={"backup": backup, "dest": dest},
        )
        if not dry_run:
            output.say(
                f"{done['tables_restored']} tables, {done['rows_restored']:,} rows in {dest}"
            )
            if done["kept"]:
                output.say(f"what was there is {done['kept']} now")


Execute = Annotated[
    bool, typer.Option("--execute", help="Really do it; without, only look and tell.")
]


@app.command()
def cutover(
    file: Plan = PLAN,
    backup: Annotated[
        list[str] | None, typer.Option("--backup", help="SCHEMA=BACKUP, for each schema.")
    ] = None,
    suffix: Annotated[str, typer.Option(help="Of production's new name.")] = "_old",
    execute: Execute = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Put the parallel schemas in production's place; exit 2 while something is missing."""
    with running("cutover", json) as output:
        settings = with_schemas(load(file, connection), file)
        done = output.call(
            djm.cutover,
            settings.schemas,
            suffix=suffix,
            backups=dict(map(_pair, backup or [])),
            adapters=settings.adapters,
            connection=settings.source,
            execute=execute,
            plan=file,
        )
        for check in done["checks"]:
            for detail in check["detail"]:
                output.say(
                    f"{'✓' if check['ok'] else '✗'} {check['name']}: {detail}", style_of(check)
                )
        if done["executed"]:
            output.say(f"{done['tables_renamed']} tables have changed places; undo: rollback")
        else:
            output.say(
                "nothing was changed; with --execute it is done"
                if not done["missing"]
                else "nothing was changed; the above is missing"
            )
        leave(not done["missing"])


def _pair(said: str) -> tuple[str, str]:
    schema, equals, name = said.partition("=")
    if not equals or not schema or not name:
        raise djm.InvalidArgument(f"--backup {said!r} is not SCHEMA=BACKUP")
    return schema, name


@app.command()
def rollback(
    file: Plan = PLAN,
    execute: Execute = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Undo a cutover; exit 2 while something is in the way."""
    with running("rollback", json) as output:
        settings = with_schemas(load(file, connection), file)
        done = output.call(
            djm.rollback,
            settings.schemas,
            connection=settings.source,
            execute=execute,
            plan=file,
        )
        for line in done["plan"] if not execute else []:
            output.say(line)
        for missing in done["missing"]:
            output.say(missing, style="red")
        for table, rows in done["rows_written"].items():
            output.say(f"{table}: {rows:+,} rows since the cutover")
        if done["executed"]:
            output.say(f"{done['tables_renamed']} tables are back where they were")
        leave(not done["missing"])
