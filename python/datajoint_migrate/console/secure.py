"""Commands that keep production safe: backup and restore, cutover and rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    running,
    style_of,
    with_schemas,
)
from datajoint_migrate.console.output import Output
from datajoint_migrate.console.settings import load


@app.command()
def backup(
    schema: str,
    name: Annotated[str, typer.Argument(help="A schema, or a folder: ./my_backup")],
    with_files: Annotated[
        bool, typer.Option("--with-files", help="Objects of stores too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
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
        with output.progress() as on_event:
            done = djm.backup_schema(
                schema,
                name,
                connection=settings.source,
                with_files=with_files,
                source_stores=settings.source_stores,
                **limits,
                dry_run=dry_run,
                on_event=on_event,
            )
        output.result(done)
        _say(output, done)
        if not dry_run:
            output.say(
                f"{done['tables_backed_up']} tables, {done['rows_backed_up']:,} rows in "
                f"{done['backup_location']}"
            )


@app.command()
def restore(
    backup: Annotated[str, typer.Argument(help="A schema, or the folder of an archive.")],
    dest: str,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there; it is kept beside.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Make a schema of a backup: beside its place, proved, then exchanged."""
    with running("restore", json) as output:
        with output.progress() as on_event:
            done = djm.restore_schema(
                backup,
                dest,
                overwrite=overwrite,
                **load(config, connection).ends(),
                dry_run=dry_run,
                on_event=on_event,
            )
        output.result(done)
        _say(output, done)
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
    file: Annotated[Path, typer.Argument(help="A plan file.")] = Path("migration.toml"),
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
        done = djm.cutover(
            settings.schemas,
            suffix=suffix,
            backups=dict(map(_pair, backup or [])),
            adapters=settings.adapters,
            connection=settings.source,
            execute=execute,
        )
        output.result(done)
        for check in done["checks"]:
            for detail in check["detail"]:
                output.say(
                    f"{'✓' if check['ok'] else '✗'} {check['name']}: {detail}", style_of(check)
                )
        for note in done["notes"]:
            output.say(f"note: {note}")
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
    file: Annotated[Path, typer.Argument(help="The plan file of the cutover.")] = Path(
        "migration.toml"
    ),
    execute: Execute = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Undo a cutover; exit 2 while something is in the way."""
    with running("rollback", json) as output:
        settings = with_schemas(load(file, connection), file)
        done = djm.rollback(settings.schemas, connection=settings.source, execute=execute)
        output.result(done)
        for line in done["plan"] if not execute else []:
            output.say(line)
        for missing in done["missing"]:
            output.say(missing, style="red")
        for note in done["notes"]:
            output.say(f"note: {note}")
        for table, rows in done["rows_written"].items():
            output.say(f"{table}: {rows:+,} rows since the cutover")
        if done["executed"]:
            output.say(f"{done['tables_renamed']} tables are back where they were")
        leave(not done["missing"])


def _say(output: Output, done: dict[str, Any]) -> None:
    for line in done.get("plan", []):
        output.say(line)
    for note in done.get("notes", []):
        output.say(f"note: {note}")
