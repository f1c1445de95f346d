"""Where callers come in: arguments of a wrong type are refused by name, before anything happens."""

from __future__ import annotations

import functools
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from datajoint_migrate.errors import (
    ConnectionFailed,
    InvalidArgument,
    NotFound,
    PermissionMissing,
)

Function = TypeVar("Function", bound=Callable[..., Any])

GUARDED = "__datajoint_migrate_guarded__"
UNIONS = (typing.Union, types.UnionType)
# Numbers that mean nothing below these.
LEAST = {"lanes": 1, "limit": 0}
SHOWN = 60
# The way to these through this package tells nothing to whoever can mend them.
MENDED_BY_CALLERS = (ConnectionFailed, InvalidArgument, NotFound, PermissionMissing)


def guard(function: Function) -> Function:
    """The same function, which holds its arguments against its annotations.

    One place for all public functions, so that none is forgotten and none has rules of its own.
    Raises `InvalidArgument`.
    """
    if hasattr(function, GUARDED):
        return function
    signature = inspect.signature(function)

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            # Python's own words for an argument that is missing or unknown.
            return function(*args, **kwargs)
        hints = hints_of(function)
        try:
            for name, value in given.items():
                if signature.parameters[name].kind not in (
                    inspect.Parameter.VAR_KEYWORD,
                    inspect.Parameter.VAR_POSITIONAL,
                ):
                    check(value, hints.get(name, Any), f"{name} of {function.__name__}", name)
            return _said_once(function(*args, **kwargs))
        except MENDED_BY_CALLERS as error:
            raise error.with_traceback(None) from error.__cause__

    setattr(guarded, GUARDED, True)
    return typing.cast(Function, guarded)


def _said_once(result: Any) -> Any:
    """What is so for many tables is one note."""
    if isinstance(result, dict) and isinstance(result.get("notes"), list):
        result["notes"] = list(dict.fromkeys(result["notes"]))
    return result


@functools.cache
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's arguments."""
    return get_type_hints(inspect.unwrap(function))


def check(value: Any, hint: Any, place: str, name: str = "") -> None:
    """Raises `InvalidArgument`, which names the place, when a value is not of that type."""
    wrong = _misfit(value, hint, place)
    if wrong is not None:
        where, found, wanted = wrong
        words = _words(wanted)
        if words and isinstance(found, str):
            raise InvalidArgument(
                f"{where} is {found[:SHOWN]!r}",
                hint="use one of " + ", ".join(words),
                context={"argument": name or place},
            )
        raise InvalidArgument(
            f"{where} is {_shown(found, name)}",
            hint=f"give {_described(wanted)}",
            context={"argument": name or place},
        )
    least = LEAST.get(name)
    if least is not None and value is not None and value < least:
        raise InvalidArgument(f"{place} is {value}", hint=f"give a whole number, {least} or more")


def _words(hint: Any) -> list[str]:
    """The words that are allowed, where there are only words."""
    options = get_args(hint) if get_origin(hint) in UNIONS else (hint,)
    given = [option for option in options if option not in (None, type(None))]
    if any(get_origin(option) is not Literal for option in given):
        return []
    return [str(word) for option in given for word in get_args(option)]


def _misfit(value: Any, hint: Any, place: str) -> tuple[str, Any, Any] | None:
    """Where what does not fit, and what would; None if all does."""
    if _fits(value, hint):
        return None
    options = get_args(hint) if get_origin(hint) in UNIONS else (hint,)
    for option in options:
        key_hint, value_hint = (*get_args(option), Any, Any)[:2]
        if _is_mapping(option) and isinstance(value, Mapping):
            for key, item in value.items():
                if not _fits(key, key_hint):
                    return f"a key of {place}", key, key_hint
                inner = _misfit(item, value_hint, f"{place}, {key!r},")
                if inner is not None:
                    return inner
        if (
            _is_many(option)
            and isinstance(value, Collection)
            and not isinstance(value, str | bytes)
        ):
            for item in value:
                if not _fits(item, key_hint):
                    return f"an item of {place}", item, key_hint
    return place, value, hint


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in UNIONS:
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if _is_mapping(hint):
        key, item = (*get_args(hint), Any, Any)[:2]
        return isinstance(value, Mapping) and all(
            _fits(name, key) and _fits(one, item) for name, one in value.items()
        )
    parts = get_args(hint)
    if origin is tuple and parts and parts[-1] is not Ellipsis:
        # As many as it has places, each of its own type.
        is_row = isinstance(value, tuple | list) and len(value) == len(parts)
        return is_row and all(map(_fits, value, parts))
    if _is_many(hint):
        # A text is many texts to Python, and one to everybody else.
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            return False
        item = (*get_args(hint), Any)[0]
        # What can be gone through only once is left to who goes through it.
        return not isinstance(value, Collection) or all(_fits(one, item) for one in value)
    if origin is Callable or hint is Callable:
        return callable(value)
    return _is_a(value, origin or hint)


def _is_a(value: Any, kind: Any) -> bool:
    is_bool = isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    if kind is bool:
        return is_bool or (isinstance(value, int) and value in (0, 1))
    if kind is int:
        return isinstance(value, numbers.Integral) and not is_bool
    if kind is float:
        return isinstance(value, numbers.Real) and not is_bool
    if kind is str:
        return isinstance(value, str | os.PathLike)
    if not isinstance(kind, type):
        return True
    try:
        return isinstance(value, kind)
    except TypeError:
        # A protocol says what is called, which shows when it is called.
        return True


def _is_mapping(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _is_many(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if not isinstance(kind, type) or issubclass(kind, str | bytes | Mapping):
        return False
    return issubclass(kind, Iterable)


def _shown(value: Any, name: str) -> str:
    """The value, unless a secret might be in it, and its type."""
    kind = type(value).__name__
    said = f"an {kind}" if kind[0] in "aeio" else f"a {kind}"
    harmless = "store" not in name and "connection" not in name
    if value is None or (harmless and isinstance(value, str | int | float)):
        return f"{repr(value)[:SHOWN]}, {said}" if value is not None else "None"
    return said


NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "None",
}


def _described(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in UNIONS:
        return " or ".join(dict.fromkeys(_described(option) for option in get_args(hint)))
    if origin is Literal:
        return " or ".join(repr(option) for option in get_args(hint))
    if _is_mapping(hint):
        key, item = (*get_args(hint), Any, Any)[:2]
        return f"a mapping of {_described(key)} to {_described(item)}"
    if _is_many(hint):
        return f"a list, each item {_described((*get_args(hint), Any)[0])}"
    if hint is Any:
        return "anything"
    if origin is Callable or hint is Callable:
        return "a function"
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, os.PathLike):
        return "a path"
    return NAMES.get(kind) or f"a {getattr(kind, '__name__', kind)}"
