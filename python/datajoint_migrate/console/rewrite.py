"""Commands that rewrite programs and configurations, which lie on this machine."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated

import typer

import datajoint_migrate as djm
from datajoint_migrate.console.app import Json, app, leave, running
from datajoint_migrate.console.settings import load
from datajoint_migrate.words import counted

Execute = Annotated[bool, typer.Option("--execute", help="Write the files.")]


@app.command()
def code(
    path: Annotated[Path, typer.Argument(help="A Python file, or a folder of them.")],
    promote: Annotated[
        list[str] | None,
        typer.Option(help="SCHEMA.TABLE.COLUMN=npy@STORE, a column promoted. Repeatable."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A plan, whose [promote] counts too.")
    ] = None,
    execute: Execute = False,
    json: Json = False,
) -> None:
    """Rewrite 0.14.6 code for 2.x: shows the differences; exit 2 when something is left to you."""
    with running("code", json, writes=execute) as output:
        promoted = dict(load(config, None).promote or {}) if config is not None else {}
        for said in promote or ():
            column, _, to = said.rpartition("=")
            promoted[column] = to
        done = output.call(djm.rewrite_code, path, promote=promoted, execute=execute)
        for line in done["diff"].splitlines():
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            output.say(line, style=colour)
        for one in done["left"]:
            output.say(f"{one['file']}:{one['line']}: {one['what']}", style="yellow")
        changed, left = len(done["files_changed"]), len(done["left"])
        word = "written" if execute else "to be written (--execute)"
        output.say(
            f"{counted(done['files'], 'file')} looked at, {changed:,} {word}, "
            f"{counted(left, 'place')} left to you"
        )
        leave(not done["left"])


@app.command()
def config(
    source: Annotated[
        Path | None, typer.Argument(help="0.14.6's; by default dj_local_conf.json.")
    ] = None,
    into: Annotated[Path, typer.Option(help="The folder of the new one.")] = Path(),
    execute: Execute = False,
    json: Json = False,
) -> None:
    """Write datajoint.json and .secrets from 0.14.6's configuration; exit 2 if any is left."""
    with running("config", json, writes=execute) as output:
        done = output.call(djm.migrate_config, source, into, execute=execute)
        output.say(f"{done['source']} →")
        for line in jsons.dumps(done["config"], indent=2).splitlines():
            output.say(line)
        for name in done["secrets"]:
            output.say(f".secrets/{name}")
        for one in done["left"]:
            output.say(one, style="yellow")
        output.say("written" if execute else "to be written (--execute)")
        # A stage is left to the code that inserts files; the configuration is whole without it.
        from datajoint_migrate.verbs.code.config import NO_STAGE

        leave(all(one.endswith(NO_STAGE) for one in done["left"]))
