"""Every result of a public function is held against the type that the function names for it."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections import defaultdict
from collections.abc import Callable
from typing import Any, get_args, get_origin

import datajoint_migrate

# Per function the keys that its calls in this process have returned.
SEEN: dict[str, set[str]] = defaultdict(set)
SCALARS: dict[Any, tuple[type, ...]] = {
    int: (int,), float: (int, float), str: (str,), bool: (bool,), type(None): (type(None),)
}  # fmt: skip


def functions() -> dict[str, Callable[..., Any]]:
    """The public functions by name."""
    return {
        name: getattr(datajoint_migrate, name)
        for name in datajoint_migrate.__all__
        if inspect.isfunction(getattr(datajoint_migrate, name))
    }


def promise(function: Callable[..., Any]) -> Any:
    """What the function says that it returns."""
    return typing.get_type_hints(inspect.unwrap(function)).get("return")


def watch() -> None:
    """Hold what they return against what they promise, wherever a test calls one."""
    for name, function in functions().items():
        setattr(datajoint_migrate, name, watched(name, function, promise(function)))


def watched(name: str, function: Callable[..., Any], promised: Any) -> Callable[..., Any]:
    """The same function, whose results are looked at."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if isinstance(result, dict):
            SEEN[name] |= set(result)
        broken = list(misfits(result, promised, name))
        assert not broken, broken
        return result

    return called


def misfits(value: Any, hint: Any, place: str) -> typing.Iterator[str]:
    """Where a value is not what its type says; only what JSON knows is looked into."""
    origin, inner = get_origin(hint), get_args(hint)
    if typing.is_typeddict(hint):
        if not isinstance(value, dict):
            yield f"{place} is a {type(value).__name__}"
            return
        hints = typing.get_type_hints(hint)
        yield from (f"{place} lacks {key!r}" for key in hint.__required_keys__ - set(value))
        for key, item in value.items():
            if key in hints:
                yield from misfits(item, hints[key], f"{place}[{key!r}]")
            else:
                yield f"{place} has {key!r}, which {hint.__name__} does not name"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{place} is a {type(value).__name__}"
            return
        for number, item in enumerate(value):
            yield from misfits(item, inner[0], f"{place}[{number}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{place} is a {type(value).__name__}"
            return
        for key, item in value.items():
            yield from misfits(item, inner[1], f"{place}[{key!r}]")
    elif origin in (typing.Union, types.UnionType):
        if all(any(misfits(value, one, place)) for one in inner):
            yield f"{place} is {value!r}, not {hint}"
    elif hint in SCALARS and not isinstance(value, SCALARS[hint]):
        yield f"{place} is a {type(value).__name__}, not {hint.__name__}"
