"""A real browser without a window: Debian's Chromium, installed when a test first asks for it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from server_programs import install_package

SECONDS = 120


@dataclass
class Dom:
    """What the browser made of a page: its text, its elements, their attributes."""

    text: str = ""
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.dom = Dom()
        self.hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.dom.tags.append(tag)
        self.dom.text += " "
        self.dom.attributes += [(name, value or "") for name, value in attrs]
        self.hidden = tag in ("style", "title") and "svg" not in self.dom.tags[-2:]

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self.hidden = False
        self.dom.text += " "

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.dom.text += data


def read(page: Path) -> Dom:
    """Open a page, let it do what it would do, and read what is there then."""
    return parse(_run("--dump-dom", page).decode())


def parse(html: str) -> Dom:
    """Read markup without a browser."""
    reader = _Reader()
    reader.feed(html)
    reader.dom.text = " ".join(reader.dom.text.split())
    return reader.dom


def corner(page: Path, dark: bool) -> tuple[int, int, int]:
    """The colour of the page's first pixel, as red, green and blue."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
        _run(f"--screenshot={picture}", page, scheme)
        red, green, blue = _first_pixel(picture.read_bytes())
    return red, green, blue


def printed(page: Path, to: Path) -> bytes:
    """The page as a PDF."""
    _run(f"--print-to-pdf={to}", page, ["--no-pdf-header-footer"])
    return to.read_bytes()


def _first_pixel(png: bytes) -> bytes:
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    # After the first line's filter byte; no filter changes a first pixel.
    return zlib.decompress(data)[1:4]


def _run(what: str, page: Path, more: list[str] | None = None) -> bytes:
    if not shutil.which("chromium"):
        install_package("chromium")
    with tempfile.TemporaryDirectory() as profile:
        words = ["chromium", "--headless", "--disable-gpu", f"--user-data-dir={profile}"]
        # Root may not use the sandbox; the pages are our own.
        words += ["--no-sandbox", "--disable-dev-shm-usage", *(more or [])]
        done = subprocess.run(
            [*words, what, page.resolve().as_uri()],
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
    return done.stdout
