"""What the documents print, and the same about this machine's server, schemas and folders."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from small import Small

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
NAV = re.findall(r"^ +- (?:[\w ]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
PAGES = {name: (ROOT / "docs" / name).read_text() for name in NAV}
FIRST_HOUR = PAGES["first-hour.md"]
GUIDE = "\n".join(text for name, text in PAGES.items() if name.startswith("guide/"))
ENDS = (
    *("", "_v20", "_test", "_sample", "_old", "_backup"),
    *("_backup_20250114", "_restore_test", "_before_restore"),
)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def languages() -> set[str]:
    """Of all fenced blocks in all documents."""
    every = "\n".join((README, *PAGES.values()))
    fences: list[str] = re.findall(r"^```(.*)$", every, re.MULTILINE)
    return set(fences[::2])


def commands(text: str) -> list[list[str]]:
    """The words of each line of `dj-migrate`."""
    lines = [line for block in blocks(text, "console") for line in block.splitlines()]
    found = [line.removeprefix("$ ") for line in lines if line.startswith("$ dj-migrate ")]
    return [shlex.split(line, comments=True) for line in found]


def outputs(text: str) -> list[list[str]]:
    """Below each line of `dj-migrate`, what is printed as its output; `…` stands for any lines."""
    found: list[list[str]] = []
    for block in blocks(text, "console"):
        reading = False
        for line in block.splitlines():
            if line.startswith("$ "):
                reading = line.startswith("$ dj-migrate ")
                found += [[]] if reading else []
            elif reading:
                found[-1].append(line)
    return found


def levelled(line: str) -> str:
    """A line without what differs from run to run: widths of columns, numbers of time and bytes."""
    bare = re.sub(r"\d[\d,.]*( [kMG]?B\b)?", "#", line)
    return " ".join(bare.split())


def in_place(small: Small, text: str) -> str:
    """The text with this machine's server, schemas and folders."""
    for printed, real in (
        ("mysql://user:password@db.example.org:3306/", small.server.url),
        ('"host": "db.example.org", "port": 3306', f'"host": "{small.server.host}", '
         f'"port": {small.server.port}, "use_tls": false'),
        ("/data/raw", str(small.root)),
        ("/data/", f"{small.root.parent}/"),
        ("my_lab", small.lab),
        ("my_rig", small.rig),
    ):  # fmt: skip
        text = text.replace(printed, real)
    return text
