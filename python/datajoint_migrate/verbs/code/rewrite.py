"""Source files of a pipeline, rewritten for 2.x where that is certain; the rest is listed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from datajoint_migrate.errors import InvalidArgument, NotFound
from datajoint_migrate.results import CodeResult, SourceRemark
from datajoint_migrate.verbs.code.project import Project, files_in
from datajoint_migrate.verbs.code.replace import replace_files


@dataclass(frozen=True)
class Remark:
    """Something changed, or left for a person, at a line (from 1 on) of a file."""

    file: str
    line: int
    what: str


def rewrite_code(
    path: str | os.PathLike[str],
    *,
    promote: Mapping[str, str] | None = None,
    execute: bool = False,
) -> CodeResult:
    """Rewrite Python code from 0.14.6's words to those of 2.x.

    `path` is a file or a folder of `.py` files. Only what is certainly DataJoint's is rewritten:
    types in table definitions, names that have another name, `fetch` of tables in the forms that
    2.x spells otherwise, joins by `@`, `_update`, adapters as codecs. Nothing is written without
    `execute=True`; whatever cannot be decided is in `left`.

    `promote` names columns that become object storage, as that of `migrate`: they get their new
    types, and calls that fetch a column of `npy@store` are in `left`: what they get is a reference
    now, and the array its `.load()`.

    Returns `files` (looked at), `files_changed`, `changes` and `left` (dicts with `file`, `line`,
    `what`), `diff` (unified), `executed`. Raises `NotFound`, and `InvalidArgument` without the
    extra `code` (libcst).
    """
    try:
        from datajoint_migrate.verbs.code.module import find_adapters, rewrite_module
        from datajoint_migrate.verbs.code.names import Names
        from datajoint_migrate.verbs.code.promoted import Promoted
    except ImportError as error:
        raise InvalidArgument(
            "rewriting code needs libcst", hint="pip install 'datajoint-migrate[code]'"
        ) from error
    root = Path(path)
    if not root.exists():
        raise NotFound(f"there is no {root}", hint="give a Python file, or a folder of them")
    promoted = Promoted.of(promote or {})
    project = Project(root)
    names = Names(project)
    files = [root] if project.is_file else list(files_in(root))
    adapters = {
        name: store
        for file in {*map(Path.resolve, project.files), *map(Path.resolve, files)}
        if (source := project.source(file)) is not None
        for name, store in find_adapters(source.tree)
    }
    changes: list[Remark] = []
    left: list[Remark] = []
    diff: list[str] = []
    written: dict[Path, tuple[Path, bytes, bytes]] = {}
    for file in files:
        source = project.source(file)
        module = names.module(file) if source is not None and project.speaks(file) else None
        if (why := project.broken.get(file.resolve())) is not None:
            line = getattr(why, "lineno", None) or getattr(why, "raw_line", None) or 1
            left.append(Remark(str(file), line, f"no Python that can be read: {why}"))
        if source is None or module is None:
            continue
        made = rewrite_module(module, source.tree, adapters, promoted)
        changes += [Remark(str(file), line, what) for line, what in made.changes]
        left += [Remark(str(file), line, what) for line, what in made.left]
        if made.text != source.text:
            written[file.resolve()] = (file, source.data, source.encoded(made.text))
            diff += difflib.unified_diff(
                source.text.splitlines(keepends=True),
                made.text.splitlines(keepends=True),
                str(file),
                str(file),
            )
    if execute:
        replace_files({place: (old, new) for place, (_, old, new) in written.items()})
    return {
        "files": len(files),
        "files_changed": [str(file) for file, _, _ in written.values()],
        "changes": [cast(SourceRemark, asdict(one)) for one in changes],
        "left": [
            cast(SourceRemark, asdict(one))
            for one in sorted(left, key=lambda one: (one.file, one.line))
        ],
        "diff": "".join(diff),
        "executed": execute,
    }
