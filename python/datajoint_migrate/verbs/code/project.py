"""The modules of a project: which files they are, and what imports lead where."""

from __future__ import annotations

import ast
import re
import tokenize
import warnings
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path

PASSED_OVER = {"__pycache__", "node_modules", "site-packages"}
# A program may have `dj` from where its imports cannot be followed.
SPEAKS = re.compile(
    r"\bdj\.(schema|Schema|Manual|Lookup|Imported|Computed|Part|config|U|VirtualModule"
    r"|create_virtual_module|AttributeAdapter)\b"
)


class Source:
    """One file: its text, how it is encoded, and its tree.

    Raises `SyntaxError`, `UnicodeDecodeError` or `ValueError` for what is no Python.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        self.encoding, _ = tokenize.detect_encoding(BytesIO(self.data).readline)
        self.text = self.data.decode(self.encoding)
        with warnings.catch_warnings():
            # What the compiler warns of is not ours to say.
            warnings.simplefilter("ignore")
            self.tree = ast.parse(self.text)

    def encoded(self, text: str) -> bytes:
        """A text as it is written into this file."""
        return text.encode(self.encoding)

    @cached_property
    def imports(self) -> list[tuple[int, str, tuple[str, ...]]]:
        """Level, module and names of every import; `*` among the names."""
        found: list[tuple[int, str, tuple[str, ...]]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(0, alias.name, ()) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = tuple(alias.name for alias in node.names)
                found.append((node.level, node.module or "", names))
        return found


class Project:
    """The Python files in a folder, or around a file.

    `broken` says of files that are no Python why.
    """

    def __init__(self, root: Path) -> None:
        self.is_file = root.is_file()
        self.root = (root.parent if self.is_file else root).resolve()
        self.broken: dict[Path, Exception] = {}
        self._sources: dict[Path, Source | None] = {}
        self._reaching: dict[Path, bool] = {}

    def source(self, path: Path) -> Source | None:
        """The file, read once; None when it is not there or no Python."""
        path = path.resolve()
        if path not in self._sources:
            try:
                self._sources[path] = Source(path) if path.is_file() else None
            except (OSError, SyntaxError, ValueError) as error:
                self.broken[path] = error
                self._sources[path] = None
        return self._sources[path]

    @cached_property
    def files(self) -> list[Path]:
        """All files in the folder that are looked at; of a single file's folder, its neighbours."""
        return sorted(self.root.glob("*.py")) if self.is_file else list(files_in(self.root))

    @cached_property
    def _tops(self) -> list[Path]:
        """Folders from which modules can be imported: those in no package that hold files."""
        folders = {path.parent for path in self.files}
        tops = {self.root}
        for folder in folders:
            while (folder / "__init__.py").is_file() and folder != folder.parent:
                folder = folder.parent
            tops.add(folder)
        return sorted(tops, key=lambda folder: (len(folder.parts), folder))

    def find(self, importer: Path, level: int, dotted: str) -> Path | None:
        """The file of a module, or a package's folder; None outside the project."""
        importer = importer.resolve()
        parts = [part for part in dotted.split(".") if part]
        if level:
            base = importer.parent
            for _ in range(level - 1):
                base = base.parent
            return _module(base, parts)
        above = [folder for folder in importer.parents if folder.is_relative_to(self.root)]
        own = [folder for folder in above if not (folder / "__init__.py").is_file()]
        tops = own or [_top(importer.parent)]
        for folder in tops:
            if found := _module(folder, parts):
                return found
        # A program that is run where it lies finds its neighbours, package or not.
        if found := _module(importer.parent, parts):
            return found
        others = {found for folder in self._tops if (found := _module(folder, parts))}
        return others.pop() if len(others) == 1 else None

    def speaks(self, path: Path) -> bool:
        """Whether a file has to do with DataJoint: by its imports, or theirs, or its words."""
        source = self.source(path)
        return source is not None and (
            SPEAKS.search(source.text) is not None or self._reaches(path.resolve(), set())
        )

    def _reaches(self, path: Path, seen: set[Path]) -> bool:
        if path in self._reaching:
            return self._reaching[path]
        source = self.source(path)
        if source is None or path in seen:
            return False
        seen.add(path)
        found = any(
            module.split(".")[0] == "datajoint" and not level for level, module, _ in source.imports
        ) or any(
            self._reaches(target, seen)
            for level, module, names in source.imports
            for target in self._targets(path, level, module, names)
        )
        # A circle that is being walked proves nothing yet.
        if found or len(seen) == 1:
            self._reaching[path] = found
        return found

    def _targets(
        self, path: Path, level: int, module: str, names: tuple[str, ...]
    ) -> Iterator[Path]:
        found = self.find(path, level, module)
        if found is None:
            return
        if (file := file_of(found)) is not None:
            yield file
        for name in names:
            if (part := member(found, name)) and (file := file_of(part)) is not None:
                yield file


def file_of(module: Path) -> Path | None:
    """The file that a module's or a package's code is in."""
    if module.is_dir():
        module = module / "__init__.py"
    return module.resolve() if module.is_file() else None


def member(package: Path, name: str) -> Path | None:
    """The module or package `name` in a package."""
    if package.name == "__init__.py":
        package = package.parent
    return _module(package, [name]) if package.is_dir() else None


def _module(base: Path, parts: list[str]) -> Path | None:
    place = base.joinpath(*parts)
    if parts and (file := place.with_name(place.name + ".py")).is_file() and not place.is_dir():
        return file.resolve()
    if (place / "__init__.py").is_file():
        return place.resolve()
    if parts and place.is_dir() and any(place.glob("*.py")):
        return place.resolve()
    return base.resolve() if not parts and base.is_dir() else None


def _top(folder: Path) -> Path:
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


def files_in(root: Path) -> Iterator[Path]:
    """Python files below a folder, without what is installed, hidden or compiled."""
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).parts
        if not any(part in PASSED_OVER or part.startswith(".") for part in parts):
            yield file
