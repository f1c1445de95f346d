"""A real browser without a window: Debian's Chromium, installed when a test first asks for it."""

from __future__ import annotations

import html
import json
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from server_programs import install_package

SECONDS = 120

# Stands around the page that is measured, in a frame as wide as wanted: a window has a least width.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><style>body {{ margin: 0 }}
iframe {{ border: 0; width: {width}px; height: 900px }}</style>
<iframe src="{page}"></iframe><pre id="measured"></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, view = frame.contentWindow;
  document.getElementById("measured").textContent = JSON.stringify(({script})(page, view));
}};
</script>"""

# What a reader would see of the page, as numbers.
MEASURE = r"""(page, view) => {
  const width = page.documentElement.clientWidth, style = (one) => view.getComputedStyle(one);
  const name = (one) => one.tagName + "." + (one.getAttribute("class") || "") + " "
    + (one.textContent || "").trim().slice(0, 60);
  // What one can scroll to is not outside the page.
  const scrolls = (one) => {
    for (let up = one.parentElement; up; up = up.parentElement)
      if (/auto|scroll/.test(style(up).overflowX)) return true;
    return false;
  };
  const numbers = (colour) => {
    const found = (colour.match(/[\d.]+/g) || []).map(Number);
    return found.length < 3 ? [0, 0, 0, 0] : [...found.slice(0, 3), found[3] ?? 1];
  };
  const over = (front, back) => front.slice(0, 3).map(
    (value, at) => value * front[3] + back[at] * (1 - front[3]));
  const ground = (one) => {
    const layers = [];
    const box = one.closest("g.box");
    if (box) layers.push(numbers(style(box.querySelector("rect")).fill));
    for (let up = one; up; up = up.parentElement)
      layers.push(numbers(style(up).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const light = (colour) => colour.reduce((sum, value, at) => {
    const part = value / 255;
    const linear = part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    return sum + linear * [0.2126, 0.7152, 0.0722][at];
  }, 0);
  if (OPENED) page.querySelectorAll("details").forEach((one) => { one.open = true; });
  const outside = [], faint = [], spilt = [], scrolled = [], broken = [];
  for (const one of page.body.querySelectorAll("*")) {
    const box = one.getBoundingClientRect();
    if (!box.width || !box.height || !one.checkVisibility({ visibilityProperty: true })) continue;
    if (box.right > width + 1 && !scrolls(one)) outside.push(name(one));
    if (/auto|scroll/.test(style(one).overflowX) && one.scrollWidth > one.clientWidth + 1)
      scrolled.push(name(one));
    const text = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || one.tagName === "title" || style(one).opacity === "0") continue;
    const front = numbers(one instanceof view.SVGElement ? style(one).fill : style(one).color);
    const back = ground(one), [low, high] = [light(over(front, back)), light(back)].sort();
    const contrast = (Math.max(low, high) + 0.05) / (Math.min(low, high) + 0.05);
    if (contrast < 4.5) faint.push(contrast.toFixed(2) + " " + name(one));
    const rect = one.closest("g.box")?.querySelector("rect")?.getBoundingClientRect();
    if (rect && (box.right > rect.right || box.left < rect.left)) spilt.push(name(one));
    if (one.tagName === "TD" && box.width < 60 && one.textContent.length > 12
        && box.height > 60) broken.push(name(one));
  }
  const seen = [...page.querySelectorAll("svg.graph")].filter((one) => one.checkVisibility());
  const drawings = seen.map(
    (one) => ({ width: one.clientWidth, room: one.parentElement.clientWidth,
      text: one.querySelector("text")?.getBoundingClientRect().height ?? 0 }));
  return { width, height: page.documentElement.scrollHeight,
    title: page.querySelector("h1").getBoundingClientRect().height,
    whole: page.documentElement.scrollWidth, outside, faint, spilt, scrolled, broken, drawings };
}"""


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


def measure(
    page: Path, width: int, *, dark: bool = False, opened: bool = False, root: Path | None = None
) -> Any:
    """What a page looks like in a window of that width, as numbers.

    `title` and `height` are pixels, `whole` is the width of everything. `outside` names elements
    that stick out of the page, `faint` texts of less contrast than 4.5, `spilt` texts wider than
    the box they are drawn in, `broken` cells too narrow for their words, `scrolled` what has to be
    moved sideways, `drawings` the graphs that are seen. With `opened` nothing is folded. `root` is
    the site's folder.
    """
    script = MEASURE.replace("OPENED", str(opened).lower())
    return evaluate(page, width, script, dark=dark, root=root)


def evaluate(
    page: Path, width: int, script: str, *, dark: bool = False, root: Path | None = None
) -> Any:
    """What the JavaScript function `script` returns for the page's document and window."""
    with _served(root or page.parent) as address:
        at = page.resolve().relative_to((root or page.parent).resolve()).as_posix()
        frame = FRAME.format(width=width, page=f"/{at}", script=script)
        address.frame = frame
        scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
        # Time that only passes while there is something to do.
        scheme += ["--virtual-time-budget=20000", f"--window-size={max(width, 600)},900"]
        dom = _run("--dump-dom", f"http://127.0.0.1:{address.server_port}/measured.html", scheme)
    found = re.search(r'<pre id="measured">(.*?)</pre>', dom.decode(), re.DOTALL)
    assert found, dom[:2000]
    assert found[1], "the page was not measured"
    return json.loads(html.unescape(found[1]))


class _Site(ThreadingHTTPServer):
    frame = ""


class _Pages(SimpleHTTPRequestHandler):
    server: _Site

    def do_GET(self) -> None:
        if self.path != "/measured.html":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.server.frame.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def _served(root: Path) -> Iterator[_Site]:
    """A folder as a site: files of their own are strangers to each other in a browser."""
    site = _Site(("127.0.0.1", 0), partial(_Pages, directory=str(root)))
    thread = threading.Thread(target=site.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join()


def _first_pixel(png: bytes) -> bytes:
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    # After the first line's filter byte; no filter changes a first pixel.
    return zlib.decompress(data)[1:4]


def _run(what: str, page: Path | str, more: list[str] | None = None) -> bytes:
    if not shutil.which("chromium"):
        install_package("chromium")
    # Helpers of the browser outlive it for a moment, and write there.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = ["chromium", "--headless", "--disable-gpu", f"--user-data-dir={profile}"]
        # Root may not use the sandbox; the pages are our own.
        words += ["--no-sandbox", "--disable-dev-shm-usage", *(more or [])]
        done = subprocess.run(
            [*words, what, page if isinstance(page, str) else page.resolve().as_uri()],
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
    return done.stdout
