"""A live display of a call: in a terminal, in a notebook, or as lines of a log."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import IO, Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from datajoint_migrate.console.stages import Stages

REFRESH_SECONDS = 0.25
# Of lines where nobody looks: often enough to see that it lives.
LINE_SECONDS = 30.0
STOPPING = "stopping: what is under way ends or is taken back, within seconds"
CELL_WIDTH = 100


class Place(Protocol):
    """Where progress is shown."""

    def start(self) -> None:
        """Begin."""

    def stop(self, good: bool) -> None:
        """End; `good` unless the call was left by an error."""

    def show(self) -> None:
        """Something has changed."""

    def stopping(self) -> None:
        """Ctrl-C was heard."""


class Display:
    """The stages of a call, those that are over and the one that lasts, with the table at hand.

        with Display() as display:
            migrate(schemas, on_event=display)

    In a terminal what lasts is drawn where it stands, and each stage leaves a line; in a notebook
    it is one output below the cell. Anywhere else a line is written every half minute, to `log` or
    standard error.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        log: IO[str] | None = None,
        every: float = LINE_SECONDS,
    ) -> None:
        console = console or Console(stderr=True)
        self.stages = Stages()
        self._place: Place
        if console.is_jupyter:
            self._place = _Cell(self.stages)
        elif console.is_terminal:
            self._place = _Terminal(self.stages, console)
        else:
            self._place = _Log(self.stages, log or console.file, every)

    def __enter__(self) -> Display:
        self._place.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.stages.end()
        self._place.stop(error is None)

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] in ("progress", "stage"):
            self.stages.take(event)
            self._place.show()

    def stopping(self) -> None:
        """Acknowledge Ctrl-C; it may be called by a signal's handler."""
        self._place.stopping()


class _Terminal:
    """What lasts is drawn anew in its place; what is over stands above it."""

    def __init__(self, stages: Stages, console: Console) -> None:
        self._stages = stages
        self._console = console
        self._told = 0
        self._stopping = False
        self._live = Live(
            console=console,
            get_renderable=self._drawn,
            refresh_per_second=1 / REFRESH_SECONDS,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        self._live.start()

    def stop(self, good: bool) -> None:  # noqa: ARG002  (a stage that has not ended leaves no line)
        self.show()
        self._live.stop()

    def show(self) -> None:
        for line in self._stages.ended[self._told :]:
            self._told += 1
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stopping(self) -> None:
        self._stopping = True

    def _drawn(self) -> Text:
        # A terminal's last column makes some of them go on in the next line.
        lines = self._stages.lines(self._console.width - 1)
        if self._stopping:
            lines.append(STOPPING[: self._console.width - 1])
        return Text("\n".join(lines), no_wrap=True, overflow="crop")


class _Cell:
    """One output below a notebook's cell; it needs no widgets, and stays as it was at last."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._handle: Any = None
        self._drawn = 0.0

    def start(self) -> None:
        from IPython.display import display

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def stop(self, good: bool) -> None:  # noqa: ARG002  (it stays as it was)
        self._draw()

    def show(self) -> None:
        if time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._draw()

    def stopping(self) -> None:
        """The notebook shows that itself."""

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        lines = [*self._stages.ended, *self._stages.lines(CELL_WIDTH)]
        self._handle.update({"text/plain": "\n".join(lines)}, raw=True)


class _Log:
    """A line now and then; nothing at all of what is over sooner."""

    def __init__(self, stages: Stages, file: IO[str], every: float) -> None:
        self._stages = stages
        self._file = file
        self._every = every
        self._told: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, good: bool) -> None:  # noqa: ARG002  (a stage that has not ended leaves no line)
        self._over.set()
        self._thread.join()
        self.show()

    def show(self) -> None:
        if self._told is not None:
            for line in self._stages.ended[self._told :]:
                self._told += 1
                plain = line.replace("█", "").replace("100%", "done,")
                self._write(" ".join(plain.split()))

    def stopping(self) -> None:
        sys.stderr.write(STOPPING + "\n")
        sys.stderr.flush()

    def _tick(self) -> None:
        while not self._over.wait(self._every):
            if self._told is None:
                self._told = len(self._stages.ended)
            said = self._stages.sentence()
            if said:
                self._write(said)

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
