"""The program as a group of commands: each is loaded when it is asked for, and help is plain text.

Whoever asks for help or presses TAB waits for it: no module that no answer needs is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from datajoint_migrate.console.help import COMMANDS, takes_of

# Which module of this folder has which commands.
HOMES: dict[str, tuple[str, ...]] = {
    "look": ("inspect", "doctor", "status", "scan", "report"),
    "move": ("demo", "sample", "run", "sync", "external", "promote"),
    "plan": ("plan",),
    "prove": ("compare", "verify", "check"),
    "rewrite": ("code", "config"),
    "secure": ("backup", "restore", "cutover", "rollback"),
    "tend": ("text", "blobs", "files", "jobs", "discard", "rename"),
}
HOME = {name: home for home, names in HOMES.items() for name in names}


def name_of(command: typer.models.CommandInfo) -> str:
    """The word that stands for a command."""
    return command.name or str(getattr(command.callback, "__name__", ""))


class _Command(TyperCommand):
    """A command whose options are explained without the types of Python."""

    def get_params(self, context: Any) -> Any:
        return _plain(super().get_params(context))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self, ctx, formatter)


class _Commands(Mapping[str, Any]):
    """The commands by name, in the order of a migration."""

    def __init__(self, app: typer.Typer) -> None:
        self._app = app
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            import_module(f"datajoint_migrate.console.{HOME[name]}")
            for one in self._app.registered_commands:
                if name_of(one) == name:
                    one.cls = _Command
                    one.epilog = f"Example: {COMMANDS[name][1]}"
                    self._made[name] = typer.main.get_command_from_info(
                        one, pretty_exceptions_short=False, rich_markup_mode=None
                    )
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def group_of(app: typer.Typer) -> type[TyperGroup]:
    """The class of the program whose commands register themselves with `app`."""

    class Program(TyperGroup):
        """The program, explained likewise."""

        def __init__(self, **said: Any) -> None:
            super().__init__(**said)
            self.commands: Any = _Commands(app)

        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
            return list(self.commands)

        def get_params(self, context: Any) -> Any:
            return _plain(super().get_params(context))

        def format_options(self, ctx: Any, formatter: Any) -> None:
            _write_parameters(self, ctx, formatter)
            phases: dict[str, list[tuple[str, str]]] = {}
            for name, command in self.commands.items():
                said = " ".join((command.help or "").split("\n\n")[0].split())
                phases.setdefault(COMMANDS[name][0], []).append((name, said))
            width = max(map(len, self.commands))
            for phase, rows in phases.items():
                with formatter.section(phase):
                    formatter.write_dl([(name.ljust(width), said) for name, said in rows])

    return Program


def _write_parameters(command: Any, context: Any, formatter: Any) -> None:
    shown = [one for one in command.get_params(context) if not getattr(one, "hidden", False)]
    for kind in ("argument", "option"):
        rows = [(_spelled(one), _explained(one)) for one in shown if one.param_type_name == kind]
        if rows:
            with formatter.section(f"{kind.capitalize()}s"):
                formatter.write_dl(rows)


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name != "option":
        return str(parameter.name)
    names = ", ".join(sorted((*parameter.opts, *parameter.secondary_opts), key=len))
    return f"{names} {takes_of(parameter)}".rstrip()


def _explained(parameter: Any) -> str:
    default = parameter.default
    shown = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
    return f"{parameter.help or ''}" + (f" [default: {default}]" if shown else "")


def _plain(parameters: Any) -> Any:
    for parameter in parameters:
        if parameter.param_type_name == "option":
            parameter.metavar = takes_of(parameter)
        if "process_value" not in vars(parameter):
            parameter.process_value = partial(_taken, parameter, parameter.process_value)
    return parameters


def _taken(parameter: Any, further: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    """What a word stands for. Typer asks a library that takes longer to load than all else, so it
    is asked only where the word is not the value itself."""
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    taken: Any
    if value is None and not parameter.required:
        taken = () if parameter.nargs == -1 or getattr(parameter, "multiple", False) else None
    elif kind is str and isinstance(value, str):
        taken = value
    elif kind is Path and isinstance(value, str | Path):
        taken = Path(value)
    elif kind == list[str] and value:
        taken = list(value)
    else:
        return further(context, value)
    return parameter.callback(context, parameter, taken) if parameter.callback else taken
