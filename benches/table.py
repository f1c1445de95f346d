"""The table that `make bench` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

PEAK_GOAL_MIB = 256


@dataclass
class Row:
    """One comparison. `ratios`: one a round, above 1 when we are faster; rates in rows a second.

    `of` says what they are ratios of, where that is not time.
    """

    job: str
    rows: int
    seconds: float
    peer: str
    peak_mib: float | None
    goal: float | None = None
    seconds_goal: float | None = None
    rate_goal: int | None = None
    peer_seconds: float | None = None
    peer_rows: int | None = None
    ratios: list[float] = field(default_factory=list)
    of: str = ""
    unavailable: str | None = None
    cpu_seconds: float | None = None
    peer_cpu_seconds: float | None = None
    cpu_goal: float | None = None
    disk_mib: float | None = None
    peer_disk_mib: float | None = None

    @property
    def rate(self) -> float:
        return self.rows / self.seconds

    @property
    def met(self) -> bool | None:
        """Whether ratio, seconds, rate and memory reach their goals; None for none."""
        checks: list[bool] = []
        if self.goal is not None and self.ratios:
            checks.append(median(self.ratios) >= self.goal)
        if self.seconds_goal is not None:
            checks.append(self.seconds <= self.seconds_goal)
        if self.cpu_goal is not None and self.cpu_seconds and self.peer_cpu_seconds:
            checks.append(self.cpu_seconds / self.peer_cpu_seconds <= self.cpu_goal)
        if self.rate_goal is not None:
            checks.append(self.rate >= self.rate_goal)
        if self.peak_mib is not None and (checks or self.goal is None):
            checks.append(self.peak_mib < PEAK_GOAL_MIB)
        return all(checks) if checks else None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"rate": self.rate, "met": self.met}


HEADINGS = (
    "job",
    "rows",
    "ours",
    "rows/s",
    "peak",
    "peer",
    "peer",
    "ratio median (min)",
    "CPU s",
    "on disk",
    "goal",
    "",
)


def render(rows: Sequence[Row]) -> str:
    """Plain text, columns as wide as they need to be."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    words = (0, 5, 10, 11)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    goals = [f">= {row.goal}"] if row.goal is not None else []
    if row.seconds_goal is not None:
        goals.append(f"<= {row.seconds_goal:.1f} s")
    if row.cpu_goal is not None:
        goals.append(f"<= {row.cpu_goal} x CPU")
    if row.rate_goal is not None:
        goals.append(f">= {row.rate_goal:,} rows/s")
    if row.unavailable is not None:
        ratio, theirs = f"not available here: {row.unavailable}", "-"
    elif row.peer_seconds is not None:
        ratio = f"{median(row.ratios):.2f} ({min(row.ratios):.2f}) {row.of}".rstrip()
        theirs = _peer(row)
    else:
        ratio, theirs = "-", "-"
    return (
        row.job,
        f"{row.rows:,}",
        f"{row.seconds:.2f} s",
        f"{row.rate:,.0f}",
        f"{row.peak_mib:.0f} MiB" if row.peak_mib is not None else "-",
        row.peer,
        theirs,
        ratio,
        _cpu(row),
        _disk(row),
        " ".join(goals) or "-",
        {True: "yes", False: "NO", None: ""}[row.met],
    )


def _cpu(row: Row) -> str:
    if row.cpu_seconds is None or row.peer_cpu_seconds is None:
        return "-"
    return f"{row.cpu_seconds:.2f} / {row.peer_cpu_seconds:.2f}"


def _disk(row: Row) -> str:
    if row.disk_mib is None or row.peer_disk_mib is None:
        return "-"
    return f"{row.disk_mib:.0f} / {row.peer_disk_mib:.0f}"


def _peer(row: Row) -> str:
    assert row.peer_seconds is not None
    if row.peer_rows is not None:
        return f"{row.peer_rows / row.peer_seconds:,.0f} rows/s"
    return f"{row.peer_seconds:.2f} s"
