"""Commands that keep production safe: backup and restore, cutover and rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.app import (
    PLAN,
    Config,
    DryRun,
    Execute,
    Json,
    LeaveUnseen,
    Load,
    PauseFile,
    Plan,
    Rate,
    Url,
    app,
    leave,
    meant,
    running,
    style_of,
    with_schemas,
)
from datajoint_migrate.console.record import archives_of, record_of
from datajoint_migrate.console.settings import Settings, load
from datajoint_migrate.console.speech import spoken
from datajoint_migrate.console.voice import VOICE
from datajoint_migrate.words import counted, verb

# Lines of a check that passed, unless all were asked for.
MANY = 10


@app.command()
def backup(
    schema: Annotated[
        str | None, typer.Argument(help="A schema; by default all that the plan migrates.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(help="A schema, a folder (./my_backup), s3://bucket/prefix."),
    ] = None,
    suffix: Annotated[
        str, typer.Option(help="Of a backup's name, where none is given.")
    ] = "_backup",
    into: Annotated[
        str | None,
        typer.Option(help="A folder or s3://bucket/prefix for archives, one a schema."),
    ] = None,
    with_files: Annotated[
        bool, typer.Option("--with-files", help="Objects of stores too.")
    ] = False,
    dry_run: DryRun = False,
    max_bytes_per_second: Rate = None,
    max_load: Load = None,
    pause_file: PauseFile = None,
    leave_unseen: LeaveUnseen = False,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Copy schemas bit for bit, to other schemas or into archives."""
    from datajoint_migrate.verbs.backup.archive import is_archive

    with running("backup", json) as output:
        config, settings, schemas = meant(config, connection, schema)
        limits = settings.limits(max_bytes_per_second, max_load, pause_file)
        kept = backups_now(settings) if schema is None and into is None and not dry_run else {}
        for one in schemas:
            place = name or (f"{into.rstrip('/')}/{one}" if into else one + suffix)
            if place in kept.get(one, ()):
                output.say(f"{one}: {place} is its backup already; the cutover proves it")
                continue
            done = output.call(
                djm.backup_schema,
                one,
                place,
                # A cutover asks for the backup on production's server; an archive is where it says.
                connection=settings.source,
                dest_connection=None if is_archive(place) else settings.destination,
                with_files=with_files,
                source_stores=settings.source_stores,
                unseen="leave" if leave_unseen else settings.options.get("unseen", "refuse"),
                **limits,
                dry_run=dry_run,
                plan=config,
                said={"schema": one, "name": place},
            )
            if not dry_run:
                output.say(
                    f"{counted(done['tables_backed_up'], 'table')}, "
                    f"{counted(done['rows_backed_up'], 'row')} in {done['backup_location']}"
                )
        if schema is None and not dry_run:
            output.say("next: dj-migrate cutover, which finds these backups", "green")


@app.command()
def restore(
    backup: Annotated[str, typer.Argument(help="A schema, or where an archive is.")],
    dest: Annotated[str, typer.Argument(help="The schema that is made of it.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there; it is kept beside.")
    ] = False,
    with_files: Annotated[
        bool, typer.Option("--with-files", help="Put the objects of stores back, too.")
    ] = False,
    programs: Annotated[
        bool,
        typer.Option("--programs/--no-programs", help="Views, triggers, routines and events, too."),
    ] = True,
    definer: Annotated[
        list[str] | None,
        typer.Option("--definer", help="Whose programs may come back: alice@%. Repeatable."),
    ] = None,
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
            programs=programs,
            definers=definer or (),
            **settings.ends(),
            dry_run=dry_run,
            plan=config,
            said={"backup": backup, "dest": dest},
        )
        if not dry_run:
            output.say(
                f"{counted(done['tables_restored'], 'table')}, "
                f"{counted(done['rows_restored'], 'row')} in {dest}"
            )
            if done["kept"]:
                output.say(f"what was there is {done['kept']} now")


@app.command()
def cutover(
    file: Plan = PLAN,
    backup: Annotated[
        list[str] | None,
        typer.Option(
            "--backup",
            help="SCHEMA=BACKUP, where it is not to be found by itself; 'rename': production under "
            "its new name is all there is to be.",
        ),
    ] = None,
    sync: Annotated[
        bool | None,
        typer.Option(
            "--sync/--no-sync", help="Bring the copies up to date first, the last time under locks."
        ),
    ] = None,
    suffix: Annotated[str, typer.Option(help="Of production's new name.")] = "_old",
    end_sessions: Annotated[
        bool, typer.Option("--end-sessions", help="End sessions that are in the way.")
    ] = False,
    max_bytes_per_second: Rate = None,
    max_load: Load = None,
    pause_file: PauseFile = None,
    execute: Execute = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Put the copies in production's place, within one server; exit 2 while anything is missing."""
    with running("cutover", json) as output:
        settings = with_schemas(load(file, connection), file)
        _within_one_server(settings)
        said = backup or [one for one in (settings.cutover.get("backup"),) if one]
        found: Any = "rename"
        if said != ["rename"]:
            found = _backups(settings, file) | dict(map(_pair, said))
            for prod, place in found.items():
                output.say(f"backup of {prod}: {place}")
        done = output.call(
            djm.cutover,
            settings.schemas,
            suffix=suffix,
            end_sessions=end_sessions,
            backups=found,
            sync=settings.cutover.get("sync", False) if sync is None else sync,
            source_stores=settings.source_stores,
            dest_stores=settings.dest_stores,
            adapters=settings.adapters,
            **settings.limits(max_bytes_per_second, max_load, pause_file),
            connection=settings.source,
            execute=execute,
            plan=file,
        )
        for check in done["checks"]:
            many = not VOICE.verbose and check["ok"] and len(check["detail"]) > MANY
            for detail in check["detail"][: MANY if many else None]:
                mark = "✓" if check["ok"] else "✗"
                output.say(spoken(f"{mark} {check['name']}: {detail}"), style_of(check))
            if many:
                output.say(f"  and {len(check['detail']) - MANY} more; -v lists them")
        if done["executed"]:
            moved = done["tables_renamed"]
            output.say(
                f"{counted(moved, 'table')} {verb(moved, 'has', 'have')} changed places"
                + ("" if execute else " already")
                + (f", within {window:.1f} s" if (window := done["window_seconds"]) else "")
                + "; undo: dj-migrate rollback --execute",
                style="green",
            )
        else:
            output.say(
                "nothing was changed; with --execute it is done"
                if not done["missing"]
                else "nothing was changed; the above is missing"
            )
        leave(not done["missing"])


def backups_now(settings: Settings) -> dict[str, list[str]]:
    """Each schema of the plan → its proved backups on the servers, the newest first."""
    found = djm.status(settings.schemas, connection=settings.source)["schemas"]
    return {
        one["source"]: [
            kept["place"]
            for kept in sorted(one["backups"], key=lambda kept: kept["at"] or "", reverse=True)
            if kept["proved"]
        ]
        for one in found
    }


def _backups(settings: Settings, plan: Path) -> dict[str, str]:
    """The backups that a cutover is to prove: those on the server, else the record's archives."""
    from datajoint_migrate.verbs.backup.archive import is_archive

    found = {prod: places[0] for prod, places in backups_now(settings).items() if places}
    for place, schema in archives_of(record_of(plan)).items():
        if schema in settings.schemas and is_archive(place):
            found.setdefault(schema, place)
    return found


def _within_one_server(settings: Settings) -> None:
    """Names are exchanged by one statement, and that is within one server."""
    if settings.destination is None:
        return
    from datajoint_migrate.call.ends import open_ends

    with open_ends(settings.source, settings.destination) as ends:
        if not ends.same_server:
            raise djm.InvalidArgument(
                "a cutover exchanges names within one server, and [destination] is another one",
                hint="let users of 2.x connect to the other server, or migrate within "
                "production's own; where 0.14.6 must stop, take its rights to write",
            )


def _pair(said: str) -> tuple[str, str]:
    schema, equals, name = said.partition("=")
    if not equals or not schema or not name:
        raise djm.InvalidArgument(f"--backup {said!r} is not SCHEMA=BACKUP")
    return schema, name


@app.command()
def rollback(
    file: Plan = PLAN,
    bring_back: Annotated[
        bool,
        typer.Option("--bring-back", help="Rows that 2.x has written come along, for 0.14.6."),
    ] = False,
    execute: Execute = False,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Undo a cutover; exit 2 while something is in the way."""
    with running("rollback", json) as output:
        settings = with_schemas(load(file, connection), file)
        _within_one_server(settings)
        done = output.call(
            djm.rollback,
            settings.schemas,
            bring_back=bring_back,
            **settings.stores(),
            adapters=settings.adapters,
            connection=settings.source,
            execute=execute,
            plan=file,
        )
        if not execute:
            for line in _folded(done["plan"]):
                output.say(line)
        for missing in done["missing"]:
            output.say(spoken(f"✗ {missing}"), style="red")
        for table, rows in done["rows_written"].items():
            output.say(
                f"{table}: {'+' if rows > 0 else ''}{counted(rows, 'row')} since the cutover"
            )
        for table in done["tables_new"]:
            output.say(f"{table}: made since the cutover")
        if bring_back:
            for line in _brought(done):
                output.say(line)
        output.say(*_rolled_back(done, settings.schemas, bring_back))
        leave(not done["missing"])


def _brought(done: dict[str, Any]) -> list[str]:
    """What comes along, a line a table, and what does not."""
    lines = [
        f"{table}: {rows['inserted']:,} inserted, {rows['updated']:,} changed,"
        f" {rows['deleted']:,} deleted {'are back' if done['executed'] else 'would be back'}"
        for table, rows in done["brought_back"].items()
    ]
    if done["files_brought_back"]:
        number = done["files_brought_back"]
        where = verb(number, "is", "are") if done["executed"] else "would be"
        it = verb(number, "it", "them")
        lines.append(f"{counted(number, 'object')} {where} where 0.14.6 looks for {it}")
    for place, count in done["left_counts"].items():
        first = next(
            one
            for one in done["left"]
            if place == ".".join(filter(None, (one["table"], one["column"])))
        )
        lines.append(
            f"{place}: {counted(count, 'row')} left behind, {first['why']}; the first is"
            f" {first['key']}"
        )
    return lines


def _folded(plan: list[str]) -> list[str]:
    """What a rollback undoes: lines that are alike, such as one a table, counted."""
    renamed = [line for line in plan if line.startswith("undo: ") and " -> " in line]
    fences = [line for line in plan if ": fence at column " in line]
    lineage = [line for line in plan if line.startswith("undo: ~lineage: ")]
    rest = [line for line in plan if line not in {*renamed, *fences, *lineage}]
    return [
        *([f"undo: back where they were: {counted(len(renamed), 'table')}"] if renamed else []),
        *([f"undo: the fence of {counted(len(fences), 'table')}"] if fences else []),
        *(["undo: the names in ~lineage"] if lineage else []),
        *rest,
    ]


def _rolled_back(
    done: dict[str, Any], schemas: dict[str, str], brings: bool
) -> tuple[str, str | None]:
    """One sentence at the end, and its colour."""
    more = 0 if brings else sum(rows for rows in done["rows_written"].values() if rows > 0)
    parallel = ", ".join(schemas.values())
    if done["executed"]:
        kept = (
            f"; {counted(more, 'new row')} {verb(more, 'stays', 'stay')} in {parallel}"
            if more
            else ""
        )
        moved = done["tables_renamed"]
        back = f"{counted(moved, 'table')} {verb(moved, 'is', 'are')} back"
        return f"{back} where {verb(moved, 'it was', 'they were')}{kept}", "green"
    if done["missing"]:
        return "nothing was changed; the above is in the way", "red"
    leave = (
        f", and {counted(more, 'new row')} would leave production for {parallel} unless"
        " --bring-back takes them along"
        if more
        else ""
    )
    return f"nothing was changed; with --execute it is undone{leave}", None
