"""Source files of a pipeline, rewritten for 2.x where that is certain; the rest is listed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datajoint_migrate.errors import InvalidArgument, NotFound

PASSED_OVER = {"__pycache__", "node_modules", "site-packages"}


@dataclass(frozen=True)
class Remark:
    """Something changed, or left for a person, at a line (from 1 on) of a file."""

    file: str
    line: int
    what: str


def rewrite_code(path: Any, *, execute: bool = False) -> dict[str, Any]:
    """Rewrite Python code from 0.14.6's words to those of 2.x.

    `path` is a file or a folder of `.py` files. Only what is certainly DataJoint's is rewritten:
    types in table definitions, names that have another name, `fetch` of tables in the forms that
    2.x spells otherwise, joins by `@`, `_update`, adapters as codecs. Nothing is written without
    `execute=True`; whatever cannot be decided is in `left`.

    Returns `files` (looked at), `files_changed`, `changes` and `left` (dicts with `file`, `line`,
    `what`), `diff` (unified), `executed`. Raises `NotFound`, and `InvalidArgument` without the
    extra `code` (libcst).
    """
    try:
        from datajoint_migrate.steps.code.module import find_adapters, parse, rewrite_module
    except ImportError as error:
        raise InvalidArgument(
            "rewriting code needs libcst", hint="pip install 'datajoint-migrate[code]'"
        ) from error
    root = Path(path)
    files = list(_files(root))
    texts: dict[Path, str] = {}
    left: list[Remark] = []
    for file in files:
        try:
            text = file.read_bytes().decode()
            parse(text)
            texts[file] = text
        except (UnicodeDecodeError, SyntaxError, ValueError) as error:
            left.append(
                Remark(str(file), getattr(error, "lineno", None) or 1, f"no Python: {error}")
            )
    adapters = {name: store for text in texts.values() for name, store in find_adapters(text)}
    changes: list[Remark] = []
    diff: list[str] = []
    written: list[tuple[Path, str]] = []
    for file, text in texts.items():
        made = rewrite_module(text, adapters)
        changes += [Remark(str(file), line, what) for line, what in made.changes]
        left += [Remark(str(file), line, what) for line, what in made.left]
        if made.text != text:
            written.append((file, made.text))
            diff += difflib.unified_diff(
                text.splitlines(keepends=True),
                made.text.splitlines(keepends=True),
                str(file),
                str(file),
            )
    if execute:
        for file, new in written:
            file.write_bytes(new.encode())
    return {
        "files": len(files),
        "files_changed": [str(file) for file, _ in written],
        "changes": [asdict(one) for one in changes],
        "left": [asdict(one) for one in sorted(left, key=lambda one: (one.file, one.line))],
        "diff": "".join(diff),
        "executed": execute,
    }


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    if not root.is_dir():
        raise NotFound(f"there is no {root}", hint="give a Python file, or a folder of them")
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).parts
        if not any(part in PASSED_OVER or part.startswith(".") for part in parts):
            yield file
