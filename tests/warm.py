"""A Python that has loaded what its programs need, and forks for each of them.

Loading numpy, pandas and the rest takes a client two to three seconds of a processor each time it
starts; a fork needs a twentieth of one. DataJoint itself is loaded anew in each program, because
it reads folder and environment when it is loaded; this package does so when it is called, and is
there already in its own Python. Standard library only; `clients.run` asks it.

    python warm.py FD    # requests come over this socket, one a line, until its other end closes
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
import types
import warnings
from typing import Any

# Long ones are a program's text.
REQUEST_BYTES = 1 << 22
FILES = 4


def main() -> None:
    door = socket.socket(fileno=int(sys.argv[1]))
    _load()
    # Whoever is forked is waited for by nobody.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        said, files, _, _ = socket.recv_fds(door, REQUEST_BYTES, FILES)
        if not said:
            return
        if os.fork() == 0:
            door.close()
            _watch(json.loads(said), *files)
        for file in files:
            os.close(file)


def _load() -> None:
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stderr, sys.stderr = sys.stderr, open(os.devnull, "w")  # noqa: SIM115
        importlib.import_module("datajoint")
        sys.stderr = stderr
    for name in [name for name in sys.modules if name.split(".")[0] == "datajoint"]:
        del sys.modules[name]
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("datajoint")]:
        del logging.root.manager.loggerDict[name]
    sys.excepthook = sys.__excepthook__
    with contextlib.suppress(ImportError):
        ours = importlib.import_module("datajoint_migrate")
        for name in ours.__all__:
            getattr(ours, name)
        importlib.import_module("datajoint_migrate.console.cli")


def _watch(request: dict[str, Any], *files: int) -> None:
    """Run the program in a process of its own, and tell its number and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told = files[3]
    number = os.fork()
    if number == 0:
        os.close(told)
        os._exit(_run(request, *files[:3]))
    with contextlib.suppress(OSError):
        os.write(told, f"{number}\n".encode())
    # Who asked may have gone: nobody else would end the program.
    waiting = select.poll()
    waiting.register(told, 0)
    waiting.register(os.pidfd_open(number), select.POLLIN)
    if told in dict(waiting.poll()):
        os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    with contextlib.suppress(OSError):
        os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run(request: dict[str, Any], *files: int) -> int:
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (
        open(place, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
        for place, mode in enumerate(("r", "w", "w"))
    )
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if "datajoint_migrate" not in sys.modules:
        # A client reads the system's authorities for each connection, which no server here has.
        os.environ["SSL_CERT_FILE"] = os.devnull
    words = _options(request["words"])
    program = types.ModuleType("__main__")
    sys.modules["__main__"] = program
    if words[0] == "-c":
        sys.argv, text, name = ["-c", *words[2:]], words[1], "<string>"
        sys.path.insert(0, "")
    else:
        sys.argv, name = words, words[0]
        with open(name, encoding="utf-8") as file:
            text = file.read()
        program.__file__ = name
        sys.path.insert(0, os.path.dirname(os.path.abspath(name)))
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [place for place in places if place]
    status = _executed(text, name, program.__dict__)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


def _options(words: list[str]) -> list[str]:
    """Without `-W`, which is followed."""
    while words[0] == "-W":
        action, _, kind, *_ = [*words[1].split(":"), "", ""]
        found = getattr(builtins, kind) if kind else Warning
        warnings.simplefilter(action, found)  # type: ignore[arg-type]
        words = words[2:]
    return words


def _executed(text: str, name: str, space: dict[str, Any]) -> int:
    try:
        exec(compile(text, name, "exec"), space)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001  (it is told, as an interpreter would)
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # Not of the program that is run: the folder this file is in.
    del sys.path[0]
    main()
