"""Commands around a migration: jobs, files, text and blobs looked at, names, copies thrown away."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import typer

import datajoint_migrate as djm
from datajoint_migrate.console import promotable
from datajoint_migrate.console.app import (
    PLAN,
    Config,
    DryRun,
    Execute,
    Json,
    Plan,
    Url,
    app,
    leave,
    meant,
    running,
    with_schemas,
)
from datajoint_migrate.console.settings import load
from datajoint_migrate.console.speech import spoken
from datajoint_migrate.words import counted, verb

# Bytes of a value that are shown.
HEAD = 12

Schema = Annotated[
    str | None, typer.Argument(help="A schema; by default all that the plan migrates.")
]


@app.command()
def jobs(
    file: Plan = PLAN, dry_run: DryRun = False, connection: Url = None, json: Json = False
) -> None:
    """Carry failed and ignored jobs of 0.14.6 into the copies' job tables."""
    with running("jobs", json) as output:
        settings = with_schemas(load(file, connection), file)
        done = output.call(
            djm.carry_jobs, settings.schemas, **settings.ends(), dry_run=dry_run, plan=file
        )
        output.some(
            [
                f"{one['schema']}: {one['table']} {_key(one['key'])}: {one['reason']}"
                for one in done["refused"]
            ],
            "yellow",
        )
        word = "would be carried over" if dry_run else "carried over"
        output.say(
            f"{counted(done['jobs_carried'], 'job')} {word} "
            f"({counted(done['errors_carried'], 'error')}, {done['ignores_carried']:,} ignored), "
            f"{done['already_there']:,} there already, "
            f"{counted(done['reserved_dropped'], 'reservation')} left behind, "
            f"{len(done['refused']):,} refused"
        )
        leave(not done["refused"])


@app.command()
def files(
    schema: Schema = None,
    level: Annotated[
        str, typer.Option(help="exists, size, or hash, which reads every file.")
    ] = "exists",
    subset: Annotated[str, typer.Option(help="all, n/m, x% or a size such as 500M.")] = "all",
    orphans: Annotated[
        bool, typer.Option("--orphans", help="And files that no row refers to.")
    ] = False,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Look for every file that rows refer to; exit 2 when one is missing or damaged."""
    with running("files", json, writes=False) as output:
        config, settings, names = meant(config, connection, schema)
        good = True
        for name in names:
            found = output.call(
                djm.verify_external_integrity,
                name,
                None,
                cast(Literal["exists", "size", "hash"], level),
                subset=subset,
                orphans=orphans,
                **settings.stores(),
                connection=settings.source,
                plan=config,
                said={"schema": name},
            )
            output.some(
                [f"{one['full_path']}: {one['problem']}" for one in found["missing"]],
                "red",
                found["missing_count"],
            )
            output.some(
                [f"{one['path']}: no row refers to it" for one in found["orphaned"]],
                "yellow",
                found["orphaned_count"],
            )
            for store, why in found["stores_unchecked"].items():
                output.say(f"store {store} was not looked into: {why}", "yellow")
            for column, number in found["untracked"].items():
                output.say(f"{column}: {counted(number, 'value')} without a tracking row", "red")
            bad = found["missing_count"] or found["untracked"]
            said = f"{found['valid']:,} of {counted(found['checked'], 'file')}"
            said += f" {verb(found['valid'], 'is', 'are')} there"
            if not found["checked"]:
                said = "no row refers to a file"
            if found["missing_count"]:
                said += f", {found['missing_count']:,} are missing or damaged"
            if orphans:
                said += f", no row refers to {found['orphaned_count']:,}"
            output.say(f"{name}: {said}", "red" if bad else "green")
            good = good and not bad
        leave(good)


@app.command()
def text(
    schema: Schema = None, config: Config = None, connection: Url = None, json: Json = False
) -> None:
    """Find text that was stored in the wrong character set (MÃ¼ller); exit 2 when there is any."""
    with running("text", json, writes=False) as output:
        config, settings, names = meant(config, connection, schema)
        good = True
        for name in names:
            found = output.call(
                djm.check_text, name, connection=settings.source, plan=config, said={"schema": name}
            )
            number = sum(one["double_encoded"] for one in found["columns"])
            output.some(
                [
                    f"{one['table']} {_key(one['key'])}: {one['column']} is {one['text']}, "
                    f"meant was perhaps {one['reads_as']}"
                    for one in found["damaged"]
                ],
                "yellow",
                number,
            )
            said = (
                f"{counted(number, 'text')} may be meant otherwise" if number else "text is sound"
            )
            output.say(f"{name}: {said}", "green" if found["ok"] else "yellow")
            good = good and found["ok"]
        leave(good)


@app.command()
def blobs(
    schema: Schema = None, config: Config = None, connection: Url = None, json: Json = False
) -> None:
    """Find blobs that DataJoint cannot unpack; exit 2 when there are any."""
    with running("blobs", json, writes=False) as output:
        config, settings, names = meant(config, connection, schema)
        good = True
        for name in names:
            found = output.call(
                djm.check_blobs,
                name,
                connection=settings.source,
                plan=config,
                said={"schema": name},
            )
            output.some(
                [
                    f"{one['table']} {_key(one['key'])}: {one['column']} begins with "
                    f"{_head(one['head'])}: {one['guess']}"
                    for one in found["damaged"]
                ],
                "red",
            )
            number = len(found["damaged"])
            more = " or more" if found["truncated"] else ""
            said = f"{counted(number, 'blob')}{more} cannot be unpacked" if number else "all unpack"
            output.say(f"{name}: {said}", "green" if found["ok"] else "red")
            for line in promotable.lines(found["promotable"]):
                output.say(line)
            good = good and found["ok"]
        leave(good)


def _head(head: bytes) -> str:
    """What a value begins with, as far as it tells what it is."""
    return repr(head[:HEAD]) + ("…" if head[HEAD:] else "")


def _key(key: Any) -> str:
    if isinstance(key, dict):
        return ", ".join(f"{name}={value}" for name, value in key.items())
    return str(key)


@app.command()
def rename(
    old: Annotated[str, typer.Argument(help="The schema as it is called now.")],
    new: Annotated[str, typer.Argument(help="Its new name, which nobody has yet.")],
    dry_run: DryRun = False,
    config: Config = None,
    connection: Url = None,
    json: Json = False,
) -> None:
    """Give a schema another name, with its programs, grants and lineage."""
    with running("rename", json) as output:
        settings = load(config, connection)
        done = output.call(
            djm.rename_schema, old, new, connection=settings.source, dry_run=dry_run, plan=config
        )
        if dry_run:
            output.say("nothing was changed")
        else:
            output.say(f"{counted(done['tables_renamed'], 'table')} of {old} are in {new} now")


@app.command()
def discard(
    file: Plan = PLAN, execute: Execute = False, connection: Url = None, json: Json = False
) -> None:
    """Drop the copies that a plan has made, and nothing else; exit 2 if they cannot be."""
    with running("discard", json) as output:
        settings = with_schemas(load(file, connection), file)
        done = output.call(
            djm.discard, settings.schemas, **settings.ends(), execute=execute, plan=file
        )
        for name, one in done["schemas"].items():
            output.say(f"{name}: {counted(one['tables'], 'table')}, {counted(one['rows'], 'row')}")
        for missing in done["missing"]:
            output.say(spoken(f"✗ {missing}"), "red")
        if done["executed"]:
            output.say(f"{counted(len(done['schemas']), 'schema')} dropped", "green")
        elif done["missing"]:
            output.say("nothing was changed; the above is in the way", "red")
        elif done["schemas"]:
            output.say("nothing was changed; with --execute they are dropped")
        else:
            output.say("there is no copy to drop")
        leave(not done["missing"])
