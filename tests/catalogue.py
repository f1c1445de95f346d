"""Writes the reference's pages of results and of commands from what they are about.

python tests/catalogue.py
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from datajoint_migrate.console.cli import app
from datajoint_migrate.console.help import reference
from datajoint_migrate.results import in_place, looking, moving, parts, rewriting, safety
from promised import functions, promise

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
TABLE = REFERENCE / "results.md"
COMMANDS = REFERENCE / "commands.md"

HEAD = """# Results

<!-- Made by tests/catalogue.py of the functions and of datajoint_migrate.results. -->

Every function, what it does, and the keys of what it returns; those in brackets are there when
an argument asked for them. Results are dicts, and their types can be imported from
`datajoint_migrate`, so that a type checker knows the keys. What changes production asks for
`execute=True`; everything else that writes takes `dry_run=`. [Functions](functions.md) has all
parameters.

| function | what it does | result |
| --- | --- | --- |
"""


def table() -> str:
    """The page."""
    rows = [
        f"| `{name}({_parameters(function)})` | {_first(function)} | {_result(promise(function))} |"
        for name, function in sorted(functions().items())
    ]
    rooms = (parts, moving, looking, safety, in_place, rewriting)
    # What a room imports has its section where it is defined.
    sections = [
        _section(one)
        for room in rooms
        for one in vars(room).values()
        if typing.is_typeddict(one) and one.__module__ == room.__name__
    ]
    return HEAD + "\n".join(rows) + "\n\n" + "\n".join(sections)


def commands() -> str:
    """The page of the commands."""
    return reference(typer.main.get_group(app))


def _parameters(function: Callable[..., Any]) -> str:
    said = []
    for one in inspect.signature(function).parameters.values():
        if one.kind is one.KEYWORD_ONLY:
            return ", ".join([*said, "*, …"])
        if one.kind is one.VAR_KEYWORD:
            return ", ".join([*said, f"**{one.name}"])
        said.append(one.name if one.default is one.empty else f"{one.name}={one.default!r}")
    return ", ".join(said)


def _first(function: Callable[..., Any]) -> str:
    doc = inspect.getdoc(function) or ""
    return " ".join(doc.split("\n\n")[0].split()).replace("|", "\\|").rstrip(".")


def _result(promised: Any) -> str:
    if not typing.is_typeddict(promised):
        (inner,) = typing.get_args(promised) or (None,)
        if typing.is_typeddict(inner):
            return f"a list of {_link(inner)}"
        return {type(None): "nothing", list[str]: "a list of statements"}.get(
            promised, "an object with `__arrow_c_stream__`"
        )
    always = [f"`{key}`" for key in promised.__annotations__ if key in promised.__required_keys__]
    asked = [f"`{key}`" for key in promised.__annotations__ if key in promised.__optional_keys__]
    keys = [", ".join(always)] if always else []
    return f"{_link(promised)}: " + " ".join(keys + ([f"({', '.join(asked)})"] if asked else []))


def _link(promised: Any) -> str:
    return f"[{promised.__name__}](#{promised.__name__.lower()})"


def _section(promised: Any) -> str:
    lines = [f"## {promised.__name__}", "", inspect.getdoc(promised) or "", "", "| key | type |"]
    lines.append("| --- | --- |")
    for key, hint in typing.get_type_hints(promised).items():
        asked = "" if key in promised.__required_keys__ else ", if asked for"
        lines.append(f"| `{key}` | {_type(hint)}{asked} |")
    return "\n".join(lines) + "\n"


def _type(hint: Any) -> str:
    said = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    said = re.sub(r"\b(datajoint_migrate\.results(\.\w+)?|typing)\.", "", said)
    return "`" + said.replace("NoneType", "None").replace("|", "\\|") + "`"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
    COMMANDS.write_text(commands(), encoding="utf-8")
