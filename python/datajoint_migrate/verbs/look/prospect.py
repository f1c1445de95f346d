"""What a plan of some schemas would mean: each is read once, for all that is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datajoint_migrate.call.ends import open_ends
from datajoint_migrate.results import EstimateResult, InspectResult
from datajoint_migrate.verbs.look.children import left_out
from datajoint_migrate.verbs.look.estimate import estimated
from datajoint_migrate.verbs.look.inspect import looked_at


@dataclass(frozen=True)
class Prospect:
    """`left_out`: schemas that refer to these and were not named → those they refer to.

    `strange` are schemas that are none of 0.14; with one of them nothing is estimated.
    """

    found: InspectResult
    left_out: dict[str, list[str]]
    strange: list[str]
    estimate: EstimateResult | None


def prospect(
    schemas: Iterable[str],
    *,
    source_stores: Mapping[str, Any] | None,
    adapters: Mapping[str, str] | None,
    copy_files: bool,
    connection: Any,
) -> Prospect:
    """As `inspect_schemas` and `estimate_migration` in one; nothing is changed."""
    names = list(schemas)
    with open_ends(connection, looking=True) as ends:
        found, read = looked_at(ends, names, source_stores, adapters)
        ordered = [name for group in found["groups"] for name in group]
        strange = [name for name in names if name not in ordered]
        if strange:
            return Prospect(found, {}, strange, None)
        estimate = estimated(ends, [read[name] for name in ordered], copy_files, adapters)
        return Prospect(found, left_out(ends.source, ordered), [], estimate)
