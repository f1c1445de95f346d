"""What `--help`, the man page, the reference and the completion say: one source."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

LOOK = "Look"
MOVE = "Move"
PROVE = "Prove"
SWAP = "Keep safe and swap"
CODE = "Rewrite code and configuration"

# In the order of a migration; a command that is not here comes last.
COMMANDS: dict[str, tuple[str, str]] = {
    "inspect": (LOOK, "dj-migrate inspect --connection mysql://me@db.example.org/"),
    "plan": (LOOK, "dj-migrate plan 'lab_%' --suffix _v20"),
    "doctor": (LOOK, "dj-migrate doctor"),
    "status": (LOOK, "dj-migrate status"),
    "text": (LOOK, "dj-migrate text my_lab"),
    "blobs": (LOOK, "dj-migrate blobs my_lab"),
    "files": (LOOK, "dj-migrate files --level size --orphans"),
    "demo": (MOVE, "dj-migrate demo"),
    "sample": (MOVE, "dj-migrate sample --rows Session=100"),
    "run": (MOVE, "dj-migrate run --max-load Threads_running=25"),
    "sync": (MOVE, "dj-migrate sync"),
    "external": (MOVE, "dj-migrate external my_rig_v20 Recording signal raw main"),
    "promote": (MOVE, "dj-migrate promote my_lab Session.Trial data npy@main --dry-run"),
    "jobs": (MOVE, "dj-migrate jobs --dry-run"),
    "discard": (MOVE, "dj-migrate discard --execute"),
    "compare": (PROVE, "dj-migrate compare my_lab my_lab_v20 --table Session"),
    "verify": (PROVE, "dj-migrate verify"),
    "scan": (PROVE, "dj-migrate scan my_lab Session --to sessions.csv"),
    "report": (PROVE, "dj-migrate report -o migration.html"),
    "backup": (SWAP, "dj-migrate backup --into /backups/lab"),
    "check": (SWAP, "dj-migrate check /backups/lab/my_lab --subset 10%"),
    "restore": (SWAP, "dj-migrate restore my_lab_backup my_lab --overwrite"),
    "cutover": (SWAP, "dj-migrate cutover --execute"),
    "rollback": (SWAP, "dj-migrate rollback --execute"),
    "rename": (SWAP, "dj-migrate rename my_lab my_old_lab"),
    "code": (CODE, "dj-migrate code pipeline/ --execute"),
    "config": (CODE, "dj-migrate config --execute"),
}


# What stands behind an option that is no flag.
TAKES = {
    "backup": "SCHEMA=BACKUP",
    "by": "HOW",
    "columns": "COLUMN",
    "config": "FILE",
    "connection": "URL",
    "definer": "USER@HOST",
    "into": "PLACE",
    "lanes": "NUMBER",
    "level": "LEVEL",
    "limit": "NUMBER",
    "log_file": "FILE",
    "max_bytes_per_second": "BYTES",
    "max_load": "LOAD",
    "on_conflict": "WHAT",
    "on_other": "WHAT",
    "output": "FILE",
    "pause_file": "FILE",
    "promote": "COLUMN=TYPE",
    "prefix": "PREFIX",
    "rows": "TABLE=ROWS",
    "subset": "SUBSET",
    "suffix": "SUFFIX",
    "table": "TABLE",
    "to": "FILE",
    "tolerance": "NUMBER",
    "where": "SQL",
}


def takes_of(parameter: Any) -> str:
    """What stands behind an option, in capitals; nothing behind a flag."""
    if parameter.param_type_name != "option" or parameter.is_flag:
        return ""
    return TAKES.get(str(parameter.name), "TEXT")


PAGE = """# Commands

<!-- Made by tests/catalogue.py of what --help says. -->

Every command with its arguments and options, as its `--help` has them, in the order of a
migration. [The command line](command-line.md) tells what they have in common: where the server
comes from, exit codes, the plan. What stands in brackets may be left out.
"""


def reference(group: Any) -> str:
    """The page of all commands, in Markdown."""
    context: Any = typer.Context(group, info_name="dj-migrate")
    parts = [PAGE, "## Options of every command\n", *_table("option", group, context, ("option",))]
    phase = ""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        panel, example = COMMANDS[name]
        if panel != phase:
            phase = panel
            parts.append(f"\n## {phase}")
        inner: Any = typer.Context(command, parent=context, info_name=name)
        usage = " ".join(command.collect_usage_pieces(inner))
        parts += [
            f"\n### {name}\n",
            inspect.cleandoc(command.help or ""),
            f"\n```text\ndj-migrate {name} {usage}\n\n{example}\n```\n",
            *_table("argument", command, inner, ("argument",)),
            *_table("option", command, inner, ("option",)),
        ]
    return "\n".join(parts) + "\n"


def _table(head: str, command: Any, context: Any, kinds: tuple[str, ...]) -> list[str]:
    rows = [
        f"| {_spelled(one)} | {_explained(one)} |"
        for one in command.get_params(context)
        if one.param_type_name in kinds
        and not getattr(one, "hidden", False)
        and str(one.name) not in COMMON
    ]
    return [f"| {head} | meaning |", "| --- | --- |", *rows, ""] if rows else []


# What every program of this kind has.
COMMON = ("help", "install_completion", "show_completion")


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name != "option":
        return f"`{parameter.name}`"
    said = ", ".join(f"`{one}`" for one in (*parameter.opts, *parameter.secondary_opts))
    return f"{said} {takes_of(parameter)}".rstrip()


def _explained(parameter: Any) -> str:
    default = parameter.default
    shown = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
    said = f"{parameter.help or ''}" + (f" Default: `{default}`." if shown else "")
    return said.replace("|", "\\|").replace("*", "\\*")


def manual(group: Any, version: str) -> str:
    """The man page, in roff. `group` is what Typer makes of the program, whichever click it has."""
    context: Any = typer.Context(group, info_name="dj-migrate")
    page = [
        f'.TH DJ-MIGRATE 1 "" "datajoint-migrate {version}"',
        ".SH NAME",
        r"dj-migrate \- migrate DataJoint 0.14.6 pipelines to DataJoint 2.x",
        ".SH SYNOPSIS",
        r".B dj-migrate",
        "[OPTIONS] COMMAND [ARGUMENTS]",
        ".SH DESCRIPTION",
        _roff(inspect.cleandoc(group.help or "")),
        ".SH OPTIONS",
        *_parameters(group, context),
    ]
    phase = ""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        panel, example = COMMANDS.get(name, (MOVE, ""))
        if panel != phase:
            phase = panel
            page.append(f'.SH "{phase.upper()}"')
        inner: Any = typer.Context(command, parent=context, info_name=name)
        arguments = [
            str(one.name) for one in command.get_params(inner) if one.param_type_name != "option"
        ]
        usage = " ".join(("[OPTIONS]", *(f"[{one}]" for one in arguments)))
        page += [f'.SS "{_roff(name)} {_roff(usage)}"', _roff(inspect.cleandoc(command.help or ""))]
        page += _parameters(command, inner)
        if example:
            page += [".PP", "Example:", ".EX", _roff(example), ".EE"]
    page += [
        ".SH EXIT STATUS",
        "0 done, 1 error, 2 differences or work left to do, 130 interrupted.",
    ]
    return "\n".join(page) + "\n"


def _parameters(command: Any, context: Any) -> list[str]:
    said = []
    for parameter in command.get_params(context):
        text = getattr(parameter, "help", None) or ""
        if parameter.param_type_name == "option":
            if parameter.hidden:
                continue
            names = ", ".join((*parameter.opts, *parameter.secondary_opts))
            names += f" {takes_of(parameter)}".rstrip()
        else:
            names = str(parameter.name)
        said += [".TP", f'.B "{_roff(names)}"', _roff(text)]
    return said


def _roff(text: str) -> str:
    # A line of roff that begins with a point or an apostrophe is a command.
    plain = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    plain = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in plain)
    return "\n".join(
        (r"\&" + line if line[:1] in (".", "'") else line) or ".PP" for line in plain.splitlines()
    )
