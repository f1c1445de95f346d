"""Arguments of a wrong type are refused by name, before anything is asked of a server."""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

import datajoint_migrate
from datajoint_migrate import InvalidArgument, upstream
from datajoint_migrate.call.border import hints_of
from datajoint_migrate.console.settings import load

# Nobody listens there, and nobody is to be asked.
NOWHERE = "mysql://u:secret@127.0.0.1:1/"
FUNCTIONS = {
    name: getattr(datajoint_migrate, name)
    for name in datajoint_migrate.__all__
    if inspect.isfunction(getattr(datajoint_migrate, name)) and name not in ("install",)
}


def wrong_for(hint: Any) -> list[Any]:
    """Values that cannot be meant where this type is asked for."""
    kinds = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, types.UnionType)
        else [hint]
    )
    origins = [typing.get_origin(kind) or kind for kind in kinds]
    if Any in kinds or Callable in origins:
        return []
    found: list[Any] = [object(), 1j]
    if str not in origins and Literal not in origins:
        found += ["x", "4"]
    if not {int, float, bool} & set(origins):
        found += [5, True]
    if int in origins or float in origins:
        found += [True, "5"]
    if not {Iterable, list} & set(origins) and not any(
        isinstance(o, type) and issubclass(o, Iterable) and o is not str for o in origins
    ):
        found += [["a"]]
    if Mapping in origins and Iterable not in origins:
        found += [["a"], {1: "x"}]
    return found


def needed_for(hint: str) -> Any:
    if "Mapping" in hint:
        return {"a": "b"}
    if hint == str(bytes):
        return b"a"
    return ["a"] if hint.startswith("collections.abc.Iterable") else "a"


CASES = [
    (name, argument, wrong)
    for name, function in FUNCTIONS.items()
    for argument, hint in hints_of(function).items()
    if argument not in ("return", "executor", "record")
    for wrong in wrong_for(hint)
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_refuses_wrong_types_and_names_the_argument(name: str) -> None:
    function = FUNCTIONS[name]
    needed = {
        argument: needed_for(str(hints_of(function)[argument]))
        for argument, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_KEYWORD
        and argument in hints_of(function)
    }
    for _, argument, wrong in [case for case in CASES if case[0] == name]:
        given = {**needed, argument: wrong}
        if "connection" in hints_of(function):
            given.setdefault("connection", NOWHERE)
        with pytest.raises(InvalidArgument) as refused:
            function(**given)
        assert argument in refused.value.message, (argument, wrong, refused.value)
        assert refused.value.hint
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("compare_schemas", {"tolerance": "x"}, "tolerance of compare_schemas is 'x', a str"),
        ("copy_table_data", {"limit": "5"}, "limit of copy_table_data is '5', a str"),
        ("copy_all_data", {"lanes": "four"}, "lanes of copy_all_data is 'four', a str"),
        ("copy_all_data", {"lanes": 0}, "lanes of copy_all_data is 0"),
        ("copy_all_data", {"tables": "Mouse"}, "tables of copy_all_data is 'Mouse', a str"),
        ("migrate", {"schema_map": ["a"]}, "schema_map of migrate is a list"),
        ("migrate", {"schema_map": {"a": 1}}, "schema_map of migrate, 'a', is 1, an int"),
        ("migrate", {"copy_files": "no"}, "copy_files of migrate is 'no', a str"),
        ("migrate", {"source_stores": "key"}, "source_stores of migrate is a str"),
    ],
)
def test_a_refusal_says_what_was_given_and_what_would_do(
    name: str, arguments: dict[str, Any], said: str
) -> None:
    function = FUNCTIONS[name]
    needed = {
        argument: {"a": "b"} if argument == "schema_map" else "a"
        for argument, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
    }
    with pytest.raises(InvalidArgument) as refused:
        function(**{**needed, "connection": NOWHERE, **arguments})
    assert refused.value.message == said
    assert refused.value.hint
    assert refused.value.hint.startswith("give ")


def test_what_other_libraries_call_a_number_or_a_text_is_taken() -> None:
    from datajoint_migrate.call.border import check

    class Whole(int):
        pass

    check(Whole(4), int, "lanes of f", "lanes")
    check(1, float, "tolerance of f")
    check(Path("x"), str, "backup of f")
    check(1, bool, "dry_run of f")
    check({"a": None}, Mapping[str, Any] | None, "stores of f")
    check(iter("ab"), Iterable[str], "tables of f")
    check(Path("x"), str | os.PathLike[str] | None, "pause_file of f")


def test_a_missing_or_unknown_argument_is_python_s_to_refuse() -> None:
    migrate: Any = datajoint_migrate.migrate
    with pytest.raises(TypeError, match="schema_map"):
        migrate()
    with pytest.raises(TypeError, match="chraset"):
        migrate({"a": "b"}, chraset="utf8mb4")


def test_names_of_upstream_refuse_the_same() -> None:
    migrate: Any = upstream.migrate_external_pointers_v2
    with pytest.raises(InvalidArgument, match="copy_files"):
        migrate("a", "b", "c", "d", "e", copy_files="no")
    columns: Any = upstream.migrate_columns
    with pytest.raises(InvalidArgument, match="dry_run"):
        columns("a", dry_run="yes")


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("[options]\nlanes = 'four'", "options.lanes is 'four'"),
        ("[options]\ntolerance = true", "options.tolerance is True"),
        ("[options]\ncopy_files = 'no'", "options.copy_files is 'no'"),
        ("[options]\nmax_load = 25", "options.max_load is 25"),
        ("[schemas]\nlab = 5", "schemas, 'lab', is 5"),
        ("[adapters]\nx = ['blob']", "adapters, 'x', is a list"),
        ("[stores.source]\nraw = 'folder'", "stores.source, 'raw', is a str"),
        ("[stores.map]\nraw = 1", "stores.map, 'raw', is an int"),
        ("adapters = 3", "adapters is 3"),
    ],
)
def test_a_wrong_value_in_a_plan_is_named_with_its_place(
    line: str, place: str, tmp_path: Path
) -> None:
    plan = tmp_path / "migration.toml"
    plan.write_text(line + "\n" + ("" if "[schemas]" in line else "[schemas]\na = 'b'\n"))
    with pytest.raises(InvalidArgument) as refused:
        load(plan)
    assert refused.value.message.startswith(f"{plan}: {place}")
