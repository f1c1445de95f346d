"""In a notebook a call shows its progress by itself."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def shown(function: Function) -> Function:
    """The same function, with a display where nobody gave `on_event` and a notebook asks."""
    if "on_event" not in inspect.signature(function).parameters:
        return function

    @functools.wraps(function)
    def showing(*args: Any, **kwargs: Any) -> Any:
        if "on_event" in kwargs or not in_notebook():
            return function(*args, **kwargs)
        from datajoint_migrate.console.progress import Display

        with Display() as display:
            return function(*args, on_event=display, **kwargs)

    return cast(Function, showing)


def in_notebook() -> bool:
    """Whether a kernel runs this program, and not a terminal."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
